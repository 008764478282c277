"""Facts as billing finds them: an instance with copies at a destination, made straight in the tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from django.db import connection, transaction

from backups.models import BackupFile, BackupSet, Copy, CopyPolicy, CopyState, Instance, ResourceGroup, SetFile
from backups.models import StorageSpan as Span
from billing import plans
from billing.models import UNITS, DownloadCharge, ItemCode, NetworkPlan, Price
from regions.models import Store

GB = 2**30
DAY = timedelta(days=1)
START = datetime(2027, 3, 10, 2, 0, tzinfo=UTC)


def store_in(region_id: str) -> Store:
    found = Store.objects.filter(region_id=region_id, detached_at=None).first()
    return found or Store.objects.create(region_id=region_id, url=f"file:///{region_id}", attached_at=START)


def instance_in(region_id: str = "cn-beijing", name: str = "orders", **facts: object) -> Instance:
    group, _ = ResourceGroup.objects.get_or_create(name="Team")
    return Instance.objects.create(name=name, group=group, region_id=region_id, engine="sqlserver", **facts)


def policy_of(instance: Instance, destination: str = "ap-southeast-1", retention_days: int = 7) -> CopyPolicy:
    """A policy that is not enabled: what billing reads of it is its route and its retention."""
    return CopyPolicy.objects.get_or_create(
        instance=instance,
        destination_id=destination,
        defaults={"source_region_id": instance.region_id, "retention_days": retention_days},
    )[0]


def backup_of(
    instance: Instance,
    at: datetime = START,
    size: int = GB,
    kind: str = "full",
    database: str = "orders",
    **facts: object,
) -> BackupSet:
    """A finished default backup, its file settled at the source."""
    found = BackupSet.objects.create(
        instance=instance, database=database, kind=kind, finished_at=at, discovered_at=at, size_bytes=size, **facts
    )
    file = BackupFile.objects.create(
        instance=instance,
        store=store_in(instance.region_id),
        key=f"{database}/{found.pk}.bak",
        size=size,
        etag=str(found.pk),
        modified_at=at,
        state=BackupFile.State.SETTLED,
        first_seen_at=at,
        settled_at=at,
    )
    SetFile.objects.create(set=found, file=file)
    return found


def copy_of(found: BackupSet, policy: CopyPolicy, at: datetime | None = None, days: float | None = None) -> Copy:
    """A completed copy, charged from `at` on."""
    at = at or found.finished_at
    expires_at = found.finished_at + timedelta(days=policy.retention_days if days is None else days)
    copy = Copy.objects.create(
        set=found,
        policy=policy,
        destination_store=store_in(policy.destination_id),
        state=CopyState.COMPLETED,
        route_version=policy.route_version,
        planned_at=at,
        due_at=at,
        completed_at=at,
        expires_at=expires_at,
        manifest_key=f"manifest-{found.pk}",
        total_bytes=found.size_bytes,
        stored_bytes=found.size_bytes,
    )
    Span.objects.create(copy=copy, bytes=found.size_bytes, began_at=at)
    return copy


def download_of(
    found: BackupSet, at: datetime, size: int | None = None, address: str = "internet", region: str = "", link: str = ""
) -> DownloadCharge:
    """A file that was delivered whole."""
    file = found.files.get()
    return DownloadCharge.objects.create(
        link=link or uuid4().hex,
        instance=found.instance,
        set=found,
        file=file,
        region_id=region or found.instance.region_id,
        address=address,
        bytes=file.size if size is None else size,
        at=at,
    )


def plan_of(gigabytes: int, at: datetime) -> NetworkPlan:
    """A network plan as if it had been bought then."""
    return NetworkPlan.objects.create(gigabytes=gigabytes, bought_at=at, valid_until=plans.a_year_after(at))


def reprice(item: ItemCode, *prices: tuple[str, datetime, datetime | None], **places: str) -> None:
    """Prices of an item at these places as if they had always stood so; the tests own the tables."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_price DISABLE TRIGGER USER")
        Price.objects.filter(item_code=item, **places).delete()
        for amount, since, until in prices:
            validity = {"valid_from": since, "valid_until": until}
            Price.objects.create(item_code=item, amount=amount, unit=UNITS[item], **validity, **places)
        cursor.execute("ALTER TABLE billing_price ENABLE TRIGGER USER")
