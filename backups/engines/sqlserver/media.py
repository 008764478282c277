"""What the blocks in front of a backup say: which stripe of which media set, which set, in which time zone."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime

from backups.engines.sqlserver.saying_no import damaged, unknown_time_zone
from backups.engines.sqlserver.scin import guid_at, mtf_date

RAID_SIZE = 32
_MOST_FAMILIES = 64
_OS_POINTER, _ATTRIBUTES, _WRITTEN, _ZONE = 44, 52, 88, 95
_SET_FIXED_PART = 96
_FURTHEST_ZONE = 56


@dataclass(frozen=True, slots=True)
class Family:
    """One stripe: number `sequence` of `count` in the media set."""

    media_set_guid: str
    sequence: int
    count: int


@dataclass(frozen=True, slots=True)
class SetStart:
    """The SSET block; `written` is local, `zone` its offset from UTC in quarter hours."""

    set_guid: str
    attributes: int
    written: datetime | None
    zone: int

    @property
    def is_differential(self) -> bool:
        return bool(self.attributes & 8)

    @property
    def is_copy_only(self) -> bool:
        return bool(self.attributes & 2)


def parse_family(raid: bytes) -> Family:
    count, _, sequence = struct.unpack_from("<HHH", raid, 20)
    if not 1 <= sequence <= count <= _MOST_FAMILIES:
        raise damaged(f"it calls itself file {sequence} of {count}")
    return Family(guid_at(raid, 0), sequence, count)


def parse_set_start(header: bytes) -> SetStart:
    """Return what an SSET block's header says; `header` reaches up to its first stream."""
    if len(header) < _SET_FIXED_PART:
        raise damaged("the block of the set is too short")
    size, offset = struct.unpack_from("<HH", header, _OS_POINTER)
    if size < 16 or offset < _SET_FIXED_PART or offset + size > len(header):
        raise damaged("the identity of the set lies outside its block")
    zone = struct.unpack_from("<b", header, _ZONE)[0]
    if abs(zone) > _FURTHEST_ZONE:
        raise unknown_time_zone()
    return SetStart(
        set_guid=guid_at(header, offset),
        attributes=struct.unpack_from("<I", header, _ATTRIBUTES)[0],
        written=mtf_date(header[_WRITTEN : _WRITTEN + 5]),
        zone=zone,
    )
