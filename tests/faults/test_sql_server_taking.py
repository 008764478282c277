"""A worker dies while, or after, a SQL Server (the simulation) writes its backup: no log that it ended is lost (I15).

BACKUP LOG ends the log on the server, so that what was taken and is not recorded could never be had again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from backups import default_backups
from backups.default_backups import shares
from backups.events import FARSHORE
from backups.models import BackupFile, BackupJob, BackupSet, Instance, Kind
from regions import clock
from tests.backups.sql_servers import Fixture, running, take_all
from tests.backups.world import SOURCE, World
from tests.engines.sqlserver.conftest import until
from tests.faults.test_kill_windows import objects_of

pytestmark = pytest.mark.long
BOTH = [Kind.FULL, Kind.LOG]


@pytest.fixture
def sql(world: World) -> Iterator[Fixture]:
    with running(world) as found:
        yield found


@pytest.fixture
def instance(sql: Fixture) -> Instance:
    """Its first full is there, so that logs can be taken."""
    made = sql.add()
    ask(made, Kind.FULL)
    take_all()
    sql.work()
    return made


def ask(instance: Instance, kind: str) -> BackupJob:
    return default_backups.ask(instance, FARSHORE, database="Orders", kind=kind)


def run_out() -> None:
    """The dead worker's lease runs out."""
    assert default_backups.claim(SOURCE) is None, "it still protects the dead worker's job"
    BackupJob.objects.filter(state="running").update(leased_until=clock.now() - timedelta(seconds=1))


def is_whole(world: World, sql: Fixture) -> bool:
    """Everything that is recorded lies in the store, and nothing else does, nor in the share."""
    return objects_of(world, SOURCE) == set(BackupFile.objects.values_list("key", flat=True)) and not sql.names()


def slow(sql: Fixture) -> None:
    """A backup of it takes some seconds."""
    orders = sql.machine.database("Orders")
    orders.pages, sql.machine.pace, sql.machine.edition = 2048, 4 << 20, "Express Edition (64-bit)"


def is_writing(sql: Fixture) -> bool:
    return any(session.request for session in list(sql.machine.sessions.values()))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("window", ["server has ended it", "backup sent, not recorded"])
def test_what_the_server_ended_is_carried_on_after_kill_9(
    world: World, sql: Fixture, instance: Instance, killed: Callable[..., None], window: str, kind: str
) -> None:
    job = ask(instance, kind)
    killed(window, "take", SOURCE)
    assert BackupSet.objects.count() == 1 and len(sql.names()) == 1
    run_out()
    sql.work()
    [found] = take_all()
    assert len(sql.machine.history) == 2, "it is not taken once more"
    assert found.set_guid == str(sql.machine.history[-1].backup.set_guid)
    job.refresh_from_db()
    assert (job.state, job.result) == ("succeeded", found) and is_whole(world, sql)


@pytest.mark.parametrize("kind", BOTH)
def test_what_is_recorded_is_removed_from_the_share_after_kill_9(
    world: World, sql: Fixture, instance: Instance, killed: Callable[..., None], kind: str
) -> None:
    ask(instance, kind)
    killed("recorded, share not cleared", "take", SOURCE)
    assert BackupSet.objects.count() == 2 and len(sql.names()) == 1
    sql.work()
    ask(instance, kind)
    take_all()
    assert BackupSet.objects.count() == 3 and is_whole(world, sql)


def test_a_backup_whose_worker_is_killed_is_taken_again(
    world: World, sql: Fixture, instance: Instance, killed: Callable[..., None]
) -> None:
    slow(sql)
    ask(instance, Kind.FULL)
    killed("server still writes", "take", SOURCE)
    until(lambda: not is_writing(sql))
    run_out()
    sql.machine.pace = None
    [full] = take_all()
    assert full.set_guid == str(sql.machine.history[-1].backup.set_guid) and is_whole(world, sql)


def test_a_server_that_has_not_noticed_is_told_to_end_first(
    world: World, sql: Fixture, instance: Instance, killed: Callable[..., None]
) -> None:
    slow(sql)
    sql.machine.is_deaf = True
    ask(instance, Kind.FULL)
    killed("server still writes", "take", SOURCE)
    assert is_writing(sql) and len(sql.names()) == 1
    run_out()
    sql.machine.pace = None
    [full] = take_all()
    assert len(sql.machine.history) == 2, "the first one came to nothing"
    assert full.set_guid == str(sql.machine.history[-1].backup.set_guid) and is_whole(world, sql)


def test_a_server_that_may_not_be_told_is_waited_for(
    world: World, sql: Fixture, instance: Instance, killed: Callable[..., None]
) -> None:
    slow(sql)
    sql.machine.is_deaf, sql.machine.accounts["farshore"].kills = True, False
    ask(instance, Kind.FULL)
    killed("server still writes", "take", SOURCE)
    assert is_writing(sql)
    run_out()
    [full] = take_all()
    assert len(sql.machine.history) == 2, "what it ended after all is carried on"
    assert full.set_guid == str(sql.machine.history[-1].backup.set_guid) and is_whole(world, sql)


def test_of_two_workers_with_one_job_the_slower_one_records_and_removes_nothing(
    world: World, sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is paused for so long that its lease runs out; then both come to their end."""
    ask(instance, Kind.LOG)
    stream, faster = shares._stream, []

    def overtaken(*given: Any) -> None:
        monkeypatch.setattr(shares, "_stream", stream)
        BackupJob.objects.filter(state="running").update(leased_until=clock.now() - timedelta(seconds=1))
        faster.extend(take_all())
        sql.work()
        ask(instance, Kind.LOG)
        faster.extend(take_all())
        stream(*given)

    monkeypatch.setattr(shares, "_stream", overtaken)
    assert default_backups.take(default_backups.claim(SOURCE)) is None
    assert [one.kind for one in faster] == ["log", "log"] and len(sql.machine.history) == 3
    assert faster[0].last_position == faster[1].first_position
    assert {one.pk for one in BackupSet.objects.valid()} == set(BackupSet.objects.values_list("pk", flat=True))
    assert not sql.names()


def test_a_share_that_is_unmounted_meanwhile_loses_nothing(
    world: World, sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its log into a share that this worker does not see any more."""
    ask(instance, Kind.LOG)
    away = sql.folder.with_name("mounted elsewhere")

    def unmounted(*given: Any) -> None:
        sql.folder.rename(away)
        sql.folder.mkdir()
        stream(*given)

    stream = shares._stream
    monkeypatch.setattr(shares, "_stream", unmounted)
    assert default_backups.take(default_backups.claim(SOURCE)) is None
    monkeypatch.setattr(shares, "_stream", stream)
    BackupJob.objects.update(due_at=clock.now())
    assert take_all() == [] and len(sql.machine.history) == 2, "nothing is taken until it is back"
    assert "its mark is missing" in BackupJob.objects.get(kind="log").error
    sql.folder.rmdir()
    away.rename(sql.folder)
    BackupJob.objects.update(due_at=clock.now())
    [log] = take_all()
    assert log.set_guid == str(sql.machine.history[-1].backup.set_guid) and is_whole(world, sql)
