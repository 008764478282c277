"""SQL types as they go over the wire, in both directions ([MS-TDS] 2.2.5.4 to 2.2.5.6)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

COLLATION = bytes.fromhex("0904d00034")  # SQL_Latin1_General_CP1_CI_AS
INT, BIT, NVARCHAR, DATETIME, DATETIME2, NUMERIC, GUID, VARBINARY = 0x26, 0x68, 0xE7, 0x6F, 0x2A, 0x6C, 0x24, 0xA5
FIXED = {0x30: 1, 0x34: 2, 0x38: 4, 0x7F: 8, 0x32: 1}
MAX = 0xFFFF
LONGEST = 4000
_EPOCH = datetime(1900, 1, 1)
_DAY_ONE = date(1, 1, 1)
_NUMERIC_BYTES = ((9, 5), (19, 9), (28, 13), (38, 17))


@dataclass(frozen=True)
class SqlType:
    """`size`: bytes of an integer, digits of a numeric, characters of a text (0: max), bytes of a binary."""

    code: int
    size: int = 0
    scale: int = 0

    def info(self) -> bytes:
        if self.code == NVARCHAR:
            return struct.pack("<BH", self.code, 2 * self.size if self.size else MAX) + COLLATION
        if self.code == NUMERIC:
            return bytes([self.code, _numeric_bytes(self.size), self.size, self.scale])
        if self.code == DATETIME2:
            return bytes([self.code, 7])
        if self.code == VARBINARY:
            return struct.pack("<BH", self.code, self.size)
        return bytes([self.code, {INT: self.size, BIT: 1, DATETIME: 8, GUID: 16}[self.code]])

    def write(self, value: Any) -> bytes:
        if value is None:
            return self._null()
        return _WRITERS[self.code](self, value)

    def _null(self) -> bytes:
        if self.code == NVARCHAR and not self.size:
            return b"\xff" * 8
        return b"\xff\xff" if self.code in (NVARCHAR, VARBINARY) else b"\0"


def _numeric_bytes(digits: int) -> int:
    return next(size for most, size in _NUMERIC_BYTES if digits <= most)


def _short(body: bytes) -> bytes:
    return bytes([len(body)]) + body


def _text(kind: SqlType, value: Any) -> bytes:
    body = str(value).encode("utf-16-le")
    if kind.size:
        body = body[: 2 * kind.size]
        return struct.pack("<H", len(body)) + body
    return struct.pack("<QI", len(body), len(body)) + body + bytes(4 if body else 0)


def _number(kind: SqlType, value: Any) -> bytes:
    units = int(Decimal(value).scaleb(kind.scale))
    return _short(bytes([units >= 0]) + abs(units).to_bytes(_numeric_bytes(kind.size) - 1, "little"))


def _datetime(kind: SqlType, value: Any) -> bytes:
    since = value - _EPOCH
    ticks = round((since.seconds + since.microseconds / 1e6) * 300)
    return _short(struct.pack("<iI", since.days, ticks))


def _datetime2(kind: SqlType, value: Any) -> bytes:
    midnight = value.replace(hour=0, minute=0, second=0, microsecond=0)
    ticks = (value - midnight) // timedelta(microseconds=1) * 10
    days = (value.date() - _DAY_ONE).days
    return _short(ticks.to_bytes(5, "little") + days.to_bytes(3, "little"))


def _bytes(kind: SqlType, value: Any) -> bytes:
    return struct.pack("<H", len(value)) + value


_WRITERS: dict[int, Callable[[SqlType, Any], bytes]] = {
    INT: lambda kind, value: _short(int(value).to_bytes(kind.size, "little", signed=kind.size > 1)),
    BIT: lambda kind, value: _short(bytes([bool(value)])),
    NVARCHAR: _text,
    DATETIME: _datetime,
    DATETIME2: _datetime2,
    NUMERIC: _number,
    GUID: lambda kind, value: _short(UUID(str(value)).bytes_le),
    VARBINARY: _bytes,
}


class Reader:
    """Reads a message from its beginning; raises ValueError where it ends too early or says what is not known."""

    def __init__(self, body: bytes, position: int = 0) -> None:
        self.body, self.position = body, position

    @property
    def is_over(self) -> bool:
        return self.position >= len(self.body)

    def take(self, count: int) -> bytes:
        found = self.body[self.position : self.position + count]
        if len(found) != count:
            raise ValueError("the message ends too early")
        self.position += count
        return found

    def number(self, form: str) -> int:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def text(self, characters: int) -> str:
        return self.take(2 * characters).decode("utf-16-le")

    def typed(self) -> Any:
        """Return one value behind its TYPE_INFO, as a parameter of a call has it."""
        code = self.number("B")
        if code in FIXED:
            return int.from_bytes(self.take(FIXED[code]), "little", signed=FIXED[code] > 1)
        if code in (NVARCHAR, 0xEF, VARBINARY, 0xAD, 0xA7, 0xAF):
            return self._long(code)
        return self._short(code)

    def _long(self, code: int) -> Any:
        most = self.number("H")
        is_text = code in (NVARCHAR, 0xEF, 0xA7, 0xAF)
        if is_text:
            self.take(5)
        body = self._pieces() if most == MAX else self._counted()
        if body is None or not is_text:
            return body
        return body.decode("utf-16-le" if code in (NVARCHAR, 0xEF) else "cp1252")

    def _counted(self) -> bytes | None:
        length = self.number("H")
        return None if length == MAX else self.take(length)

    def _pieces(self) -> bytes | None:
        """A value of unknown length in pieces (PLP)."""
        if self.number("Q") == 0xFFFFFFFFFFFFFFFF:
            return None
        found = bytearray()
        while length := self.number("I"):
            found += self.take(length)
        return bytes(found)

    def _short(self, code: int) -> Any:
        if code == DATETIME2:
            scale = self.number("B")
            return _datetime2_from(self.take(self.number("B")), scale)
        self.number("B")
        scale = self.take(2)[1] if code in (NUMERIC, 0x6A) else 0
        body = self.take(self.number("B"))
        if not body:
            return None
        if code in (NUMERIC, 0x6A):
            return Decimal(int.from_bytes(body[1:], "little") * (1 if body[0] else -1)).scaleb(-scale)
        if code not in _READERS:
            raise ValueError(f"type 0x{code:02x} is not simulated")
        return _READERS[code](body)


def _datetime2_from(body: bytes, scale: int) -> datetime | None:
    if not body:
        return None
    ticks, days = int.from_bytes(body[:-3], "little"), int.from_bytes(body[-3:], "little")
    day = datetime.combine(_DAY_ONE, datetime.min.time()) + timedelta(days=days)
    return day + timedelta(microseconds=ticks * 10 ** (7 - scale) // 10)


def _datetime_from(body: bytes) -> datetime:
    days, ticks = struct.unpack("<iI", body)
    return _EPOCH + timedelta(days=days, milliseconds=round(ticks / 0.3))


_READERS: dict[int, Callable[[bytes], Any]] = {
    INT: lambda body: int.from_bytes(body, "little", signed=len(body) > 1),
    BIT: lambda body: body[0],
    DATETIME: _datetime_from,
    GUID: lambda body: str(UUID(bytes_le=body)),
}

TINYINT, SMALLINT, INTEGER, BIGINT = (SqlType(INT, size) for size in (1, 2, 4, 8))
BOOLEAN, MOMENT, FINE_MOMENT, IDENTIFIER = SqlType(BIT), SqlType(DATETIME), SqlType(DATETIME2), SqlType(GUID)
LSN, BIG_NUMBER, NAME, LONG_TEXT = SqlType(NUMERIC, 25), SqlType(NUMERIC, 20), SqlType(NVARCHAR, 128), SqlType(NVARCHAR)
THUMBPRINT = SqlType(VARBINARY, 32)


def text_type(characters: int) -> SqlType:
    return SqlType(NVARCHAR, characters if 0 < characters <= LONGEST else 0)
