"""One flipped byte, wherever it happens: it never ends completed, or the copy never claimed to know (I1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backups import cleaning
from backups.copying import carrying, verification
from backups.models import BackupFile, Copy, CopyState, Instance, StorageSpan, Transfer
from backups.oversight import audit
from demo import mtf
from regions import clock, stores
from regions.models import Region
from regions.storage import ObjectInfo, Storage
from regions.storage.filesystem import FolderStorage
from regions.storage.s3 import S3Storage
from tests.backups.world import SOURCE, TARGET, World, backup
from tests.regions.conftest import bucket_store, make_bucket
from tests.servers import S3Region

pytestmark = pytest.mark.long

DRIVERS = {"folder": FolderStorage, "bucket": S3Storage}


class Flipping:
    """A stream whose first byte comes out wrong."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.done = stream, False

    def readinto(self, buffer: memoryview) -> int:
        count = self.stream.readinto(buffer)
        if count and not self.done:
            buffer[0] ^= 1
            self.done = True
        return count


@pytest.fixture(params=["folder", "bucket"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def instance(request: pytest.FixtureRequest, world: World, kind: str) -> Instance:
    if kind == "bucket":
        places: tuple[S3Region, S3Region] = request.getfixturevalue("ceph_regions")
        for region, place in zip((SOURCE, TARGET), places, strict=True):
            options = bucket_store(place, make_bucket(place) + "/team")
            stores.attach(Region.objects.get(pk=region), options.url, options.options, options.credentials)
    return world.instance()


def put(world: World, instance: Instance, body: bytes) -> None:
    """Drop a file as somebody's job would, into whatever store the source has."""
    world.store(SOURCE).open().put(instance.prefixes[0] + "sales.bak", body)


def arrive(world: World, instance: Instance, **more: Any) -> Copy:
    world.enable(instance)
    put(world, instance, mtf.file_of(backup(**more)))
    world.find(instance)
    world.carry()
    return Copy.objects.get()


def read(storage: Storage, key: str) -> bytes:
    found = storage.head(key)
    buffer = bytearray(found.size)
    with storage.open_range(key, 0, found.size, found) as stream:
        filled = 0
        while count := stream.readinto(memoryview(buffer)[filled:]):
            filled += count
    return bytes(buffer)


def flip_reads(monkeypatch: pytest.MonkeyPatch, kind: str, when: Any) -> None:
    """Flip a byte of every ranged read for which `when(key)` says so."""
    original = DRIVERS[kind].open_range

    @contextmanager
    def open_range(self: Any, key: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with original(self, key, *args, **kwargs) as stream:
            yield Flipping(stream) if when(key) else stream

    monkeypatch.setattr(DRIVERS[kind], "open_range", open_range)


def assert_never_completed(world: World) -> None:
    copy = Copy.objects.get()
    assert copy.state == CopyState.FAILED, copy.state
    assert copy.error
    assert StorageSpan.objects.count() == 0


def test_nothing_flipped_arrives_byte_by_byte(world: World, instance: Instance, kind: str) -> None:
    copy = arrive(world, instance)
    assert copy.state == CopyState.COMPLETED, copy.error
    transfer, file = Transfer.objects.get(), BackupFile.objects.get()
    assert read(world.store(TARGET).open(), transfer.key) == read(world.store(SOURCE).open(), file.key)
    assert copy.reference == ("store_digest" if kind == "bucket" else "inside")
    assert copy.verification == "backup checksum"
    assert list(audit.breaches()) == []


def test_on_the_way_into_the_destination(
    world: World, instance: Instance, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store(TARGET)  # attached before the wire goes bad: attaching would have noticed
    original = DRIVERS[kind].put_part

    def put_part(self: Any, key: str, upload: str, number: int, offset: int, length: int, body: Any) -> Any:
        return original(self, key, upload, number, offset, length, Flipping(body))

    monkeypatch.setattr(DRIVERS[kind], "put_part", put_part)
    arrive(world, instance)
    assert_never_completed(world)

    monkeypatch.undo()
    Copy.objects.update(due_at=clock.now())
    world.carry()
    cleaning.clean_up(TARGET)
    assert Copy.objects.get().state == CopyState.COMPLETED, "the next attempt brings it, under a key of its own"
    assert Transfer.objects.filter(state=Transfer.State.CLEANED).count() == 1
    assert list(audit.breaches()) == []


def test_on_the_read_back(world: World, instance: Instance, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_reads(monkeypatch, kind, lambda key: key.startswith("farshore/v1/"))
    arrive(world, instance)
    assert_never_completed(world)


def test_at_rest(world: World, instance: Instance, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies there is not what was sent: put other bytes under the key, and let the store vouch for them."""
    uploaded = carrying._uploaded

    def rot(copy: Copy, transfer: Transfer, stored: ObjectInfo) -> None:
        storage = world.store(TARGET).open()
        body = bytearray(read(storage, transfer.key))
        body[len(body) // 2] ^= 1
        uploaded(copy, transfer, storage.put(transfer.key, bytes(body)))

    monkeypatch.setattr(carrying, "_uploaded", rot)
    arrive(world, instance)
    assert_never_completed(world)


@pytest.mark.parametrize("checksum", [True, False])
def test_between_source_and_worker(
    world: World, instance: Instance, kind: str, monkeypatch: pytest.MonkeyPatch, checksum: bool
) -> None:
    """Caught by the store's digest (bucket), by the checksums inside, or by a second read: each says which."""
    world.enable(instance)
    put(world, instance, mtf.file_of(backup(checksum=checksum)))
    world.find(instance)
    once = iter([True])
    flip_reads(monkeypatch, kind, lambda key: key.startswith("backups/") and next(once, False))
    world.carry()
    assert_never_completed(world)


def test_without_a_reference_the_copy_says_no_more_than_it_knows(
    world: World, kind: str, instance: Instance, settings: Any
) -> None:
    settings.SECOND_READ = "never"
    world.store(SOURCE).__class__.objects.update(capabilities={})
    copy = arrive(world, instance, checksum=False)
    assert (copy.state, copy.reference) == (CopyState.COMPLETED, "none")
    assert verification.WORDS["none"].startswith("carried = stored")


def test_a_taken_backup_is_held_against_the_hashes_of_its_writing(world: World) -> None:
    instance = world.instance()
    world.enable(instance)
    put(world, instance, mtf.file_of(backup()))
    world.find(instance)
    file = BackupFile.objects.get()
    whole = read(world.store(SOURCE).open(), file.key)
    pieces = [whole[:70_000], whole[70_000:]]
    said = [[len(piece), hashlib.sha256(piece).hexdigest()] for piece in pieces]
    BackupFile.objects.update(integrity={"parts": [said[0], [said[1][0], "0" * 64]]})
    world.carry()
    assert_never_completed(world)

    BackupFile.objects.update(integrity={"parts": said})
    Copy.objects.update(due_at=clock.now())
    world.carry()
    copy = Copy.objects.get()
    assert (copy.state, copy.reference) == (CopyState.COMPLETED, "taken")
    assert [part.size for part in Transfer.objects.get(state="verified").parts.all()] == [70_000, len(whole) - 70_000]
