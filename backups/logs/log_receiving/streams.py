"""Whose logs are received: a row for each instance, which says whether its logs are wanted.

wanted: cross-region log backup is on, the instance is neither suspended nor released, and its engine gives its logs.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backups import bell
from backups.engines import ENGINES
from backups.models import Arrival, BackupJob, CopyPolicy, Instance, LogStream
from regions import clock

State = LogStream.State
LOGS_FIRST = timedelta(minutes=3)  # so long a first backup waits for the logs it is to be followed by

AFRESH: dict[str, Any] = {
    "started_at": None,
    "heard_at": None,
    "position": None,
    "fork": "",
    "waiting_bytes": None,
    "notes": [],
    "ended_at": None,
}


def wanted() -> QuerySet[Instance]:
    policies = CopyPolicy.objects.cross_region().live().filter(instance=OuterRef("pk"))
    giving = [name for name, engine in ENGINES.items() if engine.receive_logs]
    logs = policies.filter(logs_enabled=True, suspended_at=None)
    return Instance.objects.living().filter(Exists(logs), arrival=Arrival.TAKEN, engine__in=giving)


def keep(instance: Instance) -> None:
    """Make the row of one instance say whether its logs are wanted; call it in the transaction that changes that."""
    keep_all(Q(pk=instance.pk))
    bell.ring_logs(instance.region_id)


def keep_all(only: Q | None = None) -> None:
    """Make the rows say whose logs are wanted; safe to repeat."""
    at, wanting = clock.now(), wanted().filter(only or Q())
    new = wanting.exclude(Exists(LogStream.objects.filter(instance=OuterRef("pk"))))
    LogStream.objects.bulk_create([LogStream(instance=instance, due_at=at) for instance in new], ignore_conflicts=True)
    streams = LogStream.objects.filter(instance__in=Instance.objects.filter(only or Q()))
    moved = {"due_at": at, "leased_until": None, "fence": F("fence") + 1, "failures": 0, "error": ""}
    streams.filter(state=State.ENDED, instance__in=wanting).update(state=State.WANTED, **moved, **AFRESH)
    streams.filter(state=State.ENDING, instance__in=wanting).update(state=State.WANTED, **moved)
    streams.filter(state__in=LogStream.ACTIVE).exclude(instance__in=wanting).update(state=State.ENDING, **moved)


def begin_anew(instance: Instance) -> None:
    """Another server is the instance now: whoever receives lets go, and begins with what that one has."""
    streams = LogStream.objects.filter(instance=instance, state__in=LogStream.ACTIVE)
    moved = {"fence": F("fence") + 1, "leased_until": None, "due_at": clock.now(), "failures": 0, "error": ""}
    streams.update(state=State.WANTED, forget_first=True, **moved, **AFRESH)
    bell.ring_logs(instance.region_id)


def regions_with_streams() -> list[str]:
    """Return the regions where logs are received, or should be; the sweep rings their bells."""
    streams = LogStream.objects.exclude(state=State.ENDED)
    return list(streams.values_list("instance__region", flat=True).distinct())


def has_begun(instance: Instance) -> bool:
    """Whether the server keeps its logs for us: a backup that starts now is followed by them."""
    streams = LogStream.objects.filter(instance=instance, state__in=LogStream.ACTIVE)
    return streams.filter(started_at__isnull=False).exists()


def let_logs_begin_first(job: BackupJob) -> None:
    """Hold back a backup that was just asked for until logs are received, or would have to follow another one."""
    if wanted().filter(pk=job.instance_id).exists() and not has_begun(job.instance):
        queued = BackupJob.objects.filter(pk=job.pk, state=BackupJob.State.QUEUED)
        queued.update(due_at=clock.now() + LOGS_FIRST)


def slot_of(instance: Instance) -> str:
    """Return the name under which a server knows that its logs are for us."""
    return re.sub(r"[^a-z0-9_]", "_", instance.code.lower())


def spool_of(instance: Instance) -> Path:
    return Path(settings.FARSHORE_DATA) / "spool" / instance.code
