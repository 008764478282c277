"""Walks the container of a compressed backup from chunk to chunk, while its bytes stream past (`sqlserver.md` §1).

The checksum that each chunk carries is of an unknown algorithm. What can be held against the bytes: that every chunk
ends where the next one begins, up to the filemark that closes the file; that each begins with a complete Huffman code;
and the header checksums of the blocks inside, in the few chunks that hold blocks.
"""

from __future__ import annotations

import struct
from base64 import b85decode, b85encode
from typing import Any

from backups.engines.sqlserver.blocks import BLOCK_HEADER, STREAM_HEADER, Block, parse_block, parse_stream
from backups.engines.sqlserver.saying_no import damaged, unknown_layout
from backups.engines.sqlserver.sectors import SECTOR
from backups.engines.sqlserver.xca import TABLE_SIZE, expand, first_symbol, is_table
from regions.refusals import Refusal

FIRST_CHUNK = 0x1E0
CHUNK_HEADER, CHUNK_MARK = 28, 0x21
_PADDING_MARKS = (0x24, 0x2C)
_LEAST_BODY = TABLE_SIZE + 4
_FILEMARK = b"SFMB"
_BLOCKS_OF_DATA = {b"MSDA", b"MSTL"}  # their headers come first; what follows is pages and log
_BLOCKS = _BLOCKS_OF_DATA | {b"TAPE", b"SSET", b"VOLB", b"MSCI", b"MSLS", b"ESET"}
_BEHIND_FILEMARK = {"TAPE": "SSET", "MSLS": "ESET", "ESET": "SSET"}  # what the chunk behind it begins with
_INITIALS = {name[0] for name in _BLOCKS}
_OPENING = TABLE_SIZE + 32  # enough to expand four letters
_DATA_HEADERS, _DATA_HEADERS_BODY = 1024, TABLE_SIZE + 2048
_LOOKAHEAD = CHUNK_HEADER + TABLE_SIZE
_NEARBY = 64
_MOST_PADDING = 1 << 20


class ChunkWalk:
    """Takes one compressed file from byte `position` on, inside the container's own header.

    Raises Refusal where a header fails its checksum, and with the code UnknownLayout where something does not fit: that
    is no proof of damage. `opaque` says why the rest cannot be looked into, "" while it can.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.chunks = 0
        self.opaque = ""
        self._stage, self._until = "skip", FIRST_CHUNK
        self._held, self._needed = b"", 0
        self._begin = self._size = 0
        self._last_block, self._closed = "", False
        self._due = "TAPE"

    def feed(self, view: memoryview) -> None:
        while view and not self.opaque:
            used = min(len(view), self._appetite())
            piece, view = view[:used], view[used:]
            self._take(piece)

    def unfinished(self) -> str:
        """Say why this is not where a backup ends, "" when it is."""
        if self._stage == "record" and not self._held and self._closed:
            return ""
        return f"The file ends too early, at byte {self.position}."

    def state(self) -> dict[str, Any]:
        return dict(vars(self), _held=b85encode(self._held).decode())

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ChunkWalk:
        walk = cls(state["position"])
        vars(walk).update(state, _held=b85decode(state["_held"]))
        return walk

    def _appetite(self) -> int:
        return self._until - self.position if self._stage == "skip" else self._needed - len(self._held)

    def _take(self, piece: memoryview) -> None:
        self.position += len(piece)
        if self._stage == "skip":
            self._skip(self._until)
            return
        self._held += bytes(piece)
        if len(self._held) == self._needed:
            getattr(self, f"_{self._stage}")()

    def _skip(self, until: int) -> None:
        """Go past what is not looked at; a record begins behind it."""
        self._stage, self._until, self._held = "skip", until, b""
        if self.position == until:
            self._begin = until
            self._hold("record", 1)

    def _hold(self, stage: str, needed: int) -> None:
        self._stage, self._needed = stage, needed

    # ---- records

    def _record(self) -> None:
        mark = self._held[0]
        if mark == CHUNK_MARK:
            self._hold("header", CHUNK_HEADER)
        elif mark in _PADDING_MARKS:
            self._hold("padding", self._to_boundary() + _LOOKAHEAD)
        elif mark == _FILEMARK[0] and self._begin % SECTOR == 0:
            self._hold("filemark", BLOCK_HEADER)
        elif mark & 0xF0 == 0x20:
            self._hold("unknown", _LOOKAHEAD + _NEARBY)
        elif mark == 0:
            raise unknown_layout(f"nothing is written at byte {self._begin}")
        else:
            raise unknown_layout(f"no chunk begins at byte {self._begin}")

    def _header(self) -> None:
        _, sectors, self._size = struct.unpack_from("<BBH", self._held)
        if not sectors or self._size < _LEAST_BODY:
            raise unknown_layout(f"the chunk at byte {self._begin} has an impossible size")
        self._hold("opening", CHUNK_HEADER + min(self._size, _OPENING))

    def _opening(self) -> None:
        """Look whether the chunk holds blocks: what it expands to begins with the name of one."""
        body = self._held[CHUNK_HEADER:]
        try:
            name = expand(body, 4) if first_symbol(body) in _INITIALS else b""
        except ValueError as wrong:
            raise self._unexpandable(wrong) from wrong
        if self._due and name != self._due.encode():
            raise unknown_layout(f"the chunk at byte {self._begin} does not begin with the {self._due} block")
        self._due = ""
        if name in _BLOCKS:
            whole = name not in _BLOCKS_OF_DATA
            self._hold("blocks", CHUNK_HEADER + (self._size if whole else min(self._size, _DATA_HEADERS_BODY)))
            if len(self._held) == self._needed:
                self._blocks()
        else:
            self._past_chunk("")

    def _blocks(self) -> None:
        """Check the header of every block and stream in a chunk that begins with a block."""
        size = self._held[1] * SECTOR
        is_whole = len(self._held) == CHUNK_HEADER + self._size
        try:
            last = last_block_of(expand(self._held[CHUNK_HEADER:], size if is_whole else min(size, _DATA_HEADERS)))
        except ValueError as wrong:
            raise self._unexpandable(wrong) from wrong
        except Refusal as wrong:
            raise damaged(f"a header inside the chunk at byte {self._begin} fails its checksum") from wrong
        self._past_chunk(last)

    def _past_chunk(self, last: str) -> None:
        self.chunks += 1
        self._last_block, self._closed = last, False
        self._skip(self._begin + CHUNK_HEADER + self._size)

    def _unexpandable(self, why: ValueError) -> Refusal:
        return unknown_layout(f"the chunk at byte {self._begin} cannot be expanded ({why})")

    def _filemark(self) -> None:
        block = parse_block(self._held, self._begin)
        if not block.is_filemark:
            raise unknown_layout(f"a {block.kind} block outside the chunks, at byte {self._begin}")
        self._due = _BEHIND_FILEMARK.get(self._last_block, "ESET")
        self._last_block, self._closed = "", self._last_block == "ESET"
        self._skip(block.first_stream)

    def _unknown(self) -> None:
        """A record of a kind never seen is no damage, when it has the shape of a chunk's header (a zero word before the
        checksum) and no chunk begins so close that some bytes must have come in between."""
        if any(self._held[20:24]) or any(_is_chunk(self._held[offset:]) for offset in range(1, _NEARBY)):
            raise unknown_layout(f"no chunk begins at byte {self._begin}")
        self.opaque = f"The record at byte {self._begin} is of a kind not known here ({self._held[0]:#04x})."

    # ---- padding

    def _padding(self) -> None:
        """Go on at the next sector that begins with a filemark or a chunk; padding is not looked at otherwise.

        Or at the chunk that padding leads to when its own size is read as a chunk's: both ways fit what was seen.
        """
        at = self.position - len(self._held)
        sector = len(self._held) - _LOOKAHEAD
        if at == self._begin:
            self._size = int.from_bytes(self._held[2:4], "little")
        told = self._begin + CHUNK_HEADER + self._size - at
        if 0 < told < sector and _is_chunk(self._held[told:]):
            self._go_on(at + told, self._held[told:])
            return
        if _has_filemark_inside(self._held, sector):
            raise unknown_layout(f"bytes are lost or added before byte {self.position}")
        rest, has_chunk = self._held[sector:], _has_chunk_inside(self._held, sector)
        if self._last_block in _BEHIND_FILEMARK and (_is_chunk(rest) or has_chunk and at > self._begin):
            raise unknown_layout(f"the filemark before byte {at + sector} is missing")
        if has_chunk:
            self.opaque = f"The chunks behind the padding at byte {self._begin} are laid out in a way not known here."
        elif _is_filemark(rest) or _is_chunk(rest):
            self._go_on(at + sector, rest)
        elif at + sector - self._begin > _MOST_PADDING:
            self.opaque = f"What follows the padding at byte {self._begin} is not known here."
        else:
            self._held = rest
            self._needed = SECTOR + _LOOKAHEAD

    def _go_on(self, position: int, held: bytes) -> None:
        self.position = position
        self._skip(position)
        self.feed(memoryview(held))

    def _to_boundary(self) -> int:
        return SECTOR - self._begin % SECTOR


def last_block_of(expanded: bytes) -> str:
    """Check every header in bytes that begin with a block; return the kind of the last one.

    A block may go on in later chunks. Raises Refusal for a header that fails its checksum.
    """
    position, kind = 0, ""
    while position + BLOCK_HEADER <= len(expanded):
        header = expanded[position : position + BLOCK_HEADER]
        if position and not any(header):
            break
        block = parse_block(header, position)
        kind, position = block.kind, _end_of(block, expanded)
    return kind


def _end_of(block: Block, expanded: bytes) -> int:
    position = block.first_stream
    while not block.is_filemark and position + STREAM_HEADER <= len(expanded):
        stream = parse_stream(expanded[position : position + STREAM_HEADER], position)
        position = stream.end
        if stream.kind == "SPAD":
            break
    return position


def _has_filemark_inside(held: bytes, sector: int) -> bool:
    """Say whether a filemark begins where none may: not at a sector's beginning."""
    offset = held.find(_FILEMARK)
    while 0 <= offset < sector:
        if _is_filemark(held[offset:]):
            return True
        offset = held.find(_FILEMARK, offset + 1)
    return False


def _has_chunk_inside(held: bytes, sector: int) -> bool:
    """Say whether what is gone past as padding holds a chunk: an old one, or the next, to which nothing leads."""
    offset = held.find(CHUNK_MARK, 1)
    while 0 <= offset < sector:
        if _is_chunk(held[offset:]):
            return True
        offset = held.find(CHUNK_MARK, offset + 1)
    return False


def _is_filemark(data: bytes) -> bool:
    if not data.startswith(_FILEMARK):
        return False
    try:
        return parse_block(data[:BLOCK_HEADER], 0).is_filemark
    except Refusal:
        return False


def _is_chunk(data: bytes) -> bool:
    mark, sectors, size = struct.unpack_from("<BBH", data)
    if mark != CHUNK_MARK or not sectors or size < _LEAST_BODY:
        return False
    return is_table(data[CHUNK_HEADER : CHUNK_HEADER + TABLE_SIZE])
