"""The dialog, the link and what strangers get: nothing (R-16.2 to R-16.4, R-7.2, I18)."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.signals import request_finished
from django.db import close_old_connections
from django.test import Client
from django.utils.http import content_disposition_header

from backups.copying import damage
from backups.downloads import asking
from backups.models import (
    Copy,
    CopyState,
    Download,
    DownloadLink,
    DownloadUse,
    Event,
    Instance,
    Membership,
    ResourceGroup,
    Role,
)
from billing import statements
from billing.models import ItemCode
from console.downloads import serving
from console.downloads.ranges import Unsatisfiable, Wanted, wanted
from regions import clock
from tests.backups import world as worlds
from tests.backups.handing_out import body_of, completed
from tests.backups.world import World
from tests.billing.facts import plan_of

WORDS = "I have learnt the billing rules for backup file download."
BODY = body_of(700_000)


@pytest.mark.parametrize(
    ("asked", "if_range", "expected"),
    [
        ("", "", Wanted(0, 10, False)),
        ("bytes=0-", "", Wanted(0, 10, True)),
        ("bytes=4-6", "", Wanted(4, 7, True)),
        ("bytes=4-99", "", Wanted(4, 10, True)),
        ("Bytes = 9-9", "", Wanted(9, 10, True)),
        ("bytes=-3", "", Wanted(7, 10, True)),
        ("bytes=-99", "", Wanted(0, 10, True)),
        ("bytes=4-", '"e"', Wanted(4, 10, True)),
        ("bytes=4-", '"other"', Wanted(0, 10, False)),
        ("bytes=4-", 'W/"e"', Wanted(0, 10, False)),
        ("bytes=4-", "Thu, 26 Nov 2026 19:00:00 GMT", Wanted(0, 10, False)),
        ("bytes=6-4", "", Wanted(0, 10, False)),
        ("bytes=0-1,4-5", "", Wanted(0, 10, False)),
        ("bytes=-", "", Wanted(0, 10, False)),
        ("lines=1-2", "", Wanted(0, 10, False)),
        ("bytes=10-", "", None),
        ("bytes=-0", "", None),
        (f"bytes={'9' * 18}-", "", None),
    ],
)
def test_what_a_range_asks_for(asked: str, if_range: str, expected: Wanted | None) -> None:
    if expected is None:
        with pytest.raises(Unsatisfiable):
            wanted(10, asked, if_range, '"e"')
    else:
        assert wanted(10, asked, if_range, '"e"') == expected


@pytest.fixture
def world(tmp_path: Path, db: None) -> World:
    return worlds.make(tmp_path)


@pytest.fixture
def orders(world: World) -> Instance:
    instance = world.instance("orders")
    world.enable(instance)
    return instance


@pytest.fixture
def omar(world: World) -> User:
    user = User.objects.create_user("omar")
    Membership.objects.create(user=user, group=world.group, role=Role.OPERATOR)
    return user


@pytest.fixture
def desk(client: Client, omar: User) -> Client:
    client.force_login(omar)
    return client


def dialog(copy: Copy) -> str:
    return f"/downloads/{copy.pk}/"


def links_in(page: str) -> list[str]:
    return [urlsplit(found).path for found in re.findall(r'href="(http[^"]*/d/[^"]+)"', page)]


def ask(desk: Client, copy: Copy, address: str = "internet") -> list[str]:
    answer = desk.post(dialog(copy), {"address": address, "learnt": "on"})
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    return links_in(answer.content.decode())


def fetched(path: str, **headers: str) -> Any:
    """As anybody with the link, signed in nowhere."""
    return Client().get(path, headers=headers)


def give_up(answer: Any) -> None:
    """As the web server does; the test's own connection stays open."""
    request_finished.disconnect(close_old_connections)
    answer.close()
    request_finished.connect(close_old_connections)


# ---- the dialog


def test_the_dialog_says_what_network_plans_would_pay(
    desk: Client, world: World, orders: Instance, settings: Any
) -> None:
    """R-4.4: a plan is enough for all of it, and the next download is told so as well."""
    settings.GB, settings.FREE_DOWNLOAD_GB = 1000, 100
    copy = completed(world, orders, BODY)
    assert "network plans" not in desk.get(dialog(copy)).content.decode()
    plan_of(1000, clock.now())
    shown = desk.get(dialog(copy)).content.decode()
    assert "Paid for by network plans" in shown and "586 KB" in shown and "Internet · $0.00" in shown


def test_what_costs_less_than_half_a_cent_is_not_told_as_free(
    desk: Client, world: World, orders: Instance, settings: Any
) -> None:
    """684 KB at $0.125 per GB: with the quota used up it is owed, though by itself it comes to no cent."""
    copy = completed(world, orders, BODY)
    assert "<b><bdi>$0.00</bdi></b>" in desk.get(dialog(copy)).content.decode(), "free by the quota"
    settings.FREE_DOWNLOAD_GB = 0
    shown = desk.get(dialog(copy)).content.decode()
    assert "<b><bdi>under $0.01</bdi></b>" in shown and "Internet · under $0.01" in shown and "$0.00" not in shown


def test_the_dialog_tells_size_quota_and_price_and_wants_its_tick(desk: Client, world: World, orders: Instance) -> None:
    copy = completed(world, orders, BODY)
    shown = desk.get(dialog(copy)).content.decode()
    assert WORDS in shown and "684 KB" in shown and "500 GB" in shown and "$0.125/GB" in shown and "$0.00" in shown
    assert 'name="learnt"' in shown and "checked" not in shown.partition('name="learnt"')[2].partition(">")[0]

    refused = desk.post(dialog(copy), {"address": "internet"}).content.decode()
    assert "Not started." in refused and "Tick the box" in refused and "/d/" not in refused
    assert not DownloadLink.objects.exists()
    odd = desk.post(dialog(copy), {"address": "carrier pigeon", "learnt": "on"}).content.decode()
    assert "Not started." in odd and not DownloadLink.objects.exists()

    [path] = ask(desk, copy)
    answer = fetched(path)
    assert b"".join(answer.streaming_content) == BODY


def test_both_tabs_and_the_sets_page_have_the_button(desk: Client, world: World, orders: Instance) -> None:
    """R-16.2."""
    world.set(orders, logs_enabled=True)
    copy = completed(world, orders, BODY)
    log = completed(world, orders, body_of(9000), kind="log", first_position=1, last_position=9)
    for page, of in ((f"/instances/{orders.code}/", copy), (f"/instances/{orders.code}/logs/", log)):
        shown = desk.get(page).content.decode()
        assert f'href="{dialog(of)}"' in shown, page
    assert f'href="{dialog(copy)}"' in desk.get(f"/backups/sets/{copy.set_id}/").content.decode()
    assert f'href="{dialog(copy)}"' in desk.get(f"/backups/sets/{copy.set_id}/copies/").content.decode()


def test_a_viewer_sees_no_button_and_gets_no_link(client: Client, world: World, orders: Instance) -> None:
    copy = completed(world, orders, BODY)
    viewer = User.objects.create_user("vi")
    Membership.objects.create(user=viewer, group=world.group, role=Role.VIEWER)
    client.force_login(viewer)
    for page in (f"/instances/{orders.code}/", f"/backups/sets/{copy.set_id}/"):
        answer = client.get(page)
        assert answer.status_code == 200 and dialog(copy) not in answer.content.decode()
    assert client.get(dialog(copy)).status_code == 403
    assert client.post(dialog(copy), {"address": "internet", "learnt": "on"}).status_code == 403
    assert not DownloadLink.objects.exists()


def test_a_copy_of_another_group_is_not_there(desk: Client, world: World) -> None:
    other = ResourceGroup.objects.create(name="Others")
    instance = world.instance("theirs")
    Instance.objects.filter(pk=instance.pk).update(group=other)
    world.enable(instance)
    copy = completed(world, instance, BODY)
    assert desk.get(dialog(copy)).status_code == 404
    assert desk.post(dialog(copy), {"address": "internet", "learnt": "on"}).status_code == 404
    assert not DownloadLink.objects.exists()


def test_a_snapshot_has_its_reason_in_the_buttons_place(desk: Client, world: World, orders: Instance) -> None:
    """R-7.2: no button, and the address refuses."""
    copy = completed(world, orders, body_of(5000), method="snapshot")
    for page in (f"/instances/{orders.code}/", f"/backups/sets/{copy.set_id}/"):
        shown = desk.get(page).content.decode()
        assert "Snapshot: cannot be downloaded, can be restored" in shown and dialog(copy) not in shown
    assert "cannot be downloaded" in desk.get(dialog(copy), follow=True).content.decode()
    answer = desk.post(dialog(copy), {"address": "internet", "learnt": "on"}, follow=True)
    assert "cannot be downloaded" in answer.content.decode()
    assert not DownloadLink.objects.exists()


def test_several_stripes_are_fetched_one_by_one(desk: Client, world: World, orders: Instance) -> None:
    stripes = [body_of(90_000, seed) for seed in (1, 2)]
    copy = completed(world, orders, *stripes, names=("day/sales.bak", "night/sales.bak"))
    page = desk.post(dialog(copy), {"address": "internet", "learnt": "on"}).content.decode()
    paths = links_in(page)
    assert [path.rpartition("/")[2] for path in paths] == ["1-sales.bak", "2-sales.bak"]
    for path, body in zip(paths, stripes, strict=True):
        assert hashlib.sha256(body).hexdigest() in page
        assert b"".join(fetched(path).streaming_content) == body
    assert "RESTORE DATABASE [Sales]" in page and "2-sales.bak" in page.partition("RESTORE DATABASE")[2]


def test_the_sets_page_lists_who_fetched_what(desk: Client, world: World, orders: Instance) -> None:
    copy = completed(world, orders, BODY)
    [path] = ask(desk, copy)
    part = fetched(path, range="bytes=0-99999")
    assert len(b"".join(part.streaming_content)) == 100_000
    shown = desk.get(f"/backups/sets/{copy.set_id}/").content.decode()
    assert "unfinished: 97.7 KB of 684 KB, not charged" in shown and "omar" in shown
    b"".join(fetched(path).streaming_content)
    assert "delivered, charged: $0.00" in desk.get(f"/backups/sets/{copy.set_id}/").content.decode()


def test_the_sets_page_and_the_bill_say_what_the_statement_charges(
    desk: Client, world: World, orders: Instance, settings: Any
) -> None:
    """R-4.3, R-4.4: of the second what the quota left, what a plan covers, and the rest in money."""
    settings.GB, settings.FREE_DOWNLOAD_GB = 1000, 1000
    copy = completed(world, orders, BODY, names=("sales.bak",))
    plan_of(100, clock.now())
    for _ in range(2):
        [path] = ask(desk, copy)
        b"".join(fetched(path).streaming_content)
    [line] = [one for one in statements.statement(clock.now(), clock.now()).lines if one.item == ItemCode.DOWNLOAD]
    covered = 100_000 * 1_000_000 // 1_041_667
    assert (line.quantity, line.free_bytes, line.offset_bytes) == (1_400_000, 1_000_000, covered)
    assert line.amount == Decimal("38.00")
    page = desk.get(f"/backups/sets/{copy.set_id}/").content.decode()
    assert "delivered, charged: $0.00 · free: 684 KB<br>" in page
    assert "delivered, charged: $38.00 · free: 293 KB · by network plans: 93.7 KB<br>" in page
    desk.force_login(User.objects.create_superuser("root"))
    bill = desk.get("/bills/downloads/", {"item": "NetworkOutSize"}).content.decode()
    rows = bill.split("<tbody")[1]
    assert rows.count("<bdi>omar</bdi>") == rows.count("sales.bak") == 2
    assert "$38.00" in rows and "700,000 bytes" in rows and f"{covered:,} bytes" in rows


# ---- the link


@pytest.fixture
def path(desk: Client, world: World, orders: Instance) -> str:
    return ask(desk, completed(world, orders, BODY, names=("sales.bak",)))[0]


def test_a_whole_a_range_and_a_head(path: str) -> None:
    whole = fetched(path)
    assert whole.status_code == 200 and whole.headers["Content-Length"] == str(len(BODY))
    assert whole.headers["Accept-Ranges"] == "bytes" and whole.headers["Referrer-Policy"] == "no-referrer"
    assert whole.headers["Content-Disposition"] == 'attachment; filename="sales.bak"'
    assert "no-store" in whole.headers["Cache-Control"] and "Set-Cookie" not in whole.headers
    assert b"".join(whole.streaming_content) == BODY

    part = fetched(path, range="bytes=100-199", if_range=whole.headers["ETag"])
    assert part.status_code == 206 and part.headers["Content-Range"] == f"bytes 100-199/{len(BODY)}"
    assert b"".join(part.streaming_content) == BODY[100:200]
    changed = fetched(path, range="bytes=100-199", if_range='"something else"')
    assert changed.status_code == 200 and b"".join(changed.streaming_content) == BODY

    head = Client().head(path, headers={"range": "bytes=5-"})
    assert head.status_code == 206 and head.headers["Content-Length"] == str(len(BODY) - 5) and not head.content
    beyond = fetched(path, range=f"bytes={len(BODY)}-")
    assert beyond.status_code == 416 and beyond.headers["Content-Range"] == f"bytes */{len(BODY)}"
    assert Client().post(path).status_code == 405
    assert Event.objects.filter(kind="download.used").count() == 4


def test_a_stranger_learns_nothing(path: str, desk: Client, world: World, orders: Instance) -> None:
    """The same answer to every token that opens nothing, whether it ever did (I18)."""
    bare = path.rpartition("/")[0]
    never = fetched("/d/" + "A" * 43 + "/sales.bak")
    wrong = fetched(bare[:-1] + ("A" if bare[-1] != "A" else "B"))
    odd = fetched("/d/%00%ff/x")
    DownloadLink.objects.update(expires_at=clock.now())
    expired = fetched(path)
    for answer in (never, wrong, odd, expired):
        assert answer.status_code == 404 and answer.content == never.content
        assert answer.headers.items() == never.headers.items()
    assert not DownloadUse.objects.exists()


def test_what_voids_a_link_voids_it_at_once(path: str, omar: User) -> None:
    Membership.objects.filter(user=omar).delete()
    assert fetched(path).status_code == 404 and not DownloadUse.objects.exists()


def test_a_copy_that_turns_out_damaged_is_not_handed_out(path: str, world: World) -> None:
    """A flipped byte: nothing is handed out, and the copy is marked (I7)."""
    copy = Copy.objects.get()
    stored = world.folder / worlds.TARGET / copy.copied_files.get().transfer.key
    before = stored.stat()
    body = bytearray(stored.read_bytes())
    body[400_000] ^= 1
    stored.write_bytes(body)
    os.utime(stored, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fetched(path).status_code == 404  # its one part was read whole before the first byte was sent
    copy.refresh_from_db()
    assert copy.state == CopyState.DAMAGED and Download.objects.get().whole_at is None
    assert fetched(path).status_code == 404


def test_a_store_that_is_away_is_waited_for_and_nothing_is_marked(path: str, world: World) -> None:
    (world.folder / worlds.TARGET).rename(world.folder / "away")
    answer = fetched(path)
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    (world.folder / "away").rename(world.folder / worlds.TARGET)
    assert Copy.objects.get().state == CopyState.COMPLETED
    assert b"".join(fetched(path).streaming_content) == BODY


def test_downloads_leave_room_for_each_other(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_slots", threading.BoundedSemaphore(1))
    running = fetched(path)
    assert fetched(path).status_code == 503
    give_up(running)  # given up before its first byte
    assert DownloadUse.objects.get().ended_at and DownloadUse.objects.get().counted == 0
    assert b"".join(fetched(path).streaming_content) == BODY


# ---- the internal address


def test_the_internal_address_is_free_and_only_inside(
    desk: Client, world: World, orders: Instance, settings: object
) -> None:
    copy = completed(world, orders, BODY)
    [inside] = ask(desk, copy, "internal")
    assert Client(REMOTE_ADDR="198.51.100.9").get(inside).status_code == 404
    assert b"".join(fetched(inside).streaming_content) == BODY
    assert "delivered, free" in desk.get(f"/backups/sets/{copy.set_id}/").content.decode()

    settings.PUBLIC_URL = "https://farshore.example.com"
    assert "Internal address" not in desk.get(dialog(copy)).content.decode()
    settings.INTERNAL, settings.INTERNAL_URL = urlsplit("http://inside.test:81"), "http://inside.test:81"
    settings.ALLOWED_HOSTS = ["inside.test", "testserver"]
    page = desk.post(dialog(copy), {"address": "internal", "learnt": "on"}).content.decode()
    assert "http://inside.test:81/d/" in page
    [path] = links_in(page)
    assert fetched(path).status_code == 404 and fetched(path, host="inside.test:81").status_code == 200


def test_a_proxy_hands_it_out_where_it_has_the_folder(
    desk: Client, world: World, orders: Instance, settings: object
) -> None:
    settings.ACCEL = (str(world.folder), "/_stores/")
    copy = completed(world, orders, BODY, names=("sales.bak",))
    [inside] = ask(desk, copy, "internal")
    answer = fetched(inside)
    assert answer.status_code == 200 and not answer.content
    where = unquote(answer.headers["X-Accel-Redirect"]).removeprefix("/_stores/")
    assert (world.folder / where).read_bytes() == BODY
    assert answer.headers["Content-Disposition"] == 'attachment; filename="sales.bak"'
    assert "handed out by the store, free" in desk.get(f"/backups/sets/{copy.set_id}/").content.decode()
    [outside] = ask(desk, copy)
    metered = fetched(outside)
    assert "X-Accel-Redirect" not in metered.headers and b"".join(metered.streaming_content) == BODY


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("backups/sales.bak", 'attachment; filename="sales.bak"'),
        ('a"b;c.bak', 'attachment; filename="a_b;c.bak"'),
        ("z\r\nSet-Cookie: x=1.bak", 'attachment; filename="z__Set-Cookie_ x=1.bak"'),
        ("..", None),
        ("订单.bak", "attachment; filename*=utf-8''%E8%AE%A2%E5%8D%95.bak"),
        ("evil\u202egpj.bak", 'attachment; filename="evil_gpj.bak"'),
    ],
)
def test_any_name_is_safe_in_a_header(key: str, expected: str | None) -> None:
    named = type("Named", (), {"is_ours": False, "__str__": lambda self: key})()
    said = content_disposition_header(True, asking._name(SimpleNamespace(file=named, file_id=7)))
    assert said == (expected or 'attachment; filename="backup-7"')


def test_a_mark_of_damage_made_elsewhere_voids_the_link(path: str) -> None:
    damage.mark(Copy.objects.get(), None)
    assert fetched(path).status_code == 404
