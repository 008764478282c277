"""WAL segments: their names, and the positions they hold (an LSN is an integer here, a segment 1 MiB to 1 GiB)."""

from __future__ import annotations

import re
from dataclasses import dataclass

SEGMENT = re.compile(r"[0-9A-F]{24}\Z")
HISTORY = re.compile(r"[0-9A-F]{8}\.history\Z")
SMALLEST, LARGEST = 1 << 20, 1 << 30


@dataclass(frozen=True, order=True)
class Segment:
    """One segment file of a timeline."""

    timeline: int
    first: int
    size: int

    @property
    def end(self) -> int:
        return self.first + self.size

    @property
    def name(self) -> str:
        per_log = (1 << 32) // self.size
        number = self.first // self.size
        return f"{self.timeline:08X}{number // per_log:08X}{number % per_log:08X}"


def named(name: str, size: int) -> Segment | None:
    """Read a segment's name; None when it is no segment's."""
    if not SEGMENT.match(name):
        return None
    timeline, log, number = (int(name[at : at + 8], 16) for at in (0, 8, 16))
    return Segment(timeline, (log << 32) + number * size, size)


def history_name(timeline: int) -> str:
    return f"{timeline:08X}.history"
