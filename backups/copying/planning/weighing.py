"""A set is weighed once, in the transaction that plans its copies; a sweep weighs what a lost bell forgot (I2)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from backups.copying.planning.cancelling import plan_cancelled
from backups.copying.planning.checking import DAY
from backups.copying.planning.coverage import is_covered
from backups.copying.planning.owing import plan
from backups.models import BackupSet, CancelReason, Copy, CopyPolicy, CopyState, Instance, Kind, SetStatus
from regions import clock
from regions.refusals import Refusal

log = logging.getLogger(__name__)


def weigh_due(limit: int = 500) -> int:
    """Weigh every complete set that has not been weighed; return how many were."""
    due = BackupSet.objects.filter(weighed_at=None, status=SetStatus.SUCCEEDED).order_by("pk")
    count = 0
    for pk in due.values_list("pk", flat=True).iterator(500):  # past those that cannot be weighed now
        if count >= limit:
            break
        try:
            count += weigh(pk)
        except Refusal as refusal:  # its destination has no store now; it stays due and the others go on
            log.warning("set not weighed", extra={"set": pk, "reason": str(refusal)})
        except Exception:  # as above, with its traceback: one set must not end the planning of the whole fleet
            log.exception("set not weighed", extra={"set": pk})
    return count


def weigh(set_pk: int) -> bool:
    """Decide once what is owed for a set and write it down; safe to repeat, in any order, from any worker."""
    with transaction.atomic():
        found = BackupSet.objects.select_for_update(no_key=True, of=("self",)).get(pk=set_pk)
        if found.weighed_at or found.status != SetStatus.SUCCEEDED:
            return False
        # Locking the policies is not enough: one that is being enabled for the first time is no row to wait for yet.
        found.instance = Instance.objects.select_for_update(no_key=True).get(pk=found.instance_id)
        at = clock.now()
        for policy in _policies_of(found.instance):
            _weigh_under(policy, found, at)
        BackupSet.objects.filter(pk=set_pk).update(weighed_at=at)
    return True


def _policies_of(instance: Instance) -> Iterable[CopyPolicy]:
    """Return the instance's policies, locked: a change of settings waits for us, or we for it."""
    policies = CopyPolicy.objects.select_for_update(no_key=True, of=("self",)).filter(instance=instance)
    return list(policies.select_related("destination", "instance__region").order_by("pk"))


def _weigh_under(policy: CopyPolicy, found: BackupSet, at: datetime) -> None:
    covered = is_covered(policy, found)
    if covered and policy.enabled:
        plan(policy, found, at=at)
    elif covered:
        plan_cancelled(policy, found, at)
        if policy.end_reason == CancelReason.DESTINATION_CHANGED and (successor := _successor(policy, found)):
            plan(successor, found, at=at)
    elif _is_awaited(policy, found):
        plan(policy, found, at=at, origin=Copy.Origin.TWENTY_FOUR_HOURS)


def _successor(policy: CopyPolicy, found: BackupSet) -> CopyPolicy | None:
    """What a changed destination left behind goes to the new one, also when it is noticed late (R-14.5)."""
    beside = CopyPolicy.objects.cross_region().enabled().filter(instance=policy.instance_id)
    successor = beside.select_for_update(no_key=True, of=("self",)).select_related("destination").first()
    return successor if successor and (found.kind != Kind.LOG or successor.logs_enabled) else None


def _is_awaited(policy: CopyPolicy, found: BackupSet) -> bool:
    """A full finished within the day before enabling, but noticed only now, ends the wait for a full backup (R-6.2)."""
    if not policy.enabled or policy.suspended_at or found.kind != Kind.FULL:
        return False
    recent = policy.coverage.filter(content="data", ended_at=None, began_at__lte=found.finished_at + DAY).exists()
    return recent and not has_full(policy, found.database)


def has_full(policy: CopyPolicy, database: str | None = None) -> bool:
    """Whether a full of the database (of any, when None) is at the destination or on its way there."""
    fulls = policy.copies.live().exclude(state__in=(CopyState.EXPIRED, CopyState.DAMAGED)).filter(set__kind=Kind.FULL)
    return (fulls if database is None else fulls.filter(set__database=database)).exists()
