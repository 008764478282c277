"""Verifies the bytes of a backup file without a server, while they stream past in order.

Fed with what was read back at the destination, in pieces of any size. Between pieces its state is at most 2 KiB of
JSON (more only inside a chunk of a compressed file that holds blocks: that chunk), so that it can be journaled with a
part and taken up again by another worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backups.engines.sqlserver.blocks import BLOCK_HEADER, STREAM_HEADER, Stream, aligned, parse_block, parse_stream
from backups.engines.sqlserver.chunks import ChunkWalk
from backups.engines.sqlserver.compressed import COMPRESSED, ENCRYPTED, MAGIC, VERSION
from backups.engines.sqlserver.saying_no import UNKNOWN_LAYOUT
from backups.engines.sqlserver.sectors import Sectors
from regions.refusals import Refusal

_DATA, _LOG = "MQDA", "MQTL"
_PREFIX = 2
_ASK_THE_SERVER = "It may be damaged; only a server can tell (RESTORE VERIFYONLY)."
_CHUNKS_IN_ORDER = (
    "All {} chunks follow each other to the end, and the headers in them are in order; the compressed data in them"
    " carries checksums of an unknown kind, which are not compared."
)
_FOREIGN = "This is not a native SQL Server backup."
_MAGICS = (b"TAPE", MAGIC)
_HEADERS = {"block": BLOCK_HEADER, "stream": STREAM_HEADER, "checksum": 4}


class Level(StrEnum):
    """How much the file's own checksums say of its bytes, from most to least."""

    BACKUP_CHECKSUM = "backup checksum"
    PAGE_CHECKSUM = "page checksum"
    STRUCTURE = "structure"
    NOT_INSPECTABLE = "not inspectable"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Verdict:
    level: Level
    sentence: str
    streams_checked: int = 0
    pages_checked: int = 0


class Verifier:
    """Walks through one file: `feed` it every byte once and in order, then ask for the `verdict`.

    `state` and `from_state` carry it over an interruption; feeding goes on at `position`.
    """

    def __init__(self) -> None:
        self.position = 0
        self._stage, self._held = "block", b""
        self._until, self._then, self._data_start, self._data_end = 0, "", 0, 0
        self._closing = self._closed = False
        self._expected: int | None = None
        self._damage = self._opaque = ""
        self._data_streams = self._streams_checked = self._pages_checked = 0
        self._sectors: Sectors | None = None
        self._has_checksum = False
        self._chunks: ChunkWalk | None = None

    @property
    def is_decided(self) -> bool:
        """Nothing that follows can change the verdict."""
        return bool(self._damage or self._opaque)

    def feed(self, data: memoryview | bytes) -> None:
        view = memoryview(data)
        try:
            while view and not self._chunks and not self.is_decided:
                used = min(len(view), self._appetite())
                piece, view = view[:used], view[used:]
                self._take(piece)
            if self._chunks and not self.is_decided:
                self._chunks.feed(view)
                self._opaque = self._chunks.opaque
        except Refusal as refusal:
            if self._chunks and refusal.code == UNKNOWN_LAYOUT:
                self._opaque = f"{refusal.sentence} {_ASK_THE_SERVER}"
            else:
                self._damage = refusal.sentence
        self.position += len(view)

    def verdict(self) -> Verdict:
        """Say what is proven, all bytes having been fed."""
        counts = (self._streams_checked, self._pages_checked)
        opaque = self._opaque or self._foreign()
        damage = self._damage or ("" if opaque else self._unfinished())
        if damage:
            return Verdict(Level.DAMAGED, damage, *counts)
        if opaque:
            return Verdict(Level.NOT_INSPECTABLE, opaque)
        if self._chunks:
            return Verdict(Level.STRUCTURE, _CHUNKS_IN_ORDER.format(self._chunks.chunks))
        if self._data_streams and self._streams_checked == self._data_streams:
            return Verdict(Level.BACKUP_CHECKSUM, "Every stream matches the backup checksum in the file.", *counts)
        if self._pages_checked:
            sentence = f"{self._pages_checked} pages match their own checksums; the log carries none."
            return Verdict(Level.PAGE_CHECKSUM, sentence, *counts)
        return Verdict(Level.STRUCTURE, "All headers are in order; the data carries no checksums.", *counts)

    def state(self) -> dict[str, Any]:
        """Return all that must be kept to go on later, fit for JSON."""
        kept = dict(vars(self), _held=self._held.hex())
        kept["_sectors"] = self._sectors.state() if self._sectors else None
        kept["_chunks"] = self._chunks.state() if self._chunks else None
        return kept

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Verifier:
        verifier = cls()
        vars(verifier).update(state, _held=bytes.fromhex(state["_held"]))
        verifier._sectors = Sectors.from_state(state["_sectors"]) if state["_sectors"] else None
        verifier._chunks = ChunkWalk.from_state(state["_chunks"]) if state.get("_chunks") else None
        return verifier

    def _appetite(self) -> int:
        """Return how many bytes the present stage can take at once."""
        return _HEADERS[self._stage] - len(self._held) if self._stage in _HEADERS else self._until - self.position

    def _take(self, piece: memoryview) -> None:
        self.position += len(piece)
        if self._stage in _HEADERS:
            self._held += bytes(piece)
            if len(self._held) == _HEADERS[self._stage]:
                header, self._held = self._held, b""
                self._read(header)
            return
        if self._stage == "data":
            self._sectors.feed(piece)
            self._check_pages()
        if self.position == self._until:
            self._enter(self._then)

    def _skip(self, until: int, then: str) -> None:
        self._stage, self._until, self._then = "skip", until, then
        if self.position == until:
            self._enter(then)

    def _enter(self, stage: str) -> None:
        if self._stage == "data":
            self._end_data()
        elif stage == "data":
            self._stage, self._until, self._then = "data", self._data_end, "stream"
        else:
            self._stage = stage

    def _read(self, header: bytes) -> None:
        if self._stage == "block":
            self._block(header)
        elif self._stage == "stream":
            self._stream(parse_stream(header, self.position - STREAM_HEADER))
        else:
            self._checksum(int.from_bytes(header, "little"))

    def _block(self, header: bytes) -> None:
        at = self.position - BLOCK_HEADER
        if at == 0 and header[:4] != b"TAPE":
            self._opaque = _why_opaque(header)
            self._chunks = None if self._opaque else ChunkWalk(self.position)
            return
        block = parse_block(header, at)
        self._closed = block.is_filemark and self._closing
        self._closing = block.kind == "ESET"
        self._skip(block.first_stream, "block" if block.is_filemark else "stream")

    def _stream(self, stream: Stream) -> None:
        if self._expected is not None:
            self._expect_checksum(stream)
        elif stream.kind in (_DATA, _LOG) and stream.length > _PREFIX:
            self._data_streams += 1
            self._has_checksum = stream.has_checksum
            self._sectors = Sectors(has_pages=stream.kind == _DATA)
            self._data_start, self._data_end = stream.position + _PREFIX, stream.position + stream.length
            self._skip(self._data_start, "data")
        else:
            self._skip(stream.end, "block" if stream.kind == "SPAD" else "stream")

    def _end_data(self) -> None:
        value = self._sectors.finish()
        self._pages_checked += self._sectors.pages_checked
        self._expected = value if self._has_checksum else None
        self._sectors = None
        self._skip(aligned(self.position), "stream")

    def _check_pages(self) -> None:
        if self._sectors.wrong_at is not None:
            at = self._data_start + self._sectors.wrong_at
            self._damage = f"The page at byte {at} does not match its own checksum."

    def _expect_checksum(self, stream: Stream) -> None:
        if stream.kind != "CSUM" or stream.length != _HEADERS["checksum"]:
            self._damage = f"The checksum of the data before byte {stream.position} is missing."
            return
        self._skip(stream.position, "checksum")

    def _checksum(self, found: int) -> None:
        if found != self._expected:
            self._damage = f"The data before byte {self.position} does not match its backup checksum."
            return
        self._streams_checked += 1
        self._expected = None
        self._skip(aligned(self.position), "stream")

    def _foreign(self) -> str:
        """Say that a file too short for a header does not even begin like one."""
        held = self._held if self.position < BLOCK_HEADER else b""
        return _FOREIGN if held and not any(held.startswith(magic[: len(held)]) for magic in _MAGICS) else ""

    def _unfinished(self) -> str:
        if self._chunks:
            return self._chunks.unfinished()
        if self._stage == "block" and not self._held and self._closed:
            return ""
        return f"The file ends too early, at byte {self.position}."


def _why_opaque(header: bytes) -> str:
    """Say why a file that is no plain one cannot be looked into, "" when it is a compressed one as known."""
    if not header.startswith(MAGIC):
        return _FOREIGN
    version, flags = int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:16], "little")
    if flags & ENCRYPTED:
        return "The backup is encrypted; its checksums cannot be computed without the server."
    if (version, flags) != (VERSION, COMPRESSED):
        return f"A container of version {version} with flags {flags:#x} is not known here."
    return ""
