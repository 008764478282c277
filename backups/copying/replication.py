"""Carrying copies: claim, journal, send, read back, compare, manifest last, commit under the fence (I1, I10, I15).

A copy is carried in slices of at most a minute; between them nothing is lost: parts are rows. Every write checks the
fence, so a worker that lost its lease changes nothing.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from backups import alerts, bell, events, layout, presence
from backups.copying import cancelling, carrying, manifest, planning, verification
from backups.events import By
from backups.keeping import locks, retention
from backups.leases import LeaseLost, next_lease, nobodys, who
from backups.logs import log_gaps
from backups.models import PENDING, CancelReason, Copy, CopyPolicy, CopyState, Kind, Transfer
from regions import clock
from regions.refusals import Refusal
from regions.storage import ObjectInfo, StorageError

log = logging.getLogger(__name__)
LONGEST_WAIT = 3600
LOGS_WAIT_SECONDS = 10
OTHER_WORKER_WAIT = timedelta(seconds=15)
NEXT_LOOKS_WAIT = timedelta(seconds=30)
KEPT = (
    CopyState.COMPLETED,
    CopyState.EXPIRED,
    CopyState.HIDDEN,
)  # one in its grace may be undone, and is charged again then


def claim(region_id: str) -> Copy | None:
    """Take the best due copy for a region: logs before data, oldest first; a new fence and a lease."""
    with transaction.atomic():
        at = clock.now()
        copy = (
            Copy.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(
                nobodys(at),
                state__in=PENDING,
                due_at__lte=at,
                destination_store__region=region_id,
                destination_store__detached_at=None,
            )
            .select_related("set__instance__region", "policy__destination", "destination_store")
            .order_by("priority", "due_at", "pk")
            .first()
        )
        if copy is None:
            return None
        copy.fence, copy.attempts = copy.fence + 1, copy.attempts + 1
        copy.state = CopyState.VERIFYING if copy.state == CopyState.VERIFYING else CopyState.COPYING
        copy.started_at, copy.leased_until, copy.leased_by = copy.started_at or at, next_lease(at), who()
        copy.save(update_fields=["fence", "attempts", "state", "started_at", "leased_until", "leased_by"])
        return copy


def carry_slice(copy: Copy, until: float | None = None) -> bool:
    """Work on a claimed copy until it is done or time is up; True when it needs another bell.

    Every expected failure ends in a state with a next attempt or a reason, never in silence (I3).
    """
    until = until if until is not None else time.monotonic() + _slice_seconds(copy)
    try:
        if _is_too_late(copy):
            _cancel_too_late(copy)
            return False
        transfers = carrying.bring_files(copy, until)
        if transfers is None:
            return _rest(copy)
        publish(copy, transfers)
        return False
    except LeaseLost:
        return False
    except carrying.Busy:
        return _rest(copy, OTHER_WORKER_WAIT)
    except carrying.SourceGone:
        cancelling.cancel(copy, CancelReason.SOURCE_GONE, fence=copy.fence)
        return False
    except carrying.SourceChanged:
        if copy.set.instance.is_looked_at:
            return _rest(copy, NEXT_LOOKS_WAIT, error="Its file changed at the source; the next looks tell what it is.")
        cancelling.cancel(copy, CancelReason.SOURCE_GONE, fence=copy.fence)
        return False
    except (StorageError, verification.Disagrees, Refusal) as error:
        fail(copy, str(error))
        return False
    except Exception as error:  # a bug or a broken database: never in silence (I3), and with its traceback
        fail(copy, f"An unexpected error, {type(error).__name__}; the worker's log has it.")
        raise


def _slice_seconds(copy: Copy) -> float:
    """Return how long a copy is carried before somebody else may go first: data makes way where logs are expected."""
    if copy.set.kind == Kind.LOG:
        return settings.SLICE_SECONDS
    logs = CopyPolicy.objects.live().filter(destination=copy.policy.destination_id, logs_enabled=True)
    return min(LOGS_WAIT_SECONDS, settings.SLICE_SECONDS) if logs.exists() else settings.SLICE_SECONDS


def _is_too_late(copy: Copy) -> bool:
    """Whether its date has passed, as the row says now: a change of retention may have moved it since the claim."""
    return Copy.objects.filter(pk=copy.pk, expires_at__lte=clock.now()).exists()


def _cancel_too_late(copy: Copy) -> None:
    """Cancel what one carries (R-2.5), unless its date was moved in this moment."""
    with transaction.atomic():
        retention.lock_copies(copy.set.instance_id, copy.destination_store_id)
        if _is_too_late(copy):
            cancelling.cancel(copy, CancelReason.EXPIRED, fence=copy.fence)


def cancel_too_late() -> int:
    """Cancel what is past its date and in nobody's hands: no worker may be there to claim it. Return how many.

    What somebody carries is his until his lease ends; he asks the same before each slice.
    """
    at = clock.now()
    late = Copy.objects.pending().filter(nobodys(at), expires_at__lte=at).order_by()
    retention.catch_up(Q(pk__in=late.values("policy")))
    count = 0
    for instance, store in sorted(set(late.values_list("set__instance", "destination_store"))):
        try:
            count += cancelling.cancel_too_late(instance, store)
        except Exception:  # with its traceback; one instance must not keep those of everybody else waiting
            log.exception("late copies not cancelled", extra={"instance": instance, "store": store})
    return count


def _rest(copy: Copy, wait: timedelta = timedelta(0), **changes: str) -> bool:
    """The slice is over: give the lease back, so that anybody may go on."""
    return bool(
        Copy.objects.filter(pk=copy.pk, fence=copy.fence, state__in=PENDING).update(
            leased_until=None, due_at=clock.now() + wait, **changes
        )
    )


def publish(copy: Copy, transfers: list[Transfer]) -> None:
    """Write the manifest, then the fact: from here on the copy is completed, charged and restorable."""
    storage = copy.destination_store.open()
    key = layout.manifest_key(copy)
    carrying.renew(copy)
    if copy.manifest_key and copy.manifest_key != key:  # a worker died between writing its manifest and the fact
        storage.delete(copy.manifest_key)
    carrying.renew(copy, manifest_key=key)
    stored = storage.put(key, manifest.build(copy, transfers))
    presence.require_ours(copy.destination_store, storage)
    locked = locks.locked_until(copy.destination_store, storage, [key, *(one.key for one in transfers)])
    try:
        _commit(copy, transfers, stored, locked)
    except LeaseLost:
        _clean_manifest(copy, key)
        raise


def _clean_manifest(copy: Copy, key: str) -> None:
    """The copy was cancelled, and cleaned up, while its manifest was being written: that has to go too."""
    Copy.objects.filter(pk=copy.pk, state=CopyState.CANCELLED, manifest_key="").update(manifest_key=key)


def _commit(copy: Copy, transfers: list[Transfer], stored: ObjectInfo, locked: datetime | None) -> None:
    with transaction.atomic():
        policy = CopyPolicy.objects.select_for_update(no_key=True).get(pk=copy.policy_id)
        if not policy.enabled or policy.route_version != copy.route_version:
            raise LeaseLost
        alone = locked is None and retention.stands_alone(copy, transfers)
        if not alone:
            retention.lock_copies(copy.set.instance_id, copy.destination_store_id)
            require_sound(transfers)
        at = clock.now()
        own_bytes = sum(transfer.size for transfer in transfers if is_first_to_use(copy, transfer))
        won = Copy.objects.filter(pk=copy.pk, fence=copy.fence, state__in=PENDING).update(
            completed_at=at, locked_until=locked, **columns_of(transfers, stored, own_bytes)
        )
        if not won:
            raise LeaseLost
        copy.stored_bytes, copy.state = own_bytes, CopyState.COMPLETED
        retention.open_span(copy, at)
        if not alone:
            retention.reschedule(copy.set.instance_id, copy.destination_store_id)
        log_gaps.arrived(copy)
        alerts.close_alerts_of(f"copy:{copy.pk}")
        planning.close_cancelled_alerts(copy)
        events.record(
            "copy.completed",
            f"The copy of {copy.set} arrived in {policy.destination} and was verified.",
            set=copy.set,
            copy=copy.pk,
            bytes=own_bytes,
        )


def columns_of(transfers: list[Transfer], stored: ObjectInfo, own_bytes: int) -> dict[str, Any]:
    """Return what the row of a copy says once these bytes are proven and its manifest is `stored`."""
    return {
        "state": CopyState.COMPLETED,
        "leased_until": None,
        "error": "",
        "failures": 0,
        "manifest_etag": stored.etag,
        "stored_bytes": own_bytes,
        "reference": verification.weakest(transfers),
        "verification": verification.level_of(transfers),
    }


def require_sound(transfers: list[Transfer]) -> None:
    """Raise LeaseLost when one was found damaged, or given up, since it was verified. Call with the copies locked."""
    verified = Transfer.objects.select_for_update(of=("self",)).filter(state=Transfer.State.VERIFIED)
    if len(verified.filter(pk__in=[transfer.pk for transfer in transfers])) < len(transfers):
        raise LeaseLost


def is_first_to_use(copy: Copy, transfer: Transfer, kept: Collection[str] = KEPT) -> bool:
    """Copies of sets in one file share its bytes; the first to complete is charged for them."""
    others = transfer.copied_files.exclude(copy=copy).filter(copy__state__in=kept, copy__stored_bytes__gt=0)
    return not others.exists()


def fail(copy: Copy, why: str) -> None:
    """The attempt failed: say why, alert, and try again later, each time with more patience."""
    why = events.speakable(why)
    with transaction.atomic():
        wait = min(LONGEST_WAIT, 30 * 2 ** min(copy.failures, 7)) * random.uniform(0.8, 1.2)
        won = Copy.objects.filter(pk=copy.pk, fence=copy.fence, state__in=PENDING).update(
            state=CopyState.FAILED,
            failures=F("failures") + 1,
            error=why,
            leased_until=None,
            due_at=clock.now() + timedelta(seconds=wait),
        )
        if not won:
            return
        alerts.open_alert(
            "copy_failed",
            f"copy:{copy.pk}",
            f"The copy of {copy.set} to {copy.policy.destination} failed: {why}",
            remedy="It is tried again by itself; Retry on its page does so now.",
            instance=copy.set.instance,
        )
        events.record("copy.failed", f"The copy of {copy.set} failed: {why}", set=copy.set, copy=copy.pk)
    log.warning("copy failed", extra={"copy": copy.pk, "reason": why})


def retry(copy: Copy, by: By) -> None:
    """Make a failed or waiting copy due now; raises Refusal for one that is not waiting."""
    with transaction.atomic():
        at = clock.now()
        waiting = Copy.objects.filter(nobodys(at), pk=copy.pk, state__in=PENDING)
        if not waiting.update(due_at=at):
            raise Refusal(
                "CopyNotWaiting", f"The copy is {copy.get_state_display().lower()}; there is nothing to retry."
            )
        events.record("copy.retried", f"The copy of {copy.set} is tried again now.", set=copy.set, by=by, copy=copy.pk)
        bell.ring_copies(copy.policy.destination_id)


def regions_with_work() -> list[str]:
    """Return the regions for which a copy is due and nobody's; the sweep rings their bells."""
    at = clock.now()
    due = Copy.objects.pending().filter(nobodys(at), due_at__lte=at)
    return list(due.values_list("destination_store__region", flat=True).distinct())
