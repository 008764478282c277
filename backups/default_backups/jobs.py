"""Whose a job is: claimed under a fence and a lease, renewed while the work goes on, finished or failed under them."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from backups import bell, events
from backups.leases import LeaseLost, next_lease
from backups.models import BackupJob, Kind
from regions import clock

log = logging.getLogger(__name__)
MOST_ATTEMPTS = 5
State = BackupJob.State
LOGS, DATA = Q(kind=Kind.LOG), ~Q(kind=Kind.LOG)  # they wait for each other nowhere: a full may take hours


def is_of_many(job: BackupJob) -> bool:
    """A backup of the log that nobody asked for: of thousands a day no event tells, only that one failed."""
    return job.kind == Kind.LOG and job.reason == BackupJob.Reason.TIMETABLE


def claim(region_id: str, which: Q | None = None) -> BackupJob | None:
    """Take the next due job of a region, of those that are `which`, under a new fence and a lease."""
    with transaction.atomic():
        at = clock.now()
        job = (
            BackupJob.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(
                which or Q(),
                Q(leased_until=None) | Q(leased_until__lt=at),
                state__in=BackupJob.ACTIVE,
                overtaken_at=None,
                due_at__lte=at,
                instance__region=region_id,
            )
            .select_related("instance__region")
            .order_by("due_at", "pk")
            .first()
        )
        if job is None:
            return None
        job.fence, job.attempts, job.state = job.fence + 1, job.attempts + 1, State.RUNNING
        job.started_at, job.leased_until = at, next_lease(at)
        job.save(update_fields=["fence", "attempts", "state", "started_at", "leased_until"])
        return job


class Heartbeat(threading.Thread):
    """Renews a job's lease beside the work; `lost` says that somebody else holds the job now, or nobody wants it."""

    def __init__(self, job: BackupJob) -> None:
        super().__init__(daemon=True, name=f"heartbeat-{job.pk}")
        self.job, self.lost, self._over = job, threading.Event(), threading.Event()

    def run(self) -> None:
        while not self._over.wait(settings.LEASE_SECONDS / 4):
            try:
                if not renew(self.job):
                    self.lost.set()
            except Exception:  # the database is away: the lease decides, not we
                log.exception("lease not renewed", extra={"job": self.job.pk})
            finally:
                connection.close()

    def end(self) -> None:
        self._over.set()


def renew(job: BackupJob, **changes: Any) -> bool:
    """Renew the lease and write `changes`, both only while the fence is ours."""
    mine = BackupJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING)
    return bool(mine.update(leased_until=next_lease(clock.now()), **changes))


def keep(job: BackupJob, **changes: Any) -> None:
    if not renew(job, **changes):
        raise LeaseLost


# ---- how it ends


def finish(job: BackupJob, **changes: Any) -> datetime:
    at = clock.now()
    won = BackupJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING).update(
        **{"state": State.SUCCEEDED, "finished_at": at, "leased_until": None, "error": ""} | changes
    )
    if not won:
        raise LeaseLost
    return at


def begin_again(job: BackupJob) -> datetime:
    """What was carried on had been left by an earlier job: this one is still to do, at once, under another key."""
    bell.ring_backups(job.instance.region_id)
    again = {"state": State.QUEUED, "due_at": clock.now(), "attempts": 0, "attempt_key": "", "upload_id": ""}
    return finish(job, finished_at=None, **again)


def postpone(job: BackupJob, until: datetime, **changes: Any) -> None:
    """Give a job back that was not begun: it is claimed anew then, and no attempt is counted."""
    later = {"state": State.QUEUED, "due_at": until, "leased_until": None, "attempts": 0} | changes
    if not BackupJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING).update(**later):
        raise LeaseLost


def fail(job: BackupJob, why: str) -> None:
    """This attempt failed: try again later, or give up after several; the alert watch says that no backup arrives."""
    with transaction.atomic():
        at = clock.now()
        over = job.attempts >= MOST_ATTEMPTS
        won = BackupJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING).update(
            state=State.FAILED if over else State.QUEUED,
            error=why,
            leased_until=None,
            due_at=at + _pause_after(job),
            finished_at=at if over else None,
        )
        if won and (over or not is_of_many(job)):
            events.record(
                "backup.failed", f"The backup of {job.instance.name} failed: {why}", instance=job.instance, job=job.pk
            )


def _pause_after(job: BackupJob) -> timedelta:
    """A log is tried again soon: the next one is due in a few minutes."""
    return timedelta(minutes=1 if job.kind == Kind.LOG else 2**job.attempts)


def regions_with_work() -> list[str]:
    at = clock.now()
    due = BackupJob.objects.filter(
        Q(leased_until=None) | Q(leased_until__lt=at), state__in=BackupJob.ACTIVE, overtaken_at=None, due_at__lte=at
    )
    return list(due.values_list("instance__region", flat=True).distinct())
