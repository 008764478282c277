"""The lowest layer of TDS: messages cut into packets of at most the agreed size ([MS-TDS] 2.2.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

BATCH, RPC, REPLY, ATTENTION, TRANSACTION, LOGIN7, PRELOGIN = 1, 3, 4, 6, 14, 16, 18
HEADER = struct.Struct(">BBHHBB")
LAST = 1
LONGEST_MESSAGE = 16 << 20


class Ended(Exception):
    """The other side is gone, or says what is no TDS."""


class Pipe(Protocol):
    def recv(self, size: int) -> bytes: ...

    def sendall(self, data: bytes) -> None: ...


@dataclass
class Packets:
    """Messages over one connection; `spid` goes into every packet's header."""

    pipe: Pipe
    spid: int = 0
    size: int = 4096

    def read(self) -> tuple[int, bytes]:
        """Return the next message: its type and its bytes; raises Ended."""
        kind, body, status = 0, bytearray(), 0
        while not status & LAST:
            kind, status, length, _, _, _ = HEADER.unpack(self._exactly(HEADER.size))
            if length < HEADER.size or len(body) > LONGEST_MESSAGE:
                raise Ended
            body += self._exactly(length - HEADER.size)
        return kind, bytes(body)

    def send(self, body: bytes, kind: int = REPLY, *, whole: bool = True) -> None:
        """Send a message, or with `whole` False a part of one that goes on."""
        room = self.size - HEADER.size
        for number, start in enumerate(range(0, max(len(body), 1), room), 1):
            piece = body[start : start + room]
            status = LAST if whole and start + room >= len(body) else 0
            head = HEADER.pack(kind, status, HEADER.size + len(piece), self.spid, number % 256, 0)
            self.pipe.sendall(head + piece)

    def _exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            piece = self.pipe.recv(count - len(found))
            if not piece:
                raise Ended
            found += piece
        return bytes(found)
