"""Links to the files of copies, and the meter of what was delivered (R-16.4, R-4.3, I17, I4)."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from backups import downloads
from backups.copying import damage
from backups.downloads import pins
from backups.downloads.ranges import merged, total
from backups.keeping import purging
from backups.models import (
    Copy,
    CopyState,
    Download,
    DownloadLink,
    DownloadUse,
    Event,
    Instance,
    Membership,
    Pin,
    Role,
)
from backups.oversight import audit
from regions import clock
from regions.refusals import Refusal
from tests.backups.handing_out import body_of, completed, link
from tests.backups.world import World

MIB = 1 << 20
stretches = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(stretches)
def test_distinct_bytes_are_counted_once_whatever_ranges_they_came_in(asked: list[tuple[int, int]]) -> None:
    ranges, seen = [], set()
    for first, end in asked:
        ranges = merged(ranges, first, end)
        seen |= set(range(first, end))
    assert total(ranges) == len(seen)
    assert {byte for first, end in ranges for byte in range(first, end)} == seen
    assert all(one[1] < two[0] for one, two in zip(ranges, ranges[1:], strict=False))


@pytest.fixture
def copy(world: World, orders: Instance) -> Copy:
    world.enable(orders)
    return completed(world, orders, body_of(3 * MIB))


def begin(handout: downloads.Handout, first: int, end: int) -> downloads.Meter:
    meter = downloads.begin(handout.link, first, end, "192.0.2.9")
    assert meter
    return meter


def served(handout: downloads.Handout, first: int, end: int) -> Download:
    return begin(handout, first, end).end(end, end)


def test_a_meter_is_there_before_the_first_byte(world: World, copy: Copy) -> None:
    """I17."""
    one = link(world, copy)
    meter = begin(one, 0, 3 * MIB)
    use = DownloadUse.objects.get()
    assert (use.first, use.counted, use.end) == (0, 0, 3 * MIB) and use.handed >= MIB
    assert Download.objects.get().delivered_bytes == 0
    assert Event.objects.filter(kind="download.used", actor=world.user, address="192.0.2.9").count() == 1
    meter.count(MIB, MIB)
    assert Download.objects.get().delivered_bytes == MIB
    meter.end(2 * MIB, 2 * MIB)
    found = Download.objects.get()
    assert found.delivered_bytes == 2 * MIB and found.whole_at is None


def test_ranges_that_overlap_or_are_fetched_twice_make_one_whole(world: World, copy: Copy) -> None:
    one = link(world, copy)
    for first, end in ((2 * MIB, 3 * MIB), (0, MIB), (0, MIB), (MIB // 2, 2 * MIB - 1)):
        assert served(one, first, end).whole_at is None
    assert served(one, MIB, 2 * MIB).whole_at
    assert Download.objects.get().ranges == [[0, 3 * MIB]]


def test_a_new_link_goes_on_with_what_the_old_one_began(world: World, copy: Copy) -> None:
    served(link(world, copy), 0, MIB)
    found = served(link(world, copy), MIB, 3 * MIB)
    assert found.whole_at and Download.objects.count() == 1 and DownloadLink.objects.count() == 2
    served(link(world, copy), 0, 3 * MIB)
    assert Download.objects.filter(whole_at__isnull=False).count() == 2  # fetched again, from its beginning


def test_what_the_network_had_counts_once_somebody_resumes_inside_it(world: World, copy: Copy) -> None:
    """The client has more than we know of: it says so by where it goes on."""
    one = link(world, copy)
    begin(one, 0, 3 * MIB).end(MIB, 2 * MIB)
    assert served(one, 2 * MIB + 1, 3 * MIB).delivered_bytes == 2 * MIB - 1  # behind what was handed out: no word of it
    found = served(one, MIB + 500, 2 * MIB + 1)
    assert found.ranges == [[0, 3 * MIB]] and found.whole_at


def test_what_was_handed_out_and_nobody_resumed_is_not_counted(world: World, copy: Copy) -> None:
    one = link(world, copy)
    begin(one, 0, 3 * MIB).end(MIB, 3 * MIB)
    assert downloads.settle(Download.objects.get()).delivered_bytes == MIB


def test_an_answer_that_still_runs_is_not_overtaken(world: World, copy: Copy) -> None:
    """A program that fetches several stretches at a time says nothing about the others."""
    one = link(world, copy)
    first = begin(one, 0, 3 * MIB)
    assert served(one, 2 * MIB, 3 * MIB).delivered_bytes == MIB
    assert first.end(10, MIB).delivered_bytes == MIB + 10


def test_after_a_kill_the_answer_that_takes_over_tells_how_far_it_came(world: World, copy: Copy) -> None:
    one = link(world, copy)
    begin(one, 0, 3 * MIB).count(10, 10)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host = DownloadUse.objects.get().served_by.rpartition(":")[0]
    DownloadUse.objects.update(served_by=f"{host}:{child.pid}")
    found = served(one, 2 * MIB, 3 * MIB)
    assert found.ranges == [[0, 3 * MIB]] and found.whole_at


@pytest.mark.django_db(transaction=True)
def test_two_workers_count_the_same_bytes_once(tmp_path: object, transactional_db: None) -> None:
    from tests.backups import world as worlds

    world = worlds.make(tmp_path)
    instance = world.instance("orders")
    world.enable(instance)
    size = 400
    one = link(world, completed(world, instance, body_of(size)))
    ready, failures = threading.Barrier(4), []

    def fetch(step: int) -> None:
        try:
            ready.wait()
            for first in range(0, size, step):
                meter = downloads.begin(one.link, first, min(size, first + step), "")
                meter.end(meter.use.end, meter.use.end)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=fetch, args=(step,)) for step in (40, 40, 70, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Download.objects.get()
    assert failures == [] and found.ranges == [[0, size]] and found.delivered_bytes == size and found.whole_at


def test_an_empty_file_is_whole_when_its_answer_has_ended(world: World, orders: Instance) -> None:
    world.enable(orders)
    one = link(world, completed(world, orders, b""))
    assert Download.objects.get().whole_at is None
    assert served(one, 0, 0).whole_at


# ---- links


def test_a_token_is_told_once_and_kept_nowhere(world: World, copy: Copy) -> None:
    """I18."""
    one = link(world, copy)
    begin(one, 0, 1)
    assert len(one.token) >= 43
    with connection.cursor() as cursor:
        for model in (DownloadLink, Download, DownloadUse, Event, Pin):
            cursor.execute(f"SELECT t::text FROM {model._meta.db_table} t")
            assert one.token not in str(cursor.fetchall())


def test_the_billing_rules_are_learnt_first(world: World, copy: Copy) -> None:
    with pytest.raises(Refusal, match="Tick"):
        downloads.ask(copy, world.by, "internet", learnt=False)
    assert not DownloadLink.objects.exists() and not Pin.objects.exists()


def test_who_is_no_operator_gets_no_link(world: World, copy: Copy) -> None:
    viewer = User.objects.create_user("vi")
    Membership.objects.create(user=viewer, group=world.group, role=Role.VIEWER)
    with pytest.raises(PermissionDenied):
        downloads.ask(copy, downloads.asking.By(viewer), "internet", learnt=True)


def test_a_link_is_void_as_soon_as_what_it_stands_on_is_gone(world: World, copy: Copy) -> None:
    """It acts as the person who asked (R-16.4)."""
    omar = User.objects.create_user("omar")
    role = Membership.objects.create(user=omar, group=world.group, role=Role.OPERATOR)
    [one] = downloads.ask(copy, downloads.asking.By(omar), "internet", learnt=True)
    assert downloads.link_of(one.token).pk == one.link.pk
    assert downloads.link_of(one.token[:-1]) is None and downloads.link_of("") is None

    Membership.objects.filter(pk=role.pk).update(role=Role.VIEWER)
    assert downloads.link_of(one.token) is None
    Membership.objects.filter(pk=role.pk).update(role=Role.OPERATOR)
    User.objects.filter(pk=omar.pk).update(is_active=False)
    assert downloads.link_of(one.token) is None
    User.objects.filter(pk=omar.pk).update(is_active=True)
    Copy.objects.filter(pk=copy.pk).update(state=CopyState.EXPIRED)
    assert downloads.link_of(one.token) is None and downloads.begin(one.link, 0, 1, "") is None
    Copy.objects.filter(pk=copy.pk).update(state=CopyState.COMPLETED)
    assert downloads.link_of(one.token)


def test_a_link_works_for_a_quarter_of_an_hour(world: World, copy: Copy, settings: object) -> None:
    one = link(world, copy)
    assert one.link.expires_at - one.link.made_at == timedelta(minutes=15)
    DownloadLink.objects.update(expires_at=clock.now())
    assert downloads.link_of(one.token) is None
    settings.DOWNLOAD_LINK_SECONDS = 3600
    assert link(world, copy).link.expires_at - clock.now() > timedelta(minutes=59)


def test_a_snapshot_and_a_damaged_copy_are_not_handed_out(world: World, orders: Instance, copy: Copy) -> None:
    """R-7.2."""
    snapshot = completed(world, orders, body_of(5000), method="snapshot")
    with pytest.raises(Refusal, match="snapshot cannot be downloaded"):
        link(world, snapshot)
    damage.mark(copy, None)
    with pytest.raises(Refusal, match="Only a completed copy"):
        link(world, Copy.objects.get(pk=copy.pk))


def test_bytes_stay_while_a_link_lives_and_no_longer(world: World, orders: Instance, copy: Copy) -> None:
    """I4: one that could be deleted today is kept for its links and answers, without moving its date."""
    long_ago = clock.now() - timedelta(days=9)
    link(world, copy)
    link(world, copy)
    Copy.objects.filter(pk=copy.pk).update(
        state=CopyState.EXPIRED, expires_at=long_ago, expired_at=long_ago, purge_at=long_ago
    )
    expired = Copy.objects.get(pk=copy.pk)
    said = purging.why_not_delete(expired, clock.now(), timedelta(0))
    assert said == "A restore, drill or download is reading it."
    assert Pin.objects.count() == 1
    Pin.objects.update(until=clock.now() - timedelta(seconds=1))
    downloads.tidy()
    assert not Pin.objects.exists()
    assert "reading" not in (purging.why_not_delete(expired, clock.now(), timedelta(0)) or "")


def test_an_answer_keeps_its_pin_and_the_audit_would_miss_it(world: World, copy: Copy) -> None:
    one = link(world, copy)
    meter = begin(one, 0, 3 * MIB)
    DownloadLink.objects.update(expires_at=clock.now())
    meter.count(1, 1)
    assert Pin.objects.get().until > clock.now() + pins.STREAMING / 2
    assert list(audit.pins_and_restores()) == []
    Pin.objects.all().delete()
    assert any("download" in breach for breach in audit.pins_and_restores())


def test_links_are_forgotten_after_a_while_and_meters_are_not(world: World, copy: Copy) -> None:
    served(link(world, copy), 0, 3 * MIB)
    long_ago = clock.now() - timedelta(days=91)
    DownloadLink.objects.update(expires_at=long_ago)
    DownloadUse.objects.update(began_at=long_ago)
    link(world, copy)
    downloads.tidy()
    assert DownloadLink.objects.count() == 1 and not DownloadUse.objects.exists()
    assert Download.objects.filter(whole_at__isnull=False).count() == 1
