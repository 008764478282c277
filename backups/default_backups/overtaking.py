"""A backup of ours that ran already when a policy began is waited for for six hours; then one full is taken (R-6.2).

Neither ends the other: the timetable's backup is not ours to break off (R-5.1), and what it comes to is copied as well.
Derived from rows, so that nothing has to be remembered at enabling: a backup whose attempt began before the policy did.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from backups import events
from backups.copying import planning
from backups.default_backups.asking import ask
from backups.default_backups.jobs import DATA, State
from backups.default_backups.waiting import LONGEST
from backups.events import FARSHORE
from backups.leases import nobodys
from backups.models import BackupJob, Coverage, Instance
from regions import clock
from regions.refusals import Refusal

log = logging.getLogger(__name__)


def overtake_due() -> int:
    """Take one full for each backup that has been waited for for six hours; return how many were asked for."""
    at = clock.now()
    _end_what_nobody_holds(at)
    return sum(_overtake_unless_it_fails(pk) for pk in _awaited_too_long(at).values_list("pk", flat=True))


def _awaited_too_long(at: datetime) -> QuerySet[BackupJob]:
    """Return what runs since before a policy began, six hours ago or more; of a database at most one is overtaken.

    An attempt that began after that is itself the full that is taken, however long it takes.
    """
    began = Coverage.objects.filter(
        policy__instance=OuterRef("instance"),
        policy__enabled=True,
        content="data",
        ended_at=None,
        began_at__gte=OuterRef("started_at"),
        began_at__lte=at - LONGEST,
    )
    running = BackupJob.objects.filter(DATA, state=State.RUNNING, leased_until__gte=at)
    others = running.filter(instance=OuterRef("instance"), database=OuterRef("database"), overtaken_at__isnull=False)
    return running.filter(Exists(began), ~Exists(others), overtaken_at=None)


def _overtake_unless_it_fails(pk: int) -> bool:
    try:
        return _overtake(pk)
    except Refusal as refusal:  # it can no longer be backed up by us, say; the next one is somebody else's
        log.warning("no full in place of another", extra={"job": pk, "reason": str(refusal)})
    return False


def _overtake(pk: int) -> bool:
    """Ask for one full in the place of a running backup, in one transaction: whoever comes second finds it done."""
    with transaction.atomic():
        instance_id = BackupJob.objects.values_list("instance", flat=True).get(pk=pk)
        instance = Instance.objects.select_for_update(no_key=True).get(pk=instance_id)
        at = clock.now()
        job = _awaited_too_long(at).select_for_update(no_key=True, of=("self",)).filter(pk=pk).first()
        if job is None or planning.has_valid(instance, job.database, at):
            return False
        BackupJob.objects.filter(pk=pk).update(overtaken_at=at)
        said = f"A default backup of {instance.name} has not ended in the 6 hours that it was waited for."
        events.record("backup.overtaken", said, instance=instance, job=pk, database=job.database)
        ask(instance, FARSHORE, database=job.database, reason=BackupJob.Reason.TWENTY_FOUR_HOURS)
    return True


def _end_what_nobody_holds(at: datetime) -> None:
    """What failed or died after it was overtaken is not tried again: there is another in its place."""
    left = BackupJob.objects.filter(state__in=BackupJob.ACTIVE, overtaken_at__isnull=False).filter(nobodys(at))
    left.update(state=State.CANCELLED, finished_at=at, leased_until=None, fence=F("fence") + 1)


def spare_successor(job: BackupJob, at: datetime) -> None:
    """A backup that was overtaken has arrived after all: the one in its place is given up, unless a gap needs it.

    Call in the transaction that records it. Whoever takes the other finds its lease gone, as after a release.
    """
    overtaken_at = BackupJob.objects.values_list("overtaken_at", flat=True).get(pk=job.pk)
    if overtaken_at is None:
        return
    beside = BackupJob.objects.filter(DATA, instance=job.instance_id, database=job.database, overtaken_at=None)
    wanted = beside.filter(reason=BackupJob.Reason.TWENTY_FOUR_HOURS, asked_at__gte=overtaken_at)
    unneeded = wanted.exclude(heals__healed_at=None, heals__isnull=False).values("pk")
    given_up = BackupJob.objects.filter(pk__in=unneeded, state__in=BackupJob.ACTIVE)
    given_up.update(state=State.CANCELLED, finished_at=at, leased_until=None)
