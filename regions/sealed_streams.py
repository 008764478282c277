"""A stream of any length under the key ring: AES-256-GCM in frames, with a data key of its own that the ring wraps.

    magic, length of the wrapped key (2 bytes), wrapped key (regions.secrets), then frames until the last one:
    length (4 bytes), ciphertext with its tag. Nonce: number of the frame (8 bytes), then 1 for the last, else 0
    (4 bytes). Associated data: SHA-256 of everything before the first frame.

A frame that is changed, missing, doubled or out of order does not open, and an end that was cut off is noticed: only
the last frame is sealed as the last. What is read before the end is authentic, but not yet known to be all.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regions import secrets
from regions.refusals import Refusal

MAGIC = b"farshore-sealed/1\n"
FRAME_BYTES = 1 << 20
TAG_BYTES = 16


class Source(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Sealing(io.RawIOBase):
    """Gives the sealed bytes of what `source` gives, for exactly this identity."""

    def __init__(self, source: Source, identity: str) -> None:
        key = os.urandom(secrets.KEY_SIZE)
        wrapped = secrets.seal(key, identity)
        header = MAGIC + len(wrapped).to_bytes(2, "big") + wrapped
        self._source, self._cipher, self._bound = source, AESGCM(key), hashlib.sha256(header).digest()
        self._ready, self._number, self._ahead = memoryview(header), 0, _read_fully(source, FRAME_BYTES)
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        if not self._ready and not self._ended:
            self._ready = memoryview(self._next_frame())
        return _give(self, memoryview(buffer))

    def _next_frame(self) -> bytes:
        plain, self._ahead = self._ahead, _read_fully(self._source, FRAME_BYTES)
        self._ended = not self._ahead
        sealed = self._cipher.encrypt(_nonce(self._number, self._ended), plain, self._bound)
        self._number += 1
        return len(sealed).to_bytes(4, "big") + sealed


class Opening(io.RawIOBase):
    """Gives what was sealed; raises Refusal at the first byte that was not, and at an end that is not the end."""

    def __init__(self, source: Source, identity: str) -> None:
        start = _read_fully(source, len(MAGIC) + 2)
        if start[:-2] != MAGIC:
            raise Refusal("SealedUnreadable", "This was not sealed by this version of Farshore.", "")
        wrapped = _read_fully(source, int.from_bytes(start[-2:], "big"))
        self._cipher = AESGCM(secrets.open_sealed(wrapped, identity))
        self._source, self._bound = source, hashlib.sha256(start + wrapped).digest()
        self._ready, self._number, self._ended = memoryview(b""), 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._ready and not self._ended:
            self._ready = memoryview(self._next_frame())
        return _give(self, memoryview(buffer))

    def _next_frame(self) -> bytes:
        size = int.from_bytes(_read_fully(self._source, 4), "big")
        sealed = _read_fully(self._source, size) if TAG_BYTES <= size <= FRAME_BYTES + TAG_BYTES else b""
        for is_last in (False, True):
            try:
                plain = self._cipher.decrypt(_nonce(self._number, is_last), sealed, self._bound)
            except (InvalidTag, ValueError):
                continue
            self._ended, self._number = is_last, self._number + 1
            return plain
        raise Refusal("SealedUnreadable", f"Frame {self._number} was changed, or the rest is missing.", "")


def _give(stream: Sealing | Opening, buffer: memoryview) -> int:
    count = min(len(buffer), len(stream._ready))
    buffer[:count] = stream._ready[:count]
    stream._ready = stream._ready[count:]
    return count


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(8, "big") + int(is_last).to_bytes(4, "big")


def _read_fully(source: Source, size: int) -> bytes:
    parts, left = [], size
    while left and (part := source.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
