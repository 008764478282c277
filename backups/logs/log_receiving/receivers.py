"""The child process that receives logs: a thread for each instance, one loop that holds their leases.

It lives as long as it has something to receive. Killed, it leaves rows whose leases run out, and pieces in the spool
that are delivered again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.db import connection

from backups.engines import engine_of
from backups.engines.facts import LogPiece, Stopped
from backups.leases import LeaseLost
from backups.logs.log_receiving import claims, delivery, progress
from backups.logs.log_receiving.streams import slot_of, spool_of
from backups.models import LogStream
from backups.servers import reaching
from regions.refusals import Refusal
from regions.storage import StorageError

log = logging.getLogger(__name__)
TICK_SECONDS, MEASURE_SECONDS, IDLE_SECONDS = 1.0, 20.0, 30.0


class Receiver(threading.Thread):
    """Receives the logs of one claimed stream, or ends it, until it is told to stop; says in the row what came of it.

    The engine's tool ends with the thread that started it, so that thread is this one. `former`: whoever had this
    stream before in this process; two must not have its spool.
    """

    def __init__(self, stream: LogStream, former: Receiver | None) -> None:
        super().__init__(daemon=True, name=f"logs-{stream.instance.code}")
        self.stream, self.over, self._former = stream, threading.Event(), former
        self.measured_at = float("-inf")

    def run(self) -> None:
        try:
            if self._former:
                self._former.join()
            self._work()
            claims.give_back(self.stream)
        except (LeaseLost, Stopped):
            pass
        except Refusal as refusal:
            self._refused(refusal)
        except StorageError as error:
            progress.fail(self.stream, error.sentence)
        except Exception as error:  # a bug, or our own database is away: with its traceback, and tried again
            log.exception("logs not received", extra={"instance": self.stream.instance.code})
            with suppress(Exception):
                progress.fail(self.stream, f"An unexpected error, {type(error).__name__}; see the worker's log.")
        finally:
            connection.close()

    def _work(self) -> None:
        instance = self.stream.instance
        if self.stream.state == LogStream.State.ENDING:
            progress.end(self.stream)
            return
        delivery.remove_unfinished(instance)
        spool = spool_of(instance)
        spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        progress.forget_former_life(self.stream)
        engine_of(instance.engine).receive_logs(
            reaching.connection_of(instance),
            spool,
            self._deliver,
            name=slot_of(instance),
            stop=self.over.is_set,
            flush_seconds=settings.LOG_FLUSH_SECONDS,
            note=lambda said: self._say(progress.note, said),
            heard=lambda until: self._say(progress.heard, until),
        )

    def _refused(self, refusal: Refusal) -> None:
        try:
            if progress.is_lost(refusal):
                progress.lose(self.stream, refusal.sentence)
            else:
                progress.fail(self.stream, str(refusal))
        except Refusal as again:  # nor can the server be told
            progress.fail(self.stream, str(again))

    # ---- what the engine tells

    def _deliver(self, piece: LogPiece) -> None:
        try:
            delivery.deliver(self.stream, piece)
            progress.begin(self.stream)
        finally:
            connection.close()  # twenty that wait for ten seconds need not hold twenty connections

    def _say(self, what: Callable, said: object) -> None:
        try:
            what(self.stream, said)
        finally:
            connection.close()


class Crew:
    """The receivers of this process."""

    def __init__(self, region_id: str, most: int) -> None:
        self._region_id, self._most = region_id, most
        self._at_work: list[Receiver] = []
        self._renewed = time.monotonic()

    @property
    def at_work(self) -> list[Receiver]:
        self._at_work = [receiver for receiver in self._at_work if receiver.is_alive()]
        return self._at_work

    def look(self) -> None:
        """Send home who has lost his claim, renew the others' leases, and take on what is due."""
        for receiver in self.at_work:
            if not claims.mine(receiver.stream).exists():
                receiver.over.set()
        if time.monotonic() - self._renewed > settings.LEASE_SECONDS / 4:
            claims.renew([receiver.stream for receiver in self.at_work])
            self._renewed = time.monotonic()
        while len(self.at_work) < self._most and (stream := claims.claim(self._region_id)):
            former = next((one for one in reversed(self._at_work) if one.stream.pk == stream.pk), None)
            if former:
                former.over.set()
            self._at_work.append(Receiver(stream, former))
            self._at_work[-1].start()

    def give_up_when_cut_off(self) -> None:
        """Our database is away for so long that others may hold the leases: stop before two receive the same."""
        if time.monotonic() - self._renewed > settings.LEASE_SECONDS:
            self.end()

    def end(self) -> None:
        for receiver in self.at_work:
            receiver.over.set()


class Measuring(threading.Thread):
    """Asks each server in turn how much it keeps for us; soon after a beginning, then now and then."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(daemon=True, name="logs-measuring")
        self._crew, self.over = crew, threading.Event()

    def run(self) -> None:
        while not self.over.wait(TICK_SECONDS):
            for receiver in list(self._crew.at_work):
                if receiver.stream.state == LogStream.State.RECEIVING and self._is_time(receiver):
                    self._measure(receiver)
            connection.close()

    def _is_time(self, receiver: Receiver) -> bool:
        pause = MEASURE_SECONDS if receiver.stream.started_at else TICK_SECONDS
        return time.monotonic() - receiver.measured_at >= pause

    def _measure(self, receiver: Receiver) -> None:
        try:
            progress.measure(receiver.stream)
        except Refusal:  # it has not begun, or cannot be reached: whoever receives says so
            pass
        except Exception:  # our own database is away, say; measured again later
            log.exception("logs not measured", extra={"instance": receiver.stream.instance.code})
        receiver.measured_at = time.monotonic()


def serve(region_id: str, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Receive the logs of a region's instances; returns when there has been nothing to receive for a while."""
    crew = Crew(region_id, settings.LOG_STREAMS_AT_ONCE)
    measuring = Measuring(crew)
    measuring.start()
    busy = time.monotonic()
    try:
        while not stop() and time.monotonic() - busy < IDLE_SECONDS:
            try:
                crew.look()
            except Exception:  # our database is away: the leases decide, not we
                log.exception("leases not renewed", extra={"region": region_id})
                connection.close()
                crew.give_up_when_cut_off()
            if crew.at_work:
                busy = time.monotonic()
            time.sleep(TICK_SECONDS)
    finally:
        measuring.over.set()
        crew.end()
        for receiver in crew.at_work:
            receiver.join(20)
