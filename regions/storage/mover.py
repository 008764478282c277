"""Moves the bytes, the same for every store: ranged reads streamed into parts, hashed on the way, resumable.

The integrity record of a file is the list of its parts (size and SHA-256) and `digest` over them: a hash of the whole
survives neither a slice nor a crash. Memory is buffers in flight, never parts. After a crash, send what `resumable`
does not return; read back what was not verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from regions.storage import ObjectInfo, Storage, StorageError
from regions.storage.buffers import borrowed
from regions.storage.flight import Flight, Part, Stop, Watched

__all__ = ["Differs", "Part", "Stop", "carry", "digest", "part_size_for", "plan", "read_back", "resumable"]

MIB = 1 << 20
LEAST_PART = 16 * MIB
MOST_PARTS = 9_500  # of the 10,000 a store takes


class Differs(Exception):
    """What the destination holds is not what was carried: at this part."""

    def __init__(self, part: Part) -> None:
        super().__init__(f"Part {part.number} at the destination is not what was carried there.")
        self.part = part


def part_size_for(size: int) -> int:
    """Return the bytes of a part for a file of this size: at least 16 MiB, whole MiB, at most 9,500 parts."""
    whole_mib = -(-size // (MOST_PARTS * MIB)) * MIB
    return max(LEAST_PART, whole_mib)


def plan(size: int, layout: Sequence[int] | None = None) -> list[Part]:
    """Cut a file into parts; `layout` names their sizes where a source's own digest asks for them. Empty: no parts."""
    if layout is None:
        each = part_size_for(size)
        layout = [min(each, size - offset) for offset in range(0, size, each)]
    if sum(layout) != size:
        raise ValueError(f"the layout holds {sum(layout)} bytes, the file {size}")
    cuts = zip(accumulate(layout), layout, strict=True)
    return [Part(number, end - length, length) for number, (end, length) in enumerate(cuts, 1)]


def digest(parts: Iterable[Part]) -> str:
    """Return SHA-256 over the ordered part hashes, in hex."""
    return hashlib.sha256(b"".join(bytes.fromhex(part.sha256) for part in sorted(parts))).hexdigest()


def resumable(target: Storage, key: str, upload_id: str, recorded: Mapping[int, Part]) -> dict[int, Part]:
    """Return the recorded parts that the store still has just so; raises Gone when it has lost the upload."""
    there = {(receipt.number, receipt.size, receipt.etag) for receipt in target.list_parts(key, upload_id)}
    return {
        number: part for number, part in recorded.items() if part.sha256 and (number, part.size, part.etag) in there
    }


def carry(
    source: Storage,
    found: ObjectInfo,
    target: Storage,
    key: str,
    upload_id: str,
    parts: Sequence[Part],
    *,
    done: Mapping[int, Part],
    on_part: Callable[[Part], None],
    until: float | None = None,
    in_flight: int = 4,
    want_md5: bool = False,
    on_retry: Callable[[int], None] | None = None,
    pulse: Callable[[], None] | None = None,
) -> list[Part] | None:
    """Send every part that is not in `done`; return all of them, or None when `until` came first.

    Each part is read from exactly the object `found` (Mismatch when it has changed). `on_part` hears of a part with
    its hashes and ETag once the store has acknowledged it, `on_retry` of bytes sent again, `pulse` every five seconds
    at least; all in the caller's thread, and what they raise (Stop) ends the run at once. An empty file has no parts:
    put it instead.
    """

    def send(part: Part, flight: Flight) -> Part:
        hashes = _Hashes(want_md5, flight)
        with source.open_range(found.key, part.offset, part.size, found) as stream:
            body = Watched(stream, hashes.see)
            receipt = target.put_part(key, upload_id, part.number, part.offset, part.size, body)
        hashes.require(part.size)
        return replace(part, etag=receipt.etag, **hashes.said())

    flight = Flight(send, on_done=on_part, on_retry=on_retry, pulse=pulse, until=until, in_flight=in_flight)
    sent = flight.fly(part for part in parts if part.number not in done)
    return None if sent is None else sorted([*sent, *(done[part.number] for part in parts if part.number in done)])


def read_back(
    target: Storage,
    stored: ObjectInfo,
    parts: Sequence[Part],
    *,
    verified: Container[int],
    on_verified: Callable[[Part], None],
    until: float | None = None,
    in_flight: int = 4,
    watch: Callable[[Part, int, memoryview], None] | None = None,
    pulse: Callable[[], None] | None = None,
) -> bool | None:
    """Read every part that is not `verified` from exactly the object `stored` and compare its hash with the record.

    True: all agree. None: `until` came first. Raises Differs at the first that does not agree; there is no second
    look. `watch` sees (part, bytes of it seen before, chunk) in order within a part, in that part's own thread; a part
    that is read again after a fault begins again at 0.
    """

    def read(part: Part, flight: Flight) -> Part:
        hashes = _Hashes(False, flight)
        with target.open_range(stored.key, part.offset, part.size, stored) as stream, borrowed() as buffer:
            while count := stream.readinto(buffer):
                if watch:
                    watch(part, hashes.size, buffer[:count])
                hashes.see(buffer[:count])
        hashes.require(part.size)
        if hashes.said()["sha256"] != part.sha256:
            raise Differs(part)
        return part

    flight = Flight(read, on_done=on_verified, pulse=pulse, until=until, in_flight=in_flight)
    return flight.fly(part for part in parts if part.number not in verified) is not None or None


class _Hashes:
    """What one pass over a part tells of it."""

    def __init__(self, want_md5: bool, flight: Flight) -> None:
        self._sha256, self._flight, self.size = hashlib.sha256(), flight, 0
        self._md5: Any = hashlib.md5(usedforsecurity=False) if want_md5 else None

    def see(self, chunk: memoryview) -> None:
        self._flight.check()
        self.size += len(chunk)
        self._sha256.update(chunk)
        if self._md5:
            self._md5.update(chunk)

    def require(self, size: int) -> None:
        if self.size != size:
            raise StorageError(f"{self.size} bytes came, not {size}.", retry=True, code="ShortRead")

    def said(self) -> dict[str, str]:
        return {"sha256": self._sha256.hexdigest(), "md5": self._md5.hexdigest() if self._md5 else ""}
