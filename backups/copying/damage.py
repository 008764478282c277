"""A copy at rest that is no longer what was verified: looked at twice, told, not offered and not charged (I7, I20).

completed ──a part, read twice, does not hash to its record──> damaged ──its date──> expired, and deleted as any other
While its set is at the source, `mending` carries it again, beside the damaged object; less often each time.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from backups import alerts, bell, events, presence
from backups.chains import windows
from backups.keeping import expiring, retention
from backups.models import Copy, CopyState, Transfer
from backups.models.copy import DAMAGED
from regions import clock
from regions.storage import Gone, Mismatch, ObjectInfo, Storage
from regions.storage.mover import MIB, Part

HOUR = timedelta(hours=1)
WAITS = (0 * HOUR, HOUR, 6 * HOUR, 24 * HOUR, 72 * HOUR)  # until it is carried again; after that by a person only
BY_ITSELF = "It is carried again by itself; look at that store's disks."
NOT_WANTED = "Cross-region backup is off, so it is not carried again; enable it, or restore from another set."
BY_A_PERSON = (
    "It went wrong too often to be carried again by itself. Look at that store's disks, then press Copy again."
)


def examine(copy: Copy, part: Part | None, transfer: Transfer | None = None) -> list[Copy]:
    """Look at a copy again after reading it went wrong, and mark it if that was no accident; returns those marked.

    `part`: where it was, None for the whole object; `transfer`: of which file, where a copy has several. Nothing of the
    copy is written or deleted. Raises StorageError when the store does not answer.
    """
    return mark(copy, part, transfer) if still_differs(copy, part, transfer) else []


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


def mark(copy: Copy, part: Part | None, transfer: Transfer | None = None) -> list[Copy]:
    """Mark the copy, and every other that lies in the same object, as damaged; returns those that were not before.

    Without `transfer` each of its files is distrusted. An older full that is still in its grace is kept in its place
    (R-15.6).
    """
    where = copy.destination_store
    with transaction.atomic():
        retention.lock_copies(copy.set.instance_id)
        objects = [transfer.pk] if transfer else list(copy.copied_files.values_list("transfer", flat=True))
        sharing = Copy.objects.filter(copied_files__transfer__in=objects).order_by("pk").distinct()
        sharing = sharing.select_related("set__instance", "policy", "destination_store__region")
        marked = list(sharing.filter(state=CopyState.COMPLETED))
        Transfer.objects.filter(pk__in=objects, state=Transfer.State.VERIFIED).update(state=Transfer.State.DAMAGED)
        not_offered = sharing.filter(state__in=(CopyState.EXPIRED, CopyState.HIDDEN)).values("pk")
        Copy.objects.filter(pk__in=not_offered).update(verification=DAMAGED)  # and undone, it is still no sound one
        for one in marked:
            _mark(one, part)
        if marked:
            retention.reschedule(copy.set.instance_id, where.pk)
            expiring.keep_last_good(copy.policy)
            windows.rebuild(copy.set.instance, where, sorted({one.set.database for one in marked}))
            bell.ring_mending(where.region_id)
    return marked


def _mark(copy: Copy, part: Part | None) -> None:
    where = f"Part {part.number} is" if part else "What lies there is"
    why = f"{where} no longer what was verified when it arrived."
    at = clock.now()
    retention.close_span(copy, min(at, retention.charged_until(copy)) if copy.expires_at else at)
    Copy.objects.filter(pk=copy.pk).update(
        state=CopyState.DAMAGED, verification=DAMAGED, error=why, failures=0, leased_until=None
    )
    copy.mend_at = find_wrong_again(copy, at)
    tell(copy, why, remedy_of(copy))
    events.record("copy.damaged", f"The copy of {copy.set} is damaged: {why}", set=copy.set, copy=copy.pk)


def find_wrong_again(copy: Copy, at: datetime) -> datetime | None:
    """Count once more that its bytes were wrong; return when it is carried again, None when only a person has it so.

    A store that rots, or a source that does, would else have the same bytes sent for ever.
    """
    times = Copy.objects.values_list("times_damaged", flat=True).get(pk=copy.pk)
    again_at = at + WAITS[times] if times < len(WAITS) else None
    Copy.objects.filter(pk=copy.pk).update(times_damaged=F("times_damaged") + 1, mend_at=again_at)
    return again_at


def remedy_of(copy: Copy) -> str:
    if not copy.policy.enabled:
        return NOT_WANTED
    return BY_ITSELF if copy.mend_at else BY_A_PERSON


def tell(copy: Copy, why: str, remedy: str) -> None:
    """Open the alert of a damaged copy, or bring its words up to date."""
    sentence = f"The copy of {copy.set} in {copy.destination_store.region} is damaged: {why}"
    alerts.open_alert("copy_damaged", f"copy:{copy.pk}", sentence, remedy=remedy, instance=copy.set.instance)
