"""What is told before OK for as many instances as one OK takes, and every warning of each (R-4.6, R-6, R-9.2, R-11)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backups import policies
from backups.events import By
from backups.keeping import retention, shortening
from backups.models import Copy, CopyState, Instance, ServerDatabase
from backups.policies import Settings
from billing import estimates
from console.widgets import instance_lists
from console.widgets.words import in_words, money
from regions import clock
from regions.models import Store
from tests.console.fleet import DAY, FAR, GB, TARGET, Fleet
from tests.console.test_settings import DIALOG, HTMX, PREVIEW, said, words

STATEMENTS = 37  # whatever the settings, and however many the instances


def previewed(desk: Client, instances: Sequence[Instance], **changes: str) -> str:
    return words(desk.post(PREVIEW, said(list(instances), **changes), **HTMX))


def statements(desk: Client, instances: Sequence[Instance], **changes: str) -> int:
    with CaptureQueriesContext(connection) as seen:
        previewed(desk, instances, **changes)
    return len(seen)


# ---- cost and effect of all that OK takes


CHANGES = {
    "shorter": {"destination": TARGET, "retention_days": "7"},
    "disabled": {"enabled": "disabled", "destination": TARGET, "retention_days": "30"},
    "elsewhere, logs too": {"destination": FAR, "retention_days": "30", "logs_enabled": "enable"},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_the_estimate_of_many_takes_no_more_statements_than_that_of_few(
    desk: Client, fleet: Fleet, changes: dict[str, str]
) -> None:
    """R-4.6, R-14.3, R-15.5: each has copies, logs, a differential, and databases that its server names."""
    few = [_busy(fleet, f"i{n}") for n in range(3)]
    desk.post(PREVIEW, said(few), **HTMX)
    needed = statements(desk, few, **changes)
    assert needed <= STATEMENTS
    assert statements(desk, [*few, *(_busy(fleet, f"more{n}") for n in range(60))], **changes) == needed


def _busy(fleet: Fleet, name: str) -> Instance:
    instance = fleet.protected(name, days=30, copies=10, host="10.0.0.8", secondary_host="10.0.0.9")
    fleet.backup(instance, age=30 * timedelta(hours=1), database="ledger", set_guid=f"base {name}")
    fleet.backup(instance, database="ledger", kind="differential", base_guid=f"base {name}")
    fleet.backup(instance, age=timedelta(hours=1), kind="log", first_position=1, last_position=2)
    at = {"first_seen_at": fleet.now, "seen_at": fleet.now}
    ServerDatabase.objects.create(instance=instance, name="hr", is_online=True, has_logs=True, **at)
    return instance


def test_sixty_are_told_what_it_costs_and_what_expires(desk: Client, fleet: Fleet) -> None:
    """More than fifty went without once."""
    sixty = [fleet.protected(f"i{n:02}", days=30, copies=10) for n in range(60)]
    shown = previewed(desk, sixty, retention_days="7", agreed=None)
    lost, whole = in_words(180 * 42 * GB), in_words(600 * 42 * GB)
    assert f"<b>180 of 600 backup sets ({lost} of {whole}) expire now</b>" in re.sub(r"</?bdi>", "", shown)
    assert re.search(r"Against today</dt><dd><bdi>−\$\d", shown)
    off = previewed(desk, sixty, enabled="disabled", retention_days="30", agreed=None)
    alone = estimates.left_to_pay(sixty[0], clock.now()).amount
    assert f"Storage left to pay</dt><dd>{money(60 * alone)}" in off
    moved = previewed(desk, sixty, destination=FAR, retention_days="30")
    assert "First copy, traffic" in moved


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_amounts_of_the_dialog_are_grouped_by_thousands(desk: Client, fleet: Fleet, language: str) -> None:
    """As on every other page (R-4.6)."""
    instance = fleet.protected("orders", days=30, copies=0)
    policy = instance.policies.get()
    for day in range(10):
        fleet.copy(fleet.backup(instance, age=day * DAY + timedelta(hours=3), size=30_000 * GB), policy)
    spoken = HTMX | {"headers": {"accept-language": language}}
    changes = ({"retention_days": "7"}, {"enabled": "disabled", "retention_days": "30"})
    shown = " ".join(words(desk.post(PREVIEW, said(instance, **one), **spoken)) for one in changes)
    amounts = re.findall(r"\$([\d,.]+\d)", shown)
    assert len(amounts) >= 6 and max(len(amount) for amount in amounts) > 8
    assert not [amount for amount in amounts if not re.fullmatch(r"\d{1,3}(,\d{3})*(\.\d\d)?", amount)]
    assert re.search(r"[+−]\$\d{1,3},\d{3}", shown), "the difference to today"


def test_what_expires_is_what_the_retention_itself_would_expire(fleet: Fleet) -> None:
    """R-14.3: dates moved by days, and the chains looked at anew, come to the same; a hold keeps what it needs."""
    instance, other = fleet.protected("orders", days=30, copies=0), fleet.protected("ledger", days=60, copies=12)
    policy = instance.policies.get()
    for week in range(4):
        base = fleet.backup(instance, age=(week * 7 + 6) * DAY, set_guid=f"full {week}")
        fleet.copy(base, policy)
        for day in range(3):
            age = (week * 7 + day) * DAY + timedelta(hours=1)
            made = fleet.backup(instance, age=age, kind="differential", base_guid=f"full {week}", size=GB)
            fleet.copy(made, policy)
    held = Copy.objects.filter(set__instance=instance).order_by("set__finished_at").last()
    held.holds.create(case_number="law 7", placed_by=fleet.user, placed_at=fleet.now)
    for one in (instance, other):
        retention.reschedule(one.pk, fleet.stores[TARGET].pk)
    for days in (7, 10, 14, 21, 29):
        wanted = Settings(True, days, TARGET)
        found = shortening.of_all({instance.pk: wanted, other.pk: wanted}, fleet.now)
        for one in (instance, other):
            assert (found[one.pk].sets, found[one.pk].bytes) == _expired_by(one, wanted, fleet)


def _expired_by(instance: Instance, wanted: Settings, fleet: Fleet) -> tuple[int, int]:
    """Return what really expires by it, and undo that."""
    copies = Copy.objects.filter(set__instance=instance)
    with transaction.atomic():
        policies.apply(instance, wanted, By(fleet.user))
        gone = list(copies.filter(state=CopyState.EXPIRED).values_list("stored_bytes", flat=True))
        transaction.set_rollback(True)
    return len(gone), sum(gone)


# ---- each warning


def test_every_warning_is_said_however_many_instances_it_is_of(desk: Client, fleet: Fleet) -> None:
    """R-6.2, R-9.2: after five they were left out once."""
    many = [fleet.instance(f"i{n:02}") for n in range(41)]
    basic = fleet.instance("telemetry", engine="postgresql", arrival="taken", host="10.0.0.8", edition="basic")
    off = fleet.protected("zebra", copies=1)
    policies.apply(off, policies.Settings(True, 30, TARGET, logs_enabled=True), policies.FARSHORE)
    shown = previewed(desk, [*many, basic, off], destination=FAR, logs_enabled="enable")
    assert "Nothing can be restored until the next full backup arrives: i00, i01, i02 and 38 more." in shown
    assert "All 41 instances, by name" in shown
    assert all(f"<li><bdi>{one.name}</bdi></li>" in shown for one in many)
    assert "telemetry: " + RUNS_FIRST in shown
    assert "telemetry: if its logs follow no backup, one is taken on the primary, for it has no secondary." in shown


def test_whom_ok_would_refuse_for_where_they_lie_is_told_before_it(desk: Client, fleet: Fleet) -> None:
    here, there = fleet.instance("here"), fleet.instance("there", region_id=TARGET)
    shown = previewed(desk, [here, there], destination=TARGET)
    assert "Backups of China (Shanghai) may not go to China (Shanghai). OK refuses: there." in shown
    assert "OK refuses" not in previewed(desk, [here, there], destination=FAR)
    outcomes = words(desk.post(DIALOG, said([here, there], destination=TARGET), **HTMX))
    assert "1 of 2 saved, 1 refused" in outcomes


def test_every_database_without_a_valid_set_is_named(desk: Client, fleet: Fleet) -> None:
    """R-6.1: of an instance that Farshore backs up too."""
    names = [f"db{n:02}" for n in range(9)]
    found, taken = fleet.instance("found"), fleet.instance("taken", **SHARED)
    for instance in (found, taken):
        for name in names:
            fleet.backup(instance, age=40 * timedelta(hours=1), database=name)
        fleet.backup(instance, database="fresh")
    shown = previewed(desk, [found])
    assert "next full backup arrives: found (db00, db01, db02 and 6 more)." in shown
    assert f"<li><bdi>found: {', '.join(names)}</bdi></li>" in shown
    assert f"<li><bdi>taken: {', '.join(names)}</bdi></li>" in previewed(desk, [taken])
    few = fleet.instance("few", **SHARED)
    for name in names[:2]:
        fleet.backup(few, age=40 * timedelta(hours=1), database=name)
    assert "few (db00, db01): " + RUNS_FIRST in previewed(desk, [few])


RUNS_FIRST = (
    "a full backup runs first; a default backup that already runs is waited for, up to 6 hours, and used instead."
)
SHARED = {"host": "10.0.0.8", "share_called": "\\\\nas\\backups", "share_folder": "/srv/share"}


def test_of_databases_in_different_groups_each_is_told_where_its_backup_is_taken(desk: Client, fleet: Fleet) -> None:
    """R-9.1, R-9.2: "the primary is left alone" is not said where one of them is backed up there."""
    instance = fleet.instance("orders", secondary_host="10.0.0.9", **SHARED)
    asked = {"logs_enabled": "enable"}
    assert "of a database in an availability group on the secondary, of any other on the primary" in previewed(
        desk, [instance], **asked
    )
    at = {"first_seen_at": fleet.now, "seen_at": fleet.now, "is_online": True, "has_logs": True}
    ServerDatabase.objects.create(instance=instance, name="A", availability_group="g1", **at)
    assert "orders (A): if its logs follow no backup, one is taken on the secondary; the primary is left alone." in (
        previewed(desk, [instance], **asked)
    )
    ServerDatabase.objects.create(instance=instance, name="B", **at)
    shown = previewed(desk, [instance], **asked)
    assert "orders (A): if its logs follow no backup, one is taken on the secondary." in shown
    assert (
        "orders (B): if its logs follow no backup, one is taken on the primary, for it is in no availability" in shown
    )
    assert "left alone" not in shown


def test_the_restorable_window_is_told_of_each_instance(desk: Client, fleet: Fleet) -> None:
    """R-14.3: the latest edge of all was said to be that of each once."""
    long, short = fleet.protected("long", days=30, copies=12), fleet.protected("short", days=30, copies=0)
    for age in (20, 5):
        fleet.copy(fleet.backup(short, age=age * DAY), short.policies.get())
    edges = {"long": fleet.now - 6 * DAY - timedelta(hours=3), "short": fleet.now - 5 * DAY}
    told = {name: f"{at:%Y-%m-%d %H:%M} UTC" for name, at in edges.items()}
    both = previewed(desk, [long, short], agreed=None)
    assert f"Nothing can be restored from before: long {told['long']}, short {told['short']}." in both
    assert f"Nothing before {told['short']} can be restored." in previewed(desk, [short], agreed=None)
    more = [fleet.protected(f"m{n}", days=30, copies=12) for n in range(4)]
    many = previewed(desk, [long, short, *more], agreed=None)
    assert f"windows of 6 instances then begin between {told['long']} and {told['short']}." in many
    assert f"<li><bdi>short {told['short']}</bdi></li>" in many


def test_what_each_was_reckoned_from_can_be_read_of_many(desk: Client, fleet: Fleet) -> None:
    known, unknown = fleet.protected("known", copies=3), fleet.instance("unknown")
    shown = previewed(desk, [known, unknown], destination=FAR, retention_days="30")
    assert "known: Reckoned from 3 default backups of the last 3 days." in shown
    assert "unknown: No default backup is known yet, so its size and pace are not either." in shown
    for n in range(2, 9):
        fleet.backup(fleet.protected(f"i{n}", copies=n), age=DAY, database="other")
    shown = previewed(desk, list(Instance.objects.all()), destination=FAR, retention_days="30")
    assert "What each was reckoned from, and what is not counted" in shown
    assert "unknown: No default backup is known yet, so its size and pace are not either." in shown.split("<details")[0]
    assert "<li><bdi>i8</bdi>: Reckoned from 9 default backups" in shown


def test_a_region_that_cannot_start_a_server_is_told_of_every_instance_of_it(desk: Client, fleet: Fleet) -> None:
    Store.objects.filter(region=TARGET).update(capabilities={"startable": {"sqlserver": ["2019"]}})
    shown = previewed(desk, [fleet.instance(f"i{n}") for n in range(7)])
    assert "i0, i1, i2 and 4 more: China (Shanghai) cannot start a" in shown


# ---- more than one OK takes


@pytest.mark.parametrize("how", ["ticked", "matching"])
def test_what_is_ticked_beyond_one_ok_is_told_before_and_after(
    desk: Client, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """R-11.2, R-11.3."""
    monkeypatch.setattr(instance_lists, "MOST_MATCHING", 3)
    monkeypatch.setattr("console.backup_settings.views.MOST_MATCHING", 3)
    monkeypatch.setattr("console.backup_settings.saved.MOST_MATCHING", 3)
    five = [fleet.instance(f"i{n}") for n in range(5)]
    asked = {"pick": [one.pk for one in five]} if how == "ticked" else {"matching": "q=i", "list": "pending"}
    shown = words(desk.get(DIALOG, asked, **HTMX))
    told = "2 more instances were ticked and are left out: one OK takes 3."
    assert "3 instances" in shown and told in shown
    assert 'name="left_out" value="2"' in shown
    answer = desk.post(DIALOG, said(five[:3], left_out="2"), **HTMX)
    assert answer.status_code == 204
    assert told in json.loads(answer.headers["HX-Trigger"])["toast"]["text"]
    bad = fleet.instance("bad", family="shared")
    assert told in words(desk.post(DIALOG, said([five[3], bad], left_out="2"), **HTMX))
    enough = words(desk.get(DIALOG, {"pick": [one.pk for one in five[:3]]}, **HTMX))
    assert "left out" not in enough


# ---- what is kept past its date


def test_who_disables_is_told_which_last_good_copies_go(desk: Client, fleet: Fleet) -> None:
    """R-15.6, R-4.6: kept past their date, free of charge, until somebody wants no copies any more."""
    instance = fleet.protected("orders", days=30, copies=0)
    found = fleet.backup(instance, age=40 * DAY)
    fleet.copy(found, instance.policies.get(), kept_for=retention.LAST_GOOD)
    off = {"enabled": "disabled", "retention_days": "30", "agreed": None}
    shown = previewed(desk, [instance], **off)
    assert "1 of 1 backup sets" in shown and "expire now" in shown
    assert "Nothing that was copied until now can be restored any more: orders." in shown
    assert "expire now" not in previewed(desk, [instance], destination=FAR, retention_days="30")
    saved = desk.post(DIALOG, said(instance, **off), **HTMX)
    assert "1 backup set expires; undo until" in json.loads(saved.headers["HX-Trigger"])["toast"]["text"]
