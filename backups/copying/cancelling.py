"""Cancelling copies that have not arrived: their policy ends, their date comes first, their source is gone (R-15.1)."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from backups import alerts, cleaning
from backups.copying import planning
from backups.events import FARSHORE, By
from backups.keeping import retention
from backups.leases import nobodys
from backups.logs import log_gaps
from backups.models import PENDING, CancelReason, Copy, CopyPolicy, CopyState, Kind
from regions import clock


def cancel_in_flight(policy: CopyPolicy, reason: str, by: By) -> list[Copy]:
    """Cancel what has not arrived under a policy; return those copies. Call with the copies locked."""
    pending = policy.copies.filter(state__in=PENDING).select_related("set__instance").order_by("pk")
    cancelled = [copy for copy in pending if _cancel(copy, reason, by)]
    for store in {copy.destination_store_id for copy in cancelled}:
        retention.reschedule(policy.instance_id, store, by)
    return cancelled


def cancel(copy: Copy, reason: str, by: By = FARSHORE, *, fence: int | None = None) -> bool:
    """Cancel a pending copy, whoever holds it; its worker finds out at its next step, its parts are cleaned up.

    `fence`: what a worker says who cancels what it carries; nothing happens when the copy is no longer its own (I15).
    """
    with transaction.atomic():
        retention.lock_copies(copy.set.instance_id, copy.destination_store_id)
        if not _cancel(copy, reason, by, fence=fence):
            return False
        retention.reschedule(copy.set.instance_id, copy.destination_store_id, by)
        if copy.set.kind == Kind.LOG:
            log_gaps.settle(copy.set.instance, copy.destination_store, copy.set.database)
    return True


def cancel_too_late(instance_id: int, store_id: int, limit: int = 200) -> int:
    """Cancel what has not arrived at a store before its date, and is in nobody's hands (R-2.5); return how many.

    Asked with the copies locked: none of them is claimed, and no date moved, in this moment.
    """
    with transaction.atomic():
        retention.lock_copies(instance_id, store_id)
        at = clock.now()
        late = Copy.objects.pending().filter(nobodys(at), set__instance=instance_id, destination_store=store_id)
        rows = late.filter(expires_at__lte=at).select_related("set__instance", "destination_store").order_by("pk")
        gone = [copy for copy in rows[:limit] if _cancel(copy, CancelReason.EXPIRED, FARSHORE)]
        if gone:
            retention.reschedule(instance_id, store_id)
        for database in sorted({copy.set.database for copy in gone if copy.set.kind == Kind.LOG}):
            log_gaps.settle(gone[0].set.instance, gone[0].destination_store, database)
    return len(gone)


def _cancel(copy: Copy, reason: str, by: By, *, fence: int | None = None) -> bool:
    """Cancel one copy; call with the copies locked, and date the others anew afterwards."""
    mine = Copy.objects.filter(pk=copy.pk, state__in=PENDING)
    won = (mine if fence is None else mine.filter(fence=fence)).update(
        state=CopyState.CANCELLED,
        cancel_reason=reason,
        cancelled_at=clock.now(),
        leased_until=None,
        fence=F("fence") + 1,
    )
    if not won:
        return False
    cleaning.abandon_transfers(copy)
    alerts.close_alerts_of(f"copy:{copy.pk}")
    planning.say_cancelled(copy, reason, by)
    return True
