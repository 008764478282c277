"""A full that the 24-hour check asked for waits for a default backup that somebody else's job takes already (R-6.2).

The job's row is the wait: queued, looked at every few minutes by whoever claims it. What can be used instead is only a
backup whose files Farshore finds, so that engines, and instances, without such files have nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef

from backups import events
from backups.copying import planning
from backups.default_backups.jobs import finish, keep, postpone
from backups.engines import engine_of
from backups.engines.facts import Connection
from backups.models import Arrival, BackupJob, BackupSet, Copy, CopyPolicy, Instance, Kind
from regions import clock

LONGEST = timedelta(hours=6)
LOOKS_APART = timedelta(minutes=2)
TOLD_WITHIN = timedelta(minutes=5)  # of a backup that has ended well its server's history is read by then
CLOCKS_AGREE = timedelta(minutes=5)


# ---- what has come instead


def is_spared(job: BackupJob) -> bool:
    """End a job that nothing was begun for when what the 24-hour check looks for has come meanwhile; whether it has.

    Whoever enables in this moment waits for us, or we for them: with the set there they need no job.
    """
    if not _is_for_the_check(job) or job.attempt_key:
        return False
    with transaction.atomic():
        instance = Instance.objects.select_for_update(no_key=True).get(pk=job.instance_id)
        found = _come_for(instance, job.database)
        if found is None or job.heals.filter(healed_at=None).exists():  # a gap in the logs waits for this very one
            return False
        finish(job)
        said = f"No full backup was taken: {found} is used instead."
        events.record("backup.spared", said, set=found, job=job.pk)
    return True


def _is_for_the_check(job: BackupJob) -> bool:
    return job.reason == BackupJob.Reason.TWENTY_FOUR_HOURS and job.kind == Kind.FULL


def _come_for(instance: Instance, database: str) -> BackupSet | None:
    """Return the valid set of a database that every policy of its instance has a copy of, or one on its way."""
    checks = planning.examine(instance, clock.now())
    found = next((check.chosen for check in checks if check.database == database), None)
    policies = CopyPolicy.objects.enabled().filter(instance=instance, suspended_at=None)
    if found is None or not policies.exists():
        return None
    copies = Copy.objects.live().filter(set=found, policy=OuterRef("pk"))
    return None if policies.exclude(Exists(copies)).exists() else found


# ---- what is still running


def has_to_wait(job: BackupJob, reach: Callable[[BackupJob], Connection]) -> bool:
    """Give the job back while somebody else's backup of its database runs, or has ended and its files are to come.

    It waits six hours at the most. Then the full is taken; where the server takes no second one beside theirs, that
    is tried again and again, and not given up, until theirs has ended. Raises as the server that is asked.
    """
    if not _is_for_the_check(job) or not _can_use_theirs(job.instance):
        return False
    is_running = job.database in engine_of(job.instance.engine).being_backed_up(reach(job))
    at = clock.now()
    if job.waits_until and at >= job.waits_until:
        if is_running:
            keep(job, attempts=1)
            job.attempts = 1
        return False
    if is_running:
        _wait(job, at)
    elif job.waits_until and _is_to_come(job, at):
        postpone(job, at + LOOKS_APART)
    else:
        return False
    return True


def _can_use_theirs(instance: Instance) -> bool:
    return instance.arrival == Arrival.FOUND and engine_of(instance.engine).being_backed_up is not None


def _wait(job: BackupJob, at: datetime) -> None:
    until = job.waits_until or at + LONGEST
    with transaction.atomic():
        postpone(job, min(at + LOOKS_APART, until), waits_until=until, seen_running_at=at)
        if job.waits_until is None:
            said = (
                f"{job.instance.name}: {job.database} is being backed up by somebody else's job, which is waited for"
                f" until {until:%Y-%m-%d %H:%M} UTC; then a full backup is taken."
            )
            events.record("backup.waits", said, instance=job.instance, job=job.pk)


def _is_to_come(job: BackupJob, at: datetime) -> bool:
    """Whether theirs, which has ended, may have ended well: its server says so a moment later, its files may take
    longer to arrive."""
    if at < job.seen_running_at + TOLD_WITHIN:
        return True
    told = job.instance.remembered_sets.filter(database=job.database, is_foreign=False, is_damaged=False)
    return told.exclude(kind=Kind.LOG).filter(finished_at__gte=job.seen_running_at - CLOCKS_AGREE).exists()
