"""A worker dies while it takes a snapshot backup: writes go on, the storage's snapshot is released, and the backup is
there once (I2, I15, R-7). The server is the simulation, the hook a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from backups import default_backups
from backups.default_backups import snapshots
from backups.models import BackupFile, BackupJob, BackupSet, Instance, StorageSnapshot
from regions import clock
from tests.backups.snapshot_servers import Storage, ask, storage_of
from tests.backups.sql_servers import take_all
from tests.backups.world import SOURCE, World
from tests.engines.sqlserver.conftest import until
from tests.faults.test_kill_windows import objects_of

pytestmark = pytest.mark.long
BEFORE_RECORD = [
    "suspension journaled",
    "suspended",
    "hook at work",
    "hook done",
    "metadata written",
    "thawed",
    "one file stored",
    "snapshot sent, not recorded",
]
RECORDED = ["recorded, not released", "released, no row"]


@pytest.fixture
def storage(world: World, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    with storage_of(world, settings, monkeypatch) as found:
        yield found


@pytest.fixture
def instance(storage: Storage) -> Instance:
    return storage.add()


def run_out() -> None:
    """The dead worker's lease runs out."""
    assert not snapshots.regions_to_settle(), "its lease still protects it"
    BackupJob.objects.filter(state="running").update(leased_until=clock.now() - timedelta(seconds=1))


def is_whole(world: World, storage: Storage) -> bool:
    """What is recorded lies in the store and nothing else does, and nothing is suspended or held."""
    return objects_of(world, SOURCE) == set(BackupFile.objects.values_list("key", flat=True)) and storage.is_undone


@pytest.mark.parametrize("is_unaware", [False, True], ids=["server noticed", "server has not noticed"])
@pytest.mark.parametrize("window", BEFORE_RECORD)
def test_after_kill_9_the_sweep_undoes_everything_and_the_backup_is_taken_once(
    world: World, storage: Storage, instance: Instance, killed: Callable[..., None], window: str, is_unaware: bool
) -> None:
    storage.sql.machine.is_unaware = is_unaware
    job = ask(instance)
    killed(window, "take", SOURCE)
    if not is_unaware:
        until(lambda: not storage.orders.suspension)  # a suspension ends with its session
    run_out()
    assert snapshots.regions_to_settle() == [SOURCE] and snapshots.settle_due(SOURCE) == 1
    assert is_whole(world, storage) and not BackupSet.objects.exists(), "before anything is tried again"
    storage.sql.work()  # nobody waits
    [found] = take_all()
    job.refresh_from_db()
    assert (job.state, job.result) == ("succeeded", found) and is_whole(world, storage)
    assert StorageSnapshot.objects.filter(recorded_at=None).count() == 1


@pytest.mark.parametrize("window", ["suspended", "one file stored"])
def test_after_kill_9_the_next_attempt_undoes_it_too_where_no_sweep_came_first(
    world: World, storage: Storage, instance: Instance, killed: Callable[..., None], window: str
) -> None:
    storage.sql.machine.is_unaware = True
    ask(instance)
    killed(window, "take", SOURCE)
    run_out()
    [found] = take_all()
    assert found.method == "snapshot" and is_whole(world, storage)


@pytest.mark.parametrize("window", RECORDED)
def test_what_is_recorded_stays_and_the_snapshot_is_released(
    world: World, storage: Storage, instance: Instance, killed: Callable[..., None], window: str
) -> None:
    ask(instance)
    killed(window, "take", SOURCE)
    assert BackupSet.objects.count() == 1
    StorageSnapshot.objects.update(tried_at=None)
    assert snapshots.settle_due(SOURCE) == 1
    assert is_whole(world, storage) and BackupSet.objects.valid().count() == 1
    assert default_backups.claim(SOURCE) is None


def test_a_server_that_does_not_let_itself_be_told_is_asked_until_it_does(
    world: World, storage: Storage, instance: Instance, killed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups.engines.sqlserver.suspending.END_SECONDS", 1)
    storage.sql.machine.is_unaware = True
    account = storage.sql.machine.accounts["farshore"]
    ask(instance)
    killed("suspended", "take", SOURCE)
    run_out()
    account.kills = account.alters = False
    assert snapshots.settle_due(SOURCE) == 0
    assert "still holds Orders suspended" in StorageSnapshot.objects.get().error
    account.alters = True
    StorageSnapshot.objects.update(tried_at=None)
    storage.sql.machine.is_unaware = False
    for session in storage.sql.machine.sessions.copy().values():
        storage.sql.machine.leave(session)
    assert snapshots.settle_due(SOURCE) == 1 and storage.is_undone
