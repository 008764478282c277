"""What a server answers: tokens of the response stream ([MS-TDS] 2.2.7)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo.tds.values import COLLATION, SqlType

MORE, ERROR, COUNT, ATTENTION = 0x1, 0x2, 0x10, 0x20
VERSION_74 = 0x74000004
NULLABLE = 0x0001
IN_PROCEDURE, OF_PROCEDURE, PLAIN = 0xFF, 0xFE, 0xFD


@dataclass(frozen=True)
class Message:
    """What the server says with a number; above severity 10 it is an error."""

    number: int
    text: str
    severity: int = 16
    state: int = 1

    @property
    def is_error(self) -> bool:
        return self.severity > 10


@dataclass(frozen=True)
class Column:
    name: str
    type: SqlType


def message(said: Message, server: str) -> bytes:
    text = said.text[:4000].encode("utf-16-le")
    body = struct.pack("<iBBH", said.number, said.state, said.severity, len(text) // 2) + text
    body += _short_text(server) + _short_text("") + struct.pack("<I", 1)
    return struct.pack("<BH", 0xAA if said.is_error else 0xAB, len(body)) + body


def done(status: int = 0, count: int | None = None, *, kind: int = PLAIN) -> bytes:
    status |= COUNT if count is not None else 0
    return struct.pack("<BHHQ", kind, status, 0, count or 0)


def columns(found: Sequence[Column]) -> bytes:
    body = struct.pack("<BH", 0x81, len(found))
    for column in found:
        body += struct.pack("<IH", 0, NULLABLE) + column.type.info() + _short_text(column.name)
    return body


def row(found: Sequence[Column], values: Sequence[Any]) -> bytes:
    return b"\xd1" + b"".join(column.type.write(value) for column, value in zip(found, values, strict=True))


def return_status(value: int = 0) -> bytes:
    return struct.pack("<Bi", 0x79, value)


def environment(kind: int, new: str, old: str = "") -> bytes:
    """ENVCHANGE of a text: 1 database, 2 language, 4 packet size."""
    body = bytes([kind]) + _short_text(new) + _short_text(old)
    return struct.pack("<BH", 0xE3, len(body)) + body


def collation() -> bytes:
    body = bytes([7, 5]) + COLLATION + b"\0"
    return struct.pack("<BH", 0xE3, len(body)) + body


def transaction(kind: int, number: int) -> bytes:
    """ENVCHANGE 8 begins, 9 commits, 10 rolls back a transaction with this descriptor."""
    new, old = (number, 0) if kind == 8 else (0, number)
    body = bytes([kind]) + _descriptor(new) + _descriptor(old)
    return struct.pack("<BH", 0xE3, len(body)) + body


def routing(host: str, port: int) -> bytes:
    """ENVCHANGE 20: the client is to log in there instead."""
    name = host.encode("utf-16-le")
    new = struct.pack("<BHH", 0, port, len(name) // 2) + name
    body = struct.pack("<BH", 20, len(new)) + new + bytes(2)
    return struct.pack("<BH", 0xE3, len(body)) + body


def login_ack(program: str, version: tuple[int, int, int], tds: int = VERSION_74) -> bytes:
    major, minor, build = version
    body = struct.pack(">BI", 1, tds) + _short_text(program) + struct.pack(">BBH", major, minor, build)
    return struct.pack("<BH", 0xAD, len(body)) + body


def _short_text(text: str) -> bytes:
    return bytes([len(text.encode("utf-16-le")) // 2]) + text.encode("utf-16-le")


def _descriptor(number: int) -> bytes:
    return struct.pack("<BQ", 8, number) if number else b"\0"
