"""How a connection begins: PRELOGIN, TLS inside PRELOGIN packets, LOGIN7 ([MS-TDS] 2.2.6.4, 2.2.6.5, 3.2)."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from demo.tds.packets import PRELOGIN, Ended, Packets

VERSION, ENCRYPTION, INSTANCE, THREAD, MARS = range(5)
END = 0xFF
CHUNK = 64 << 10


class Encryption(IntEnum):
    """What either side says of TLS: only for the login, always, not at all, or not without."""

    OFF = 0
    ON = 1
    NOT_SUPPORTED = 2
    REQUIRED = 3


@dataclass(frozen=True)
class Login:
    user: str
    password: str
    database: str
    program: str
    client: str
    packet_size: int


def options_of(body: bytes) -> dict[int, bytes]:
    """Return the options of a PRELOGIN message; raises ValueError for one that is none."""
    found, at = {}, 0
    while at < len(body) and body[at] != END:
        if at + 5 > len(body):
            raise ValueError("PRELOGIN ends too early")
        token, offset, length = struct.unpack_from(">BHH", body, at)
        if offset + length > len(body):
            raise ValueError("PRELOGIN points outside")
        found[token] = body[offset : offset + length]
        at += 5
    return found


def prelogin(version: tuple[int, int, int], encryption: Encryption) -> bytes:
    major, minor, build = version
    options = {
        VERSION: struct.pack(">BBHH", major, minor, build, 0),
        ENCRYPTION: bytes([encryption]),
        INSTANCE: b"\0",
        THREAD: b"",
        MARS: b"\0",
    }
    offset, heads = 5 * len(options) + 1, b""
    for token, value in options.items():
        heads += struct.pack(">BHH", token, offset, len(value))
        offset += len(value)
    return heads + bytes([END]) + b"".join(options.values())


def agreed(ours: Encryption, theirs: Encryption) -> Encryption:
    """What the server answers, by the table in [MS-TDS] 2.2.6.5."""
    if ours is Encryption.NOT_SUPPORTED:
        return Encryption.NOT_SUPPORTED
    if theirs is Encryption.NOT_SUPPORTED:
        return Encryption.NOT_SUPPORTED if ours is Encryption.OFF else Encryption.REQUIRED
    if ours is Encryption.OFF:
        return Encryption.ON if theirs is Encryption.ON else Encryption.OFF
    return Encryption.REQUIRED if theirs is Encryption.OFF else Encryption.ON


class Encrypted:
    """The server's side of TLS over a socket; the handshake goes in PRELOGIN packets, what follows does not."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock, self.arriving, self.leaving = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.arriving, self.leaving, server_side=True)

    def shake_hands(self, packets: Packets) -> None:
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._tell(packets)
                kind, body = packets.read()
                if kind != PRELOGIN:
                    raise Ended from None
                self.arriving.write(body)
        self._tell(packets)

    def _tell(self, packets: Packets) -> None:
        if said := self.leaving.read():
            packets.send(said, PRELOGIN)

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                taken = self.sock.recv(CHUNK)
                if not taken:
                    return b""
                self.arriving.write(taken)
            except ssl.SSLZeroReturnError:
                return b""

    def sendall(self, data: bytes) -> None:
        self.tls.write(data)
        self.sock.sendall(self.leaving.read())


def login_of(body: bytes) -> Login:
    """Return what a LOGIN7 message says; raises ValueError for one that is none."""
    if len(body) < 94:
        raise ValueError("LOGIN7 ends too early")

    def text(at: int, decode: Callable[[bytes], bytes] = bytes) -> str:
        offset, characters = struct.unpack_from("<HH", body, at)
        found = body[offset : offset + 2 * characters]
        if len(found) != 2 * characters:
            raise ValueError("LOGIN7 points outside")
        return decode(found).decode("utf-16-le")

    return Login(
        user=text(40),
        password=text(44, _revealed),
        database=text(68),
        program=text(48),
        client=text(36),
        packet_size=struct.unpack_from("<I", body, 8)[0],
    )


def _revealed(hidden: bytes) -> bytes:
    """Each byte of a password has its halves swapped after an XOR with 0xA5."""
    return bytes((byte ^ 0xA5) >> 4 | (byte ^ 0xA5) << 4 & 0xF0 for byte in hidden)
