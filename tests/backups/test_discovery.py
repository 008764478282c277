"""Finding what somebody else's job wrote: finished files only, whole sets only, never ours (design.md §5, I19)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from backups.copying import planning
from backups.default_backups import discovery
from backups.models import Alert, BackupFile, BackupSet, Copy, CopyState, Event, Instance, ServerDatabase, SetStatus
from backups.oversight import watch
from demo import mtf
from regions import clock, stores
from regions.models import Region, Store
from regions.refusals import Refusal
from regions.storage import StorageError
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, SOURCE, TARGET, World, backup


def states(instance: Instance) -> list[str]:
    return list(BackupFile.objects.filter(instance=instance).order_by("pk").values_list("state", flat=True))


def look(instance: Instance, time_machine: TimeMachine) -> int:
    time_machine.forward(seconds=11)
    found = discovery.look(instance)
    planning.weigh_due()
    return found


def touch(path: Path, seconds: int) -> None:
    """Set the file's time, as if it had been written that much later."""
    was = path.stat()
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns + seconds * 10**9))


def test_a_growing_file_is_not_finished(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    whole = mtf.file_of(backup())
    for share in (4, 3, 2):
        world.drop(orders, "sales.bak", body=whole[: len(whole) // share])
        assert look(orders, time_machine) == 0
    world.drop(orders, "sales.bak", body=whole)
    assert look(orders, time_machine) == 0
    assert look(orders, time_machine) == 1
    assert states(orders) == ["replaced"] * 3 + ["settled"]
    assert BackupSet.objects.get().status == SetStatus.SUCCEEDED


def test_two_looks_in_quick_succession_prove_nothing(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    world.drop(orders, "sales.bak", backup())
    discovery.look(orders)
    time_machine.forward(seconds=9)
    assert discovery.look(orders) == 0
    time_machine.forward(seconds=1)
    assert discovery.look(orders) == 1


def test_a_db_bak_overwritten_every_night_gives_a_copy_of_each_night(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """INIT: the same name every night, another file every night; no two rows name one object (I2)."""
    world.enable(orders)
    for night in range(3):
        touch(world.drop(orders, "db.bak", backup()), night * 86_400)
        world.find(orders)
        [copy] = world.carry()
        assert copy.state == CopyState.COMPLETED, copy.error
    assert states(orders) == ["replaced", "replaced", "settled"]
    assert BackupSet.objects.count() == Copy.objects.filter(state=CopyState.COMPLETED).count() == 3
    keys = [key for copy in Copy.objects.all() for key in copy.copied_files.values_list("transfer__key", flat=True)]
    assert len(set(keys)) == 3
    assert len({(world.folder / TARGET / key).read_bytes() for key in keys}) == 3


def test_overwritten_before_it_was_copied_is_a_cancellation_with_an_alert(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-2.5, I3; the alert ends when a newer backup has arrived (R-19)."""
    world.enable(orders)
    world.drop(orders, "db.bak", backup())
    world.find(orders)
    touch(world.drop(orders, "db.bak", backup()), 86_400)
    world.find(orders)
    lost, kept = Copy.objects.order_by("pk")
    assert (lost.cancel_reason, kept.state) == ("source_gone", CopyState.PLANNED)
    assert Alert.objects.get(closed_at=None).subject == f"copy:{lost.pk}"
    time_machine.forward(hours=1)
    world.carry()
    assert not Alert.objects.filter(closed_at=None).exists()


def test_a_db_bak_that_is_appended_to_keeps_its_sets_and_gains_one(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """NOINIT: each night's file holds the nights before; what is owed of them is not lost."""
    world.enable(orders)
    first = backup()
    nights = [first, backup(), backup()]
    for night in range(3):
        media = mtf.media_of(first)
        touch(world.drop(orders, "db.bak", body=mtf.file_of(*nights[: night + 1], media=media)), night * 86_400)
        world.find(orders)
    assert BackupSet.objects.count() == 3
    assert {found.files.get().state for found in BackupSet.objects.all()} == {"settled"}
    assert BackupSet.objects.order_by("pk").last().set_files.get().position == 3
    assert not Alert.objects.exists()
    world.carry()
    assert Copy.objects.filter(state=CopyState.COMPLETED).count() == 3
    assert sum(Copy.objects.values_list("stored_bytes", flat=True)) == BackupFile.objects.get(state="settled").size


def test_stripes_that_arrive_apart_make_one_set(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    world.enable(orders)
    stripes = mtf.stripes_of(backup(), 3)
    for number, stripe in enumerate(stripes, 1):
        world.drop(orders, f"sales_{number}.bak", body=stripe)
        world.find(orders)
        found = BackupSet.objects.get()
        assert found.status == (SetStatus.SUCCEEDED if number == 3 else SetStatus.INCOMPLETE)
        assert Copy.objects.exists() == (number == 3)
    [copy] = world.carry()
    assert copy.state == CopyState.COMPLETED and copy.copied_files.count() == 3
    assert copy.stored_bytes == sum(map(len, stripes))


@pytest.mark.parametrize("body", [b"", b"not a backup at all", b"TAPE" + bytes(5000)], ids=["empty", "text", "torn"])
def test_a_file_that_is_no_backup_is_refused_with_the_reason(
    world: World, orders: Instance, time_machine: TimeMachine, body: bytes
) -> None:
    world.enable(orders)
    world.drop(orders, "sales.bak", body=body)
    world.drop(orders, "good.bak", backup())
    world.find(orders)
    refused = BackupFile.objects.get(state="refused")
    assert refused.refusal_code and refused.refusal
    assert Event.objects.get(kind="file.refused").data["code"] == refused.refusal_code
    assert Copy.objects.get().set.files.get().state == "settled"


def test_a_vanished_file_cancels_its_copy_and_alerts(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    """R-2.5."""
    world.enable(orders)
    path, kept = world.drop(orders, "sales.bak", backup()), world.drop(orders, "stock.bak", backup("Stock"))
    world.find(orders)
    path.unlink()
    look(orders, time_machine)
    assert {copy.set.database: copy.cancel_reason for copy in Copy.objects.all()} == {
        "Sales": "source_gone",
        "Stock": "",
    }
    alert = Alert.objects.get()
    assert alert.code == "copy_cancelled" and alert.instance == orders
    assert kept.exists()


@pytest.fixture
def cancelled(world: World, orders: Instance, time_machine: TimeMachine) -> Alert:
    """The only backup of a database did not arrive; another database of the instance goes on."""
    world.enable(orders)
    path, _ = world.drop(orders, "sales.bak", backup()), world.drop(orders, "stock.bak", backup("Stock"))
    world.find(orders)
    path.unlink()
    look(orders, time_machine)
    world.carry()
    return Alert.objects.get(code="copy_cancelled")


def is_open_after(alert: Alert, time_machine: TimeMachine, **later: float) -> bool:
    time_machine.forward(**later)
    watch.watch()
    alert.refresh_from_db()
    return alert.closed_at is None


def test_that_a_copy_of_a_dropped_database_did_not_arrive_is_told_for_a_day(
    orders: Instance, time_machine: TimeMachine, cancelled: Alert
) -> None:
    """R-19: no newer backup will ever end it; while the server has the database, one will."""
    at = {"first_seen_at": time_machine.at, "seen_at": time_machine.at}
    told = ServerDatabase.objects.create(instance=orders, name="Sales", is_online=True, **at)
    assert is_open_after(cancelled, time_machine, days=2)
    told.gone_at = time_machine.at
    told.save()
    source = Store.objects.filter(region=SOURCE)
    source.update(state=Store.State.UNREACHABLE)
    assert is_open_after(cancelled, time_machine, hours=1), "nothing is concluded while its region is gone"
    source.update(state=Store.State.OK)
    assert is_open_after(cancelled, time_machine, hours=1), "nor on the day after"
    assert not is_open_after(cancelled, time_machine, hours=25)


def test_a_dropped_database_is_told_for_a_day_at_least(
    orders: Instance, time_machine: TimeMachine, cancelled: Alert
) -> None:
    gone = {"first_seen_at": time_machine.at, "seen_at": time_machine.at, "gone_at": time_machine.at}
    ServerDatabase.objects.create(instance=orders, name="Sales", **gone)
    assert is_open_after(cancelled, time_machine, hours=23)
    assert not is_open_after(cancelled, time_machine, hours=2)


def test_where_no_server_is_asked_a_database_not_seen_for_a_whole_retention_is_gone(
    world: World, orders: Instance, time_machine: TimeMachine, cancelled: Alert
) -> None:
    """As for its last good copy (I6): only while others of the instance are seen."""
    assert is_open_after(cancelled, time_machine, days=8), "nothing at all was seen"
    world.finished(orders, database="Stock")
    assert not is_open_after(cancelled, time_machine, hours=1)


def test_what_has_arrived_outlives_its_source(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    world.enable(orders)
    path = world.drop(orders, "sales.bak", backup())
    world.find(orders)
    world.carry()
    path.unlink()
    look(orders, time_machine)
    assert states(orders) == ["gone"]
    assert Copy.objects.get().state == CopyState.COMPLETED


def test_an_unmounted_source_folder_concludes_nothing(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """I19: an empty folder without our marker is another place."""
    world.enable(orders)
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    mounted, hidden = world.folder / SOURCE, world.folder / "hidden"
    mounted.rename(hidden)
    with pytest.raises(StorageError):
        look(orders, time_machine)
    mounted.mkdir()
    with pytest.raises(StorageError):
        look(orders, time_machine)
    world.carry()
    assert states(orders) == ["settled"]
    assert Copy.objects.get().state == CopyState.FAILED

    mounted.rmdir()
    hidden.rename(mounted)
    look(orders, time_machine)
    time_machine.forward(hours=1)
    world.carry()
    assert Copy.objects.get().state == CopyState.COMPLETED


@pytest.mark.parametrize("prefix", ["farshore/", "farshore/v1/", "farsh", "f", "", "farshore"])
def test_a_prefix_that_reaches_into_ours_is_refused(world: World, orders: Instance, prefix: str) -> None:
    orders.prefixes = ["backups/", prefix]
    refusal = discovery.check_prefixes(orders)
    assert refusal.field == "prefixes" and "farshore/" in refusal.sentence
    orders.prefixes = ["backups/"]
    assert discovery.check_prefixes(orders) is None


def test_two_instances_never_look_at_the_same_files(world: World, orders: Instance) -> None:
    other = world.instance("other", prefixes=["backups/orders/old/"])
    assert "orders" in discovery.check_prefixes(other).sentence
    other.prefixes = ["backups/orders2/"]
    assert discovery.check_prefixes(other) is None


@pytest.mark.parametrize("trick", ["", "far", "farshore/", "./", "./farshore/", "/", "backups/../farshore/", "//"])
def test_our_objects_are_never_found_as_somebody_s_backup(world: World, time_machine: TimeMachine, trick: str) -> None:
    """Copies come to rest in a store that is also a source; even where such a prefix slipped past the form."""
    orders = world.instance("orders")
    world.enable(orders)
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    world.carry()
    ours = next(path for path in (world.folder / TARGET / "farshore").rglob("*") if path.is_file())
    ours.with_name("looks-like-one.bak").write_bytes(mtf.file_of(backup()))

    sly = world.instance("sly", TARGET, prefixes=[trick])
    try:
        world.find(sly)
    except StorageError as error:
        assert not error.retry
    assert not BackupFile.objects.filter(instance=sly).exists()


def test_a_store_inside_or_around_another_is_refused_and_one_beside_it_is_not(world: World) -> None:
    world.store(SOURCE)
    folder = world.folder / SOURCE / "inside"
    folder.mkdir()
    other = Region.objects.get(pk=OTHER)
    for place in (folder, world.folder):
        with pytest.raises(Refusal):
            stores.attach(other, place.as_uri(), user=world.user)
    beside = world.folder / (SOURCE + "2")
    beside.mkdir()
    assert stores.attach(other, beside.as_uri(), user=world.user).is_attached


def test_two_stores_in_one_parent_folder_keep_apart(world: World, time_machine: TimeMachine) -> None:
    here, there = world.instance("orders"), world.instance("orders", TARGET)
    world.enable(here, OTHER)
    world.enable(there, OTHER)
    for instance in (here, there):
        world.drop(instance, "db.bak", backup())
        world.find(instance)
    copies = world.carry(OTHER)
    assert [copy.state for copy in copies] == [CopyState.COMPLETED] * 2
    assert {copy.set.instance for copy in copies} == {here, there}


def test_a_backup_dated_tomorrow_does_not_stay_the_newest_for_ever(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    ahead = replace(backup(), finished_at=clock.now().replace(year=clock.now().year + 5))
    world.drop(orders, "sales.bak", ahead)
    world.find(orders)
    assert BackupSet.objects.get().finished_at <= clock.now()
