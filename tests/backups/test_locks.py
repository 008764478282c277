"""What a store keeps locked (S3 Object Lock) is kept, and charged, until the lock ends (R-14.3, I4). Real S3."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

import pytest

from backups import tasks
from backups.keeping import locks, purging, retention, shortening
from backups.models import Copy, CopyState, Instance
from backups.policies import Settings
from regions import clock, stores
from regions.models import Region
from regions.refusals import Refusal
from regions.storage import open_storage
from regions.storage.s3_signing import Bucket
from regions.storage.wire import Wire
from tests.backups.world import TARGET, World
from tests.regions.conftest import ask_bucket, bucket_store
from tests.servers import S3Region

DAY = timedelta(days=1)
DEFAULT = (
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
    "<Mode>GOVERNANCE</Mode><Days>{}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
)
HOLD = "<LegalHold><Status>{}</Status></LegalHold>"


@pytest.fixture
def place(ceph_regions: tuple[S3Region, S3Region]) -> tuple[S3Region, str]:
    """A bucket whose objects can be locked."""
    region, url = ceph_regions[1], f"s3://farshore-{os.urandom(6).hex()}"
    bucket, said = Bucket.of(bucket_store(region, url)), {"x-amz-bucket-object-lock-enabled": "true"}
    answer = Wire.to(bucket.url).ask("PUT", bucket.signed("PUT", "", {}, said), said, b"")
    assert answer.status == 200, answer.body
    return region, url


@pytest.fixture
def orders(world: World, place: tuple[S3Region, str]) -> Instance:
    region, url = place
    options = bucket_store(region, url)
    store = stores.attach(Region.objects.get(pk=TARGET), url, options.options, options.credentials)
    assert store.is_attached and store.capabilities["object_lock"], store.last_error
    found = world.instance()
    world.enable(found, days=7)
    return found


def arrived(world: World, instance: Instance) -> Copy:
    world.finished(instance)
    tasks.plan_copies()
    [copy] = world.carry()
    assert copy.state == CopyState.COMPLETED, copy.error
    return copy


def ask(place: tuple[S3Region, str], key: str, query: dict[str, str], body: str) -> None:
    region, url = place
    bucket = Bucket.of(bucket_store(region, url))
    answer = Wire.to(bucket.url).ask("PUT", bucket.signed("PUT", key, query, {}), {}, body.encode())
    assert answer.status == 200, answer.body


def spend_grace(copy: Copy) -> None:
    """Its date has come, and its 24 hours are just over."""
    retention.close_span(copy, clock.now())
    past = clock.now() - timedelta(hours=25)
    Copy.objects.filter(pk=copy.pk).update(
        state=CopyState.EXPIRED, expires_at=past, expired_at=past, purge_at=past, due_at=past
    )


def said(copy: Copy) -> tuple[Any, ...]:
    copy.refresh_from_db()
    return copy.state, copy.kept_for, copy.spans.filter(ended_at=None).exists()


def is_about(at: datetime | None, wanted: datetime) -> bool:
    return at is not None and abs(at - wanted) < timedelta(minutes=10)


def test_a_copy_that_is_locked_where_it_arrives_expires_when_the_lock_ends(
    world: World, orders: Instance, place: tuple[S3Region, str]
) -> None:
    own = arrived(world, orders)
    assert own.locked_until is None and own.expires_at == own.set.finished_at + 7 * DAY
    ask_bucket(*place, {"object-lock": ""}, DEFAULT.format(60).encode())
    copy = arrived(world, orders)
    assert is_about(copy.locked_until, clock.now() + 60 * DAY)
    assert (copy.expires_at, copy.kept_for) == (copy.locked_until, "lock")
    world.set(orders, retention_days=365)
    copy.refresh_from_db()
    assert (copy.expires_at, copy.kept_for) == (copy.set.finished_at + 365 * DAY, "")
    told = shortening.of_all({orders.pk: Settings(True, 7, TARGET)}, clock.now() + 30 * DAY)
    assert told[orders.pk].sets == 1, "of two that would be past their date, one is locked"


def test_what_was_locked_meanwhile_is_found_out_before_it_is_deleted_and_charged_again(
    world: World, orders: Instance, place: tuple[S3Region, str]
) -> None:
    copy = arrived(world, orders)
    until = (clock.now() + 9 * DAY).replace(microsecond=0)
    lock = (
        f"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{until:%Y-%m-%dT%H:%M:%SZ}</RetainUntilDate></Retention>"
    )
    ask(place, copy.manifest_key, {"retention": ""}, lock)
    spend_grace(copy)
    assert purging.purge_due(TARGET) == 0
    assert said(copy) == (CopyState.COMPLETED, "lock", True) and copy.expires_at == copy.locked_until == until
    spend_grace(copy)
    Copy.objects.filter(pk=copy.pk).update(deleting_since=clock.now())
    assert purging.purge_due(TARGET) == 0, "nothing is begun, whatever a row says"
    assert said(copy)[0] == CopyState.EXPIRED and "locked" in copy.error


def test_the_stores_own_legal_hold_keeps_a_copy_until_it_ends(
    world: World, orders: Instance, place: tuple[S3Region, str]
) -> None:
    copy = arrived(world, orders)
    [file] = copy.copied_files.all()
    ask(place, file.transfer.key, {"legal-hold": ""}, HOLD.format("ON"))
    spend_grace(copy)
    assert purging.purge_due(TARGET) == 0
    assert said(copy) == (CopyState.COMPLETED, "lock", True) and copy.expires_at is None
    assert locks.look_at_holds(TARGET) == 0
    ask(place, file.transfer.key, {"legal-hold": ""}, HOLD.format("OFF"))
    assert locks.look_at_holds(TARGET) == 1
    assert said(copy)[1] == "" and copy.expires_at == copy.set.finished_at + 7 * DAY
    world.disable(orders)
    spend_grace(copy)
    assert purging.purge_due(TARGET) == 1 and said(copy)[0] == CopyState.DELETED


def test_an_object_that_somebody_deleted_does_not_keep_the_rest(world: World, orders: Instance) -> None:
    copy = arrived(world, orders)
    copy.destination_store.open().delete(copy.copied_files.get().transfer.key)
    world.disable(orders)
    spend_grace(copy)
    assert purging.purge_due(TARGET) == 1 and said(copy)[0] == CopyState.DELETED


def test_a_bucket_that_locks_everything_is_refused_where_it_is_attached(
    world: World, place: tuple[S3Region, str]
) -> None:
    """Nothing that failed halfway could be cleaned up there."""
    ask_bucket(*place, {"object-lock": ""}, DEFAULT.format(1).encode())
    options = bucket_store(*place)
    with pytest.raises(Refusal) as refused:
        stores.attach(Region.objects.get(pk=TARGET), options.url, options.options, options.credentials)
    assert refused.value.code == "StoreLocksAll"
    assert not list(open_storage(options).list())
