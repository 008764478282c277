"""The SCIN record: what one set says of itself, written at its head (not final) and at its tail (final)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from backups.engines.facts import DatabaseFile, Kind
from backups.engines.sqlserver.saying_no import damaged, unknown_kind, unknown_version

_FIXED_PARTS = {(9, 0): 344, (10, 50): 364, (12, 0): 400, (13, 0): 400, (14, 0): 400, (15, 0): 400}
_KINDS = {"D": Kind.FULL, "I": Kind.DIFFERENTIAL, "L": Kind.LOG}
_FILE_KINDS = {1: "data", 2: "log"}
_FILE_FIXED_PART = 0x38
_SMALLEST_RECORD = 8


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of one SCIN record; times are the server's local ones, positions as msdb prints them."""

    version: str
    kind: Kind
    flags: int
    database: str
    server: str
    created: datetime | None
    started: datetime | None
    finished: datetime | None
    first: int
    last: int
    checkpoint: int
    base: int
    chain_start: int
    fork_guid: str
    base_guid: str
    family_guid: str
    size_bytes: int
    length: int

    @property
    def has_checksums(self) -> bool:
        return bool(self.flags & 0x10)

    @property
    def is_snapshot(self) -> bool:
        return bool(self.flags & 0x2)

    @property
    def is_damaged(self) -> bool:
        return bool(self.flags & 0x20)

    @property
    def says_copy_only(self) -> bool:
        return bool(self.flags & 0x200)

    @property
    def says_differential(self) -> bool:
        return bool(self.flags & 0x800)


def parse_record(record: bytes) -> Record:
    """Return the record at the start of an MQCI stream; refuses versions and types whose layout is not known.

    Its texts may lie anywhere in the stream: whether the length counts them in is not proven for every version.
    """
    length, version = _length_and_version(record)
    return Record(
        version=version,
        kind=_kind_of(record[0x57]),
        flags=_u16(record, 8),
        database=text_at(record, 0x68, "database name"),
        server=text_at(record, 0x6C, "server name"),
        created=mtf_date(record[0x48:0x4D]),
        started=mtf_date(record[0x4D:0x52]),
        finished=mtf_date(record[0x52:0x57]),
        first=_lsn(record, 0x20),
        last=_lsn(record, 0x2A),
        checkpoint=_lsn(record, 0x34),
        base=_lsn(record, 0x3E),
        chain_start=_lsn(record, 0xF8),
        fork_guid=guid_at(record, 0x9C),
        base_guid=guid_at(record, 0xC8),
        family_guid=guid_at(record, 0xE0),
        size_bytes=struct.unpack_from("<Q", record, 0x60)[0],
        length=length,
    )


def parse_files(records: bytes) -> tuple[DatabaseFile, ...]:
    """Return the database files listed behind the SCIN record; `records` begins there and may end with padding."""
    files, position = [], 0
    while records[position : position + 4] in (b"SFGI", b"SFIN"):
        length = int.from_bytes(records[position + 4 : position + 8], "little")
        if length < _SMALLEST_RECORD or position + length > len(records):
            raise damaged("a file record is longer than its stream")
        if records[position : position + 4] == b"SFIN":
            files.append(_file_of(records[position : position + length]))
        position += length
    return tuple(files)


def mtf_date(packed: bytes) -> datetime | None:
    """Return the date in five bytes (year 14 bits, month 4, day 5, hour 5, minute 6, second 6), None when all zero."""
    bits = int.from_bytes(packed, "big")
    if not bits:
        return None
    try:
        return datetime(bits >> 26, bits >> 22 & 15, bits >> 17 & 31, bits >> 12 & 31, bits >> 6 & 63, bits & 63)
    except ValueError as wrong:
        raise damaged("a date does not exist") from wrong


def guid_at(data: bytes, offset: int) -> str:
    """Return the GUID as text, "" when it is all zero."""
    raw = data[offset : offset + 16]
    if len(raw) != 16:
        raise damaged("a GUID lies outside its block")
    return str(UUID(bytes_le=raw)) if any(raw) else ""


def text_at(record: bytes, pointer: int, what: str) -> str:
    """Return the text that the {size, offset} pointer leads to; it must lie inside the record."""
    size, offset = struct.unpack_from("<HH", record, pointer)
    if not size:
        return ""
    if size % 2 or offset < pointer or offset + size > len(record):
        raise damaged(f"the {what} lies outside its record")
    try:
        return record[offset : offset + size].decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError as wrong:
        raise damaged(f"the {what} is no text") from wrong


def _length_and_version(data: bytes) -> tuple[int, str]:
    if data[:4] != b"SCIN" or len(data) < 0x20:
        raise damaged("the record of the set is missing")
    length, (build, minor, major) = int.from_bytes(data[4:8], "little"), struct.unpack_from("<HBB", data, 0x18)
    version = f"{major}.{minor}.{build}"
    fixed = _FIXED_PARTS.get((major, minor))
    if fixed is None:
        raise unknown_version(version)
    if not fixed <= length <= len(data):
        raise damaged("the record of the set lies about its length")
    return length, version


def _kind_of(letter: int) -> Kind:
    kind = _KINDS.get(chr(letter))
    if kind is None:
        raise unknown_kind(chr(letter))
    return kind


def _file_of(record: bytes) -> DatabaseFile:
    if len(record) < _FILE_FIXED_PART:
        raise damaged("a file record is too short")
    return DatabaseFile(
        logical_name=text_at(record, 0x30, "logical file name"),
        physical_path=text_at(record, 0x34, "file path"),
        kind=_FILE_KINDS.get(record[0x1C], "other"),
        size_bytes=struct.unpack_from("<Q", record, 0x28)[0],
        file_id=struct.unpack_from("<I", record, 0x14)[0],
    )


def _lsn(record: bytes, offset: int) -> int:
    vlf, block, slot = struct.unpack_from("<IIH", record, offset)
    return vlf * 10**15 + block * 10**5 + slot


def _u16(record: bytes, offset: int) -> int:
    return int.from_bytes(record[offset : offset + 2], "little")
