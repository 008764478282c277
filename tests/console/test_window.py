"""What a person sees of logs: the tab with its gaps in place, the picture of the window, the lag in words."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backups.chains import windows
from backups.models import Copy, CopyState, Instance, Kind, LogGap, LogStream, SetFile
from console.instances import timeline
from console.instances.timeline import Known, Solid
from regions import clock
from tests.console.crossed_logs import DAY, HOUR, MINUTE, copied, shop_of
from tests.console.fleet import TARGET, Fleet

SECOND = timedelta(seconds=1)


@pytest.fixture
def shop(fleet: Fleet) -> Instance:
    return shop_of(fleet)


def text(desk: Client, address: str, **headers: str) -> str:
    answer = desk.get(address, **headers)
    assert answer.status_code == 200
    return answer.content.decode()


def page_of(instance: Instance) -> str:
    return reverse("instances:page", args=[instance.code])


def rows(page: str) -> list[str]:
    return re.findall(r'<tr role="row"><td(.*?)</tr>', page, re.S)


def queries(desk: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        text(desk, address)
    return len(asked)


def shop_of_two(fleet: Fleet) -> Instance:
    """A server backed up database by database: of accounts a full and a log have come, of orders nothing yet."""
    instance = fleet.instance("two", engine="postgresql")
    fleet.policy(instance, logs_enabled=True)
    begin = fleet.now - 3 * HOUR
    copied(fleet, instance, Kind.FULL, 1000, 1010, begin, begin, "accounts")
    copied(fleet, instance, Kind.LOG, 995, 1020, begin, begin + HOUR, "accounts")
    fleet.backup(instance, database="orders")
    windows.rebuild(instance, fleet.stores[TARGET])
    return instance


def logs_of(instance: Instance) -> str:
    return reverse("instances:logs", args=[instance.code])


def test_logs_stand_in_order_and_the_gap_in_its_place(desk: Client, shop: Instance) -> None:
    page = text(desk, logs_of(shop))
    rows = re.findall(r'<tr role="row"(?: class="(missing)")?>(.*?)</tr>', page, re.S)
    places = [at for at, (kind, _) in enumerate(rows) if kind]
    assert len(places) == 1, "one gap, one row"
    gap = places[0]
    above, below = rows[gap - 1][1], rows[gap + 1][1]
    assert "1205.tar.zst" in above and "1185.tar.zst" in below, "between the log behind it and the log before it"
    assert "No log from" in rows[gap][1] and "A backup is taken." in rows[gap][1]
    assert "Restore to here" in below and "Restore to here" not in above, "nothing behind the gap can be had"


def test_the_gap_keeps_its_place_when_the_list_is_turned_around(desk: Client, shop: Instance) -> None:
    page = text(desk, f"{logs_of(shop)}?sort=ends")
    assert page.index("1185.tar.zst") < page.index("No log from") < page.index("1205.tar.zst")


def test_a_stranger_sees_no_log(client: Client, shop: Instance) -> None:
    client.force_login(User.objects.create_user("stranger"))
    assert client.get(logs_of(shop)).status_code == 404


def test_a_viewer_looks_and_is_offered_no_restore(client: Client, fleet: Fleet, shop: Instance) -> None:
    viewer = User.objects.create_user("viewer")
    viewer.memberships.create(group=fleet.group, role="viewer")
    client.force_login(viewer)
    page = text(client, logs_of(shop))
    assert "1205.tar.zst" in page and "Restore to here" not in page and "data-begins" not in page


def test_an_instance_without_logs_is_told_how_to_have_some(desk: Client, fleet: Fleet) -> None:
    assert "Enable Cross-region Log Backup in the settings." in text(desk, logs_of(fleet.instance("quiet")))


def test_the_picture_has_two_windows_with_the_gap_between_them(desk: Client, shop: Instance) -> None:
    page = text(desk, reverse("instances:page", args=[shop.code]))
    stretches = re.findall(r'data-begins="([^"]+)" data-ends="([^"]+)"', page)
    assert len(stretches) == 1, "behind the gap nothing can be restored before the next full"
    assert 'class="gap"' in page and "The same as a list" in page
    assert "unknown, gap" in page
    assert "Any second inside a solid stretch can be restored" in page


def test_a_stretch_is_spoken_of_only_where_there_is_one(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("begun", engine="postgresql")
    fleet.policy(instance, logs_enabled=True)
    begin = fleet.now - HOUR
    copied(fleet, instance, Kind.FULL, 1000, 1010, begin, begin)
    windows.rebuild(instance, fleet.stores[TARGET])
    page = text(desk, page_of(instance))
    assert "Each mark is a moment that can be restored." in page and "solid stretch" not in page


def test_the_lag_is_told_in_words_and_never_past_what_can_be_restored(
    desk: Client, fleet: Fleet, shop: Instance
) -> None:
    LogGap.objects.all().delete()
    Copy.objects.filter(set__first_position=1385).update(state=CopyState.PLANNED)
    page = text(desk, reverse("backup_instances:list"))
    until = shop.intervals.get().ended_at
    assert f"{until:%Y-%m-%d %H:%M:%S} UTC" in page
    assert "1 log not copied yet" in page and "on its way" not in page
    Copy.objects.filter(set__first_position=1385).update(state=CopyState.COPYING)
    assert "1 log not copied yet, 1 of them on its way" in text(desk, reverse("backup_instances:list"))
    chinese = desk.get(reverse("backup_instances:list"), headers={"accept-language": "zh-hans"}).content.decode()
    assert "1 个日志尚未复制，其中 1 个正在复制" in chinese


def test_a_quiet_server_is_not_behind_while_every_log_it_gave_is_there(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("quiet", engine="postgresql")
    fleet.policy(instance, logs_enabled=True)
    long_ago = fleet.now - 3 * HOUR
    copied(fleet, instance, Kind.FULL, 1000, 1010, long_ago, long_ago)
    copied(fleet, instance, Kind.LOG, 995, 1020, long_ago, long_ago + MINUTE)
    windows.rebuild(instance, fleet.stores[TARGET])
    stream = LogStream.objects.create(
        instance=instance, state="receiving", due_at=fleet.now, heard_at=fleet.now, fork="1", position=1020
    )
    page = text(desk, reverse("backup_instances:list"))
    assert re.search(r"<small>\d s behind</small>", page)
    LogStream.objects.filter(pk=stream.pk).update(position=1030)  # delivered, and nowhere else yet
    assert "<small>2 h 59 min behind</small>" in text(desk, reverse("backup_instances:list"))


def test_a_database_of_which_nothing_can_be_restored_is_not_covered_up(desk: Client, fleet: Fleet) -> None:
    instance = shop_of_two(fleet)
    page = text(desk, reverse("backup_instances:list"))
    assert "nothing yet<small>of <bdi>orders</bdi></small>" in page
    assert "Nothing of <bdi>orders</bdi> can be restored yet." in text(desk, page_of(instance))
    instance.sets.filter(database="orders").update(finished_at=fleet.now - 40 * DAY)  # dropped long ago
    page = text(desk, reverse("backup_instances:list"))
    assert "nothing yet" not in page and "<small>2 h behind</small>" in page


def test_nothing_more_is_copied_so_nothing_is_late(desk: Client, shop: Instance) -> None:
    LogGap.objects.all().delete()
    shop.policies.update(enabled=False)
    assert "nothing more is copied" in text(desk, reverse("backup_instances:list"))
    assert "nothing more is copied" in text(desk, page_of(shop))


def test_what_the_pages_ask_of_the_database_does_not_grow_with_the_logs(
    desk: Client, fleet: Fleet, shop: Instance
) -> None:
    few = {address: queries(desk, address) for address in (logs_of(shop), page_of(shop))}
    for number in range(300):
        begin = fleet.now - 4 * HOUR + number * MINUTE / 2
        copied(fleet, shop, Kind.LOG, 9000 + number * 10, 9010 + number * 10, begin, begin + MINUTE / 2)
    for address, asked in few.items():
        assert queries(desk, address) <= asked
        assert asked <= 46
        assert text(desk, address).count("<rect") < 300


# ---- restoring from here


def test_a_restore_begins_at_the_very_database_and_copies_that_the_row_is_of(desk: Client, fleet: Fleet) -> None:
    instance = shop_of_two(fleet)
    there = f"place={fleet.stores[TARGET].pk}&amp;database=accounts&amp;until="
    [row] = rows(text(desk, logs_of(instance)))
    assert there in row
    picture = text(desk, f"{page_of(instance)}?database=accounts").partition("<svg viewBox")[2].partition("</svg>")[0]
    assert there in picture


def test_a_moment_alone_is_restored_as_the_set_it_is(desk: Client, fleet: Fleet) -> None:
    """A restore is asked for by the second, and the second before a set's own moment cannot be had."""
    instance = fleet.instance("plain", engine="postgresql")
    fleet.policy(instance)
    begin = fleet.now.replace(microsecond=0) - HOUR + timedelta(milliseconds=700)
    copy = copied(fleet, instance, Kind.FULL, 1000, 1010, begin, begin)
    windows.rebuild(instance, fleet.stores[TARGET])
    page = text(desk, page_of(instance))
    links = re.findall(r'<a href="([^"]*restores/new[^"]+)"', page.partition("<svg viewBox")[2])
    assert len(links) == 2, "in the picture, and in the list that says the same"
    for link in links:
        assert f"set={copy.set_id}" in link and "until" not in link
        wizard = text(desk, link.replace("&amp;", "&"))
        assert 'name="by" value="set" checked' in wizard, "the wizard takes it as it is"
    assert "data-begins" not in page


def test_a_log_whose_engine_gives_no_beginning_begins_where_the_one_before_ended(
    desk: Client, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulation: no SQL Server runs here. Its log surely holds what was committed before it began (R-8.3)."""
    monkeypatch.setattr("console.instances.logs.why_engine_not_restored", lambda instance: "")
    instance = fleet.instance("erp", engine="sqlserver")
    fleet.policy(instance, logs_enabled=True)
    begin = fleet.now.replace(microsecond=0) - 2 * HOUR
    copied(fleet, instance, Kind.FULL, 1000, 1010, begin, begin, "erp")
    ends = [begin + n * 15 * MINUTE for n in (1, 2)]
    for number, end in enumerate(ends):
        copied(fleet, instance, Kind.LOG, 1000 + number * 20, 1020 + number * 20, end - 30 * SECOND, end, "erp")
    windows.rebuild(instance, fleet.stores[TARGET])
    newest, oldest = rows(text(desk, logs_of(instance)))
    assert newest.count(f">{ends[0]:%Y-%m-%d %H:%M:%S} UTC<") == 1, "from the end of the log before"
    assert "—" in oldest, "of the first nobody knows"
    restore = f"until={ends[1] - 30 * SECOND:%Y-%m-%dT%H%%3A%M%%3A%SZ}"
    assert restore in newest, "the last log can be restored to, as far as it surely goes"


# ---- gaps and what became of them


def test_a_gap_that_was_filled_is_told_in_the_past_and_no_longer_drawn(
    desk: Client, fleet: Fleet, shop: Instance
) -> None:
    began = fleet.now - 4 * HOUR
    copied(fleet, shop, Kind.LOG, 1195, 1205, began + 100 * MINUTE, began + 105 * MINUTE)
    windows.rebuild(shop, fleet.stores[TARGET])
    LogGap.objects.update(healed_at=fleet.now, healing="copy")
    page = text(desk, logs_of(shop))
    assert "was missing; it has been copied since." in page
    assert "No log from" not in page
    assert 'class="gap"' not in page


def test_a_gap_behind_which_a_backup_was_taken_stays_in_its_place(desk: Client, fleet: Fleet, shop: Instance) -> None:
    LogGap.objects.update(healed_at=fleet.now)
    page = text(desk, logs_of(shop))
    assert f"healed by a backup at {fleet.now:%Y-%m-%d %H:%M:%S} UTC." in page
    assert 'class="gap"' in page, "what is between can never be had"


def test_gaps_stay_among_the_logs_of_one_database(desk: Client, shop: Instance) -> None:
    assert "No log from" in text(desk, f"{logs_of(shop)}?q=120")
    assert "No log from" not in text(desk, f"{logs_of(shop)}?q=118"), "the log behind it is not shown"


def test_a_log_is_found_by_any_of_its_files_and_listed_once(desk: Client, fleet: Fleet, shop: Instance) -> None:
    copy = Copy.objects.get(set__first_position=1385)
    first = copy.set.files.get()
    first.pk, first.key = None, "logs/1385.part2.tar.zst"
    first.save()
    SetFile.objects.create(set=copy.set, file=first, family_sequence=2)
    for asked in ("1385", "part2", "logs/1385.tar.zst"):
        [row] = rows(text(desk, f"{logs_of(shop)}?q={asked}"))
        assert "1385" in row, asked
    assert "Nothing matches" in text(desk, f"{logs_of(shop)}?q=%25")


def test_the_state_says_what_a_gap_means_wherever_it_is_told(desk: Client, shop: Instance) -> None:
    """R-19: log_gap comes before behind, and needs somebody."""
    for address in (page_of(shop), reverse("backup_instances:list"), reverse("overview:page")):
        page = text(desk, address)
        assert "Log gap" in page, address
        assert "no moment behind the gap can be restored until it is healed" in page, address
    LogGap.objects.all().delete()
    assert "Log gap" not in text(desk, reverse("overview:page"))


# ---- the receiving of logs, in plain words


@pytest.mark.parametrize(
    ("stream", "said", "is_bad"),
    [
        ({"state": "wanted"}, "Logs will be received as soon as a worker of the source region begins.", False),
        ({"is_held": True, "waiting_bytes": 3 << 20}, "Logs are received; 3.00 MB wait at the server.", False),
        ({"is_held": True, "waiting_bytes": 0}, "Logs are received; nothing waits at the server.", False),
        ({"is_held": True}, "Logs are received.", False),
        ({"waiting_bytes": 5 << 30}, "Logs are not received at the moment; 5.00 GB wait at the server.", True),
        ({"is_held": True, "error": "No route."}, "Logs are received. The last attempt said: No route.", True),
        ({"state": "ending"}, "Logs are no longer wanted; the server is told to keep none for Farshore.", False),
    ],
)
def test_what_the_receiver_does_is_told_in_plain_words(
    desk: Client, fleet: Fleet, stream: dict[str, object], said: str, is_bad: bool
) -> None:
    instance = fleet.protected("orders")
    facts = {"state": "receiving", "due_at": fleet.now, **stream}
    if facts["state"] == "receiving":
        facts["started_at"] = fleet.now - HOUR
    if facts.pop("is_held", False):
        facts["leased_until"] = clock.now() + HOUR
    LogStream.objects.create(instance=instance, **facts)
    page = " ".join(text(desk, page_of(instance)).split())
    assert said in page
    note = re.search(rf'<p class="note( bad)?">(?:(?!</p>).)*{re.escape(said)}', page)
    assert bool(note.group(1)) is is_bad


def test_a_stream_that_has_ended_is_not_told(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    LogStream.objects.create(instance=instance, state="ended", due_at=fleet.now, error="its slot was dropped")
    assert "its slot was dropped" not in text(desk, page_of(instance))


# ---- what the picture reaches


def test_all_reaches_back_to_copies_that_are_no_longer_at_their_source(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("old", engine="postgresql")
    fleet.policy(instance, days=90)
    for age in (60, 1):
        at = fleet.now - age * DAY
        copied(fleet, instance, Kind.FULL, 1000 - age, 1010 - age, at, at)
    instance.sets.filter(finished_at__lt=fleet.now - 7 * DAY).update(deleted_at=fleet.now)
    windows.rebuild(instance, fleet.stores[TARGET])
    assert text(desk, f"{page_of(instance)}?range=all").count('<rect class="band"') == 2
    assert text(desk, f"{page_of(instance)}?range=week").count('<rect class="band"') == 1


def test_the_newest_restorable_moment_is_marked_and_said(desk: Client, shop: Instance) -> None:
    page = text(desk, page_of(shop))
    said = f"{shop.intervals.get().ended_at:%Y-%m-%d %H:%M:%S} UTC"
    assert f"The newest moment that can be restored is {said}." in page
    assert f"Newest restorable moment {said}</title>" in page


def test_many_databases_are_a_list_to_choose_from(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("erp")
    for number in range(9):
        fleet.backup(instance, database=f"db{number}")
    page = text(desk, f"{page_of(instance)}?database=db4&range=day")
    assert "<option selected>db4</option>" in page
    assert '<input type="hidden" name="range" value="day">' in page


# ---- the picture's numbers


def test_a_picture_of_many_logs_is_drawn_with_few_marks(fleet: Fleet) -> None:
    begins, ends = fleet.now - 7 * DAY, fleet.now
    logs = [(begins + n * 10 * MINUTE / 60, begins + (n + 1) * 10 * MINUTE / 60) for n in range(60_000)]
    drawn = timeline.draw(Known(copied_logs=logs), begins, ends)
    assert len(drawn.copied_logs) == 1, "they follow each other"
    assert drawn.copied_logs[0].x == timeline.PAD


def test_restorable_stretches_are_never_joined_however_near(fleet: Fleet) -> None:
    begins, ends = fleet.now - 7 * DAY, fleet.now
    near = [(begins + HOUR, begins + 2 * HOUR), (begins + 2 * HOUR + timedelta(seconds=1), begins + 3 * HOUR)]
    drawn = timeline.draw(Known(restorable=near), begins, ends)
    assert [(band.begins, band.ends) for band in drawn.restorable] == near


def test_no_restorable_moment_is_left_out_of_the_picture_however_many_there_are(fleet: Fleet) -> None:
    begins, ends = fleet.now - 1825 * DAY, fleet.now
    points = [Solid(begins + n * DAY, begins + n * DAY, 1, n) for n in range(1825)]
    backups = [(point.begins, True) for point in points]
    drawn = timeline.draw(Known(source=backups, copies=backups, restorable=points), begins, ends)
    assert len(drawn.restorable) <= 250 and len(drawn.copies) <= 200
    assert sum(band.joined for band in drawn.restorable) == len(points)
    assert drawn.restorable[0].begins == points[0].begins
    assert drawn.restorable[-1].last == points[-1]
    assert drawn.copies[0].x < timeline.PAD + 5


def test_the_axis_has_a_handful_of_ticks_whatever_the_range(fleet: Fleet) -> None:
    for length in (HOUR, DAY, 7 * DAY, 30 * DAY, 1825 * DAY):
        ticks = timeline.draw(Known(), fleet.now - length, fleet.now).ticks
        assert 2 <= len(ticks) <= timeline.MOST_TICKS, length
        assert [tick.x for tick in ticks] == sorted({tick.x for tick in ticks})
