"""If a region were gone: what can be brought back, how old, from where, how soon, with half of the stores silent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from backups.chains import windows
from backups.models import Copy, Drill, Instance, RestorableInterval, Restore
from regions.models import Store
from tests.console.brought_back import HOUR, MINUTE, drilled, full, restore, streamed
from tests.console.fleet import FAR, SOURCE, TARGET, Fleet

RECOVERY = "/backups/restores/recovery/"
DIALOG = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def row(shown: str, instance: Instance) -> str:
    """Return the row of one instance."""
    [found] = [one for one in shown.split("<tr ") if instance.code in one]
    return found


def test_each_row_says_what_how_old_from_where_and_how_long(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    drilled(fleet, instance, seconds=140)
    shown = row(words(desk.get(RECOVERY)), instance)
    newest = fleet.now - 30 * MINUTE
    for piece in (
        "Can be restored",
        "the state of 30 min ago",
        f"{newest:%Y-%m-%d %H:%M:%S} UTC",
        f"{fleet.now - 26 * HOUR:%Y-%m-%d %H:%M:%S} UTC",
        "China (Shanghai)",
        "2 min 20 s",
        "measured by a drill 2 d ago",
        f"/backups/restores/new/?instance={instance.code}",
    ):
        assert piece in shown, piece


def test_what_a_drill_measured_is_told_alike_on_every_page(desk: Client, fleet: Fleet) -> None:
    """It is what passed until the server answered: checking and removing it is not what a restore would take."""
    instance = streamed(fleet)
    drilled(fleet, instance, evidence={"total_rows": 7}, restored_until=fleet.now)
    Drill.objects.update(seconds={"recovery": 5.8, "engine check": 540})
    assert "5.8 s" in row(words(desk.get(RECOVERY)), instance)
    drills = words(desk.get(f"/instances/{instance.code}/drills/"))
    assert "5.8 s" in drills and "7 rows in 6 s" in drills


def test_the_newer_of_drill_and_restore_is_what_is_expected(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    drilled(fleet, instance, seconds=3600)
    restore(fleet, instance, "ready")
    shown = row(words(desk.get(RECOVERY)), instance)
    assert "1 min 33 s" in shown
    assert "by a drill" not in shown


@pytest.mark.parametrize("facts", [{"state": "failed"}, {"pick": "canary"}, {"state": "skipped"}])
def test_a_drill_that_proved_nothing_measures_nothing(desk: Client, fleet: Fleet, facts: dict[str, str]) -> None:
    instance = streamed(fleet)
    drilled(fleet, instance, **facts)
    assert "not measured yet" in row(words(desk.get(RECOVERY)), instance)


def test_with_the_source_silent_everything_is_said_from_the_rows(
    desk: Client, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-1.2: the store of the source is gone, and nobody asks any store; the wizard and its OK work all the same."""
    instance = streamed(fleet)
    Store.objects.filter(region=SOURCE).update(state="unreachable", last_error="no answer")
    opened: list[str] = []
    monkeypatch.setattr(Store, "open", lambda store: opened.append(store.url))
    shown = words(desk.get(RECOVERY))
    assert "Unreachable" in row(shown, instance)
    assert "Can be restored" in row(shown, instance)
    wizard = {"instance": instance.code, "by": "newest", "name": "back", "place": fleet.stores[TARGET].pk}
    assert "All parts are there" in words(desk.get("/backups/restores/new/", wizard))
    desk.post("/backups/restores/new/", wizard)
    assert Restore.objects.get().region_id == TARGET
    assert opened == []


def test_one_region_is_looked_at_as_if_it_were_gone(desk: Client, fleet: Fleet) -> None:
    here, there = streamed(fleet, "here"), streamed(fleet, "there", SOURCE, region_id=TARGET)
    whole = words(desk.get(RECOVERY))
    assert "1 of 1 instances have a copy elsewhere" in whole
    assert f'href="?region={SOURCE}"' in whole
    shown = words(desk.get(RECOVERY, {"region": SOURCE}))
    assert "If China (Hangzhou) were gone" in shown
    assert here.code in shown
    assert there.code not in shown
    assert there.code in words(desk.get(RECOVERY, {"region": "all"}))


def test_the_unreachable_region_stands_first(desk: Client, fleet: Fleet) -> None:
    streamed(fleet, "here")
    streamed(fleet, "there", SOURCE, region_id=TARGET)
    Store.objects.filter(region=TARGET).update(state="unreachable")
    shown = words(desk.get(RECOVERY))
    assert shown.index(f'href="?region={TARGET}"') < shown.index(f'href="?region={SOURCE}"')


def test_what_has_no_copy_is_listed_as_lost(desk: Client, fleet: Fleet) -> None:
    bare = fleet.instance("bare", engine="postgresql")
    shown = row(words(desk.get(RECOVERY)), bare)
    assert "Nothing to restore" in shown
    assert ">Restore</a>" not in shown
    assert 'name="pick"' not in shown


def test_an_expired_or_encrypted_copy_brings_nothing_back(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet, logs=0)
    Copy.objects.update(state="expired", expired_at=fleet.now)
    windows.rebuild(instance, fleet.stores[TARGET])
    assert "Nothing to restore" in row(words(desk.get(RECOVERY)), instance)
    full(fleet, instance.policies.get(), age=HOUR, first=900, is_encrypted=True)
    windows.rebuild(instance, fleet.stores[TARGET])
    assert "Nothing to restore" in row(words(desk.get(RECOVERY)), instance)


def test_what_farshore_cannot_restore_is_not_offered_but_told(desk: Client, fleet: Fleet) -> None:
    mssql = fleet.protected("orders")
    shown = row(words(desk.get(RECOVERY)), mssql)
    assert "Not by Farshore" in shown
    assert "Farshore does not restore SQL Server yet · the state of 3 h ago" in shown
    assert ">Restore</a>" not in shown


def test_a_copy_counts_before_its_interval_has_been_reckoned(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet, logs=0)
    RestorableInterval.objects.all().delete()
    assert "the state of 3 h ago" in row(words(desk.get(RECOVERY)), instance)


def test_of_two_destinations_the_one_that_reaches_further_counts(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet, "moved", FAR)
    former = fleet.policy(instance, TARGET, enabled=False)
    full(fleet, former, age=50 * HOUR, first=10)
    shown = row(words(desk.get(RECOVERY)), instance)
    assert "Singapore" in shown
    assert "the state of 30 min ago" in shown


def test_the_worst_database_speaks_for_its_instance(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("two-databases")
    policy = fleet.policy(instance)
    fleet.copy(fleet.backup(instance, age=timedelta(hours=2), database="sales"), policy)
    fleet.copy(fleet.backup(instance, age=timedelta(days=3, hours=1, minutes=1), database="ledger"), policy)
    windows.rebuild(instance, fleet.stores[TARGET])
    assert "the state of 3 d 1 h ago (ledger is the oldest)" in row(words(desk.get(RECOVERY)), instance)


def test_a_released_instance_is_there_as_long_as_its_copies(desk: Client, fleet: Fleet) -> None:
    """R-2.4."""
    kept, gone = streamed(fleet, "kept"), fleet.instance("gone", engine="postgresql")
    Instance.objects.update(released_at=fleet.now)
    shown = words(desk.get(RECOVERY))
    assert "Can be restored" in row(shown, kept)
    assert gone.code not in shown


def test_many_are_ticked_and_restored_from_here(desk: Client, fleet: Fleet) -> None:
    one, two = streamed(fleet, "one"), streamed(fleet, "two")
    shown = words(desk.get(RECOVERY))
    assert shown.count('name="pick"') == 2
    assert 'hx-get="/backups/restores/many/"' in shown
    dialog = words(desk.get("/backups/restores/many/", {"pick": [one.pk, two.pk], "list": "recovery"}, **DIALOG))
    assert "No charge for restoring inside the region" in dialog
    assert dialog.count("Can be restored") == 2


def test_without_script_the_same_stands_on_pages(desk: Client, fleet: Fleet) -> None:
    one = streamed(fleet, "one")
    page = words(desk.get("/backups/restores/many/", {"pick": one.pk, "list": "recovery"}))
    assert "<html" in page
    outcome = words(desk.post("/backups/restores/many/", {"pick": one.pk, "by": "newest"}))
    assert "1 under way, 0 refused" in outcome
    assert "<html" in outcome


def test_the_overview_leads_here(desk: Client, fleet: Fleet) -> None:
    streamed(fleet)
    assert f'href="{RECOVERY}"' in words(desk.get("/"))
    assert f'href="{RECOVERY}"' in words(desk.get("/backups/restores/"))
