"""Readers of a known length: what is missing at the end is an error, never a short file."""

from __future__ import annotations

from regions.storage import Readable, StorageError


class Counted:
    """Hands on exactly `length` bytes and raises where the source ends before."""

    def __init__(self, source: Readable, length: int) -> None:
        self._source, self._left = source, length

    def readinto(self, buffer: memoryview) -> int:
        if not self._left:
            return 0
        count = self._source.readinto(buffer[: self._left])
        if not count:
            raise StorageError(f"The store ended {self._left} bytes early.", retry=True, code="ShortRead")
        self._left -= count
        return count


class Nothing:
    """A read of no bytes."""

    def readinto(self, buffer: memoryview) -> int:
        return 0
