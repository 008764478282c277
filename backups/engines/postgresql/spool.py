"""The spool of one receiver: what was received and not yet delivered, with a journal that survives kill -9.

wal/       where pg_receivewal writes; the last delivered segment stays as an empty file of full size (the bookmark), so
           that every version of the tool goes on exactly behind it
pieces/    the piece on its way
journal    who the server is, how far was delivered, and the piece that may have been delivered already
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from backups.engines.durable import write_durably
from backups.engines.marks import Marks
from backups.engines.postgresql.pieces import ENDING, pack
from backups.engines.postgresql.segments import Segment, history_name, named
from backups.engines.postgresql.server import Standing
from backups.engines.postgresql.timelines import Branch, ancestors_in, child_of, left_at, parent_of
from regions.refusals import Refusal

PARTIAL = ".partial"


@dataclass(frozen=True)
class Pending:
    """A piece that was decided on: from here on its limits do not change, however often it is delivered."""

    guid: str
    timeline: int
    first: int
    last: int
    started_at: datetime
    finished_at: datetime

    @property
    def file(self) -> str:
        return f"{self.timeline:08X}-{self.first:016X}-{self.last:016X}{ENDING}"


@dataclass(frozen=True)
class Journal:
    """`delivered` and `timeline` are where the next piece begins; `covered` is the last moment a piece has claimed.

    `met` is the timeline that the server was on, `branch` where the newest piece's timeline left another one.
    """

    server: str
    segment_bytes: int
    version: str = ""
    timeline: int = 0
    delivered: int = 0
    covered: datetime | None = None
    pending: Pending | None = None
    met: int = 0
    branch: Branch | None = None


class Spool:
    """Open it from one process at a time; everything lies in `folder`, which becomes private."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wal, self.pieces = folder, folder / "wal", folder / "pieces"
        for part in (folder, self.wal, self.pieces):
            part.mkdir(mode=0o700, parents=part is folder, exist_ok=True)
            part.chmod(0o700)
        self.journal = self._read() or Journal("", 0)
        self.marks = Marks(folder / "marks")
        self.settle()

    def belong_to(self, server: str, segment_bytes: int, version: str) -> None:
        """Take in logs of this server only; raises Refusal when the spool holds another's."""
        found = self.journal
        if found.server and (found.server, found.segment_bytes) != (server, segment_bytes):
            raise Refusal(
                "SpoolTaken",
                f"The spool on this worker belongs to another server ({found.server}), not to {server}.",
                "If the server was replaced, remove the spool and its old slot.",
            )
        if found.version != version:
            self.write(server=server, segment_bytes=segment_bytes, version=version)

    def _read(self) -> Journal | None:
        with suppress(FileNotFoundError):
            return _journal_from(json.loads((self.folder / "journal").read_text()))
        return None

    def write(self, **changes: Any) -> None:
        """Change the journal durably, in one step."""
        self.journal = replace(self.journal, **changes)
        write_durably(self.folder / "journal", json.dumps(asdict(self.journal), default=datetime.isoformat))

    def finished(self) -> list[Segment]:
        """The finished segments that were not delivered yet, in order."""
        return [found for found in self._segments() if (found.timeline, found.first) >= self._next]

    @property
    def _next(self) -> tuple[int, int]:
        return self.journal.timeline, self.journal.delivered

    def _segments(self) -> list[Segment]:
        if not self.journal.segment_bytes:
            return []
        found = (named(entry.name, self.journal.segment_bytes) for entry in os.scandir(self.wal))
        return sorted(segment for segment in found if segment)

    def size(self) -> int:
        """How many bytes the spool takes up on disk (the bookmark takes none)."""
        total = 0
        for folder in (self.wal, self.pieces):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    total += entry.stat().st_blocks * 512
        return total

    def packed(self) -> Path:
        """Return the pending piece as a file, made anew from the segments if it is not there whole."""
        target = self.pieces / self.journal.pending.file
        if not target.exists():
            pack(self._files_of(self.journal.pending), target)
        return target

    def _files_of(self, pending: Pending) -> Iterator[Path]:
        history = self.wal / history_name(pending.timeline)
        if history.exists():
            yield history
        for segment in self._segments():
            if segment.timeline == pending.timeline and pending.first <= segment.first < pending.last:
                yield self.wal / segment.name

    def delivered(self) -> None:
        """The pending piece has arrived: write that down, then forget it."""
        piece = self.journal.pending
        self.write(timeline=piece.timeline, delivered=piece.last, covered=piece.finished_at, pending=None)
        self.marks.forget(before=piece.last)
        self.settle()

    def settle(self) -> None:
        """Remove what the journal says is over; safe to repeat, wherever a kill left it."""
        pending = self.journal.pending
        for entry in os.scandir(self.pieces):
            if not pending or entry.name != pending.file:
                os.unlink(entry)
        self._leave_bookmark()
        for segment in self._segments():
            if (segment.timeline, segment.end) < self._next:
                (self.wal / segment.name).unlink()
        self._drop_old_partials()

    def _leave_bookmark(self) -> None:
        size = self.journal.segment_bytes
        if not self.journal.delivered:
            return
        last = Segment(self.journal.timeline, self.journal.delivered - size, size)
        draft = self.folder / ".bookmark"
        with open(draft, "wb") as file:
            file.truncate(size)
        draft.replace(self.wal / last.name)

    def drop_half_made(self) -> None:
        """Remove a segment whose room was still being made when a kill came: pg_receivewal fills it with zeros first,
        and will not go on with one that has neither no byte nor all of them. Nothing was received into it yet."""
        for entry in os.scandir(self.wal):
            if entry.name.endswith(PARTIAL) and entry.stat().st_size not in (0, self.journal.segment_bytes):
                os.unlink(entry)

    def _drop_old_partials(self) -> None:
        """What an older timeline left unfinished begins the newer one's first segment again."""
        for entry in os.scandir(self.wal):
            name = entry.name.removesuffix(PARTIAL)
            if entry.name.endswith(PARTIAL) and int(name[:8], 16) < self.journal.timeline:
                os.unlink(entry)

    def begin_anew(self) -> None:
        """The slot is a new one: forget where the old one was, so that the tool begins where the new one does."""
        for entry in os.scandir(self.wal):
            os.unlink(entry)
        self.write(timeline=0, delivered=0, covered=None, pending=None, branch=None)
        self.marks.forget()

    # ---- from one timeline to the next

    def branch_of(self, timeline: int, began: datetime) -> Branch | None:
        """Where a timeline left another: before its first piece, which `began` where the last one ended or we did."""
        known = self.journal.branch
        if known and known.timeline == timeline:
            return known
        history = self.wal / history_name(timeline)
        ancestors = ancestors_in(history.read_text("utf-8", "replace")) if history.exists() else []
        left = parent_of(ancestors, self.journal.segment_bytes)
        return Branch(timeline, left.timeline, left.position, began) if left else None

    def leads_to(self, where: Standing) -> bool:
        """Whether the server has gone on along a newer timeline, which left the one that we have delivered of."""
        is_newer = where.timeline > self.journal.timeline
        return is_newer and left_at(ancestors_in(where.history), self.journal.timeline) is not None

    def is_new(self, where: Standing) -> bool:
        """Whether the server was not yet on this timeline when we met it last."""
        return where.timeline > self.journal.met

    def meet(self, where: Standing) -> None:
        """Go on along the server's timeline, from where it left ours; safe to repeat.

        Delivered beyond that place, ours was another history (a former primary's, or one that was restored over): what
        is known of the time begins anew.
        """
        ancestors, journal = ancestors_in(where.history), self.journal
        if self.leads_to(where):
            left = left_at(ancestors, journal.timeline)
            if self.is_new(where):
                self.marks.forget_beyond(left)
            if journal.delivered > left:
                self.begin_anew()
            if journal.delivered >= left:
                self._begin_with(child_of(ancestors, journal.timeline, where.timeline), left)
        self.write(met=where.timeline)

    def _begin_with(self, timeline: int, left: int) -> None:
        """Let the tool begin with the segment that holds the place: it cannot ask for what comes after an end."""
        for entry in os.scandir(self.wal):
            os.unlink(entry)
        self.write(timeline=timeline, delivered=left - left % self.journal.segment_bytes)
        self._leave_bookmark()


def _journal_from(told: dict[str, Any]) -> Journal:
    if pending := told.get("pending"):
        times = {name: datetime.fromisoformat(pending[name]) for name in ("started_at", "finished_at")}
        told["pending"] = Pending(**{**pending, **times})
    if branch := told.get("branch"):
        told["branch"] = Branch(**{**branch, "at": datetime.fromisoformat(branch["at"])})
    if covered := told.get("covered"):
        told["covered"] = datetime.fromisoformat(covered)
    return Journal(**told)
