"""Objects that their store keeps from being deleted (S3 Object Lock): a copy's date is never before that (R-14.3, I4).

Farshore sets no locks. It asks for them where a copy is completed, and once more before anything of it is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from backups.chains.dependents import NEVER
from backups.keeping import retention
from backups.models import Copy, Transfer
from regions import clock
from regions.models import Store
from regions.storage import Gone, Storage


def locked_until(store: Store, storage: Storage, keys: Iterable[str]) -> datetime | None:
    """Return until when the last of these objects is locked, None where none is. Asks only a store that has locks."""
    if not store.capabilities.get("object_lock"):
        return None
    return max(filter(None, (_lock_of(storage, key) for key in keys)), default=None)


def _lock_of(storage: Storage, key: str) -> datetime | None:
    """What is not there is not locked: that somebody else deleted it must not keep the rest for ever."""
    try:
        return storage.head(key).locked_until
    except Gone:
        return None


def look_again(copy: Copy, storage: Storage) -> datetime | None:
    """Return until when a copy that is about to be deleted is locked; then it is kept, and charged, until that date."""
    until = None if copy.deleting_since else _of_copy(copy, storage)
    if until is None or until <= clock.now():
        return None
    _write(copy, until)
    return until


def look_at_holds(region_id: str) -> int:
    """See which of the store's own legal holds have ended, for nobody knows beforehand; return how many have."""
    ended = 0
    held = Copy.objects.present().filter(locked_until=NEVER, deleting_since=None).order_by("pk")
    for store in Store.objects.attached().filter(region=region_id, pk__in=held.values("destination_store")):
        storage = store.open()
        for copy in held.filter(destination_store=store).select_related("set", "destination_store"):
            if (until := _of_copy(copy, storage)) != NEVER:
                _write(copy, until)
                ended += 1
    return ended


def _of_copy(copy: Copy, storage: Storage) -> datetime | None:
    transfers = Transfer.objects.filter(copied_files__copy=copy, state=Transfer.State.VERIFIED)
    keys = [*transfers.values_list("key", flat=True), *filter(None, [copy.manifest_key])]
    return locked_until(copy.destination_store, storage, keys)


def _write(copy: Copy, until: datetime | None) -> None:
    Copy.objects.filter(pk=copy.pk, fence=copy.fence).update(locked_until=until)
    retention.reschedule(copy.set.instance_id, copy.destination_store_id)
