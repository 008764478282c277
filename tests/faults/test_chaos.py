"""Workers, brokers and messages behaving as badly as they can: every copy still arrives exactly once (I1, I2, I3)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from celery import Celery
from django.db import connections
from django.db.models import Sum

from backups.models import Copy, CopyState, Event, StorageSpan, Transfer
from backups.oversight import audit
from console.celery import broker_settings
from console.runtime import valkey
from console.runtime.postgres import Postgres
from tests.backups.world import TARGET, World, backup
from tests.faults.conftest import ROOT
from tests.faults.test_kill_windows import PART_PAGES, objects_of

pytestmark = pytest.mark.long

FILES = 5
SLOTS = 2 * 4  # two worker processes, four parts in flight each


class Broker:
    """A Valkey of the test's own that can be killed, emptied and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"redis+socket://{folder}/valkey.sock"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(valkey.command(self.folder, self.folder), stdout=subprocess.DEVNULL)
        socket = self.folder / "valkey.sock"
        while not socket.exists():
            time.sleep(0.05)

    def empty(self) -> None:
        """Lose every message, and come back."""
        self.process.kill()
        self.process.wait()
        for left in self.folder.iterdir():
            subprocess.run(["rm", "-rf", str(left)], check=True)
        self.start()


class Workers:
    """`manage.py worker` in a process group of its own, and somebody who rings the sweep three times over."""

    lease_seconds = 5

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log
        self.bells = Celery("bells")
        self.bells.conf.update(**broker_settings(url), task_publish_retry=False)
        self.start()

    def start(self) -> None:
        fast = {"LEASE_SECONDS": str(self.lease_seconds), "SLICE_SECONDS": "1", "BROKER_URL": self.url}
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "worker"], cwd=ROOT, env=os.environ | fast, stdout=out, stderr=out
            )

    def ring(self) -> None:
        for task, queue, args in (("sweep", "control", ()), ("carry_copies", f"region.{TARGET}", (TARGET,))):
            for _ in range(3):
                try:
                    self.bells.send_task(f"backups.tasks.{task}", args=args, queue=queue)
                except Exception:  # the broker is away, which is the point
                    self.bells.pool.force_close_all()
                    return

    def kill(self) -> None:
        """kill -9 of the whole tree at once, as an out-of-memory killer or a power cut would."""
        tree = [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children(recursive=True))]
        for pid in tree:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def all_completed() -> bool:
    return Copy.objects.filter(state=CopyState.COMPLETED).count() == FILES


def all_arrived_and_clean() -> bool:
    """Everything is there, and what interrupted attempts left has been removed."""
    return all_completed() and not Transfer.objects.filter(state=Transfer.State.ABANDONED).exists()


def wait_for(condition, workers: Workers, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        workers.ring()
        time.sleep(0.5)
    return False


def parts_sent(at_least: int):
    return lambda: (Transfer.objects.aggregate(n=Sum("bytes_sent"))["n"] or 0) >= at_least


@pytest.fixture
def files(world: World) -> Iterator[dict[int, bytes]]:
    instance = world.instance()
    world.enable(instance)
    for number in range(FILES):
        world.drop(instance, f"db{number}.bak", backup(f"Db{number}", pages=3 * PART_PAGES))
    world.find(instance)
    yield {file.pk: Path(world.folder, instance.region_id, file.key).read_bytes() for file in instance.files.all()}
    connections.close_all()


def check_the_end(world: World, files: dict[int, bytes], kills: int) -> None:
    assert all_completed(), list(Copy.objects.values("state", "error", "attempts"))
    kept = Transfer.objects.filter(state=Transfer.State.VERIFIED)
    assert kept.count() == FILES
    for transfer in kept:
        assert (world.folder / TARGET / transfer.key).read_bytes() == files[transfer.file_id]
    sent = Transfer.objects.aggregate(n=Sum("bytes_sent"))["n"]
    whole = sum(len(body) for body in files.values())
    assert sent <= whole + kills * SLOTS * 16 * 2**20, "at most one part per slot in flight is sent again"
    assert StorageSpan.objects.count() == FILES
    assert Event.objects.filter(kind="copy.completed").count() == FILES
    wanted = {transfer.key for transfer in kept} | set(Copy.objects.values_list("manifest_key", flat=True))
    assert objects_of(world) == wanted, "no orphan upload, no object nobody names"
    assert list(audit.breaches()) == []


def test_killed_workers_an_emptied_broker_and_tripled_messages_lose_nothing(
    world: World, files: dict[int, bytes], tmp_path: Path
) -> None:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    workers = Workers(broker.url, tmp_path / "worker.log")
    try:
        assert wait_for(parts_sent(1), workers, 60), (tmp_path / "worker.log").read_text()
        workers.kill()
        broker.empty()
        workers.start()
        assert wait_for(parts_sent(6 * 2**24), workers, 60), (tmp_path / "worker.log").read_text()
        workers.kill()
        workers.start()
        assert wait_for(all_arrived_and_clean, workers, 90), (tmp_path / "worker.log").read_text()[-4000:]
    finally:
        workers.kill()
        broker.process.kill()
        broker.process.wait()
    check_the_end(world, files, kills=2)


def test_the_same_over_rabbitmq_quorum_queues(
    world: World, files: dict[int, bytes], tmp_path: Path, rabbitmq_url: str
) -> None:
    workers = Workers(rabbitmq_url, tmp_path / "worker.log")
    try:
        assert wait_for(parts_sent(1), workers, 60), (tmp_path / "worker.log").read_text()
        workers.kill()
        workers.start()
        assert wait_for(all_arrived_and_clean, workers, 90), (tmp_path / "worker.log").read_text()[-4000:]
    finally:
        workers.kill()
    check_the_end(world, files, kills=1)


def test_a_database_stopped_at_once_costs_time_and_nothing_else(
    world: World, files: dict[int, bytes], tmp_path: Path, postgres_server: Postgres
) -> None:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    workers = Workers(broker.url, tmp_path / "worker.log")
    try:
        assert wait_for(parts_sent(1), workers, 60), (tmp_path / "worker.log").read_text()
        connections.close_all()
        postgres_server.stop(signal.SIGQUIT)  # "immediate": no checkpoint, no goodbye
        time.sleep(2)
        postgres_server.start()
        assert wait_for(all_arrived_and_clean, workers, 90), (tmp_path / "worker.log").read_text()[-4000:]
    finally:
        workers.kill()
        broker.process.kill()
        broker.process.wait()
    check_the_end(world, files, kills=1)
