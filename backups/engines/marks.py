"""Which moment a position of a log stands for: the server's clock, asked before its position, about once a second."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

MOST = 2000


class Marks:
    """Pairs of position and moment, in a file without fsync: a power cut costs some precision, never the truth."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pairs: list[tuple[int, datetime]] = []
        with suppress(FileNotFoundError, ValueError):
            self._pairs = [(at, datetime.fromisoformat(when)) for at, when in json.loads(path.read_text())]

    def add(self, position: int, when: datetime) -> None:
        """Where the position stands still, a moment more is known about it: that replaces the older mark."""
        if len(self._pairs) > 1 and self._pairs[-1][0] == position:
            self._pairs.pop()
        self._pairs.append((position, when))
        del self._pairs[:-MOST]
        self._write()

    def first(self) -> datetime | None:
        return self._pairs[0][1] if self._pairs else None

    def reached_by(self, position: int) -> datetime | None:
        """The last moment whose changes all lie before the position; None when that is not known."""
        known = [when for at, when in self._pairs if at <= position]
        return max(known, default=None)

    def forget(self, before: int | None = None) -> None:
        self._pairs = [] if before is None else [pair for pair in self._pairs if pair[0] > before]
        self._write()

    def forget_beyond(self, position: int) -> None:
        """What lies there now is another history's, of which the old marks know nothing."""
        self._pairs = [pair for pair in self._pairs if pair[0] <= position]
        self._write()

    def _write(self) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps([(at, when.isoformat()) for at, when in self._pairs]))
        os.replace(draft, self._path)
