"""kill -9 in each window of invariants.md: the next worker reaches the same end, and nothing is left behind (I1–I5)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import F

from backups import cleaning
from backups.copying import replication
from backups.keeping import expiring, purging
from backups.models import Copy, CopyState, Event, StorageSpan, Transfer
from backups.oversight import audit
from regions import clock
from tests.backups.world import TARGET, World, backup

pytestmark = pytest.mark.long

CARRYING = [
    "claimed",
    "upload created, not journaled",
    "after a part",
    "completed, no row",
    "half read back",
    "verified, not committed",
    "manifest written, not committed",
]
PART_PAGES = 16 * 2**20 // 8192


def let_leases_run_out() -> None:
    Copy.objects.filter(leased_until__isnull=False).update(leased_until=clock.now() - timedelta(seconds=1))


def objects_of(world: World, region: str = TARGET) -> set[str]:
    """Return every object of ours in a folder store, markers and uploads in progress included."""
    root = world.folder / region
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {name for name in files if name != "farshore/marker.json"}


def finish(world: World) -> Copy:
    let_leases_run_out()
    Copy.objects.update(due_at=clock.now())
    world.carry()
    cleaning.clean_up(TARGET)
    return Copy.objects.get()


@pytest.mark.parametrize("window", CARRYING)
def test_a_copy_survives_kill_9(world: World, killed: Callable[..., None], window: str) -> None:
    instance = world.instance()
    world.enable(instance)
    source = world.drop(instance, "sales.bak", backup(pages=3 * PART_PAGES))
    world.find(instance)

    killed(window, "carry", TARGET)
    assert Copy.objects.get().state != CopyState.COMPLETED
    assert StorageSpan.objects.count() == 0
    assert replication.claim(TARGET) is None, "the lease still protects the dead worker's copy"
    copy = finish(world)

    assert copy.state == CopyState.COMPLETED, copy.error
    transfer = Transfer.objects.get(state=Transfer.State.VERIFIED)
    assert (world.folder / TARGET / transfer.key).read_bytes() == source.read_bytes()
    assert transfer.bytes_sent <= source.stat().st_size + 16 * 2**20, "at most one part is sent again"
    assert StorageSpan.objects.count() == 1
    assert Event.objects.filter(kind="copy.completed").count() == 1
    assert objects_of(world) == {transfer.key, copy.manifest_key}, "nothing else lies in the store"
    assert [said for said in audit.breaches() if not said[0].startswith("I2 exactly")] == []


def expired_copy(world: World) -> Copy:
    """Return a completed copy of an ended policy whose date has just passed."""
    instance = world.instance()
    world.enable(instance)
    world.drop(instance, "sales.bak", backup())
    world.find(instance)
    world.carry()
    world.disable(instance)
    StorageSpan.objects.update(began_at=clock.now() - timedelta(days=1))
    Copy.objects.update(expires_at=clock.now() - timedelta(seconds=5))
    return Copy.objects.get()


def test_expiry_survives_kill_9(world: World, killed: Callable[..., None]) -> None:
    expired_copy(world)
    killed("marked expired", "expire")
    copy = Copy.objects.get()
    expiring.expire_due()
    again = Copy.objects.get()
    assert copy.state == again.state == CopyState.EXPIRED
    assert (copy.expired_at, copy.purge_at) == (again.expired_at, again.purge_at)
    assert StorageSpan.objects.filter(ended_at=F("copy__expires_at")).count() == 1


@pytest.mark.parametrize("window", ["intention to delete journaled", "deleted, no row"])
def test_a_deletion_survives_kill_9(world: World, killed: Callable[..., None], window: str) -> None:
    copy = expired_copy(world)
    expiring.expire_due()
    day = timedelta(hours=25)
    Copy.objects.update(
        expires_at=F("expires_at") - day, expired_at=F("expired_at") - day, purge_at=F("purge_at") - day
    )
    killed(window, "purge", TARGET)
    assert Copy.objects.get().state == CopyState.EXPIRED
    assert purging.purge_due(TARGET) == 0, "the lease still protects the dead worker's copy"
    let_leases_run_out()

    assert purging.purge_due(TARGET) == 1
    copy.refresh_from_db()
    assert copy.state == CopyState.DELETED
    assert objects_of(world) == set()
    assert Event.objects.filter(kind="copy.deleted").count() == 1
