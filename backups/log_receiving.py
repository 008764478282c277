"""Whose logs are received: a row for each instance, claimed with a fence and a lease; held work (R-8, R-9).

wanted: cross-region log backup is on, the instance is neither suspended nor released, and its engine gives its logs.
`log_receivers` is the child process that does it, `log_delivery` brings what it receives into the store.
"""

from __future__ import annotations

import logging
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backups import alerts, bell, events, reaching
from backups.engines import ENGINES, engine_of
from backups.engines.facts import LOGS_LOST
from backups.leases import next_lease, who
from backups.models import Arrival, BackupJob, CopyPolicy, Instance, LogStream
from regions import clock
from regions.refusals import Refusal

log = logging.getLogger(__name__)
State = LogStream.State
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=5)
LOGS_FIRST = timedelta(minutes=3)  # so long a first backup waits for the logs it is to be followed by
MOST_TRIES_TO_END = 50  # some four hours, of a server that was released and is most likely gone
MOST_WAITING_BYTES = 64 << 30  # what a server may keep for us; then it comes first, and the logs have a gap


# ---- which


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


AFRESH: dict[str, Any] = {
    "started_at": None,
    "heard_at": None,
    "position": None,
    "fork": "",
    "waiting_bytes": None,
    "notes": [],
    "ended_at": None,
}


def regions_with_streams() -> list[str]:
    """Return the regions where logs are received, or should be; the sweep rings their bells."""
    streams = LogStream.objects.exclude(state=State.ENDED)
    return list(streams.values_list("instance__region", flat=True).distinct())


def _due(region_id: str, at: datetime) -> QuerySet[LogStream]:
    free = Q(leased_until=None) | Q(leased_until__lt=at)
    return LogStream.objects.filter(free, due_at__lte=at, instance__region=region_id).exclude(state=State.ENDED)


def is_due(region_id: str, for_seconds: float = 0) -> bool:
    """Whether a stream of the region is due and nobody's, and has been for so long."""
    return _due(region_id, clock.now() - timedelta(seconds=for_seconds)).exists()


# ---- the lease


def claim(region_id: str) -> LogStream | None:
    """Take the next stream of a region, to receive or to end, under a new fence and a lease."""
    with transaction.atomic():
        at = clock.now()
        rows = _due(region_id, at).select_for_update(skip_locked=True, of=("self",)).select_related("instance__region")
        stream = rows.order_by("due_at", "pk").first()
        if stream is None:
            return None
        stream.fence, stream.leased_until, stream.leased_by = stream.fence + 1, next_lease(at), who()
        if stream.state != State.ENDING:
            stream.state, stream.notes = State.RECEIVING, []
        stream.save(update_fields=["fence", "leased_until", "leased_by", "state", "notes"])
        return stream


def mine(stream: LogStream) -> QuerySet[LogStream]:
    """Return the row while the claim holds; whoever changes it counts, and goes home when there is none (I15)."""
    return LogStream.objects.filter(pk=stream.pk, fence=stream.fence, state=stream.state)


def renew(streams: list[LogStream]) -> list[LogStream]:
    """Renew the leases of these claims; returns those that are still held."""
    held = [stream for stream in streams if mine(stream).exists()]
    lease = next_lease(clock.now())
    return [stream for stream in held if mine(stream).update(leased_until=lease)]


def give_back(stream: LogStream) -> None:
    """The child ends, and with it what it did: anybody may go on at once."""
    mine(stream).filter(state=State.RECEIVING).update(state=State.WANTED, leased_until=None)


def let_go(child: str) -> int:
    """Free what a child held that is dead for certain: nobody has to wait for its leases to run out."""
    held = LogStream.objects.filter(leased_by=child, leased_until__isnull=False).exclude(state=State.ENDED)
    return held.update(leased_until=None, fence=F("fence") + 1)


# ---- what is heard


def slot_of(instance: Instance) -> str:
    """Return the name under which a server knows that its logs are for us."""
    return re.sub(r"[^a-z0-9_]", "_", instance.code.lower())


def spool_of(instance: Instance) -> Path:
    return Path(settings.FARSHORE_DATA) / "spool" / instance.code


def has_begun(instance: Instance) -> bool:
    """Whether the server keeps its logs for us: a backup that starts now is followed by them."""
    streams = LogStream.objects.filter(instance=instance, state__in=LogStream.ACTIVE)
    return streams.filter(started_at__isnull=False).exists()


def let_logs_begin_first(job: BackupJob) -> None:
    """Hold back a backup that was just asked for until logs are received, or would have to follow another one."""
    if wanted().filter(pk=job.instance_id).exists() and not has_begun(job.instance):
        queued = BackupJob.objects.filter(pk=job.pk, state=BackupJob.State.QUEUED)
        queued.update(due_at=clock.now() + LOGS_FIRST)


def begin(stream: LogStream) -> None:
    """The server keeps its logs for us from now on: a first backup that waited for them is taken now.

    Whether another one is needed the first log shows, by where it begins (R-8.2, R-9.1; log_healing).
    """
    if stream.started_at:
        return
    at = clock.now()
    with transaction.atomic():
        if not mine(stream).filter(started_at=None).update(started_at=at):
            return
        BackupJob.objects.filter(instance=stream.instance_id, state=BackupJob.State.QUEUED).update(due_at=at)
        events.record("logs.begun", "Its logs are received from now on.", instance=stream.instance)
        bell.ring_backups(stream.instance.region_id)
    stream.started_at = at


def heard(stream: LogStream, until: datetime) -> None:
    """Everything until a moment lies in delivered pieces, as a quiet server says now and then."""
    mine(stream).update(heard_at=until, failures=0, error="")
    begin(stream)


def note(stream: LogStream, said: str) -> None:
    stream.notes.append(events.speakable(said))
    mine(stream).update(notes=stream.notes)


def measure(stream: LogStream) -> None:
    """Ask how much the server keeps for us; more than it may, and it is told to forget us."""
    lag = engine_of(stream.instance.engine).receiver_lag
    if lag is None:
        return
    waiting = lag(reaching.connection_of(stream.instance), slot_of(stream.instance))
    mine(stream).update(waiting_bytes=waiting)
    begin(stream)
    if waiting > MOST_WAITING_BYTES:
        lose(stream, f"The server keeps {waiting >> 30} GiB of logs for Farshore; before its disk fills, it shall not.")


# ---- what goes wrong


def fail(stream: LogStream, why: str) -> None:
    """It ended: say why, and try again, each time with more patience; the watch alerts when it goes on for long."""
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(stream.failures, 10))
    state = State.WANTED if stream.state == State.RECEIVING else stream.state
    mine(stream).update(
        state=state,
        error=events.speakable(why),
        failures=F("failures") + 1,
        leased_until=None,
        due_at=clock.now() + wait,
    )
    log.warning("logs not received", extra={"instance": stream.instance.code, "reason": why})


def is_lost(refusal: Refusal) -> bool:
    """Whether the server no longer has what we had not received."""
    return refusal.code in LOGS_LOST


def lose(stream: LogStream, why: str) -> None:
    """Begin anew where the server is now; the next log shows the gap, with its limits, and that heals it (R-9.4)."""
    instance = stream.instance
    if not mine(stream).exists():
        return
    alerts.open_alert(
        "logs_lost",
        f"instance:{instance.pk}",
        f"Logs of {instance.name} are lost. {why}",
        remedy="They are received anew, and a backup is taken by itself, which the new ones follow.",
        instance=instance,
    )
    events.record("logs.lost", f"Logs are lost: {events.speakable(why)}", instance=instance)
    engine_of(instance.engine).forget_receiver(reaching.connection_of(instance), slot_of(instance))
    due_at = clock.now() + FIRST_WAIT
    mine(stream).update(state=State.WANTED, error=events.speakable(why), leased_until=None, due_at=due_at)


def begin_anew(instance: Instance) -> None:
    """Another server is the instance now: whoever receives lets go, and begins with what that one has."""
    streams = LogStream.objects.filter(instance=instance, state__in=LogStream.ACTIVE)
    moved = {"fence": F("fence") + 1, "leased_until": None, "due_at": clock.now(), "failures": 0, "error": ""}
    streams.update(state=State.WANTED, forget_first=True, **moved, **AFRESH)
    bell.ring_logs(instance.region_id)


def forget_former_life(stream: LogStream) -> None:
    """A server that was replaced and put back knows us, and keeps logs that what we have received does not lead to."""
    if not stream.forget_first:
        return
    instance = stream.instance
    engine_of(instance.engine).forget_receiver(reaching.connection_of(instance), slot_of(instance))
    mine(stream).update(forget_first=False)


# ---- ending


def end(stream: LogStream) -> None:
    """Nobody wants these logs any more: the server forgets us, and keeps none on its disk for our sake."""
    instance = stream.instance
    try:
        engine_of(instance.engine).forget_receiver(reaching.connection_of(instance), slot_of(instance))
    except Refusal as refusal:
        if not instance.released or stream.failures < MOST_TRIES_TO_END:
            fail(stream, str(refusal))
            return
    shutil.rmtree(spool_of(instance), ignore_errors=True)
    with transaction.atomic():
        if mine(stream).update(state=State.ENDED, ended_at=clock.now(), leased_until=None, waiting_bytes=None):
            alerts.close_alert("logs_lost", f"instance:{instance.pk}")
            events.record("logs.ended", "Its logs are no longer received.", instance=instance)
