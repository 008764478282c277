"""A default backup that already runs is waited for, up to six hours, and used instead of another full (R-6.2)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backups import default_backups
from backups.copying import planning
from backups.engines import engine_of
from backups.models import BackupJob, Coverage, Event, Instance, Kind, LogGap
from backups.oversight import asking
from backups.servers import reaching
from console.instances.taking import job_told
from demo.tds.machine import Session
from regions.refusals import Refusal
from tests.backups.sql_servers import PASSWORD, Fixture, running, take_all
from tests.backups.time_machine import TimeMachine
from tests.backups.world import SOURCE, World
from tests.engines.sqlserver.conftest import until

THEIRS = "\\\\files\\theirs"
State = BackupJob.State


@pytest.fixture
def sql(world: World, time_machine: TimeMachine) -> Iterator[Fixture]:
    with running(world) as found:
        yield found


@pytest.fixture
def instance(world: World, sql: Fixture) -> Instance:
    """A server whose default backups somebody else's job writes, where Farshore finds them."""
    sql.machine.login("agent", PASSWORD)
    found = sql.add(arrival="found", prefixes=["backups/sql/"])
    folder = world.folder / SOURCE / "backups/sql"
    folder.mkdir(parents=True)
    sql.machine.share(THEIRS, folder)
    return found


@contextmanager
def somebody_backing_up(sql: Fixture, instance: Instance, database: str = "Orders") -> Iterator[Session]:
    """Somebody's job has begun a full; it ends when the machine may go faster, or it is killed, or at the end."""
    from backups.engines.sqlserver.connecting import session

    where = replace(reaching.connection_of(instance), username="agent", password=PASSWORD)
    statement = f"BACKUP DATABASE [{database}] TO DISK = '{THEIRS}\\{database}.bak' WITH INIT, CHECKSUM"

    def back_up() -> None:
        with suppress(Refusal), session(where, "SQLAgent - TSQL JobStep") as opened:
            opened.run(statement, seconds=60)

    def mine() -> list[Any]:
        return [one for one in list(sql.machine.sessions.values()) if one.user == "agent" and one.request]

    sql.machine.pace = 1
    job = threading.Thread(target=back_up)
    job.start()
    try:
        until(mine)
        yield mine()[0]
    finally:
        sql.machine.pace = None
        job.join(30)
        assert not job.is_alive()


def look_again(time_machine: TimeMachine, **later: float) -> BackupJob:
    """The worker looks at the one job when it is due again, or later."""
    job = BackupJob.objects.get()
    time_machine.at = max(job.due_at, time_machine.at + timedelta(**later))
    take_all()
    job.refresh_from_db()
    return job


def finish_theirs(sql: Fixture, session: Session) -> None:
    sql.machine.pace = None
    until(lambda: session.request is None and sql.machine.history)


# ---- somebody else's


def test_somebody_elses_running_backup_is_waited_for_and_used_instead(
    world: World, sql: Fixture, instance: Instance, time_machine: TimeMachine
) -> None:
    with somebody_backing_up(sql, instance) as theirs:
        world.enable(instance)
        assert take_all() == []
        job = BackupJob.objects.get()
        assert (job.state, job.attempts, job.waits_until) == (State.QUEUED, 0, time_machine.at + timedelta(hours=6))
        assert default_backups.claim(SOURCE) is None, "it is looked at again in a while"
        assert (
            "is waited for until" in job_told(instance).sentence
            and "one full backup is taken" in job_told(instance).sentence
        )
        assert look_again(time_machine).state == State.QUEUED
        assert Event.objects.filter(kind="backup.waits").count() == 1
        finish_theirs(sql, theirs)
    assert look_again(time_machine).state == State.QUEUED, "it has ended, and its file is not found yet"
    world.find(instance)
    assert look_again(time_machine).state == State.SUCCEEDED
    [copy] = world.carry()
    assert (copy.set.origin, copy.set.kind) == ("found", Kind.FULL)
    assert len(sql.machine.history) == 1, "no second full was taken"
    assert Event.objects.filter(kind="backup.spared").exists() and job_told(instance) is None


def test_what_comes_to_nothing_is_waited_for_no_longer(
    world: World, sql: Fixture, instance: Instance, time_machine: TimeMachine
) -> None:
    with somebody_backing_up(sql, instance) as theirs:
        world.enable(instance)
        take_all()
        theirs.killed.set()
        until(lambda: theirs.request is None)
    asking.ask_due(SOURCE)
    assert look_again(time_machine, minutes=1).state == State.QUEUED, "its server may not have told of it yet"
    assert look_again(time_machine, minutes=5).state == State.SUCCEEDED
    [one] = sql.machine.history
    assert one.user == "farshore" and one.backup.copy_only, "exactly one full, of our own"


def test_a_backup_that_ended_well_is_waited_for_until_its_file_arrives(
    world: World, sql: Fixture, instance: Instance, time_machine: TimeMachine
) -> None:
    with somebody_backing_up(sql, instance) as theirs:
        world.enable(instance)
        take_all()
        finish_theirs(sql, theirs)
    asking.ask_due(SOURCE)
    assert look_again(time_machine, hours=3).state == State.QUEUED, "its server remembers it; the file is on its way"
    assert look_again(time_machine, hours=3).state == State.SUCCEEDED
    assert [one.user for one in sql.machine.history] == ["agent", "farshore"], "it did not come in six hours"


def test_after_six_hours_one_full_is_taken_as_soon_as_the_server_lets_it(
    world: World, sql: Fixture, instance: Instance, time_machine: TimeMachine
) -> None:
    with somebody_backing_up(sql, instance) as theirs:
        world.enable(instance)
        take_all()
        assert look_again(time_machine, hours=5, minutes=59).error == ""
        for _ in range(7):  # more often than what fails otherwise is tried
            job = look_again(time_machine, minutes=2)
            assert (job.state, job.attempts) == (State.QUEUED, 1) and "serialized" in job.error
        theirs.killed.set()
        until(lambda: theirs.request is None)
    assert look_again(time_machine).state == State.SUCCEEDED
    assert [one.user for one in sql.machine.history] == ["farshore"]


@pytest.mark.parametrize(("program", "named"), [("SQLAgent - TSQL JobStep", {"Orders"}), ("Farshore rm-1 7-1", set())])
def test_named_is_what_others_back_up_and_nothing_beside_it(
    sql: Fixture, instance: Instance, program: str, named: set[str]
) -> None:
    sql.machine.add("Stock", pages=8)
    where, look = reaching.connection_of(instance), engine_of("sqlserver").being_backed_up
    with somebody_backing_up(sql, instance) as theirs:
        theirs.program = program
        assert look(where) == named
    assert look(where) == set()


def test_a_worker_killed_while_it_looked_changes_nothing(
    world: World, sql: Fixture, instance: Instance, time_machine: TimeMachine
) -> None:
    with somebody_backing_up(sql, instance):
        world.enable(instance)
        assert default_backups.claim(SOURCE), "and nothing comes of it: kill -9"
        time_machine.forward(hours=1)
        delivered = default_backups.claim(SOURCE)
        stale = replace_fence(delivered)
        default_backups.take(delivered)
        default_backups.take(stale)  # the message of the dead worker, delivered again
        job = BackupJob.objects.get()
        assert job.state == State.QUEUED and Event.objects.filter(kind="backup.waits").count() == 1
        for _ in range(2):
            world.disable(instance)
            world.enable(instance)
        assert BackupJob.objects.get() == job
    assert sql.machine.history[-1].user == "agent"


def replace_fence(job: BackupJob) -> BackupJob:
    stale = BackupJob.objects.select_related("instance__region").get(pk=job.pk)
    stale.fence -= 1
    return stale


def test_who_enables_while_it_is_spared_needs_no_job(
    world: World, sql: Fixture, instance: Instance, time_machine: TimeMachine
) -> None:
    """A set that no policy has a copy of spares nothing: the job is for the policy."""
    world.enable(instance)
    Coverage.objects.update(began_at=time_machine.at + timedelta(hours=1))  # as if its planning had not come yet
    world.finished(instance, time_machine.at, database="Orders")
    assert planning.has_valid(instance, "Orders", time_machine.at)
    assert [found.origin for found in take_all()] == ["taken"]


def test_what_farshore_takes_itself_by_its_timetable_has_nobody_to_wait_for(
    world: World, sql: Fixture, time_machine: TimeMachine
) -> None:
    """A file that somebody else writes there is never found, so that it could not be used."""
    sql.machine.login("agent", PASSWORD)
    sql.machine.add("Stock", pages=8)
    folder = world.folder / "elsewhere"
    folder.mkdir()
    sql.machine.share(THEIRS, folder)
    taken = sql.add()
    with somebody_backing_up(sql, taken, "Stock"):
        world.enable(taken)
        job = default_backups.claim(SOURCE, default_backups.DATA)
        while job and job.database != "Stock":
            job = default_backups.claim(SOURCE, default_backups.DATA)
        default_backups.take(job)
        job.refresh_from_db()
        assert job.waits_until is None and "serialized" in job.error


# ---- Farshore's own


@pytest.fixture
def shop(world: World, time_machine: TimeMachine) -> Instance:
    return world.instance("shop", engine="postgresql", arrival="taken", prefixes=[], host="127.0.0.1")


def begun(world: World, shop: Instance) -> BackupJob:
    """A default backup is running, and its worker lives."""
    default_backups.ask(shop, world.by, reason="timetable")
    return default_backups.claim(SOURCE)


def later(job: BackupJob, time_machine: TimeMachine, **more: float) -> int:
    """Time passes while the worker lives; how many were asked for in the place of another?"""
    time_machine.forward(**more)
    default_backups.renew(job)
    return default_backups.overtake_due()


@pytest.mark.parametrize(("seconds", "fulls"), [(21_599, 0), (21_600, 1), (21_601, 1)])
def test_after_six_hours_exactly_one_full_is_asked_for_beside_our_own(
    world: World, shop: Instance, time_machine: TimeMachine, seconds: int, fulls: int
) -> None:
    job = begun(world, shop)
    time_machine.forward(hours=2)
    world.enable(shop)
    assert later(job, time_machine, seconds=seconds) == fulls
    assert [default_backups.overtake_due() for _ in range(2)] == [0, 0]
    others = BackupJob.objects.exclude(pk=job.pk)
    assert [(one.reason, one.kind, one.state) for one in others] == [("24h", "full", "queued")] * fulls
    assert default_backups.renew(job), "ours is not ended: a policy does not break off a default backup (R-5.1)"
    assert default_backups.ask(shop, world.by) == (others.get() if fulls else job)


def test_a_full_that_began_after_enabling_is_the_one_full_however_long_it_takes(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    world.enable(shop)
    time_machine.forward(seconds=1)
    job = default_backups.claim(SOURCE)
    assert later(job, time_machine, hours=30) == 0
    assert BackupJob.objects.get() == job


def test_an_attempt_that_a_dead_worker_left_is_begun_anew_and_not_overtaken(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    begun(world, shop)
    world.enable(shop)
    time_machine.forward(hours=7)
    assert default_backups.overtake_due() == 0
    again = default_backups.claim(SOURCE)
    assert again is not None and later(again, time_machine, hours=7) == 0


@pytest.mark.parametrize("ending", ["disabled", "a valid set"])
def test_nobody_waits_any_more(world: World, shop: Instance, time_machine: TimeMachine, ending: str) -> None:
    job = begun(world, shop)
    world.enable(shop)
    if ending == "disabled":
        world.disable(shop)
    else:
        shop.prefixes = ["ours/"]
        world.finished(shop, time_machine.at, database="")
    assert later(job, time_machine, hours=6) == 0


def test_what_was_overtaken_and_fails_is_not_tried_again(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    job = begun(world, shop)
    world.enable(shop)
    later(job, time_machine, hours=6)
    default_backups.fail(job, "the server went away")
    time_machine.forward(hours=1)
    default_backups.overtake_due()
    job.refresh_from_db()
    assert job.state == State.CANCELLED
    successor = default_backups.claim(SOURCE)
    assert successor.reason == "24h" and default_backups.claim(SOURCE) is None


@pytest.mark.parametrize("heals", [False, True])
def test_ours_that_arrives_after_all_spares_the_one_in_its_place_unless_a_gap_needs_that_one(
    world: World, sql: Fixture, time_machine: TimeMachine, heals: bool
) -> None:
    taken = sql.add()
    default_backups.ask(taken, world.by, database="Orders")
    job = default_backups.claim(SOURCE)
    policy = world.enable(taken)
    assert later(job, time_machine, hours=6) == 1
    successor = BackupJob.objects.get(reason="24h", database="Orders")
    if heals:
        where = {"instance": taken, "store": policy.store, "database": "Orders", "reached": 1, "begins": 2}
        times = dict.fromkeys(("from_time", "until_time", "found_at"), time_machine.at)
        LogGap.objects.create(job=successor, healing="backup", **times, **where)
    assert default_backups.take(job) is not None
    planning.weigh_due()
    successor.refresh_from_db()
    assert successor.state == (State.QUEUED if heals else State.CANCELLED)
    [copy] = policy.copies.all()
    assert copy.set.job.get() == job
