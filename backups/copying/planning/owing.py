"""Writing down that a copy is owed: its bases before it, and never two that live at one destination (I2).

Logs go ahead of data, oldest first; an instance may have thousands a day, so one that simply follows the newest touches
nothing else.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from backups import bell, events
from backups.copying.planning.bases import bases_of
from backups.copying.planning.cancelling import save_cancelled
from backups.events import FARSHORE, By
from backups.keeping import retention
from backups.logs import log_gaps
from backups.models import BackupSet, CancelReason, Copy, CopyPolicy, Kind
from regions import clock
from regions.models import Store
from regions.refusals import Refusal

LOG_PRIORITY, BASE_PRIORITY, DATA_PRIORITY = 0, 5, 10


def plan(
    policy: CopyPolicy, found: BackupSet, *, at: datetime, origin: str = Copy.Origin.TRIGGERED, by: By = FARSHORE
) -> Copy | None:
    """Write down that a copy of the set is owed, its bases first; returns the live copy, None where it was cancelled.

    Call with the policy locked. A live copy at the destination is adopted, never doubled (one_live_copy); raises
    Refusal while it, or the base, is being deleted there: a moment later there is room for a new one.
    """
    store = policy.store
    if found.kind == Kind.LOG:
        return _plan_log(policy, found, at, origin, by)
    retention.lock_copies(found.instance_id, store.pk)  # a deletion begins before us, and we see it, or asks after us
    is_owed = retention.own_expiry(found.finished_at, policy.retention_days) > at or _live(found, store)
    for base in bases_of(found) if is_owed else ():
        _plan_one(policy, base, at, Copy.Origin.BASE, by)
    return _plan_one(policy, found, at, origin, by)


def plan_anew(policy: CopyPolicy, orphan: Copy, *, at: datetime) -> Copy | None:
    """Plan at another destination what a change of it cancelled (R-14.5).

    A base past its own date is left to the differential that needs it, which brings it along.
    """
    is_past = retention.own_expiry(orphan.set.finished_at, policy.retention_days) <= at
    if orphan.origin == Copy.Origin.BASE and is_past:
        return None
    return plan(policy, orphan.set, at=at, origin=orphan.origin)


def copy_now(policy: CopyPolicy, found: BackupSet, by: By) -> Copy | None:
    """Plan a copy a person asked for; None where none can be on its way.

    That is: the policy has ended meanwhile or leaves logs out, the set's files are no longer at the source, or its date
    has passed (then it is cancelled, and said so).
    """
    with transaction.atomic():
        locked = CopyPolicy.objects.select_for_update(no_key=True, of=("self",)).get(pk=policy.pk)
        wanted = locked.enabled and (found.kind != Kind.LOG or locked.logs_enabled)
        if not wanted or not BackupSet.objects.valid().filter(pk=found.pk).exists():
            return None
        return plan(locked, found, at=clock.now(), origin=Copy.Origin.PERSON, by=by)


def _plan_log(policy: CopyPolicy, found: BackupSet, at: datetime, origin: str, by: By) -> Copy | None:
    """Owe a log: in one step where it only leads on from the newest, else beside all the others, to find what is gone.

    A gap that is being healed may not be closed by a log behind it: it is looked at anew then too.
    """
    store = policy.store
    own = retention.own_expiry(found.finished_at, policy.retention_days)
    if _live(found, store) is None and retention.follows_on(found, store, own):
        copy = new_copy(policy, found, at, origin)
        copy.save()
        retention.fall_behind(policy)
        bell.ring_copies(policy.destination_id)
        return copy
    retention.lock_copies(found.instance_id, store.pk)
    copy = _plan_one(policy, found, at, origin, by)
    log_gaps.settle(found.instance, store, found.database)
    return copy


def _plan_one(policy: CopyPolicy, found: BackupSet, at: datetime, origin: str, by: By) -> Copy | None:
    store = policy.store
    live = _live(found, store)
    if live:
        return _adopt(live, policy)
    copy = new_copy(policy, found, at, origin)
    if copy.expires_at <= at and origin != Copy.Origin.BASE:
        return save_cancelled(copy, CancelReason.EXPIRED, at)
    copy.save()
    if found.kind != Kind.LOG or by.user:  # of a log nobody asked for its arrival is told, thousands of times a day
        events.record(
            "copy.planned",
            f"A copy of {found} to {policy.destination.name} is owed.",
            set=found,
            by=by,
            copy=copy.pk,
            origin=origin,
        )
    retention.reschedule(found.instance_id, store.pk)
    bell.ring_copies(policy.destination_id)
    return copy


def _live(found: BackupSet, store: Store) -> Copy | None:
    return Copy.objects.live().filter(set=found, destination_store=store).first()


def _adopt(live: Copy, policy: CopyPolicy) -> Copy:
    """Coming back to a destination: what is present or on its way there now belongs to this policy and route."""
    if live.deleting_since:
        said = f"The old copy of {live.set} is being deleted in this moment."
        raise Refusal("CopyBeingDeleted", said, "Try again in a few minutes.")
    Copy.objects.filter(pk=live.pk).update(policy=policy, route_version=policy.route_version)
    live.policy, live.route_version = policy, policy.route_version
    return live


def new_copy(policy: CopyPolicy, found: BackupSet, at: datetime, origin: str) -> Copy:
    priority = BASE_PRIORITY if origin == Copy.Origin.BASE else DATA_PRIORITY
    return Copy(
        set=found,
        policy=policy,
        destination_store=policy.store,
        origin=origin,
        route_version=policy.route_version,
        priority=LOG_PRIORITY if found.kind == Kind.LOG else priority,
        planned_at=at,
        due_at=at,
        expires_at=retention.own_expiry(found.finished_at, policy.retention_days),
        total_bytes=sum(file.size for file in found.files.all()),
    )
