"""Removing what abandoned attempts left in a store: uploads, parts, objects. Only ever under our own attempt's key."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db.models import Q, QuerySet

from backups import layout, presence
from backups.models import ENDED, BackupJob, CopiedFile, Copy, CopyState, Transfer
from regions import clock
from regions.models import Installation, Store
from regions.storage import Storage, StorageError

log = logging.getLogger(__name__)
ORPHAN_AGE = timedelta(hours=24)


def abandon_transfers(copy: Copy) -> None:
    """Give up the attempts that only this copy needs; `clean_up` removes what they left in the store."""
    held = Transfer.objects.select_for_update(of=("self",)).filter(copied_files__copy=copy.pk).order_by("pk")
    list(held.only("pk"))  # who shares them is read under the lock: another copy may be taking one up in this moment
    others = CopiedFile.objects.exclude(copy=copy.pk).exclude(copy__state__in=ENDED)
    mine = Transfer.objects.filter(copied_files__copy=copy.pk).exclude(pk__in=others.values("transfer"))
    mine.exclude(state__in=(Transfer.State.CLEANED, Transfer.State.DELETED)).update(state=Transfer.State.ABANDONED)


def clean_up(region_id: str, limit: int = 200) -> int:
    """Clean every abandoned attempt in the region's stores; return how many. Safe to repeat."""
    count = 0
    for store in Store.objects.attached().filter(region=region_id):
        try:
            count += _clean_store(store, limit)
        except StorageError as error:
            log.warning("store not cleaned up", extra={"store": store.pk, "reason": error.sentence})
    return count


def _clean_store(store: Store, limit: int) -> int:
    storage = store.open()
    presence.require_ours(store, storage)
    abandoned = Transfer.objects.filter(store=store, state=Transfer.State.ABANDONED).order_by("pk")
    count = sum(_clean(storage, transfer) for transfer in abandoned[:limit])
    for copy in _manifests_of_nothing().filter(destination_store=store)[:limit]:
        storage.delete(copy.manifest_key)
        Copy.objects.filter(pk=copy.pk, manifest_key=copy.manifest_key).update(manifest_key="")
    for copy in _manifests_of_former_bytes().filter(destination_store=store)[:limit]:
        storage.delete(copy.former_manifest_key)
        Copy.objects.filter(pk=copy.pk, former_manifest_key=copy.former_manifest_key).update(former_manifest_key="")
    return count


def _manifests_of_nothing() -> QuerySet[Copy]:
    """Return cancelled copies whose worker had written a manifest already."""
    return Copy.objects.filter(state=CopyState.CANCELLED).exclude(manifest_key="")


def _manifests_of_former_bytes() -> QuerySet[Copy]:
    """Return copies that were mended, or have gone since: another manifest is theirs, or none."""
    ended = (CopyState.COMPLETED, CopyState.CANCELLED, CopyState.DELETED)
    return Copy.objects.filter(state__in=ended).exclude(former_manifest_key="")


def _clean(storage: Storage, transfer: Transfer) -> bool:
    """Abort first, delete then: what completes in between is deleted, what would complete after finds no upload."""
    try:
        remove_attempt(storage, transfer.key)
    except StorageError as error:
        log.warning("attempt not cleaned up", extra={"transfer": transfer.pk, "reason": error.sentence})
        return False
    Transfer.objects.filter(pk=transfer.pk, state=Transfer.State.ABANDONED).update(
        state=Transfer.State.CLEANED, ended_at=clock.now()
    )
    return True


def remove_attempt(storage: Storage, key: str) -> None:
    """Leave nothing under an attempt's key: no upload, no object."""
    abort_uploads(storage, key)
    storage.delete(key)


def remove_journaled(storage: Storage, key: str) -> None:
    """Leave nothing of the attempt at a default backup that was journaled by this key; "": of none."""
    for each in layout.keys_of_attempt(key) if key else ():
        remove_attempt(storage, each)


def abort_uploads(storage: Storage, key: str) -> None:
    """Abort every unfinished upload of exactly this key; the listing is by prefix."""
    for upload in list(storage.list_uploads(key)):
        if upload.key == key:
            storage.abort_upload(upload.key, upload.upload_id)


def sweep_orphans(region_id: str) -> int:
    """The janitor: abort uploads of our installation older than a day that no row under way names."""
    count = 0
    prefix = f"farshore/v1/{Installation.current().uuid}/"
    for store in Store.objects.attached().filter(region=region_id):
        storage = store.open()
        horizon = clock.now() - ORPHAN_AGE
        for upload in list(storage.list_uploads(prefix)):
            if upload.started_at < horizon and not _is_wanted(store, upload.key):
                storage.abort_upload(upload.key, upload.upload_id)
                count += 1
    return count


def _is_wanted(store: Store, key: str) -> bool:
    under_way = Transfer.objects.filter(Q(state__in=Transfer.UNDER_WAY), store=store, key=key)
    return under_way.exists() or _is_under_way(key)


def _is_under_way(key: str) -> bool:
    return BackupJob.objects.filter(state__in=BackupJob.ACTIVE, attempt_key=layout.journaled(key)).exists()


def regions_to_clean() -> list[str]:
    abandoned = Transfer.objects.filter(state=Transfer.State.ABANDONED).values_list("store__region", flat=True)
    manifests = (_manifests_of_nothing(), _manifests_of_former_bytes())
    return list(abandoned.union(*(copies.values_list("destination_store__region", flat=True) for copies in manifests)))
