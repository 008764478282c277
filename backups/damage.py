"""A copy at rest that is no longer what was verified: looked at twice, told, never offered or charged again (I7, I20).

completed ──a part, read twice, does not hash to its record──> damaged ──its date──> expired, and deleted as any other
"""

from __future__ import annotations

import hashlib

from django.db import transaction

from backups import alerts, events, expiring, presence, retention, windows
from backups.models import Copy, CopyState, Transfer
from backups.models.copy import DAMAGED
from regions import clock
from regions.storage import Gone, Mismatch, ObjectInfo, Storage
from regions.storage.mover import MIB, Part


def examine(copy: Copy, part: Part | None, transfer: Transfer | None = None) -> list[Copy]:
    """Look at a copy again after reading it went wrong, and mark it if that was no accident; returns those marked.

    `part`: where it was, None for the whole object; `transfer`: of which file, where a copy has several. Nothing of the
    copy is written or deleted. Raises StorageError when the store does not answer.
    """
    return mark(copy, part) if still_differs(copy, part, transfer) else []


def still_differs(copy: Copy, part: Part | None, transfer: Transfer | None = None) -> bool:
    """Read it once more: what went wrong on the way, in a cable or in memory, has not happened to the copy."""
    storage = copy.destination_store.open()
    presence.require_ours(copy.destination_store, storage)
    transfer = transfer or Transfer.objects.filter(copied_files__copy=copy).get()
    stored = ObjectInfo(transfer.key, transfer.size, transfer.etag, transfer.uploaded_at, transfer.version)
    try:
        if part is None:
            found = storage.head(transfer.key)
            return (found.size, found.etag) != (transfer.size, transfer.etag)
        return _sha256(storage, stored, part) != part.sha256
    except (Gone, Mismatch):
        return True


def _sha256(storage: Storage, stored: ObjectInfo, part: Part) -> str:
    seen, buffer = hashlib.sha256(), memoryview(bytearray(MIB))
    with storage.open_range(stored.key, part.offset, part.size, stored) as stream:
        while count := stream.readinto(buffer):
            seen.update(buffer[:count])
    return seen.hexdigest()


def mark(copy: Copy, part: Part | None) -> list[Copy]:
    """Mark the copy, and every other that lies in the same object, as damaged; returns those that were not before.

    An older full that is still in its grace is kept in its place (R-15.6).
    """
    where = copy.destination_store
    with transaction.atomic():
        retention.lock_copies(copy.set.instance_id, where.pk)
        sharing = Copy.objects.filter(copied_files__transfer__copied_files__copy=copy, state=CopyState.COMPLETED)
        marked = list(sharing.select_related("set__instance", "destination_store__region").distinct().order_by("pk"))
        for one in marked:
            _mark(one, part)
        if marked:
            retention.reschedule(copy.set.instance_id, where.pk)
            if copy.policy.enabled:
                expiring.keep_last_good(copy.policy)
            windows.rebuild(copy.set.instance, where, sorted({one.set.database for one in marked}))
    return marked


def _mark(copy: Copy, part: Part | None) -> None:
    where = f"Part {part.number} is" if part else "What lies there is"
    why = f"{where} no longer what was verified when it arrived."
    at = clock.now()
    retention.close_span(copy, min(at, retention.charged_until(copy)) if copy.expires_at else at)
    Copy.objects.filter(pk=copy.pk).update(state=CopyState.DAMAGED, verification=DAMAGED, error=why)
    alerts.open_alert(
        "copy_damaged",
        f"copy:{copy.pk}",
        f"The copy of {copy.set} in {copy.destination_store.region} is damaged: {why}",
        remedy="Back the instance up now, so that a sound copy takes its place, and look at that store's disks.",
        instance=copy.set.instance,
    )
    events.record("copy.damaged", f"The copy of {copy.set} is damaged: {why}", set=copy.set, copy=copy.pk)
