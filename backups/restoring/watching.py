"""Beside the work: the lease is renewed, and whoever no longer wants the work, or has it now, is heard of."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection

from backups.leases import next_lease
from backups.models import Restore
from backups.restoring import pins
from regions import clock

log = logging.getLogger(__name__)
BUILDING_SECONDS, HOLDING_SECONDS = 0.25, 1.0  # between two looks: a cancellation is noticed within a second


class Watch(threading.Thread):
    """`lost`: somebody else holds the restore, or nobody wants its row any more. `unwanted`: a person wants it ended.

    `leaving`: this process is asked to end; the restore goes on elsewhere. `makes_room`: another one takes its place.
    """

    def __init__(self, restore: Restore, leaving: threading.Event) -> None:
        super().__init__(daemon=True, name=f"watch-{restore.code}")
        self.restore, self.leaving = restore, leaving
        self.lost, self.unwanted, self._over = threading.Event(), threading.Event(), threading.Event()
        self.makes_room = threading.Event()
        self._renewed = float("-inf")

    def asks_to_stop(self) -> bool:
        return self.lost.is_set() or self.unwanted.is_set() or self.leaving.is_set() or self.makes_room.is_set()

    def run(self) -> None:
        while not self._over.wait(self._pace):
            try:
                self._look()
            except DatabaseError:  # it is away: the lease decides, not we
                log.exception("restore not looked after", extra={"restore": self.restore.code})
                connection.close()
        connection.close()

    @property
    def _pace(self) -> float:
        return HOLDING_SECONDS if self.restore.state == Restore.State.READY else BUILDING_SECONDS

    def _look(self) -> None:
        row = mine(self.restore).values("cancel_asked_at", "makes_room_for").first()
        if row is None:
            self.lost.set()
        elif row["cancel_asked_at"]:
            self.unwanted.set()
        elif row["makes_room_for"]:
            self.makes_room.set()
        if time.monotonic() - self._renewed >= settings.LEASE_SECONDS / 4:
            self._renewed = time.monotonic()
            keep(self.restore)
            pins.renew(self.restore, clock.now())

    def end(self) -> None:
        self._over.set()


def mine(restore: Restore) -> Any:
    """The row, as long as the fence is ours and the lease was not handed back (I15): the watch, a thread beside, may
    be about to renew it in that very moment."""
    held = Restore.objects.filter(state__in=Restore.HELD, leased_until__isnull=False)
    return held.filter(pk=restore.pk, fence=restore.fence)


def keep(restore: Restore, **changes: Any) -> bool:
    """Renew the lease and write `changes`; False, and nothing is written, when the fence is no longer ours."""
    return bool(mine(restore).update(leased_until=next_lease(clock.now()), **changes))


class Progress:
    """What the engine says of its stages, journaled at most once a second."""

    def __init__(self, restore: Restore) -> None:
        self._restore, self._stage, self._told = restore, "", float("-inf")

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        begins = stage != self._stage
        if not begins and time.monotonic() - self._told < 1:
            return
        self._stage, self._told = stage, time.monotonic()
        since = {"stage_began_at": clock.now()} if begins else {}
        try:
            mine(self._restore).update(stage=stage, done=done, total=total, **since)
        except DatabaseError:  # of no weight beside the work; the lease is the watch's to keep
            log.warning("progress not journaled", extra={"restore": self._restore.code})
            connection.close()
