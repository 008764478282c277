"""The spine: a finished backup of somebody's job reaches another region, proven."""

from __future__ import annotations

import pytest
from django.test import Client

from backups.models import BackupSet, Copy, CopyState, Event, StorageSpan, Transfer
from demo.mtf_compressed import compressed_file
from tests.backups.world import TARGET, World, backup


def test_a_found_backup_is_copied_and_verified(world: World) -> None:
    instance = world.instance()
    world.enable(instance)
    path = world.drop(instance, "sales.bak", backup())
    world.find(instance)

    [copy] = world.carry()

    assert copy.state == CopyState.COMPLETED, copy.error
    transfer = Transfer.objects.get()
    arrived = world.folder / TARGET / transfer.key
    assert arrived.read_bytes() == path.read_bytes()
    assert (copy.reference, copy.verification) == ("inside", "backup checksum")
    assert StorageSpan.objects.get().bytes == path.stat().st_size
    assert (world.folder / TARGET / copy.manifest_key).exists()
    assert Event.objects.filter(kind="copy.completed", instance=instance).count() == 1


def test_a_compressed_backup_shows_that_its_structure_was_proven(world: World, admin_client: Client) -> None:
    instance = world.instance()
    world.enable(instance)
    world.drop(instance, "sales.bak", body=compressed_file(backup()))
    world.find(instance)

    [copy] = world.carry()

    assert (copy.state, copy.verification) == (CopyState.COMPLETED, "structure"), copy.error
    page = admin_client.get(f"/backups/sets/{copy.set_id}/").content.decode()
    assert "<dt>Verification</dt><dd>structure</dd>" in page


def test_a_compressed_backup_that_lacks_a_sector_claims_no_structure(world: World, admin_client: Client) -> None:
    """Its head and tail are in order, so that it is found; what lies between no longer leads from one to the other.

    The container is known from few servers: the only copy off-site must not fail on a guess (decision 73).
    """
    instance = world.instance()
    world.enable(instance)
    whole = compressed_file(backup())
    middle = len(whole) // 2
    world.drop(instance, "sales.bak", body=whole[:middle] + whole[middle + 512 :])
    world.find(instance)

    [copy] = world.carry()

    assert (copy.state, copy.verification) == (CopyState.COMPLETED, "not inspectable"), copy.error
    page = admin_client.get(f"/backups/sets/{copy.set_id}/").content.decode()
    assert "<dt>Verification</dt><dd>not inspectable</dd>" in page


def test_a_byte_flipped_at_rest_never_ends_completed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = world.instance()
    world.enable(instance)
    world.drop(instance, "sales.bak", backup())
    world.find(instance)
    from backups.copying import carrying

    uploaded = carrying._uploaded

    def rot(copy, transfer, stored):
        uploaded(copy, transfer, stored)
        path = world.folder / TARGET / transfer.key
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 1
        import os

        before = path.stat()
        with open(path, "r+b") as file:
            file.write(body)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    monkeypatch.setattr(carrying, "_uploaded", rot)
    world.carry()

    copy = Copy.objects.get()
    assert copy.state == CopyState.FAILED
    assert StorageSpan.objects.count() == 0


def test_a_set_is_planned_once_however_often_it_is_weighed(world: World) -> None:
    instance = world.instance()
    world.enable(instance)
    world.drop(instance, "sales.bak", backup())
    for _ in range(3):
        world.find(instance)
        BackupSet.objects.update(weighed_at=None)
    assert Copy.objects.count() == 1
