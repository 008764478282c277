"""Looks at a distant file through few ranged reads: 64 KiB at either end, small ones between, bounded in number."""

from __future__ import annotations

from dataclasses import dataclass

from backups.engines.facts import ReadAt
from backups.engines.sqlserver.saying_no import too_much, truncated

END_WINDOW = 65536
STEP_WINDOW = 16384
WIDEST_STEP = 1 << 20
MOST_READS = 4096
MOST_BYTES = 128 << 20
MOST_STEPS = 200_000
MOST_AT_ONCE = 4 << 20


@dataclass(frozen=True, slots=True)
class _Window:
    start: int
    data: bytes

    def holds(self, offset: int, length: int) -> bool:
        return self.start <= offset and offset + length <= self.start + len(self.data)

    def cut(self, offset: int, length: int) -> bytes:
        return self.data[offset - self.start : offset - self.start + length]


class Windows:
    """The bytes of one file, fetched when they are first looked at.

    Keeps the head, the tail and the latest window between, which grows while one follows closely upon another: many
    small sets in one file. `at` refuses what lies beyond the end of the file, and refuses to go on after MOST_READS
    requests, MOST_BYTES or MOST_STEPS looks, so that no file can keep a worker busy.
    """

    def __init__(self, read: ReadAt, size: int) -> None:
        self._read, self.size = read, size
        self._tail_start = max(min(END_WINDOW, size), size - END_WINDOW)
        self._kept: dict[str, _Window] = {}
        self._step = STEP_WINDOW
        self.reads = self.bytes_read = self._steps = 0

    def at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise too_much(f"over {MOST_STEPS} blocks")
        if offset + length > self.size:
            raise truncated(f"it has {self.size} bytes and byte {offset + length} is needed")
        for window in self._kept.values():
            if window.holds(offset, length):
                return window.cut(offset, length)
        return self._fetched(offset, length).cut(offset, length)

    def _fetched(self, offset: int, length: int) -> _Window:
        if length > MOST_AT_ONCE:
            raise too_much(f"a record of {length} bytes")
        if offset < END_WINDOW and offset + length <= END_WINDOW:
            return self._fetch("head", 0, END_WINDOW)
        if offset >= self._tail_start:
            return self._fetch("tail", self._tail_start, END_WINDOW)
        return self._fetch("between", offset, max(length, self._stride(offset)))

    def _stride(self, offset: int) -> int:
        """Return how much to fetch from here: twice as much as last time when that ended close by."""
        last = self._kept.get("between")
        is_close = last is not None and 0 <= offset - last.start - len(last.data) < END_WINDOW
        self._step = min(self._step * 2, WIDEST_STEP) if is_close else STEP_WINDOW
        return self._step

    def _fetch(self, name: str, start: int, length: int) -> _Window:
        self.reads += 1
        length = min(length, self.size - start)
        self.bytes_read += length
        if self.reads > MOST_READS or self.bytes_read > MOST_BYTES:
            raise too_much(f"over {MOST_READS} reads or {MOST_BYTES >> 20} MiB of headers")
        data = self._read(start, length)
        if len(data) != length:
            raise truncated(f"{length} bytes were asked for at byte {start} and {len(data)} came")
        self._kept[name] = _Window(start, data)
        return self._kept[name]
