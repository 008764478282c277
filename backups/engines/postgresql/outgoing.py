"""Finished segments on their way out, grouped so that a quiet server makes few pieces."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from backups.engines.facts import Kind, LogPiece, Method, SetFacts
from backups.engines.postgresql.segments import Segment
from backups.engines.postgresql.spool import Journal, Pending, Spool

PIECE_BYTES = 64 << 20

Deliver = Callable[[LogPiece], None]


class Outgoing:
    """Decide on a piece, write that down, deliver it, write that down: a kill anywhere leaves no hole."""

    def __init__(self, spool: Spool, deliver: Deliver, flush_seconds: float) -> None:
        self._spool, self._deliver, self._flush_seconds = spool, deliver, flush_seconds
        self._delivered_at = time.monotonic()

    def drain(self) -> None:
        """Deliver everything that is finished, beginning with what may have been delivered already."""
        if self._spool.journal.pending:
            self._hand_over()
        while self.deliver_next(at_once=True):
            pass

    def deliver_next(self, *, at_once: bool = False) -> bool:
        """Deliver one piece if one is due; False when none is."""
        waiting = self._spool.finished()
        together = together_of(waiting)
        full = sum(segment.size for segment in together) >= PIECE_BYTES or len(together) < len(waiting)
        if not together or not self._spool.marks.first() or not (at_once or full or self.is_late):
            return False
        self._decide(together)
        self._hand_over()
        return True

    @property
    def is_late(self) -> bool:
        return time.monotonic() - self._delivered_at >= self._flush_seconds

    def _decide(self, segments: list[Segment]) -> None:
        spool, last = self._spool, segments[-1].end
        started = spool.journal.covered or spool.marks.first()
        reached = spool.marks.reached_by(last) or started
        spool.write(
            branch=spool.branch_of(segments[0].timeline, started),
            pending=Pending(
                guid=str(uuid.uuid4()),
                timeline=segments[0].timeline,
                first=segments[0].first,
                last=last,
                started_at=started,
                finished_at=max(started, reached),
            ),
        )

    def _hand_over(self) -> None:
        spool = self._spool
        path = spool.packed()
        self._deliver(LogPiece(path, facts_of(spool.journal, path.stat().st_size)))
        spool.delivered()
        self._delivered_at = time.monotonic()


def together_of(waiting: list[Segment]) -> list[Segment]:
    """The first of those that wait and what follows it without hole on its timeline, as far as fits into one piece."""
    together: list[Segment] = []
    for segment in waiting:
        follows = not together or (segment.timeline, segment.first) == (together[-1].timeline, together[-1].end)
        if not follows or (together and (len(together) + 1) * segment.size > PIECE_BYTES):
            break
        together.append(segment)
    return together


def facts_of(journal: Journal, length: int) -> SetFacts:
    piece: Pending = journal.pending
    branch = journal.branch
    return SetFacts(
        database="",
        kind=Kind.LOG,
        method=Method.PHYSICAL,
        started_at=piece.started_at,
        finished_at=piece.finished_at,
        first_position=piece.first,
        last_position=piece.last,
        fork=str(piece.timeline),
        parent_fork=str(branch.parent) if branch else "",
        fork_position=branch.position if branch else None,
        forked_at=branch.at if branch else None,
        set_guid=piece.guid,
        has_checksums=True,
        compressed=True,
        server=journal.server,
        software_version=journal.version,
        size_bytes=piece.last - piece.first,
        length=length,
    )
