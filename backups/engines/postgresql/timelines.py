"""Timelines: where one left another, as a server's history files tell it (PostgreSQL, "Timeline history file").

One line for each ancestor, oldest first: its number, the LSN at which the next one left it, why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

LINE = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]+)/([0-9A-Fa-f]+)\s*(.*)", re.ASCII)
PROMOTED = "no recovery target specified"


class Left(NamedTuple):
    """An ancestor, and where its child left it."""

    timeline: int
    position: int


@dataclass(frozen=True)
class Branch:
    """A timeline, where it left its parent, and from when on it speaks for the database (ChainSet.forked_at)."""

    timeline: int
    parent: int
    position: int
    at: datetime


def ancestors_in(history: str) -> list[Left]:
    """Return the ancestors that a history file tells of, oldest first, back to where nothing was undone.

    A server that was restored to a moment has undone what came after it: of that time its logs know nothing, so they
    do not lead on from what was before (I7).
    """
    found: list[Left] = []
    for line in filter(None, map(LINE.match, history.splitlines())):
        left = Left(int(line[1]), (int(line[2], 16) << 32) + int(line[3], 16))
        found = [*found, left] if line[4].strip() == PROMOTED else []
    return found


def parent_of(ancestors: Sequence[Left], segment_bytes: int) -> Left | None:
    """Return the nearest ancestor that can have finished a segment, and where the line left it.

    One that was left within its first segment has no logs of its own: the next one's begin with the same bytes.
    """
    found: Left | None = None
    for older in reversed(ancestors):
        if found and found.position >= older.position - older.position % segment_bytes + segment_bytes:
            break
        found = Left(older.timeline, min(older.position, found.position) if found else older.position)
    return found


def left_at(ancestors: Sequence[Left], timeline: int) -> int | None:
    """Return where a history left one of its timelines for good; None when it never was on it."""
    on_the_way = [one.position for one in ancestors if one.timeline >= timeline]
    return min(on_the_way) if any(one.timeline == timeline for one in ancestors) else None


def child_of(ancestors: Sequence[Left], timeline: int, newest: int) -> int:
    """Return the timeline that left this one, on the way to the newest."""
    return min((one.timeline for one in ancestors if one.timeline > timeline), default=newest)
