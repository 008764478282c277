"""Handing logs to a server that replays: it asks by name through a pipe, and waits for the file or for its absence.

The folder is ours; the server may read it and write into the pipe, no more. Only a few pieces lie there at a time.
"""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from backups.engines.confinement import Account, own
from backups.engines.facts import Source
from backups.engines.postgresql.pieces import unpack
from backups.engines.postgresql.segments import HISTORY, Segment, history_name, named
from regions.refusals import Refusal

KEPT_PIECES = 3
WAITING_SECONDS = 0.2
MOST_ASKED = 4096
ABSENT = ".absent"
LIVED = "# This timeline has been lived by another server.\n"

# What the server runs as its restore_command. It must wait: PostgreSQL takes "not there" for the end of the logs.
FETCH = """#!/bin/sh
cd {feed} || exit 1
echo "$1" > ask
until [ -f "$1" ]; do
  [ -f "$1.absent" ] && exit 1
  sleep 0.05
done
exec cp "$1" "$2"
"""


class LogFeed:
    """Answers one server; `logs` are in order. `answer` must be called again and again while it replays.

    `lived`: timelines the server must not begin, since another one has.
    """

    def __init__(
        self,
        folder: Path,
        logs: Sequence[Source],
        segment_bytes: int,
        whom: Account | None,
        *,
        lived: range = range(0),
    ) -> None:
        self._folder, self._logs, self._segment_bytes, self._whom = folder, logs, segment_bytes, whom
        self._lived = lived
        self._kept: list[int] = []
        self.wanted = 0  # the furthest position asked for
        folder.mkdir(mode=0o700)
        own(folder, whom, 0o750, theirs=False)
        os.mkfifo(folder / "ask", 0o600)
        own(folder / "ask", whom, 0o620 if whom else 0o600, theirs=False)
        self._ask = os.open(folder / "ask", os.O_RDWR | os.O_NONBLOCK)
        self._put_text("fetch", FETCH.format(feed=_quoted(folder)), 0o750)
        self._bring_history()

    @property
    def command(self) -> str:
        """The server's restore_command; an absolute target is needed because the script works in its own folder."""
        return f'/bin/sh {_quoted(self._folder / "fetch").replace("%", "%%")} %f "$PWD/%p"'

    @property
    def timeline(self) -> int | None:
        """The timeline to follow: the newest log's; None without logs."""
        return int(self._logs[-1].facts.fork) if self._logs else None

    @property
    def was_used_up(self) -> bool:
        """The server asked for what would come after the last log: it has seen them all."""
        return not self._logs or self.wanted >= self._logs[-1].facts.last_position

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes of log that were replayed, and all there are."""
        if not self._logs:
            return 0, 0
        first, last = self._logs[0].facts.first_position, self._logs[-1].facts.last_position
        return min(max(self.wanted - first, 0), last - first), last - first

    def covers(self, until: datetime) -> bool:
        """Whether the logs, all of which were replayed, are known to hold everything until then."""
        return self.was_used_up and bool(self._logs) and self._logs[-1].facts.finished_at >= until

    def close(self) -> None:
        os.close(self._ask)
        shutil.rmtree(self._folder, ignore_errors=True)

    def answer(self) -> bool:
        """Wait a moment for questions and answer them; with nothing asked, fetch what comes next. False when idle."""
        if not select.select([self._ask], [], [], 0 if self._fetch_ahead() else WAITING_SECONDS)[0]:
            return False
        for name in os.read(self._ask, MOST_ASKED).decode("ascii", "replace").split():
            self._answer(name)
        return True

    def _answer(self, name: str) -> None:
        segment = named(name, self._segment_bytes)
        found = self._piece_with(segment) if segment else None
        if segment:
            self.wanted = max(self.wanted, segment.first)
        if found is not None:
            self._bring(found)
        if (segment or HISTORY.match(name)) and not (self._folder / name).exists():
            if self._was_lived(name):
                self._put_text(name, LIVED, 0o640)
                return
            self._put_text(f"{name}{ABSENT}", "", 0o640)

    def _was_lived(self, name: str) -> bool:
        """A server about to begin a timeline asks which there are, one by one, and takes the first that is free."""
        return bool(HISTORY.match(name)) and int(name[:8], 16) in self._lived

    def _piece_with(self, segment: Segment) -> int | None:
        for number, log in enumerate(self._logs):
            facts = log.facts
            if facts.fork == str(segment.timeline) and facts.first_position <= segment.first < facts.last_position:
                return number
        return None

    def _fetch_ahead(self) -> bool:
        """While the server replays one piece, unpack the one behind it."""
        following = self._kept[-1] + 1 if self._kept else len(self._logs)
        if following >= len(self._logs) or len(self._kept) >= KEPT_PIECES:
            return False
        begins = self._logs[self._kept[-1]].facts.first_position
        if self.wanted < begins:
            return False
        self._bring(following)
        return True

    def _bring(self, number: int) -> None:
        if number in self._kept:
            return
        for old in self._kept[: 1 - KEPT_PIECES] if len(self._kept) >= KEPT_PIECES else []:
            self._forget(old)
        with self._logs[number].open() as piece:
            unpack(piece, lambda name: not (self._folder / name).exists(), self._put)
        self._kept.append(number)

    def _forget(self, number: int) -> None:
        self._kept.remove(number)
        facts = self._logs[number].facts
        for first in range(facts.first_position, facts.last_position, self._segment_bytes):
            with suppress(FileNotFoundError):
                (self._folder / Segment(int(facts.fork), first, self._segment_bytes).name).unlink()

    def _bring_history(self) -> None:
        """The server needs to know how its timelines hang together before it asks for any segment."""
        forks = {int(log.facts.fork): log for log in self._logs}
        for fork, log in forks.items():
            if fork > 1:
                wanted = history_name(fork)
                with log.open() as piece:
                    unpack(piece, lambda name, wanted=wanted: name == wanted, self._put)

    def _put(self, name: str, content: BinaryIO) -> None:
        draft = self._folder / ".draft"
        with open(draft, "wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        if named(name, self._segment_bytes) and draft.stat().st_size != self._segment_bytes:
            raise Refusal("LogDamaged", f"The log {name} has not its full size.", "Restore to a moment before it.")
        own(draft, self._whom, 0o640, theirs=False)
        draft.replace(self._folder / name)

    def _put_text(self, name: str, content: str, mode: int) -> None:
        path = self._folder / name
        path.write_text(content)
        own(path, self._whom, mode, theirs=False)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"
