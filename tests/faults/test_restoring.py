"""Real servers restored from real copies, with the source gone and with workers killed (R-2.3, R-17.1, I4, I20)."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction

from backups import access, default_backups, policies, restoring, tasks
from backups.chains import windows
from backups.copying import planning
from backups.default_backups import retiring
from backups.engines import confinement
from backups.engines.facts import Source
from backups.models import (
    Alert,
    BackupFile,
    BackupSet,
    Copy,
    CopyState,
    Event,
    Instance,
    Kind,
    Pin,
    Restore,
    SetFile,
    StorageSpan,
)
from backups.oversight import audit
from backups.restoring import holding, places, reading, watching
from backups.servers import reaching
from regions import clock
from regions.refusals import Refusal
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.postgresql.clusters import PASSWORD, Cluster, running
from tests.engines.postgresql.crossing import Writer, kill, logs_in, receiver
from tests.room import ROOM

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("restores_tidied")]
State = Restore.State


def eventually(true: Callable[[], Any], seconds: float = 40) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("restoring") as found:
        yield found


def instance_of(world: World, cluster: Cluster, name: str = "shop") -> Instance:
    row = world.instance(
        name, engine="postgresql", arrival="taken", prefixes=[], host="127.0.0.1", port=cluster.port, username="copier"
    )
    reaching.keep_password(row, PASSWORD)
    row.save()
    return row


def copied(world: World, instance: Instance) -> Copy:
    """A default backup taken by the real code and carried to its destination."""
    world.enable(instance)
    found = default_backups.take(default_backups.claim(SOURCE))
    planning.weigh_due()
    world.carry()
    return found.copies.get(state=CopyState.COMPLETED)


@pytest.fixture
def copy(world: World, cluster: Cluster) -> Copy:
    return copied(world, instance_of(world, cluster))


def ask(world: World, copy: Copy, name: str = "again") -> Restore:
    return restoring.ask(copy.set.instance, world.by, name=name, copy=copy)


def worked_on(restore: Restore, *, region: str = TARGET) -> subprocess.Popen[bytes]:
    """Answer the bell as a worker does; the child is a process of its own."""
    tasks.run_restores(region)
    restore.refresh_from_db()
    return tasks._holding[-1]


def ready(restore: Restore) -> Restore:
    def is_over() -> bool:
        restore.refresh_from_db()
        return restore.state not in Restore.ACTIVE

    assert eventually(is_over), restore.stage
    assert restore.state == State.READY, restore.error
    return restore


def session(restore: Restore) -> psycopg.Connection[Any]:
    where = {"host": restore.host, "port": restore.port, "user": restore.username, "dbname": "postgres"}
    return psycopg.connect(**where, password=restoring.password_of(restore), connect_timeout=5)


def rows_in(restore: Restore, table: str = "orders") -> list[int]:
    with session(restore) as asked:
        return [row[0] for row in asked.execute(f"SELECT * FROM {table} ORDER BY 1")]


def file_of(world: World, copy: Copy) -> Path:
    return world.folder / TARGET / copy.copied_files.get().transfer.key


def let_lease_run_out() -> None:
    Restore.objects.update(leased_until=clock.now() - timedelta(seconds=1), due_at=clock.now())


def nothing_left(restore: Restore) -> bool:
    place = places.place_of(restore)
    return not place.exists() and not confinement.living_in(place)


def breaches() -> list[str]:
    return [said for name in ("I4 pins", "I11 spans", "I20 restored servers") for said in audit.CHECKS[name]()]


# ---- the whole way


def test_with_server_and_store_of_the_source_gone_a_copy_becomes_a_new_instance(world: World) -> None:
    with running("restoring-gone") as source:
        instance = instance_of(world, source)
        copy = copied(world, instance)
        with source.owner() as owner:
            owner.execute("INSERT INTO orders SELECT n, 'after the backup' FROM generate_series(5001, 5010) n")
        kill(source)
    shutil.rmtree(world.folder / SOURCE)
    before = file_of(world, copy).read_bytes()

    found = restoring.checks(instance, name="shop again")
    assert found.is_possible and found.region.pk == TARGET and found.seconds_expected is None, found.refusals
    restore = restoring.ask(instance, world.by, name="shop again")
    assert Pin.objects.get().copy == copy
    worked_on(restore)
    ready(restore)

    with session(restore) as asked:
        assert asked.execute("SELECT count(*), max(n), md5(string_agg(note, '' ORDER BY n)) FROM orders").fetchone()[
            :2
        ] == (5000, 5000)
    assert restore.rows["postgres.public.orders"] == 5000
    assert restore.restored_until == copy.set.finished_at
    assert set(restore.seconds) == {"unpack", "replay", "start", "check", "count"}
    assert Path(restore.folder).is_relative_to(places.room() / restore.code)
    assert not Pin.objects.exists(), "what was read may go now"
    assert file_of(world, copy).read_bytes() == before, "I20: the copy is byte-identical"
    assert breaches() == []

    result = restore.result
    assert (result.name, result.region_id, result.group, result.arrival) == ("shop again", TARGET, world.group, "taken")
    assert result.default_backup_enabled and policies.enabled_policy(result) is None, "R-2.1"
    assert reaching.connection_of(result).password == restoring.password_of(restore)
    default_backups.ask(result, world.by)
    taken = default_backups.take(default_backups.claim(TARGET))
    assert taken is not None and taken.instance == result, "it is backed up like any other"
    assert restoring.checks(instance, name="another").seconds_expected > 0, "measured once, it is known"
    assert restoring.checks(instance, name="SHOP again").refusals[0].code == "NameTaken"

    restoring.remove(restore, world.by)
    assert eventually(lambda: Restore.objects.get().state == State.REMOVED)
    restore.refresh_from_db()
    result.refresh_from_db()
    assert nothing_left(restore) and result.released and restore.sealed_password is None
    assert breaches() == []


def test_the_command_does_what_the_wizard_does(world: World, copy: Copy, capsys: Any) -> None:
    said = io.StringIO()
    with pytest.raises(SystemExit) as refused:
        call_command("restore", "shop", "--set", str(copy.set_id), "--name", "shop", "--user", "admin", stderr=said)
    assert refused.value.code == 1 and "shop is there already" in said.getvalue()

    asked = subprocess.Popen(
        [sys.executable, "manage.py", "restore", "shop", "--newest", "--name", "by hand", "--wait", "--user", "admin"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert eventually(lambda: Restore.objects.exists())
    worked_on(Restore.objects.get())
    words, _ = asked.communicate(timeout=60)
    restore = Restore.objects.get()
    assert asked.returncode == 0, words
    for expected in (f"port {restore.port}", restoring.password_of(restore), "5,000 rows  postgres.public.orders"):
        assert expected in words
    assert "unpack" in words and "Took" in words

    said = io.StringIO()
    call_command("restore", "--list", "--json", "--user", "admin", stdout=said)
    [listed] = json.loads(said.getvalue())
    assert (listed["code"], listed["state"], "password" in listed) == (restore.code, "ready", False)
    said = io.StringIO()
    call_command("restore", "--remove", restore.code, "--user", "admin", stdout=said)
    assert "nothing of it runs" in said.getvalue() and nothing_left(restore)


def test_a_default_backup_becomes_a_new_instance_in_the_source_region(world: World, cluster: Cluster) -> None:
    instance = instance_of(world, cluster)
    default_backups.ask(instance, world.by)
    found = default_backups.take(default_backups.claim(SOURCE))
    restore = restoring.ask(instance, world.by, name="beside", default_set=found)
    assert (restore.region_id, restore.origin) == (SOURCE, Restore.Origin.DEFAULT)
    BackupSet.objects.update(finished_at=clock.now() - timedelta(days=800), weighed_at=clock.now())
    policies.release(instance, world.by)
    Instance.objects.filter(pk=instance.pk).update(released_at=clock.now() - timedelta(days=8))
    assert retiring.retire_due() == 0, "it is being read"
    worked_on(restore, region=SOURCE)
    ready(restore)
    assert len(rows_in(restore)) == 5000
    assert retiring.retire_due() == 1


# ---- to a moment


def received(world: World, instance: Instance, log: Source) -> BackupSet:
    """A delivered piece of log as a set of its instance, its file in the source store."""
    store, body, facts = world.store(SOURCE), log.open().read(), log.facts
    stored = store.open().put(f"farshore/logs/{facts.first_position}", body)
    found = BackupSet.objects.create(
        instance=instance,
        kind=Kind.LOG,
        origin="taken",
        discovered_at=clock.now(),
        started_at=facts.started_at,
        finished_at=facts.finished_at,
        first_position=facts.first_position,
        last_position=facts.last_position,
        fork=facts.fork,
        tool_version=facts.software_version,
        size_bytes=facts.size_bytes,
    )
    file = BackupFile.objects.create(
        instance=instance,
        store=store,
        key=stored.key,
        size=stored.size,
        etag=stored.etag,
        modified_at=stored.modified_at,
        state=BackupFile.State.SETTLED,
        is_ours=True,
        first_seen_at=clock.now(),
        settled_at=clock.now(),
    )
    SetFile.objects.create(set=found, file=file)
    return found


def test_copied_logs_bring_back_exactly_the_rows_of_a_named_moment(world: World) -> None:
    """The logs are real pieces of a real receiver; what plans and delivers them is another story."""
    spool, far = ROOM / "moment-spool", ROOM / "moment-far"
    with running("restoring-moment", prepare=lambda folder: {"max_replication_slots": "4"}) as source:
        with source.owner() as owner:
            owner.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO copier")
        child = receiver(source, spool, far)
        assert eventually(source.slots)
        instance = instance_of(world, source)
        writer = Writer(source)
        writer.start()
        copy = copied(world, instance)
        time.sleep(1)
        moment = writer.moment()
        assert eventually(lambda: logs_in(far) and logs_in(far)[-1].facts.finished_at > moment.at)
        kill(source)
        writer.end()
        child.wait(20)
    policy = policies.enabled_policy(instance)
    for log in logs_in(far):
        with transaction.atomic():
            planning.plan(policy, received(world, instance, log), at=clock.now())
    world.carry()
    shutil.rmtree(world.folder / SOURCE)

    store = world.store(TARGET)
    copies = windows.copies_for(instance, store, "", moment.at)
    assert [one.set.kind for one in copies][:2] == [Kind.FULL, Kind.LOG]
    beyond = clock.now() + timedelta(hours=1)
    [refusal] = restoring.checks(instance, until=beyond, name="late").refusals
    assert (refusal.code, refusal.field) == ("MomentTooLate", "until") and "Choose" in refusal.remedy

    [outcome, refused] = restoring.ask_many([instance, world.instance("ledger")], world.by, until=moment.at)
    assert not refused.saved and {one.code for one in refused.refusals} >= {"NothingToRestore", "RestoreNotOffered"}
    restore = outcome.restore
    assert restore.batch and restore.name == "shop-restored"
    assert Pin.objects.count() == restore.sources.count() == len(copies)
    worked_on(restore)
    ready(restore)
    assert rows_in(restore, "ticks") == list(range(1, moment.rows + 1))
    assert restore.restored_until == moment.at and restore.last_change_at <= moment.at
    exact = restoring.checks(instance, copy=copy, name="exact")
    assert exact.is_possible and exact.log_count == 0 and exact.anchor == copy.set


# ---- what goes wrong


def test_a_flipped_byte_in_the_copy_fails_in_words_and_leaves_nothing(world: World, copy: Copy) -> None:
    path = file_of(world, copy)
    whole, was = bytearray(path.read_bytes()), path.stat()
    whole[-1] ^= 1  # behind the end of the archive, where only the hash of the last part can tell
    path.write_bytes(whole)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))

    restore = ask(world, copy)
    worked_on(restore)
    assert eventually(lambda: Restore.objects.get().state == State.FAILED)
    restore.refresh_from_db()
    copy.refresh_from_db()
    assert (restore.error_code, copy.state) == ("SourceDamaged", CopyState.DAMAGED)
    assert "as it was verified" in restore.error and restore.remedy
    assert path.read_bytes() == whole, "the copy is left as it is (I20)"
    assert nothing_left(restore) and not Pin.objects.exists() and restore.result is None
    assert Alert.objects.get(closed_at=None, code="copy_damaged").subject == f"copy:{copy.pk}"
    assert not StorageSpan.objects.filter(ended_at=None).exists()
    assert restoring.checks(copy.set.instance, copy=copy, name="x").refusals[0].code == "CopyNotCompleted"
    assert restoring.checks(copy.set.instance, name="x").refusals[0].code == "NothingToRestore"
    assert breaches() == []


def counted_slowly(monkeypatch: pytest.MonkeyPatch, until: Callable[[], bool]) -> None:
    """As one table does that takes long to count: nobody can speak to the engine meanwhile."""
    start = holding.Counting.run
    monkeypatch.setattr(holding.Counting, "run", lambda self: (eventually(until), start(self)))


def test_a_server_is_ready_before_its_last_row_is_counted(
    world: World, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "COUNT_SECONDS", 0)
    seen, leaving = threading.Event(), threading.Event()
    counted_slowly(monkeypatch, seen.is_set)
    restore = ask(world, copy)

    def person() -> None:
        try:
            early = ready(Restore.objects.get())
            assert early.rows == {} and "count" not in early.seconds and len(rows_in(early)) == 5000
            seen.set()
            assert eventually(lambda: Restore.objects.get().rows)
        finally:
            seen.set()
            leaving.set()
            connection.close()

    one = threading.Thread(target=person)
    one.start()
    restoring.run(restoring.claim(TARGET), leaving)
    one.join()
    restore.refresh_from_db()
    assert restore.rows["postgres.public.orders"] == 5000 and "count" in restore.seconds


@pytest.mark.parametrize("stage", ["unpack", "count"])
def test_a_cancelled_restore_stops_its_engine_within_a_second_or_so(
    world: World, copy: Copy, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    read = reading.ToTheEnd.read
    monkeypatch.setattr(reading.ToTheEnd, "read", lambda self, size=-1: (time.sleep(0.1), read(self, size))[1])
    counted_slowly(monkeypatch, lambda: False)
    restore = ask(world, copy)
    asked: list[float] = []

    def cancel() -> None:
        try:
            assert eventually(lambda: Restore.objects.get().stage == stage)
            restoring.cancel(restore, world.by)
            restoring.cancel(restore, world.by)  # a second click
            asked.append(time.monotonic())
        finally:
            connection.close()

    person = threading.Thread(target=cancel)
    person.start()
    restoring.run(restoring.claim(TARGET), threading.Event())
    took = time.monotonic() - asked[0]
    person.join()

    restore.refresh_from_db()
    assert restore.state == State.CANCELLED and took < 3, took
    assert nothing_left(restore) and not Pin.objects.exists()
    kinds = list(Event.objects.filter(kind__startswith="restore.").order_by("pk").values_list("kind", flat=True))
    assert kinds == ["restore.asked", "restore.cancel_asked", "restore.cancelled"]
    with pytest.raises(Refusal, match="cancelled"):
        restoring.cancel(restore, world.by)
    assert breaches() == []


WINDOWS = ["folder journaled", "unpacking", "replaying", "starting", "rows counted", "instance made"]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_restore_survives_kill_9_of_its_worker(
    world: World, copy: Copy, killed: Callable[..., None], window: str
) -> None:
    restore = ask(world, copy)
    killed(window, "restore", TARGET)
    restore.refresh_from_db()
    assert restore.state == State.RUNNING and Pin.objects.exists()
    assert restoring.claim(TARGET) is None, "the lease still protects the dead worker's restore"
    former = Path(restore.folder)
    let_lease_run_out()

    worked_on(restore)
    ready(restore)
    assert len(rows_in(restore)) == 5000
    assert Path(restore.folder) != former and not former.exists() and not confinement.living_in(former)
    assert [folder.name for folder in places.place_of(restore).iterdir()] == [Path(restore.folder).name]
    assert Instance.objects.filter(name=restore.name).count() == 1
    assert not Pin.objects.exists() and breaches() == []


def test_a_ready_server_ends_with_its_worker_and_is_started_again(world: World, copy: Copy) -> None:
    restore = ask(world, copy)
    child = worked_on(restore)
    ready(restore)
    with session(restore) as asked:
        asked.execute("CREATE TABLE since AS SELECT 7 AS n")
    folder, port = Path(restore.folder), restore.port

    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert eventually(lambda: not confinement.living_in(folder)), "the server ended with it"
    assert restoring.claim(TARGET) is None
    let_lease_run_out()
    assert breaches() == [], "a lapsed lease is no breach"
    child = worked_on(restore)
    assert eventually(lambda: Event.objects.filter(kind="restore.started_again").exists())
    ready(restore)
    assert rows_in(restore, "since") == [7] and (Path(restore.folder), restore.port) == (folder, port)

    child.terminate()  # the worker is stopped in an orderly way
    child.wait(30)
    restore.refresh_from_db()
    assert restore.state == State.READY and restore.leased_until is None and not confinement.living_in(folder)
    worked_on(restore)
    assert eventually(lambda: Event.objects.filter(kind="restore.started_again").count() == 2)

    for pid in confinement.living_in(folder):  # the server itself dies under its holder
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not Restore.objects.get().leased_until)
    let_lease_run_out()
    worked_on(restore)
    assert eventually(lambda: Event.objects.filter(kind="restore.started_again").count() == 3)
    assert rows_in(restore, "since") == [7]


def test_a_worker_that_wakes_up_late_does_not_touch_the_server_of_its_successor(world: World, copy: Copy) -> None:
    restore = ask(world, copy)
    late = worked_on(restore)
    assert eventually(lambda: Restore.objects.get().stage), "it is at work"
    os.kill(late.pid, signal.SIGSTOP)
    let_lease_run_out()
    worked_on(restore)
    ready(restore)
    os.kill(late.pid, signal.SIGCONT)
    late.wait(30)
    assert len(rows_in(restore)) == 5000
    assert [folder.name for folder in places.place_of(restore).iterdir()] == [Path(restore.folder).name]
    assert breaches() == []


def test_a_worker_that_leaves_hands_an_unfinished_restore_back(
    world: World, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore, leaving = ask(world, copy), threading.Event()
    read = reading.ToTheEnd.read
    monkeypatch.setattr(reading.ToTheEnd, "read", lambda self, size=-1: (leaving.set(), read(self, size))[1])
    claimed = restoring.claim(TARGET)
    restoring.run(claimed, leaving)
    restore.refresh_from_db()
    assert (restore.state, restore.attempts, restore.leased_until) == (State.QUEUED, 0, None)
    assert not watching.keep(claimed), "a watch that looks a moment later does not lease it again"
    assert nothing_left(restore) and Pin.objects.exists()
    worked_on(restore)
    ready(restore)


def test_two_restores_run_beside_each_other(world: World, copy: Copy) -> None:
    restores = [ask(world, copy, f"again-{number}") for number in (1, 2)]
    assert Pin.objects.count() == 2
    for restore in restores:
        worked_on(restore)
    for restore in restores:
        ready(restore)
    assert restores[0].port != restores[1].port
    assert [len(rows_in(restore)) for restore in restores] == [5000, 5000]
    restoring.remove(restores[0], world.by)
    assert eventually(lambda: Restore.objects.filter(state=State.REMOVED).exists())
    assert len(rows_in(restores[1])) == 5000, "the other one is left alone"


def test_where_loopback_is_closed_the_row_says_why_it_is_no_instance(
    world: World, copy: Copy, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.FARSHORE_ALLOW_LOOPBACK = False
    monkeypatch.setenv("FARSHORE_ALLOW_LOOPBACK", "no")
    assert "loopback" in restoring.checks(copy.set.instance, copy=copy, name="x").warnings[0]
    restore = ask(world, copy)
    worked_on(restore)
    ready(restore)
    assert restore.result is None and "loopback" in restore.notes[-1]
    assert len(rows_in(restore)) == 5000


def test_a_store_that_went_away_is_told_in_words(world: World, copy: Copy) -> None:
    restore = ask(world, copy)
    (world.folder / TARGET / "farshore" / "marker.json").unlink()
    worked_on(restore)
    assert eventually(lambda: Restore.objects.get().state == State.FAILED)
    restore.refresh_from_db()
    assert "marker" in restore.error and nothing_left(restore)
    assert Copy.objects.get().state == CopyState.COMPLETED, "absence proves nothing (I19)"


def test_a_stranger_sees_no_restore(world: World, copy: Copy, django_user_model: Any) -> None:
    from django.http import Http404

    restore = ask(world, copy)
    stranger = django_user_model.objects.create_user("stranger")
    assert access.restore_for(world.user, restore.code) == restore
    with pytest.raises(Http404):
        access.restore_for(stranger, restore.code)
    assert not access.restores_for(stranger).exists()


def test_two_who_want_one_name_at_once_do_not_both_get_it(world: World, copy: Copy) -> None:
    come = threading.Barrier(4)
    outcomes: list[object] = []

    def person() -> None:
        try:
            come.wait()
            outcomes.append(ask(world, copy, "the only one"))
        except policies.Refusals as refused:
            outcomes.append(refused.items[0].code)
        finally:
            connection.close()

    people = [threading.Thread(target=person) for _ in range(4)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert outcomes.count("NameTaken") == 3 and Restore.objects.count() == Pin.objects.count() == 1
    restoring.cancel(Restore.objects.get(), world.by)
