"""The lower half of the synthetic backup writer: blocks, streams and their checksums, and invented content."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, reduce
from hashlib import shake_256
from operator import xor
from typing import BinaryIO
from uuid import UUID

import numpy as np

PAGE = 8192
SECTOR = 512
_PAGES_AT_ONCE = 128
_CHECKSUM_FOLLOWS = 0x100


@dataclass(frozen=True)
class Media:
    """The media set a file belongs to: which stripe of how many, and the block size of its device."""

    guid: UUID
    families: int = 1
    sequence: int = 1
    block: int = 512


class TapeWriter:
    """Puts descriptor blocks and streams, with their checksums, one after the other."""

    def __init__(self, out: BinaryIO, block: int = 512) -> None:
        self.out, self.block_size, self.position, self.begun = out, block, 0, 0

    def put(self, data: bytes) -> None:
        self.out.write(data)
        self.position += len(data)

    def block(
        self, kind: bytes, fixed: bytes = b"", *, attributes: int = 0, parts: dict[int, bytes] | None = None
    ) -> None:
        """Put a block's header: `fixed` follows the common 52 bytes, `parts` go behind it with pointers to them."""
        self.begun = self.position
        header = bytearray(52) + fixed
        for pointer, value in (parts or {}).items():
            struct.pack_into("<HH", header, pointer, len(value), len(header) if value else 0)
            header += value
        header += bytes(-len(header) % 4)
        struct.pack_into("<4sIHBB", header, 0, kind, attributes, len(header), 14, 0)
        struct.pack_into("<Q", header, 20, self.position // SECTOR)
        header[48] = 2
        struct.pack_into("<H", header, 50, _xor16(header[:50]))
        self.put(bytes(header))

    def stream(self, kind: bytes, length: int, chunks: Iterable[bytes], *, media_attributes: int = 0) -> None:
        self.put(stream_header(kind, length, media_attributes))
        for chunk in chunks:
            self.put(chunk)
        self.put(bytes(-self.position % 4))

    def end_block(self, boundary: int = SECTOR, *, least: int = 0) -> None:
        """Put the SPAD stream that closes a block on the boundary, the block being at least so long."""
        end = max(-(-(self.position + 22) // boundary) * boundary, self.begun + least)
        length = end - self.position - 22
        self.stream(b"SPAD", length, [bytes(length)])

    def filemark(self) -> None:
        size = self.block_size
        header = bytearray(size)
        struct.pack_into("<4sIH", header, 0, b"SFMB", 0, size)
        struct.pack_into("<H", header, 50, _xor16(header[:50]))
        self.put(bytes(header))

    def tape(self, media: Media) -> None:
        fixed = bytearray(46)
        struct.pack_into("<IIHHH", fixed, 0, media.guid.int & 0xFFFFFFFF, 0, 1, 0, self.block_size // SECTOR)
        struct.pack_into("<HH", fixed, 32, 1024, 0x1200)
        fixed[41] = 1
        self.block(b"TAPE", bytes(fixed), parts={80: utf16("Microsoft SQL Server")})
        raid = media.guid.bytes_le + struct.pack("<IHHHIH", 0, media.families, 1, media.sequence, 0, 0)
        self.stream(b"RAID", 32, [raid])
        self.end_block(max(1024, self.block_size))
        self.filemark()

    def sectors(self, kind: bytes, prefix: int, length: int, chunks: Iterable[bytes], *, checksum: bool) -> None:
        """Put a data stream whose content begins on a sector, and its CSUM stream when there is one."""
        gap = (SECTOR - 24 - self.position - 22) % SECTOR
        self.stream(b"APAD", gap, [bytes(gap)])
        summed = _Summed(chunks)
        attributes = _CHECKSUM_FOLLOWS if checksum else 0
        self.stream(kind, length + 2, _after(struct.pack("<H", prefix), summed), media_attributes=attributes)
        if checksum:
            self.stream(b"CSUM", 4, [struct.pack("<I", summed.value)])


class _Summed:
    """Passes chunks on and sums them up as a backup checksum, sector after sector."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks, self.value = chunks, 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            words = np.frombuffer(chunk, "<u4").reshape(-1, SECTOR // 4)
            for sector in np.bitwise_xor.reduce(words, axis=1).tolist():
                self.value = ((self.value << 1 | self.value >> 31) & 0xFFFFFFFF) ^ sector
            yield chunk


def stream_header(kind: bytes, length: int, media_attributes: int = 0) -> bytes:
    head = struct.pack("<4sHHQHH", kind, 0, media_attributes, length, 0, 0)
    return head + struct.pack("<H", _xor16(head))


@cache
def _template(seed: str, size: int) -> np.ndarray:
    """Return invented content of few different bytes, so that compressing it is worth showing."""
    noise = np.frombuffer(shake_256(seed.encode()).digest(size), np.uint8)
    return ((noise & 0x0F) + 0x61).view("<u4")


def data_pages(seed: str, file_id: int, first: int, count: int) -> Iterator[bytes]:
    """Yield data pages with their own checksums, some at a time."""
    for start in range(first, first + count, _PAGES_AT_ONCE):
        number = np.arange(start, min(start + _PAGES_AT_ONCE, first + count), dtype="<u4")
        words = np.tile(_template(seed, PAGE), (len(number), 1))
        words[:, :16] = 0
        words[:, 0], words[:, 1], words[:, 8], words[:, 9] = 0x101, 0x200, number, file_id
        words[:, 24] = number * np.uint32(2654435761)
        words[:, 15] = _page_checksums(words)
        yield words.tobytes()


def _page_checksums(words: np.ndarray) -> np.ndarray:
    """Return the page checksums of pages whose checksum field is still zero."""
    sectors = np.bitwise_xor.reduce(words.reshape(-1, 16, SECTOR // 4), axis=2)
    turned = [sectors[:, i] << np.uint32(15 - i) | sectors[:, i] >> np.uint32(17 + i) for i in range(16)]
    return reduce(xor, turned)


def log_sectors(seed: str, first: int, count: int) -> Iterator[bytes]:
    for start in range(first, first + count, 2048):
        number = np.arange(start, min(start + 2048, first + count), dtype="<u4")
        words = np.tile(_template(seed, SECTOR), (len(number), 1))
        words[:, 0] = number
        yield words.tobytes()


def _after(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le")


def _xor16(data: bytes) -> int:
    return reduce(xor, struct.unpack(f"<{len(data) // 2}H", data))
