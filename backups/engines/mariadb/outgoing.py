"""What was received on its way out, grouped so that a quiet server makes few pieces."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import datetime

from backups.engines.facts import Kind, LogPiece, Method, SetFacts
from backups.engines.mariadb.arriving import PIECE_BYTES, Stretch
from backups.engines.mariadb.binlog import moment
from backups.engines.mariadb.spool import Journal, Pending, Spool

Deliver = Callable[[LogPiece], None]


class Outgoing:
    """Decide on a piece, write that down, deliver it, write that down: a kill anywhere leaves no hole."""

    def __init__(self, spool: Spool, deliver: Deliver, flush_seconds: float) -> None:
        self._spool, self._deliver, self._flush_seconds = spool, deliver, flush_seconds
        self._delivered_at = time.monotonic()

    def drain(self) -> None:
        """Deliver everything that is whole, beginning with what may have been delivered already."""
        if self._spool.journal.pending:
            self._hand_over()
        while self.deliver_next(at_once=True):
            pass

    def deliver_next(self, *, at_once: bool = False) -> bool:
        """Deliver one piece if one is due; False when none is. What changes nothing waits for what does."""
        if not self._spool.has_changes or not self._spool.marks.first():
            return False
        found = self._spool.next_stretch()
        if not found or not (at_once or self._is_late or found.last - found.first >= PIECE_BYTES or found.closes):
            return False
        self._decide(found)
        self._hand_over()
        return True

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._delivered_at >= self._flush_seconds

    def _decide(self, found: Stretch) -> None:
        started, finished = self._moments(found)
        self._spool.write(
            pending=Pending(
                guid=str(uuid.uuid4()),
                run=found.received.path.parent.name,
                number=found.received.number,
                first=found.first,
                last=found.last,
                closes=found.closes,
                started_at=started,
                finished_at=finished,
            )
        )

    def _moments(self, found: Stretch) -> tuple[datetime, datetime]:
        """From and until when its changes are: by the marks, or by its own stamps where it is older than all marks.

        Behind a group that says 14:03:22 comes nothing that was committed by then.
        """
        marks, covered = self._spool.marks, self._spool.journal.covered
        reached = marks.reached_by(found.end)
        stamped = min(moment(found.stamp or found.received.form.stamp), marks.first())
        started = covered or min(moment(found.received.form.stamp), stamped)
        return started, max(started, reached or stamped)

    def _hand_over(self) -> None:
        spool = self._spool
        path = spool.packed()
        self._deliver(LogPiece(path, facts_of(spool.journal, path.stat().st_size)))
        spool.delivered()
        if not spool.has_changes:
            self._delivered_at = time.monotonic()


def facts_of(journal: Journal, length: int) -> SetFacts:
    piece: Pending = journal.pending
    return SetFacts(
        database="",
        kind=Kind.LOG,
        method=Method.PHYSICAL,
        started_at=piece.started_at,
        finished_at=piece.finished_at,
        first_position=piece.begins,
        last_position=piece.end,
        fork=journal.fork,
        set_guid=piece.guid,
        has_checksums=True,
        compressed=True,
        server=journal.server,
        software_version=journal.version,
        size_bytes=piece.last - piece.first,
        length=length,
    )
