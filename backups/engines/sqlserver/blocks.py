"""Descriptor blocks and streams of Microsoft Tape Format, as SQL Server writes them (`sqlserver.md` §1).

Every header carries the XOR of its words; nothing in a header is believed before that is checked.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from backups.engines.sqlserver.saying_no import damaged, truncated

BLOCK_HEADER = 52
STREAM_HEADER = 22
CHECKSUM_FOLLOWS = 0x100
_BLOCK_NAME = re.compile(rb"[A-Z]{4}")
_STREAM_NAME = re.compile(rb"[A-Z0-9]{4}")
_BLOCK = struct.Struct("<4sIH")
_STREAM = struct.Struct("<4sHHQ")
_FILEMARK_SIZES = (0x200, 0x1000)


@dataclass(frozen=True, slots=True)
class Block:
    """One descriptor block: its streams begin at `first_stream`, a filemark ends there."""

    kind: str
    position: int
    attributes: int
    first_stream: int

    @property
    def is_filemark(self) -> bool:
        return self.kind == "SFMB"

    @property
    def header_size(self) -> int:
        return self.first_stream - self.position


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a block: `length` bytes at `position`; the next one begins at `end`."""

    kind: str
    position: int
    length: int
    has_checksum: bool

    @property
    def end(self) -> int:
        return aligned(self.position + self.length)


def aligned(position: int) -> int:
    return position + -position % 4


def xor_words(data: bytes) -> int:
    """Return the XOR of the 16-bit words of at most 64 bytes.

    Folded in halves as one number: an appended file has tens of thousands of headers.
    """
    folded = int.from_bytes(data, "little")
    for bits in (256, 128, 64, 32, 16):
        folded ^= folded >> bits
    return folded & 0xFFFF


def parse_block(header: bytes, position: int) -> Block:
    """Return the block whose first 52 bytes these are; refuses what is no block or fails its checksum."""
    if not any(header):
        raise truncated(f"nothing is written at byte {position} yet")
    name, attributes, first_stream = _BLOCK.unpack_from(header)
    if not _BLOCK_NAME.fullmatch(name) or xor_words(header[:50]) != int.from_bytes(header[50:52], "little"):
        raise damaged(f"the block at byte {position} fails its checksum")
    if first_stream < BLOCK_HEADER or first_stream % 4:
        raise damaged(f"the block at byte {position} points into itself")
    if name == b"SFMB" and first_stream not in _FILEMARK_SIZES:
        raise damaged(f"the filemark at byte {position} has an unknown size")
    return Block(name.decode(), position, attributes, position + first_stream)


def parse_stream(header: bytes, position: int) -> Stream:
    """Return the stream whose first 22 bytes these are; `position` is where they stand."""
    if not any(header):
        raise truncated(f"nothing is written at byte {position} yet")
    name, _, media_attributes, length = _STREAM.unpack_from(header)
    if not _STREAM_NAME.fullmatch(name) or xor_words(header[:20]) != int.from_bytes(header[20:22], "little"):
        raise damaged(f"the stream at byte {position} fails its checksum")
    return Stream(name.decode(), position + STREAM_HEADER, length, bool(media_attributes & CHECKSUM_FOLLOWS))
