"""How a gap in the logs is healed: the missing file is copied, a backup is taken, or a person is asked; once (I8, R-9).

The row is the job: an open LogGap whose `healing` is not decided.
"""

from __future__ import annotations

import logging

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from backups import default_backups, events
from backups.chains import log_chain, windows
from backups.copying import planning
from backups.engines import engine_of
from backups.events import FARSHORE
from backups.keeping import retention
from backups.logs import log_gaps
from backups.models import BackupSet, CancelReason, CopyPolicy, CopyState, Instance, Kind, LogGap
from regions import clock
from regions.refusals import Refusal

log = logging.getLogger(__name__)
Healing = LogGap.Healing


def heal_due(limit: int = 100) -> int:
    """Decide on every gap nobody has decided on; return how many were."""
    wanted = (
        CopyPolicy.objects.cross_region()
        .live()
        .filter(
            instance=OuterRef("instance"), destination=OuterRef("store__region"), logs_enabled=True, suspended_at=None
        )
    )
    due = LogGap.objects.filter(Exists(wanted), healed_at=None, healing="")
    return sum(_heal_unless_it_fails(pk) for pk in due.order_by("pk").values_list("pk", flat=True)[:limit])


def _heal_unless_it_fails(pk: int) -> bool:
    try:
        return heal(pk)
    except Refusal as refusal:  # a base is being deleted at this moment, say: it stays due
        log.warning("gap not healed", extra={"gap": pk, "reason": str(refusal)})
    except Exception:  # with its traceback; the next gap is somebody else's
        log.exception("gap not healed", extra={"gap": pk})
    return False


def heal(pk: int) -> bool:
    """Decide how one gap is healed, and set it going, in one transaction; False when somebody else has."""
    with transaction.atomic():
        instance_id = LogGap.objects.values_list("instance", flat=True).get(pk=pk)
        instance = Instance.objects.select_for_update(no_key=True).get(pk=instance_id)
        policies = CopyPolicy.objects.select_for_update(no_key=True, of=("self",)).filter(instance=instance)
        list(policies.order_by("pk"))
        gap = _locked(pk)
        policy = log_gaps.logs_policy(instance, gap.store)
        if policy is None or gap.healed_at or gap.healing:
            return False
        gap.healing = _begin(gap, policy)
        gap.save(update_fields=["healing", "job"])
        said = f"A gap in the logs is healed: {gap.get_healing_display().lower()}."
        events.record("log_gap.healing", said, instance=instance, gap=gap.pk, healing=gap.healing)
        gap.refresh_from_db(fields=["healed_at"])  # a copy that is on its way has closed it
        log_gaps.tell(gap)
    return True


def _locked(pk: int) -> LogGap:
    """Lock what everybody locks before a gap: the copies, then the chain."""
    gap = LogGap.objects.select_related("store__region", "instance").get(pk=pk)
    retention.lock_copies(gap.instance_id, gap.store_id)
    windows.lock_chain(gap.instance, gap.store, gap.database)
    gap.refresh_from_db(fields=["healed_at", "healing", "job", "reached", "begins", "fork", "reached_fork"])
    return gap


def _begin(gap: LogGap, policy: CopyPolicy) -> str:
    if missing := missing_at_source(gap):
        for found in missing:
            planning.plan(policy, found, at=clock.now())
        return Healing.COPY
    if default_backups.can_take(gap.instance) and not log_gaps.is_chain_broken(gap):
        side = default_backups.side_for_logs(gap.instance, gap.database)
        gap.job = default_backups.ask(gap.instance, FARSHORE, database=gap.database, reason="log_gap", on=side)
        return Healing.BACKUP
    return Healing.PERSON


def missing_at_source(gap: LogGap) -> list[BackupSet]:
    """Return the logs that would close a gap if they were copied, oldest first; [] when the source has them not all.

    They are those of the gap's fork and of the forks that it came from.
    """
    rules = engine_of(gap.instance.engine).chain_rules
    copies = windows.copies_of(gap.instance, gap.store, gap.database).filter(set__kind=Kind.LOG)
    there = copies.live().exclude(state=CopyState.DAMAGED, mend_at__isnull=False)  # it is carried again: see `mending`
    in_vain = copies.filter(cancel_reason__in=(CancelReason.SOURCE_GONE, CancelReason.EXPIRED))
    logs = gap.instance.sets.filter(kind=Kind.LOG, database=gap.database, first_position__lte=gap.begins)
    if gap.reached_fork == gap.fork:
        logs = logs.filter(fork=gap.fork, last_position__gte=gap.reached)
    missing = logs.valid().exclude(pk__in=there.values("set")).exclude(pk__in=in_vain.values("set"))
    wanted = set(missing.values_list("pk", flat=True))
    known = logs.filter(Q(pk__in=wanted) | Q(pk__in=copies.filter(state__in=windows.THERE_OR_COMING).values("set")))
    closing = log_chain.logs_across(gap, windows.set_chain(known, rules), rules) if wanted else []
    sets = BackupSet.objects.select_related("instance").in_bulk(one.id for one in closing if one.id in wanted)
    return [sets[one.id] for one in closing if one.id in sets]
