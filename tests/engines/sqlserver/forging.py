"""Forges backup files: changes a field and puts the header checksums right again, so that only the lie is wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import xor

from backups.engines.sqlserver.walking import PlacedBlock, walk
from backups.engines.sqlserver.windows import Windows
from demo.tape import TapeWriter, stream_header

BLOCK_NAMES = {b"TAPE", b"SFMB", b"SSET", b"VOLB", b"MSCI", b"MSDA", b"MSTL", b"MSLS", b"ESET"}


def blocks_of(file: bytes) -> Iterator[PlacedBlock]:
    return walk(Windows(lambda offset, length: file[offset : offset + length], len(file)))


def block_of(file: bytes, kind: str) -> PlacedBlock:
    return next(placed for placed in blocks_of(file) if placed.kind == kind)


def record_at(file: bytes, kind: str) -> int:
    """Return where the SCIN record of the MSCI or MSLS block begins."""
    return block_of(file, kind).stream("MQCI").position


def with_field(file: bytes, at: int, form: str, *values: object) -> bytes:
    """Return the file with a field overwritten and every header checksum as it was."""
    changed = bytearray(file)
    struct.pack_into(f"<{form}", changed, at, *values)
    return bytes(changed)


def with_block_field(file: bytes, kind: str, at: int, form: str, *values: object) -> bytes:
    """Overwrite a field of the first block of this kind and put that block's checksum right."""
    position = block_of(file, kind).block.position
    changed = bytearray(with_field(file, position + at, form, *values))
    struct.pack_into("<H", changed, position + 50, _xor16(changed[position : position + 50]))
    return bytes(changed)


def with_stream_length(file: bytes, position: int, length: int) -> bytes:
    """Let the stream whose header stands at `position` lie about its length."""
    kind = file[position : position + 4]
    attributes = int.from_bytes(file[position + 6 : position + 8], "little")
    return file[:position] + stream_header(kind, length, attributes) + file[position + 22 :]


def without_end(kind: bytes, blocks: int, streams: int, start: bytes) -> bytes:
    """Return a file that begins like `start` and goes on with ever the same block of ever the same stream."""

    class Out(bytearray):
        write = bytearray.extend

    out = Out(start)
    tape = TapeWriter(out)
    tape.position = len(start)
    for _ in range(blocks):
        tape.block(kind)
        for _ in range(streams):
            tape.stream(b"APAD", 0, [])
        tape.end_block()
    return bytes(out)


@dataclass(frozen=True)
class PlacedChunk:
    """A chunk of a compressed file, or the filemark between two (`size` is then that of its header)."""

    position: int
    size: int
    is_filemark: bool = False

    @property
    def covered(self) -> list[tuple[int, int]]:
        """What a walk over the chunks holds against the bytes: mark, body size and codes; a filemark's header."""
        at = self.position
        return [(at, at + 52)] if self.is_filemark else [(at, at + 1), (at + 2, at + 4), (at + 28, at + 28 + 256)]


def chunks_in(file: bytes) -> Iterator[PlacedChunk]:
    """Yield chunks and filemarks of a file as our own writer lays it out: padding ends where a filemark begins."""
    position = 0x1E0
    while position < len(file):
        if file[position] == 0x21:
            size = int.from_bytes(file[position + 2 : position + 4], "little")
            yield PlacedChunk(position, size)
            position += 28 + size
        elif file[position : position + 4] == b"SFMB":
            yield PlacedChunk(position, 52, is_filemark=True)
            position += int.from_bytes(file[position + 8 : position + 10], "little")
        else:
            position = file.index(b"SFMB", position)


def mended(file: bytes, starts: Iterable[int]) -> bytes:
    """Return the file with the checksums of the block and stream headers at these places put right."""
    changed = bytearray(file)
    for at in starts:
        covered = 50 if bytes(changed[at : at + 4]) in BLOCK_NAMES else 20
        if at + covered + 2 <= len(changed):
            struct.pack_into("<H", changed, at + covered, _xor16(changed[at : at + covered]))
    return bytes(changed)


def _xor16(data: bytes) -> int:
    return reduce(xor, struct.unpack(f"<{len(data) // 2}H", data))
