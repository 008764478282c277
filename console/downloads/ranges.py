"""What part of a file a request is for (RFC 9110, 14). Pure.

One range is served; several in one request, and what is no range, are answered with the whole file, as the RFC allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ONE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range lies outside the file: 416."""


@dataclass(frozen=True)
class Wanted:
    """Bytes `first` to `end`, exclusive. `is_partial`: answered with 206."""

    first: int
    end: int
    is_partial: bool

    @property
    def size(self) -> int:
        return self.end - self.first

    def content_range(self, size: int) -> str:
        return f"bytes {self.first}-{self.end - 1}/{size}"


def wanted(size: int, asked: str, if_range: str, etag: str) -> Wanted:
    """Return what to send of a file; raises Unsatisfiable. `if_range` other than the file's own ETag: all of it."""
    found = ONE_RANGE.fullmatch(asked.strip())
    if not found or not (found[1] or found[2]) or (if_range and if_range.strip() != etag):
        return Wanted(0, size, False)
    if not found[1]:
        return _last(size, int(found[2]))
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return Wanted(0, size, False)
    if first >= size:
        raise Unsatisfiable
    return Wanted(first, min(last + 1, size), True)


def _last(size: int, count: int) -> Wanted:
    if not count or not size:
        raise Unsatisfiable
    return Wanted(max(0, size - count), size, True)
