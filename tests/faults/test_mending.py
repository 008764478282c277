"""A damaged copy carried again while workers die, bells ring twice, stores differ: sound once, nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection

from backups import cleaning, tasks
from backups.copying import damage, mending
from backups.models import Alert, Copy, CopyState, Event, Instance, StorageSpan, Transfer
from backups.oversight import audit
from billing import audit as ledger
from regions import clock, stores
from regions.models import Region
from regions.storage.mover import Part
from regions.storage.reading import whole
from tests.backups.world import SOURCE, TARGET, World, backup
from tests.faults.test_kill_windows import PART_PAGES, let_leases_run_out, objects_of
from tests.regions.conftest import bucket_store, make_bucket
from tests.servers import S3Region

pytestmark = pytest.mark.long

WINDOWS = [
    "claimed again",
    "upload created, not journaled",
    "after a part",
    "completed, no row",
    "half read back",
    "verified, not committed",
    "manifest written, not committed",
    "sound, old object there",
]


def breaches() -> list[tuple[str, str]]:
    found = [*audit.breaches(), *ledger.breaches()]
    return [said for said in found if not said[0].startswith("I2 exactly")]


def rot(path: Path, at: int = 5 * 2**20) -> None:
    """Change one byte under the same size and time: the store still calls it the same object."""
    times = path.stat()
    with path.open("r+b") as body:
        body.seek(at % times.st_size)
        byte = body.read(1)[0]
        body.seek(-1, os.SEEK_CUR)
        body.write(bytes([byte ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def find_wrong(copy: Copy) -> Transfer:
    transfer = Transfer.objects.get(copied_files__copy=copy)
    first = transfer.parts.get(number=1)
    assert damage.examine(copy, Part(1, 0, first.size, first.sha256)) == [copy]
    return transfer


@pytest.fixture
def source(world: World) -> Path:
    """A copy of three parts has arrived, and one byte of it has rotted."""
    instance = world.instance()
    world.enable(instance)
    path = world.drop(instance, "sales.bak", backup(pages=3 * PART_PAGES))
    world.find(instance)
    world.carry()
    copy = Copy.objects.get()
    rot(world.folder / TARGET / Transfer.objects.get().key)
    find_wrong(copy)
    return path


def finish(world: World) -> Copy:
    let_leases_run_out()
    Copy.objects.filter(state=CopyState.DAMAGED).update(mend_at=clock.now())
    world.mend()
    mending.give_up()
    cleaning.clean_up(TARGET)
    return Copy.objects.get()


def is_sound(world: World, source: Path) -> None:
    copy = Copy.objects.get()
    assert copy.state == CopyState.COMPLETED, copy.error
    transfer = Transfer.objects.get(state=Transfer.State.VERIFIED)
    assert (world.folder / TARGET / transfer.key).read_bytes() == source.read_bytes()
    assert transfer.bytes_sent <= source.stat().st_size + 16 * 2**20, "at most one part is sent again"
    assert [span.ended_at is None for span in StorageSpan.objects.order_by("pk")] == [False, True]
    assert Event.objects.filter(kind="copy.mended").count() == 1
    assert not Alert.objects.filter(code="copy_damaged", closed_at=None).exists()
    assert objects_of(world) == {transfer.key, copy.manifest_key}, "nothing else lies in the store"
    assert breaches() == []


@pytest.mark.parametrize("window", WINDOWS)
def test_it_survives_kill_9(world: World, source: Path, killed: Callable[..., None], window: str) -> None:
    old, manifest = Transfer.objects.get(), Copy.objects.get().manifest_key
    killed(window, "mend", TARGET)
    if window != WINDOWS[-1]:
        assert Copy.objects.get().state == CopyState.DAMAGED
        assert {old.key, manifest} <= objects_of(world), "never removed before the new one is proven"
        assert mending.claim(TARGET) is None, "the lease still protects the dead worker's copy"
        assert breaches() == []
    finish(world)
    is_sound(world, source)


def test_bells_that_ring_many_times_at_once_mend_it_once(world: World, source: Path) -> None:
    def ring(_: int) -> None:
        try:
            tasks.mend_copies(TARGET)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as crew:
        list(crew.map(ring, range(8)))
    finish(world)
    is_sound(world, source)
    assert Transfer.objects.filter(replaces__isnull=False).count() == 1


def test_a_worker_that_lost_its_lease_commits_nothing(world: World, source: Path) -> None:
    """I15: the slower of two ends without a trace."""
    slow = mending.claim(TARGET)
    let_leases_run_out()
    fast = mending.claim(TARGET)
    assert fast.fence > slow.fence
    mending.mend_slice(fast)
    assert not mending.mend_slice(slow)
    cleaning.clean_up(TARGET)
    is_sound(world, source)


def test_the_new_object_that_rots_too_is_found_and_carried_once_more(world: World, source: Path) -> None:
    world.mend()
    cleaning.clean_up(TARGET)
    copy = Copy.objects.get()
    second = Transfer.objects.get(state=Transfer.State.VERIFIED)
    rot(world.folder / TARGET / second.key)
    assert find_wrong(copy) == second
    assert mending.claim(TARGET) is None, "not at once"
    copy = finish(world)
    third = Transfer.objects.get(state=Transfer.State.VERIFIED)
    assert copy.state == CopyState.COMPLETED and third.replaces == second and copy.times_damaged == 2
    assert (world.folder / TARGET / third.key).read_bytes() == source.read_bytes()
    assert objects_of(world) == {third.key, copy.manifest_key}
    assert breaches() == []


@pytest.mark.parametrize("harm", ["another object", "no object"])
def test_in_a_bucket_too(world: World, ceph_regions: tuple[S3Region, S3Region], harm: str) -> None:
    for region, place in zip((SOURCE, TARGET), ceph_regions, strict=True):
        options = bucket_store(place, make_bucket(place) + "/team")
        stores.attach(Region.objects.get(pk=region), options.url, options.options, options.credentials)
    instance: Instance = world.instance()
    world.enable(instance)
    body = os.urandom(100_000)
    found = world.finished(instance, size=len(body))
    file = found.files.get()
    put = world.store(SOURCE).open().put(file.key, body)
    found.files.update(etag=put.etag, size=put.size, modified_at=put.modified_at)
    tasks.plan_copies()
    [copy] = world.carry()
    storage, old = world.store(TARGET).open(), Transfer.objects.get()
    storage.delete(old.key)
    if harm == "another object":
        storage.put(old.key, body[::-1])
    find_wrong(copy)
    copy = finish(world)
    new = Transfer.objects.get(state=Transfer.State.VERIFIED)
    assert copy.state == CopyState.COMPLETED and new.replaces == old
    assert whole(storage, storage.head(new.key)) == body
    lying = {info.key for info in storage.list("farshore/")}
    assert {new.key, copy.manifest_key} <= lying and old.key not in lying
    assert breaches() == []
