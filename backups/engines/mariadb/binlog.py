"""Reading a binary log event by event: where its groups (transactions) begin and end, and when they were made.

https://mariadb.com/kb/en/replication-protocol/: four bytes of magic, then events, each with a header of 19 bytes. The
place that an event names is the one behind it, in the server's file. Times are whole seconds: of the statement that
ended the group, as the server's clock was when that statement began.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

MAGIC = b"\xfebin"
HEADER = struct.Struct("<IBIIIH")
QUERY, STOP, ROTATE, FORMAT, XID = 2, 3, 4, 15, 16
INTVAR, RAND, USER_VAR, BEGIN_LOAD, APPEND_BLOCK = 5, 13, 14, 17, 9
XA_PREPARE, ANNOTATE, CHECKPOINT, GTID, GTID_LIST, ENCRYPTION = 38, 160, 161, 162, 163, 164
QUERY_COMPRESSED = 165
BETWEEN_GROUPS = {FORMAT, ROTATE, STOP, CHECKPOINT, GTID_LIST, ENCRYPTION}
BEFORE_ITS_STATEMENT = {INTVAR, RAND, USER_VAR, ANNOTATE, BEGIN_LOAD, APPEND_BLOCK, 172, 173}
STANDALONE = 1
IN_USE = 1
CRC = 4
CHUNK = 1 << 20
QUERY_HEAD = struct.Struct("<IIBHH")
LONGEST_COMMIT = 4096  # an event that ends a group is small; no other needs to be looked into


class BinlogDamaged(Exception):
    """This is no binary log, or one that does not agree with itself; says why."""


@dataclass(frozen=True)
class Event:
    """One event: its place `first` to `last` in the server's file, and where it stands in this one."""

    kind: int
    stamp: int
    server_id: int
    first: int
    last: int
    at: int
    body: bytes = b""

    @property
    def length(self) -> int:
        return self.last - self.first

    @property
    def gtid(self) -> tuple[int, int]:
        """Domain and sequence number of the group that begins here."""
        number, domain = struct.unpack_from("<QI", self.body)
        return domain, number

    @property
    def is_standalone(self) -> bool:
        return bool(self.body[12] & STANDALONE)

    @property
    def statement(self) -> bytes:
        _, _, database, _, variables = QUERY_HEAD.unpack_from(self.body)
        return self.body[QUERY_HEAD.size + variables + database + 1 :]


@dataclass(frozen=True)
class Format:
    """What the first event says of all that follow: its own bytes, when the file was begun, and whether sums follow."""

    raw: bytes
    stamp: int
    has_sums: bool

    @property
    def head(self) -> bytes:
        """What a file of some of these events begins with."""
        return MAGIC + self.raw


def format_of(file: BinaryIO) -> Format | None:
    """Read magic and first event; None while they are not there whole."""
    file.seek(0)
    head = file.read(len(MAGIC) + HEADER.size)
    if head[: len(MAGIC)] != MAGIC[: len(head)]:
        raise BinlogDamaged("it does not begin as a binary log does")
    if len(head) < len(MAGIC) + HEADER.size:
        return None
    stamp, kind, _, length, _, _ = HEADER.unpack_from(head, len(MAGIC))
    if kind != FORMAT or not HEADER.size + CRC < length < CHUNK:
        raise BinlogDamaged("its first event does not say how to read the others")
    raw = head[len(MAGIC) :] + file.read(length - HEADER.size)
    if len(raw) < length:
        return None
    return Format(raw, stamp, raw[-CRC - 1] == 1)


def events(file: BinaryIO, form: Format, at: int, place: int) -> Iterator[Event]:
    """Read the whole events from `at` in this file on, the first of which stands at `place` in the server's.

    Ends where an event is not there whole. Raises BinlogDamaged for one whose place or checksum is not right.
    """
    while True:
        file.seek(at)
        head = file.read(HEADER.size)
        if len(head) < HEADER.size:
            return
        stamp, kind, server_id, length, behind, flags = HEADER.unpack(head)
        if length < HEADER.size:
            raise BinlogDamaged(f"the event at {place} has a length of {length}")
        body = _body(file, head, length, flags, form, kind, place)
        if body is None:
            return
        if behind and behind != (place + length) & 0xFFFFFFFF:
            raise BinlogDamaged(f"the event at {place} ends at {behind}, not at {place + length}")
        yield Event(kind, stamp, server_id, place, place + length, at, body)
        at, place = at + length, place + length


def _body(file: BinaryIO, head: bytes, length: int, flags: int, form: Format, kind: int, place: int) -> bytes | None:
    """Check an event's sum and return what of its content matters; None when it is not there whole."""
    left, kept = length - HEADER.size - (CRC if form.has_sums else 0), b""
    total = zlib.crc32(_as_summed(head, flags, kind))
    small = left <= LONGEST_COMMIT
    while left > 0:
        taken = file.read(min(left, CHUNK))
        if not taken:
            return None
        total, left = zlib.crc32(taken, total), left - len(taken)
        kept += taken if small else b""
    if form.has_sums:
        promised = file.read(CRC)
        if len(promised) < CRC:
            return None
        if int.from_bytes(promised, "little") != total:
            raise BinlogDamaged(f"the event at {place} does not agree with its checksum")
    return kept


def _as_summed(head: bytes, flags: int, kind: int) -> bytes:
    """A file that is still written says so in its first event, which its sum does not know of."""
    return head[:-2] + struct.pack("<H", flags & ~IN_USE) if kind == FORMAT else head


class Groups:
    """Follows events and knows, behind each, whether a group is whole: only there a log may be cut."""

    def __init__(self) -> None:
        self.begun: Event | None = None

    def pass_by(self, event: Event) -> bool:
        """Take the next event in; True when no group is open behind it."""
        if event.kind == GTID:
            self.begun = event
        elif self.begun and self._ends(event):
            self.begun = None
        return self.begun is None

    def _ends(self, event: Event) -> bool:
        if event.kind in (XID, XA_PREPARE) or event.kind in BETWEEN_GROUPS:
            return True
        if self.begun.is_standalone:
            return event.kind not in BEFORE_ITS_STATEMENT
        ending = re.compile(rb"(COMMIT|ROLLBACK|XA (COMMIT|ROLLBACK)\b.*)\Z", re.IGNORECASE | re.DOTALL)
        return event.kind == QUERY and bool(event.body) and ending.match(event.statement) is not None


def moment(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)
