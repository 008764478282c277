"""A copy takes buffers in flight, never the file: the whole worker, carrying and verifying 1 GiB between buckets."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from django.db import connections

from backups.models import BackupFile, Copy, CopyState
from demo import mtf
from regions import stores
from regions.models import Region, Store
from regions.storage import PartReceipt, Storage
from tests.backups.world import SOURCE, TARGET, World, backup
from tests.faults.test_chaos import Broker, Workers, wait_for
from tests.regions.conftest import make_bucket
from tests.servers import S3Region

pytestmark = pytest.mark.long
GIB, MIB = 2**30, 2**20
MOST_MIB = 160


def attach(world: World, region: str, place: S3Region) -> Store:
    options = {"endpoint": place.endpoint, "addressing": "path"}
    credentials = {"access_key_id": place.access_key, "secret_access_key": place.secret_key}
    return stores.attach(Region.objects.get(pk=region), make_bucket(place), options, credentials, user=world.user)


def send(storage: Storage, key: str, body: bytes) -> None:
    upload, receipts = storage.create_upload(key), list[PartReceipt]()
    for number, at in enumerate(range(0, len(body), 64 * MIB), 1):
        piece = memoryview(body)[at : at + 64 * MIB]
        receipts.append(storage.put_part(key, upload, number, at, len(piece), Bytes(piece)))
    storage.complete_upload(key, upload, receipts)


class Bytes:
    def __init__(self, body: memoryview) -> None:
        self.left = body

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self.left))
        buffer[:count], self.left = self.left[:count], self.left[count:]
        return count


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_a_worker_carries_a_gigabyte_between_two_regions_in_little_memory(
    world: World, ceph_regions: tuple[S3Region, S3Region], tmp_path: Path
) -> None:
    source, target = attach(world, SOURCE, ceph_regions[0]), attach(world, TARGET, ceph_regions[1])
    instance = world.instance()
    world.enable(instance)
    body = mtf.file_of(backup("Big", pages=GIB // 8192))
    send(source.open(), f"{instance.prefixes[0]}big.bak", body)
    del body
    world.find(instance)
    assert BackupFile.objects.get().size > GIB
    connections.close_all()
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    workers = Workers(broker.url, tmp_path / "worker.log")
    peaks: dict[int, float] = {}

    def arrived() -> bool:
        for child in psutil.Process(workers.process.pid).children(recursive=True):
            peaks[child.pid] = max(peaks.get(child.pid, 0), peak_mib(child.pid))
        return Copy.objects.filter(state=CopyState.COMPLETED).exists()

    try:
        assert wait_for(arrived, workers, 150), (tmp_path / "worker.log").read_text()[-4000:]
    finally:
        workers.kill()
        broker.process.kill()
        broker.process.wait()
    copy = Copy.objects.get()
    print(f"peak of each worker process: {[round(peak) for peak in peaks.values()]} MiB")
    assert (copy.destination_store, copy.stored_bytes > GIB, copy.reference) == (target, True, "inside")
    assert max(peaks.values()) <= MOST_MIB
