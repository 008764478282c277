"""What becomes of a claimed stream, written into its row: it begins, is heard of, fails, loses logs, ends."""

from __future__ import annotations

import logging
import shutil
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from backups import alerts, bell, events
from backups.engines import engine_of
from backups.engines.facts import LOGS_LOST
from backups.logs.log_receiving.claims import mine
from backups.logs.log_receiving.streams import slot_of, spool_of
from backups.models import BackupJob, LogStream
from backups.servers import reaching
from regions import clock
from regions.refusals import Refusal

log = logging.getLogger(__name__)
State = LogStream.State
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=5)
MOST_TRIES_TO_END = 50  # some four hours, of a server that was released and is most likely gone
MOST_WAITING_BYTES = 64 << 30  # what a server may keep for us; then it comes first, and the logs have a gap


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


def forget_former_life(stream: LogStream) -> None:
    """A server that was replaced and put back knows us, and keeps logs that what we have received does not lead to."""
    if not stream.forget_first:
        return
    instance = stream.instance
    engine_of(instance.engine).forget_receiver(reaching.connection_of(instance), slot_of(instance))
    mine(stream).update(forget_first=False)


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
