"""Reading a whole object in order, as a file: what a restore needs. Every part is held against its recorded hash."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import BinaryIO

from regions.storage import ObjectInfo, Readable, Storage, StorageError
from regions.storage.flight import Part
from regions.storage.mover import Differs, plan
from regions.storage.patience import patiently

BUFFER_BYTES = 1 << 20


def reader(storage: Storage, found: ObjectInfo, parts: Sequence[Part] = ()) -> BinaryIO:
    """Return exactly the object `found` as a readable file, from its first byte; it cannot seek.

    A read that breaks off goes on where it was. Reading raises Differs instead of giving the last bytes of a part that
    does not hash to what `parts` record of it (nothing is compared where there are none), Mismatch or Gone when the
    object is another or none, and StorageError when the store does not answer for good.
    """
    return io.BufferedReader(_InOrder(storage, found, list(parts) or plan(found.size)), BUFFER_BYTES)


def stretch(storage: Storage, found: ObjectInfo, parts: Sequence[Part], first: int, end: int) -> BinaryIO:
    """Return the bytes from `first` to `end`, exclusive, as `reader` gives a whole; parts inside are compared."""
    recorded = parts or plan(found.size)
    return reader(storage, found, [_cut(part, first, end) for part in recorded if _overlaps(part, first, end)])


def _overlaps(part: Part, first: int, end: int) -> bool:
    return part.offset < end and first < part.offset + part.size


def _cut(part: Part, first: int, end: int) -> Part:
    """Return what of a part lies inside; a piece of one has no recorded hash."""
    begins, ends = max(first, part.offset), min(end, part.offset + part.size)
    if (begins, ends) == (part.offset, part.offset + part.size):
        return part
    return replace(part, offset=begins, size=ends - begins, sha256="")


def whole(storage: Storage, found: ObjectInfo, most: int = 64 << 20) -> bytes:
    """Return all of a small object, a manifest say; raises StorageError for one of more than `most` bytes."""
    if found.size > most:
        raise StorageError(f"It has {found.size} bytes, more than {most}.", code="TooLarge")
    with reader(storage, found) as body:
        return body.read()


class _InOrder(io.RawIOBase):
    """One ranged read per part, one after the other."""

    def __init__(self, storage: Storage, found: ObjectInfo, parts: Sequence[Part]) -> None:
        self._storage, self._found, self._waiting = storage, found, list(reversed(parts))
        self._part: Part | None = None
        self._range: AbstractContextManager[Readable] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while True:
            if self._part is None:
                if not self._waiting:
                    return 0
                self._part, self._seen, self._hash = self._waiting.pop(), 0, hashlib.sha256()
            if count := self._read(memoryview(buffer)):
                return count
            self._end_part()

    def _read(self, buffer: memoryview) -> int:
        """Read something of the part, 0 at its end."""
        left = self._part.size - self._seen
        if not left:
            return 0
        count = patiently(lambda: self._try(buffer[: min(left, len(buffer))]), on_failure=lambda error: self._let_go())
        self._hash.update(buffer[:count])
        self._seen += count
        if self._seen == self._part.size:
            self._compare(self._part)  # before its last bytes are handed on
        return count

    def _compare(self, part: Part) -> None:
        if part.sha256 and self._hash.hexdigest() != part.sha256:
            self._let_go()
            raise Differs(part)

    def _try(self, buffer: memoryview) -> int:
        if self._range is None:
            offset, length = self._part.offset + self._seen, self._part.size - self._seen
            self._range = self._storage.open_range(self._found.key, offset, length, self._found)
            self._stream = self._range.__enter__()
        if count := self._stream.readinto(buffer):
            return count
        raise StorageError("The store ended a read early.", retry=True, code="ShortRead")

    def _end_part(self) -> None:
        self._let_go()
        self._part = None

    def _let_go(self) -> None:
        opened, self._range = self._range, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def close(self) -> None:
        if not self.closed:
            self._let_go()
        super().close()
