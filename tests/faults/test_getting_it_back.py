"""The whole promise: a table written without pause, its logs crossing, its region dead, its rows back to a second.

Everything is done by real workers in processes of their own; the test enables, kills and asks (R-8, R-17; I7, I20).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections

from backups import default_backups, policies, restoring
from backups.models import BackupJob, Copy, CopyState, Instance, Kind, LogStream, RestorableInterval, Restore
from backups.policies import Settings
from backups.self_recovery import state_objects
from backups.servers import reaching
from regions.models import Store
from tests.backups import world as worlds
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.mariadb import crossing as mariadb
from tests.engines.mariadb import servers
from tests.engines.postgresql.clusters import PASSWORD, Cluster, running
from tests.engines.postgresql.crossing import Moment, Writer, kill
from tests.faults.test_chaos import Broker, Workers
from tests.flushing import forget_everything
from tests.room import ROOM

pytestmark = pytest.mark.long


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    room = {"max_replication_slots": "6", "max_wal_senders": "6", "summarize_wal": "on"}
    with running("crossing-over", prepare=lambda folder: room) as found:
        with found.owner() as session:
            session.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO copier")
        yield found


@pytest.fixture
def workers(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    for region in (SOURCE, TARGET):
        world.store(region)  # workers learn their regions as they start
    data = ROOM / f"back-{tmp_path.name[-12:]}"
    data.mkdir(mode=0o711)
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    monkeypatch.setenv("FARSHORE_KEYS", str(settings.FARSHORE_KEYS))  # their ring is ours
    monkeypatch.setenv("FARSHORE_DATA", str(data))
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    found = Everywhere(broker.url, tmp_path / "worker.log")
    yield found
    found.kill()
    broker.process.kill()
    broker.process.wait()


class Everywhere(Workers):
    """Workers whose every bell is rung, of both regions; a lease outlasts the start of a child on a busy machine."""

    lease_seconds = 30

    def ring(self) -> None:
        self.bells.send_task("backups.tasks.sweep", queue="control")


def eventually(true: Callable[[], Any], workers: Workers, seconds: float = 90) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := true():
            return found
        workers.ring()
        time.sleep(0.5)
    rows = [list(noun.objects.values("state", "error")) for noun in (BackupJob, LogStream, Copy, Restore)]
    pytest.fail(f"it did not come to pass: {rows}\n{workers.log.read_text()[-6000:]}")


def with_logs(world: World, cluster: Cluster, **more: Any) -> Instance:
    instance = world.instance(
        engine="postgresql",
        arrival="taken",
        prefixes=[],
        host="127.0.0.1",
        port=cluster.port,
        username="copier",
        **more,
    )
    reaching.keep_password(instance, PASSWORD)
    instance.save()
    world.store(TARGET)
    policies.apply(instance, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
    return instance


def restorable_at(instance: Instance, moment: Moment) -> Callable[[], bool]:
    rows = RestorableInterval.objects.filter(instance=instance, began_at__lte=moment.at, ended_at__gt=moment.at)
    return rows.exists


def arrived(instance: Instance, kind: str, least: int = 1) -> Callable[[], bool]:
    copies = Copy.objects.filter(set__instance=instance, set__kind=kind, state=CopyState.COMPLETED)
    return lambda: copies.count() >= least


def restored(world: World, instance: Instance, workers: Workers, moment: Moment, name: str) -> list[int]:
    """Ask for the moment, wait for the new server, and return the rows it holds."""
    return rows_in(asked_and_ready(world, instance, workers, moment, name))


def asked_and_ready(world: World, instance: Instance, workers: Workers, moment: Any, name: str) -> Restore:
    store = Store.objects.attached().get(region=TARGET)
    asked = restoring.ask(instance, world.by, name=name, store=store, until=moment.at)
    over = (Restore.State.READY, Restore.State.FAILED)
    eventually(lambda: Restore.objects.filter(pk=asked.pk, state__in=over).exists(), workers)
    asked.refresh_from_db()
    assert asked.state == Restore.State.READY, asked.error
    assert asked.region_id == TARGET
    return asked


def rows_in(asked: Restore) -> list[int]:
    where = {"host": asked.host, "port": asked.port, "user": asked.username, "password": restoring.password_of(asked)}
    with closing(psycopg.connect(dbname="postgres", **where)) as session:
        return [number for (number,) in session.execute("SELECT id FROM public.ticks ORDER BY id")]


def test_a_named_second_comes_back_with_exactly_its_rows_after_the_source_is_gone(
    world: World, cluster: Cluster, workers: Workers
) -> None:
    instance = with_logs(world, cluster)
    writer = Writer(cluster)
    writer.start()
    eventually(arrived(instance, Kind.FULL), workers)
    eventually(arrived(instance, Kind.LOG, 2), workers)
    early = writer.moment()
    default_backups.ask(instance, world.by, kind="differential")
    eventually(arrived(instance, Kind.DIFFERENTIAL), workers)
    late = writer.moment()
    eventually(restorable_at(instance, late), workers)

    kill(cluster)
    (world.folder / SOURCE).rename(world.folder / "gone")
    writer.end()
    assert writer.written > late.rows > early.rows

    assert restored(world, instance, workers, early, "early") == list(range(1, early.rows + 1))
    assert restored(world, instance, workers, late, "late") == list(range(1, late.rows + 1))

    workers.kill()
    state_objects.write_stale(Store.objects.get(region=TARGET))
    forget_everything()
    again = worlds.World(world.folder, User.objects.create_superuser("admin", "", "open sesame"), None)
    call_command("rebuild_catalog", (world.folder / TARGET).as_uri(), stdout=StringIO())
    workers.start()
    found = Instance.objects.get(code=instance.code)
    assert restored(again, found, workers, late, "rebuilt") == list(range(1, late.rows + 1)), "from the store alone"
    connections.close_all()


def test_a_mariadb_comes_back_to_a_named_second_too(world: World, workers: Workers) -> None:
    with servers.running("crossing-over-mariadb") as server:
        where = {"host": "127.0.0.1", "port": server.port, "username": "copier", "tls": "disable"}
        instance = world.instance(engine="mariadb", arrival="taken", prefixes=[], **where)
        reaching.keep_password(instance, PASSWORD)
        instance.save()
        world.store(TARGET)
        policies.apply(instance, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
        writer = mariadb.Writer(server)
        writer.start()
        eventually(arrived(instance, Kind.FULL), workers)
        eventually(arrived(instance, Kind.LOG, 2), workers)
        named = writer.moment()
        eventually(restorable_at(instance, named), workers)
        server.kill()
        (world.folder / SOURCE).rename(world.folder / "gone")
        writer.end()
        assert writer.written > named.rows
    asked = asked_and_ready(world, instance, workers, named, "again")
    login = {"user": asked.username, "password": restoring.password_of(asked), "database": "shop"}
    with closing(pymysql.connect(host=asked.host, port=asked.port, **login)) as session, session.cursor() as cursor:
        cursor.execute("SELECT id FROM ticks ORDER BY id")
        assert [number for (number,) in cursor.fetchall()] == list(range(1, named.rows + 1))
    connections.close_all()
