"""A server that Farshore runs is replaced by one made of its own default backup, and comes back (R-2.3, I20)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from django.contrib.auth.models import User

from backups import default_backups, restoring, tasks
from backups.engines import confinement, postgresql
from backups.engines.facts import Stopped
from backups.events import By
from backups.models import BackupFile, BackupSet, Event, Instance, Restore
from backups.oversight import audit
from backups.servers import reaching
from regions import clock
from regions.refusals import Refusal
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.mariadb import servers as mariadb
from tests.engines.postgresql.clusters import PASSWORD, running
from tests.faults.test_log_receiving import receive
from tests.faults.test_restoring import eventually, let_lease_run_out, nothing_left, ready, worked_on

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("restores_tidied")]
State = Restore.State


@pytest.fixture
def second(db: None) -> By:
    return By(User.objects.create_superuser("second", password="a long password"))


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def source(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Somebody's server, of which the original is restored first."""
    if request.param == "mariadb":
        with mariadb.running("replaced") as found:
            reached = {"host": "127.0.0.1", "port": found.port, "username": found.connection.username}
            yield {"engine": request.param, "password": found.connection.password, **reached}
        return
    with running("replaced") as found:
        reached = {"host": "127.0.0.1", "port": found.port, "username": "copier"}
        yield {"engine": request.param, "password": PASSWORD, **reached}


@pytest.fixture
def original(world: World, source: dict[str, Any]) -> Restore:
    """A restored server as an instance of its own, `result`, with a default backup of itself."""
    facts = {**source}
    password = facts.pop("password")
    instance = world.instance("shop", arrival="taken", prefixes=[], **facts)
    reaching.keep_password(instance, password)
    instance.save()
    world.store(TARGET)
    made = restoring.ask(instance, world.by, name="original", default_set=taken(instance, world))
    worked_on(made, region=SOURCE)
    ready(made)
    do(made, "CREATE TABLE life (n int)", "INSERT INTO life VALUES (1)")
    taken(made.result, world)
    do(made, "INSERT INTO life VALUES (2)")
    return made


def taken(instance: Instance, world: World) -> BackupSet:
    default_backups.ask(instance, world.by)
    found = default_backups.take(default_backups.claim(SOURCE))
    assert found, instance.backup_jobs.last().error
    return found


def session(restore: Restore) -> Any:
    instance = Instance.objects.get(pk=(restore.result or restore.onto).pk)
    where = {"host": instance.host, "port": instance.port, "user": instance.username, "connect_timeout": 5}
    password = reaching.connection_of(instance).password
    if instance.engine == "mariadb":
        return pymysql.connect(**where, password=password, database="mysql", autocommit=True)
    return psycopg.connect(**where, password=password, dbname="postgres", autocommit=True)


def do(restore: Restore, *statements: str) -> list[Any]:
    """Ask the instance as its row says, like anybody who knows it."""
    with closing(session(restore)) as asked, closing(asked.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall()) if statements[-1].startswith("SELECT") else []


def life(restore: Restore) -> list[int]:
    return [row[0] for row in do(restore, "SELECT n FROM life ORDER BY n")]


def answers(restore: Restore) -> bool:
    with suppress(Exception):
        return bool(life(restore))
    return False


def asked_onto(world: World, original: Restore, **more: Any) -> Restore:
    target = original.result
    wish = more or {"default_set": target.sets.valid().data().latest("finished_at")}
    return restoring.ask(target, world.by, onto=target, name=target.name, **wish)


def breaches() -> list[str]:
    return [said for name in ("I4 pins", "I20 restored servers") for said in audit.CHECKS[name]()]


def run_whatever_is_due() -> None:
    let_lease_run_out()
    for _ in range(3):
        tasks.run_restores(SOURCE)


def test_the_original_is_replaced_kept_aside_and_put_back(world: World, original: Restore, second: By) -> None:
    target, old = original.result, Path(original.folder)
    restore = asked_onto(world, original)
    assert restore.state == State.WAITING and restoring.claim(SOURCE) is None, "a second person has to agree"
    assert life(original) == [1, 2]
    restoring.agree(restore, second)
    worked_on(restore, region=SOURCE)
    ready(restore)

    original.refresh_from_db()
    assert (restore.result, original.state, restore.approved_by) == (target, State.ASIDE, second.user)
    assert (restore.host, restore.port) == (original.host, original.port), "at the same address"
    assert life(restore) == [1], "as it was when it was backed up"
    assert old.is_dir() and not confinement.living_in(old), "kept, and stopped"
    assert restore.seconds["replace"] > 0 and breaches() == []
    taken(target, world)
    forks = list(target.sets.order_by("pk").values_list("fork", flat=True))
    assert forks[0] != forks[1], "another history than the one it had"
    with pytest.raises(restoring.asking.Refusals, match="Nobody has confirmed"):
        asked_onto(world, original)

    restoring.remove(restore, world.by)
    assert eventually(lambda: Restore.objects.get(pk=restore.pk).state == State.REMOVED)
    run_whatever_is_due()
    assert eventually(lambda: answers(original))
    assert life(original) == [1, 2] and nothing_left(restore), "exactly as it was when it stopped"
    target.refresh_from_db()
    original.refresh_from_db()
    assert not target.released and original.state == State.READY and breaches() == []

    again = asked_onto(world, original, default_set=restore.set)
    restoring.agree(again, second)
    worked_on(again, region=SOURCE)
    ready(again)
    assert life(again) == [1]
    taken(target, world)
    assert target.sets.latest("pk").fork not in forks, "no two lives of one history (I7)"
    restoring.confirm(again, world.by)
    tasks.run_restores(SOURCE)
    assert eventually(lambda: Restore.objects.get(pk=original.pk).state == State.REMOVED)
    assert not old.exists() and life(again) == [1]
    target.refresh_from_db()
    assert not target.released and restoring.aside_of(target) is None and breaches() == []
    kinds = Event.objects.filter(kind__startswith="restore.", data__restore=again.code).order_by("pk")
    assert list(kinds.values_list("kind", flat=True)) == [
        *("restore.asked", "restore.agreed", "restore.replaced", "restore.ready", "restore.confirmed")
    ]


def test_a_restore_that_fails_leaves_the_original_running(
    world: World, original: Restore, second: By, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = asked_onto(world, original)
    file = restore.sources.get().set.files.get()
    restoring.agree(restore, second)
    (world.folder / SOURCE / file.key).unlink()  # somebody else's job deletes it in this moment
    worked_on(restore, region=SOURCE)
    assert eventually(lambda: Restore.objects.get(pk=restore.pk).state == State.FAILED)
    restore.refresh_from_db()
    assert restore.error_code == "SourceGone" and "vanished" in restore.error and "copy" in restore.remedy
    assert life(original) == [1, 2] and nothing_left(restore) and breaches() == []
    original.refresh_from_db()
    assert (original.state, original.makes_room_for, original.result.released_at) == (State.READY, None, None)


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
@pytest.mark.parametrize("how", ["refused", "cancelled"])
def test_a_new_server_that_cannot_take_the_place_gives_it_back(
    world: World, original: Restore, second: By, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The original has stopped by then."""
    restore = asked_onto(world, original)
    restoring.agree(restore, second)

    def take_over(*args: Any, **kwargs: Any) -> None:
        assert not answers(original), "it has made room"
        if how == "cancelled":
            restoring.cancel(restore, world.by)
            raise Stopped("the restore is no longer wanted")
        raise Refusal("NotStarted", "Its port is taken.", "")

    monkeypatch.setattr(postgresql, "take_over", take_over)
    restoring.run(restoring.claim(SOURCE), threading.Event())
    restore.refresh_from_db()
    assert restore.state == (State.FAILED if how == "refused" else State.CANCELLED)
    assert nothing_left(restore)
    run_whatever_is_due()
    assert eventually(lambda: answers(original))
    assert life(original) == [1, 2] and breaches() == []
    assert restoring.why_not_original(original.result) == []


def test_logs_are_received_of_whichever_server_the_instance_is(
    world: World, original: Restore, second: By, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """R-9.4: each life's logs are of a history of their own; what lies between shows as a gap."""
    monkeypatch.setenv("LOG_FLUSH_SECONDS", "1")
    settings.LOG_FLUSH_SECONDS = 1
    target = original.result
    world.set(target, enabled=True, destination=TARGET, logs_enabled=True)
    first = fork_of_new_logs(original)
    restore = asked_onto(world, original)
    restoring.agree(restore, second)
    worked_on(restore, region=SOURCE)
    ready(restore)
    second_life = fork_of_new_logs(restore, unlike=first)
    assert second_life != first
    restoring.remove(restore, world.by)
    assert eventually(lambda: Restore.objects.get(pk=restore.pk).state == State.REMOVED)
    run_whatever_is_due()
    assert eventually(lambda: answers(original))
    assert fork_of_new_logs(original, unlike=second_life) == first


def fork_of_new_logs(restore: Restore, unlike: str = "") -> str:
    """Write, and be the child that receives, until two logs have come; whose history they are of.

    What was still to be delivered of the life before, `unlike`, comes first and does not count.
    """
    target = Instance.objects.get(restored_from=restore)
    known = {found.pk for found in target.sets.filter(kind="log")}

    def new() -> set[str]:
        do(restore, "INSERT INTO life VALUES (3)")
        logs = target.sets.filter(kind="log").exclude(pk__in=known).exclude(fork=unlike)
        return set(logs.values_list("fork", flat=True)) if logs.count() > 1 else set()

    receive(new)
    [fork] = new()
    return fork


WINDOWS = ["original asked to stop", "original stopped", "at the original's address", "places changed for good"]


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
@pytest.mark.parametrize("window", WINDOWS)
def test_kill_9_at_any_step_leaves_the_original_or_the_new_one(
    world: World, original: Restore, second: By, killed: Callable[..., None], window: str
) -> None:
    restore = asked_onto(world, original)
    restoring.agree(restore, second)
    killed(window, "restore", SOURCE)
    restore.refresh_from_db()
    original.refresh_from_db()
    is_changed = window == WINDOWS[-1]
    assert (original.state, restore.state) == (
        (State.ASIDE, State.READY) if is_changed else (State.READY, State.RUNNING)
    )
    assert Path(original.folder).is_dir(), "its data is there whatever happened"

    run_whatever_is_due()
    ready(restore)
    assert eventually(lambda: answers(restore))
    assert life(restore) == [1]
    original.refresh_from_db()
    assert original.state == State.ASIDE and Path(original.folder).is_dir() and breaches() == []


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
def test_a_machine_that_died_for_good_is_written_off_with_a_reason(world: World, original: Restore, second: By) -> None:
    with pytest.raises(Refusal, match="is held by"):
        restoring.write_off(original, world.by, "its disk burnt")
    child = tasks._holding[-1]
    child.kill()
    child.wait()
    assert eventually(lambda: not confinement.living_in(Path(original.folder)))
    Restore.objects.update(leased_until=clock.now(), leased_by="burnt:7", folder="/nowhere/1")
    let_lease_run_out()
    assert restoring.claim(SOURCE) is None, "no machine has its disk"
    with pytest.raises(Refusal, match="Say in a few words"):
        restoring.write_off(original, world.by, " ")
    restoring.write_off(original, world.by, "its disk burnt")
    assert (original.state, original.error, original.sealed_password) == (State.REMOVED, "its disk burnt", None)
    assert Instance.objects.get(pk=original.result_id).released
    event = Event.objects.get(kind="restore.written_off")
    assert "its disk burnt" in event.sentence and event.actor == world.user
    assert BackupFile.objects.filter(instance=original.result).exists(), "its backups keep their own dates"
