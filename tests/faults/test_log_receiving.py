"""Logs of a real PostgreSQL: received though workers are killed, carried, missed, healed (R-8, R-9; I2, I7, I8)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured

from backups import default_backups, policies
from backups.copying import planning
from backups.engines.postgresql import forget_receiver
from backups.leases import who
from backups.logs import log_receiving
from backups.logs.log_receiving.receivers import Receiver
from backups.models import (
    Alert,
    BackupFile,
    BackupJob,
    BackupSet,
    Copy,
    CopyState,
    Instance,
    LogGap,
    LogStream,
    RestorableInterval,
)
from backups.oversight import audit, log_healing, watch
from backups.servers import reaching
from regions import clock
from regions.models import Store
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.postgresql.clusters import PASSWORD, Cluster, running
from tests.engines.postgresql.test_logs import fill
from tests.faults.test_kill_windows import objects_of

pytestmark = pytest.mark.long
State = LogStream.State
LONGEST_SECONDS = 240
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("receiving", prepare=lambda folder: {"max_replication_slots": "4", "max_wal_senders": "6"}) as found:
        with found.owner() as session:
            session.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO copier")
        yield found


@pytest.fixture
def add(world: World, cluster: Cluster, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Add instances of the one server; afterwards it has forgotten all of them."""
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    monkeypatch.setenv("LOG_FLUSH_SECONDS", "1")
    settings.LOG_FLUSH_SECONDS = 1
    world.store(TARGET)
    added: list[Instance] = []

    def add(name: str) -> Instance:
        where = {"host": "127.0.0.1", "port": cluster.port, "username": "copier"}
        row = world.instance(name, engine="postgresql", arrival="taken", prefixes=[], **where)
        reaching.keep_password(row, PASSWORD)
        row.save()
        added.append(row)
        return row

    yield add
    for row in added:
        forget_receiver(cluster.connection, log_receiving.slot_of(row))


@pytest.fixture
def instance(world: World, add: Callable) -> Instance:
    row = add("orders")
    world.set(row, enabled=True, destination=TARGET, logs_enabled=True)
    return row


def write(cluster: Cluster) -> None:
    with cluster.owner() as session:
        session.execute("INSERT INTO orders SELECT n, 'more' FROM generate_series(1, 10) n")


def receive(until: Callable[[], Any]) -> None:
    """Be the child process until something is so."""
    ends_at = time.monotonic() + LONGEST_SECONDS
    log_receiving.serve(SOURCE, stop=lambda: bool(until()) or time.monotonic() > ends_at)
    assert until()


def work(world: World) -> None:
    """Do what sweeps and the other workers would."""
    planning.weigh_due()
    log_healing.heal_due()
    while job := default_backups.claim(SOURCE):
        default_backups.take(job)
        planning.weigh_due()
    world.carry()


def cross(world: World, cluster: Cluster, until: Callable[[], Any]) -> None:
    """Rows are written, their logs received and carried, until something is so."""

    def so() -> bool:
        write(cluster)
        work(world)
        return until()

    receive(so)


def logs_of(instance: Instance) -> list[BackupSet]:
    return list(instance.sets.filter(kind="log").order_by("first_position"))


def restorable_until() -> Any:
    """Until when logs lead."""
    led = RestorableInterval.objects.exclude(reached=None).order_by("-ended_at")
    return led.values_list("ended_at", flat=True).first()


def are_without_hole(logs: list[BackupSet]) -> bool:
    return all(one.last_position == after.first_position for one, after in zip(logs, logs[1:], strict=False))


def breaches() -> list[tuple[str, str]]:
    return [said for said in audit.breaches() if said[0] != "I16 seals"]


def let_leases_run_out() -> None:
    LogStream.objects.update(leased_until=clock.now() - SECOND, due_at=clock.now())


def test_what_is_written_can_be_restored_at_the_destination_seconds_later(
    world: World, cluster: Cluster, instance: Instance
) -> None:
    """R-8, R-9.1: exactly one full is taken, when its logs have begun, and nothing is missing between."""
    write(cluster)
    at = clock.now() + 5 * SECOND
    cross(world, cluster, lambda: (restorable_until() or at - SECOND) > at)
    stream, [job] = LogStream.objects.get(), BackupJob.objects.all()
    assert (stream.state, stream.error, stream.leased_until) == (State.WANTED, "", None), "given back at the end"
    assert stream.heard_at > at and stream.waiting_bytes is not None
    assert any("max_slot_wal_keep_size" in note for note in stream.notes)
    assert job.result.first_position >= logs_of(instance)[0].first_position
    assert are_without_hole(logs_of(instance))
    assert Alert.objects.filter(closed_at=None).count() == 0
    log = logs_of(instance)[0].copies.get()
    assert (log.state, log.priority, log.reference) == (CopyState.COMPLETED, 0, "taken")
    assert log_receiving.spool_of(instance).stat().st_mode & 0o777 == 0o700
    assert breaches() == []


@pytest.mark.parametrize(
    "window",
    ["log journaled, not stored", "log stored, not recorded", "log recorded, not told", "logs begun, not said"],
)
def test_a_receiver_survives_kill_9(
    world: World, cluster: Cluster, instance: Instance, killed: Callable[..., None], window: str
) -> None:
    """Whatever it was doing: the next one makes the same of it, nothing twice, nothing left behind (I2, I15)."""
    write(cluster)
    killed(window, "receive", SOURCE)
    assert log_receiving.claim(SOURCE) is None, "the lease still protects the dead child's stream"
    let_leases_run_out()
    cross(world, cluster, lambda: len(logs_of(instance)) > 3 and restorable_until())
    world.carry()

    logs = logs_of(instance)
    assert are_without_hole(logs)
    assert BackupJob.objects.count() == 1
    assert LogGap.objects.count() == 0
    settled = BackupFile.objects.filter(state=BackupFile.State.SETTLED)
    assert objects_of(world, SOURCE) == set(settled.values_list("key", flat=True)), "nothing else lies in the store"
    assert settled.count() == len(logs) + 1
    assert breaches() == []


def test_a_child_that_is_dead_for_certain_is_not_waited_for(
    world: World, cluster: Cluster, instance: Instance, tmp_path: Path
) -> None:
    """The real child process, as the worker's task starts it; it ends with its tools, and its streams are free."""
    command = [sys.executable, str(Path(configured.BASE_DIR) / "manage.py"), "receive_logs", SOURCE]
    with subprocess.Popen(command, env=dict(os.environ), stdin=subprocess.DEVNULL) as child:
        ends_at = time.monotonic() + LONGEST_SECONDS
        while not cluster.senders() and time.monotonic() < ends_at:
            time.sleep(0.2)
        assert LogStream.objects.get().leased_by == who(child.pid)
        child.kill()
    ends_at = time.monotonic() + 20
    while cluster.senders() and time.monotonic() < ends_at:
        time.sleep(0.2)
    assert cluster.senders() == 0, "pg_receivewal ends with the child"
    assert not log_receiving.is_due(SOURCE)
    assert log_receiving.let_go(who(child.pid)) == 1
    assert log_receiving.is_due(SOURCE)


def test_one_child_receives_for_several_instances(world: World, cluster: Cluster, add: Callable) -> None:
    both = [add("orders"), add("ledger")]
    for row in both:
        world.set(row, enabled=True, destination=TARGET, logs_enabled=True)
    cross(world, cluster, lambda: all(len(logs_of(row)) > 1 for row in both))
    assert set(LogStream.objects.values_list("leased_by", flat=True)) == {who()}
    assert all(are_without_hole(logs_of(row)) for row in both)


@pytest.mark.parametrize("way", ["logs off", "disabled", "released"])
def test_a_server_keeps_nothing_for_us_once_its_logs_are_not_wanted(
    world: World, cluster: Cluster, instance: Instance, way: str
) -> None:
    """A slot that nobody reads fills the disk of the source."""
    cross(world, cluster, lambda: logs_of(instance))
    assert cluster.slots() == [f"farshore_{log_receiving.slot_of(instance)}"]
    if way == "released":
        policies.release(instance, world.by)
    else:
        world.set(instance, **{"logs_enabled": False} if way == "logs off" else {"enabled": False})
    assert LogStream.objects.get().state == State.ENDING
    receive(lambda: LogStream.objects.get().state == State.ENDED)
    assert cluster.slots() == []
    assert not log_receiving.spool_of(instance).exists()


def test_logs_that_are_wanted_again_begin_with_one_backup_and_an_honest_hole(
    world: World, cluster: Cluster, instance: Instance
) -> None:
    """R-8.2, I7: what was written meanwhile is in the new full only; no window claims the time between."""
    cross(world, cluster, restorable_until)
    world.set(instance, logs_enabled=False)
    receive(lambda: LogStream.objects.get().state == State.ENDED)
    fill(cluster, 2)
    with cluster.owner() as session:
        session.execute("CHECKPOINT")  # until then a new slot would begin where the old one ended
    ended_at = restorable_until()
    world.set(instance, logs_enabled=True)
    cross(world, cluster, lambda: restorable_until() > ended_at)
    assert BackupJob.objects.filter(reason="log_gap").count() == 1
    [gap] = LogGap.objects.all()
    assert gap.healed_at and gap.from_time <= ended_at
    begun = RestorableInterval.objects.order_by("began_at").values_list("began_at", flat=True)
    assert not any(ended_at < moment < gap.until_time for moment in begun)
    assert breaches() == []


def test_logs_that_the_server_gave_up_are_an_alert_and_a_backup(
    world: World, cluster: Cluster, instance: Instance
) -> None:
    """SlotLost: told at once, begun anew, healed by one backup; the window stops before it and begins behind it."""
    cross(world, cluster, restorable_until)
    until = restorable_until()
    with cluster.owner() as session:
        for said in ("SET max_slot_wal_keep_size = '1MB'", "RESET max_slot_wal_keep_size"):
            session.execute(f"ALTER SYSTEM {said}")
            session.execute("SELECT pg_reload_conf()")
            fill(cluster, 3)
            session.execute("CHECKPOINT")
    let_leases_run_out()
    receive(lambda: Alert.objects.filter(code="logs_lost").exists())
    assert "gave up the replication slot" in Alert.objects.get(code="logs_lost").sentence
    cross(world, cluster, lambda: (restorable_until() or until) > until + SECOND and LogGap.objects.exists())
    cross(world, cluster, lambda: not Alert.objects.filter(closed_at=None).exists())
    [gap] = LogGap.objects.all()
    assert gap.healed_at and gap.job.reason == "log_gap"
    assert BackupJob.objects.filter(reason="log_gap").count() == 1
    assert not RestorableInterval.objects.filter(began_at__lt=gap.from_time, ended_at__gt=gap.until_time).exists()
    assert breaches() == []


def test_dropping_a_log_that_was_received_stops_the_window_and_heals_with_a_real_backup(
    world: World, cluster: Cluster, instance: Instance
) -> None:
    """R-9.4: it vanished from the source before it was carried away."""
    cross(world, cluster, restorable_until)

    def is_next_received() -> bool:
        write(cluster)
        planning.weigh_due()
        return BackupSet.objects.filter(kind="log", copies__state="planned").exists()

    receive(is_next_received)
    dropped = BackupSet.objects.filter(kind="log", copies__state="planned").first()
    (world.folder / SOURCE / dropped.files.get().key).unlink()
    world.carry()
    cross(world, cluster, lambda: LogGap.objects.exists())
    [gap] = LogGap.objects.all()
    assert (gap.reached, gap.begins) == (dropped.first_position, dropped.last_position)
    assert Alert.objects.filter(code="log_gap").count() == 1
    cross(world, cluster, lambda: LogGap.objects.get().healed_at and restorable_until() > gap.until_time)
    assert BackupJob.objects.filter(reason="log_gap").count() == 1
    assert not Alert.objects.filter(closed_at=None).exists()
    assert breaches() == []


def test_while_the_store_is_away_the_server_keeps_the_logs_and_nothing_is_missing_after(
    world: World, cluster: Cluster, instance: Instance
) -> None:
    cross(world, cluster, restorable_until)
    place = world.folder / SOURCE
    place.rename(world.folder / "elsewhere")
    receive(lambda: write(cluster) or LogStream.objects.get().error)
    assert LogStream.objects.get().failures > 0
    (world.folder / "elsewhere").rename(place)
    let_leases_run_out()
    count = len(logs_of(instance))
    cross(world, cluster, lambda: len(logs_of(instance)) > count)
    assert are_without_hole(logs_of(instance))
    assert LogStream.objects.get().error == ""
    assert LogGap.objects.count() == 0


def test_what_hinders_stands_in_the_row_and_becomes_an_alert_that_ends(
    world: World, cluster: Cluster, instance: Instance
) -> None:
    """A wrong password: told in words without it, tried again with patience."""
    reaching.keep_password(instance, "wrong")
    instance.save()
    receive(lambda: LogStream.objects.get().error)
    stream = LogStream.objects.get()
    assert "password" in stream.error and "wrong" not in stream.error
    assert stream.due_at > clock.now()
    watch.watch()
    assert not Alert.objects.filter(code="logs_not_received").exists(), "not at once"
    policies.CopyPolicy.objects.get().coverage.update(began_at=clock.now() - timedelta(minutes=11))
    watch.watch()
    assert "password" in Alert.objects.get(code="logs_not_received", closed_at=None).remedy
    reaching.keep_password(instance, PASSWORD)
    instance.save()
    let_leases_run_out()
    cross(world, cluster, restorable_until)
    watch.watch()
    assert not Alert.objects.filter(code="logs_not_received", closed_at=None).exists()


def test_a_stream_that_somebody_else_holds_now_delivers_nothing_more(
    world: World, cluster: Cluster, instance: Instance
) -> None:
    """I15: a child that was paused finds its fence gone, and takes away what it had stored."""
    cross(world, cluster, lambda: logs_of(instance))
    count = BackupSet.objects.count()
    let_leases_run_out()
    stream = log_receiving.claim(SOURCE)
    LogStream.objects.update(fence=stream.fence + 1)
    receiver = Receiver(stream, None)
    receiver.start()
    write(cluster)
    receiver.join(20)
    assert not receiver.is_alive()
    assert BackupSet.objects.count() == count
    assert Copy.objects.filter(state=CopyState.FAILED).count() == 0
    settled = BackupFile.objects.filter(state=BackupFile.State.SETTLED).values_list("key", flat=True)
    assert objects_of(world, SOURCE) == set(settled)
    assert Store.objects.filter(state="ok").count() == 2


def test_a_segment_whose_room_was_still_being_made_at_a_kill_is_made_anew(
    world: World, cluster: Cluster, instance: Instance
) -> None:
    """pg_receivewal does not go on with a file that it had only begun to fill with zeros."""
    write(cluster)
    cross(world, cluster, lambda: len(logs_of(instance)) > 1)
    newest = max(path for path in log_receiving.spool_of(instance).rglob("wal/*") if not path.suffix)
    half_made = newest.with_name(f"{int(newest.name, 16) + 1:024X}.partial")
    half_made.write_bytes(bytes(13_631_488))
    let_leases_run_out()
    known = len(logs_of(instance))
    cross(world, cluster, lambda: len(logs_of(instance)) > known + 1)
    assert are_without_hole(logs_of(instance))
