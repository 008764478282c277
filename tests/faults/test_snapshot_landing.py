"""A snapshot's copy becomes a database on a landing server, in the files that were frozen (R-7.3, I20).

Both servers are the simulation on real sockets: the landing one looks whether the files are those of the snapshot.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from backups import drilling, policies, restoring
from backups.drilling import drills
from backups.models import BackupSet, Drill, Instance, Kind, LandingServer, Restore
from backups.policies import Settings
from backups.servers import landing_shares
from tests.backups.landings import Place, place_in
from tests.backups.snapshot_servers import Storage, ask, storage_of
from tests.backups.sql_servers import take_all
from tests.backups.world import SOURCE, TARGET, World
from tests.faults.test_landing import ask as ask_back
from tests.faults.test_landing import breaches, worked_on
from tests.faults.test_restoring import let_lease_run_out

pytestmark = pytest.mark.long
State = Restore.State


@pytest.fixture
def storage(world: World, settings: Any) -> Iterator[Storage]:
    with storage_of(world, settings) as found:
        yield found


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    with place_in(world) as found:
        found.machine.version = (16, 0, 1000)
        yield found


@pytest.fixture
def landing(place: Place) -> LandingServer:
    return place.register()


@pytest.fixture
def orders(world: World, storage: Storage) -> Instance:
    """A snapshot and two logs after it are copied; the server, its storage and the store of its region are gone."""
    world.store(TARGET)
    storage.sql.machine.edition = "Express Edition (64-bit)"  # its logs are not compressed: the simulation reads those
    made = storage.add(log_every_minutes=5)
    policies.apply(made, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
    take_all()
    for _ in range(2):
        time.sleep(1.1)  # a server's times are whole seconds
        storage.sql.work()
        ask(made, Kind.LOG)
        take_all()
    copies = world.carry()
    assert [copy.state for copy in copies] == ["completed"] * 3, [copy.error for copy in copies]
    shutil.rmtree(world.folder / SOURCE)
    shutil.rmtree(world.folder / "disks")
    return made


def folders(place: Place) -> list[str]:
    return sorted(path.name for path in place.share.iterdir())


def test_with_everything_gone_it_comes_back_with_its_logs_and_goes_with_its_files(
    world: World, place: Place, landing: LandingServer, orders: Instance
) -> None:
    restore = worked_on(ask_back(orders, landing))
    assert restore.state == State.READY, restore.error
    made = place.machine.database("Back")
    newest = BackupSet.objects.filter(kind=Kind.LOG).order_by("-last_position").first()
    assert made.state == "ONLINE" and made.reached == newest.last_position
    folder = f"farshore-{restore.code}-1-files"
    assert folders(place) == [folder], "its backups are gone from the share; its own files are what it lives in"
    assert sorted(path.name for path in (place.share / folder).iterdir()) == [
        f"database_{restore.code}-1_{number}.dat" for number in (1, 2)
    ]
    assert all(folder in path for path in made.files.values()) and breaches() == []

    restoring.remove(restore, world.by)
    worked_on(restore)
    assert restore.state == State.REMOVED and place.is_clean


def test_to_a_moment_between_its_logs(place: Place, landing: LandingServer, orders: Instance) -> None:
    moment = BackupSet.objects.filter(kind=Kind.LOG).order_by("last_position").last().started_at
    moment = moment.replace(microsecond=0)
    restore = worked_on(ask_back(orders, landing, until=moment))
    assert (restore.state, restore.restored_until) == (State.READY, moment), restore.error
    assert place.machine.database("Back").stopped_at == moment.replace(tzinfo=None)


def test_its_set_alone(place: Place, landing: LandingServer, orders: Instance) -> None:
    full = BackupSet.objects.get(kind=Kind.FULL)
    restore = worked_on(ask_back(orders, landing, copy=full.copies.get()))
    assert restore.state == State.READY, restore.error
    assert place.machine.database("Back").reached == full.last_position


@pytest.mark.parametrize("pick", [Drill.Pick.NEWEST, Drill.Pick.CANARY])
def test_it_is_drilled_and_nothing_of_it_is_left(
    place: Place, landing: LandingServer, orders: Instance, pick: str
) -> None:
    drills.ask(orders, drills.FARSHORE, pick=pick)
    drill = drills.claim(TARGET)
    drilling.run(drill)
    drill.refresh_from_db()
    assert drill.state == Drill.State.PASSED, drill.sentence
    assert place.is_clean


def test_a_differential_on_a_snapshot_comes_back_and_goes_with_its_files(
    world: World, storage: Storage, place: Place, landing: LandingServer
) -> None:
    """What is restored is the differential, which is no snapshot; the files are those of the snapshot under it."""
    world.store(TARGET)
    storage.sql.machine.edition = "Express Edition (64-bit)"
    made = storage.add()
    world.enable(made)
    take_all()
    time.sleep(1.1)
    storage.sql.work()
    ask(made, Kind.DIFFERENTIAL)
    take_all()
    world.carry()
    restore = worked_on(ask_back(made, landing))
    assert (restore.state, restore.set.kind) == (State.READY, Kind.DIFFERENTIAL), restore.error
    assert folders(place) == [f"farshore-{restore.code}-1-files"]
    restoring.remove(restore, world.by)
    worked_on(restore)
    assert restore.state == State.REMOVED and place.is_clean


def test_a_database_that_somebody_renamed_keeps_its_files(
    world: World, place: Place, landing: LandingServer, orders: Instance
) -> None:
    restore = worked_on(ask_back(orders, landing))
    made = place.machine.databases.pop("back")
    made.name = "Theirs"
    place.machine.databases["theirs"] = made
    restoring.remove(restore, world.by)
    worked_on(restore)
    assert restore.state == State.REMOVED and place.names == {"Theirs"}
    assert folders(place) == [f"farshore-{restore.code}-1-files"]


def test_an_older_server_is_refused_and_nothing_is_left(place: Place, landing: LandingServer, orders: Instance) -> None:
    place.machine.version = (15, 0, 4430)
    restore = worked_on(ask_back(orders, landing))
    assert (restore.state, restore.error_code) == (State.FAILED, "NewerVersion") and place.is_clean


def test_files_that_are_not_those_that_were_frozen_are_found_out_by_the_server(
    place: Place, landing: LandingServer, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring = landing_shares.bring

    def swapped(*given: Any) -> Any:
        return [replace(one, data=one.data[::-1]) for one in bring(*given)]

    monkeypatch.setattr(landing_shares, "bring", swapped)
    restore = worked_on(ask_back(orders, landing))
    assert (restore.state, restore.error_code) == (State.FAILED, "OtherFiles") and place.is_clean


@pytest.mark.parametrize(
    "window",
    ["landing journaled", "bringing", "all in the share", "full restored", "log restored", "database there, no row"],
)
def test_it_survives_kill_9_of_its_worker(
    place: Place, landing: LandingServer, orders: Instance, killed: Callable[..., None], window: str
) -> None:
    restore = ask_back(orders, landing)
    killed(window, "restore", TARGET)
    let_lease_run_out()
    worked_on(restore)
    assert restore.state == State.READY, restore.error
    assert folders(place) == [f"farshore-{restore.code}-2-files"] and place.names == {"Back"}


def test_metadata_alone_is_not_restored(place: Place, landing: LandingServer, orders: Instance) -> None:
    """A set of the days when somebody else's metadata was taken for a backup."""
    full = BackupSet.objects.get(kind=Kind.FULL)
    full.set_files.filter(family_sequence__gt=1).delete()
    [refusal] = restoring.checks(orders, landing=landing, name="Back", copy=full.copies.get()).refusals
    assert (refusal.code, refusal.field) == ("SnapshotWithoutFiles", "set")
