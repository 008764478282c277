"""The one way to a SQL Server: the pinned address, TLS as it is asked, and an end to waiting.

The driver (python-tds) would resolve the name itself, needs pyOpenSSL for TLS, and checks certificates in a way of its
own. So it gets this for its socket and believes to speak plain: PRELOGIN passes through our hands, and with it the
question whether the connection is encrypted ([MS-TDS] 2.2.6.5 and 3.2.5.1: TLS inside PRELOGIN packets).
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import sys
import time
from contextlib import suppress

from backups.engines.facts import Connection

LOGIN_SECONDS = 15
CHUNK = 64 << 10
HEADER = struct.Struct(">BBHHBB")
REPLY, PRELOGIN, LAST = 4, 18, 1
ENCRYPTION, END = 1, 0xFF
ENCRYPT_OFF, ENCRYPT_ON, NO_ENCRYPTION, ENCRYPTION_REQUIRED = range(4)
PIECE = 4096 - HEADER.size
KEEPALIVE = ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))


class Broken(Exception):
    """The connection cannot be used, or no longer; `str` is what `refusals` has words for."""


class Wire:
    """One connection as the driver uses its socket. Every failure is `Broken`, so that the driver tries nothing twice.

    `allow(seconds)` begins a new stretch of time in which what is awaited must be there, however it trickles; None:
    wait for ever (the server's end is noticed through keep-alive).
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._until = connection, time.monotonic() + LOGIN_SECONDS
        self._tls: ssl.SSLObject | None = None
        self._arriving, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ready = bytearray()  # the server's PRELOGIN, as the driver is to see it
        self._has_greeted = False
        self.is_in = False  # logged in; whoever did it says so
        try:
            self._sock = socket.create_connection(
                (connection.hostaddr or connection.host, connection.port), LOGIN_SECONDS
            )
        except OSError as error:
            raise Broken(_words(error)) from error
        for option, seconds in KEEPALIVE:
            self._sock.setsockopt(socket.IPPROTO_TCP, option, seconds)

    def allow(self, seconds: float | None) -> None:
        self._until = None if seconds is None else time.monotonic() + seconds

    def shut(self) -> None:
        """End it from another thread: whoever waits is Broken at once."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # What the driver calls

    def setsockopt(self, level: int, option: int, value: int) -> None:
        with suppress(OSError):
            self._sock.setsockopt(level, option, value)

    def settimeout(self, seconds: float | None) -> None:
        """The driver's own ideas of time would end a backup that is silent for a while: `allow` decides."""

    def gettimeout(self) -> float | None:
        return None

    def sendall(self, data: bytes) -> None:
        if not self._has_greeted:
            self._has_greeted = True
            self._greet(bytes(data))
        elif self._tls:
            self._tls.write(bytes(data))
            self._send(self._leaving.read())
        else:
            self._send(bytes(data))

    def recv_into(self, buffer: memoryview, size: int = 0) -> int:
        most = min(size or len(buffer), len(buffer))
        if not most:
            raise Broken("the packet is longer than was agreed")
        found = self._take(most)
        buffer[: len(found)] = found
        return len(found)

    def recv(self, size: int) -> bytes:
        return self._take(size)

    def close(self) -> None:
        """Closing it while it logs in, with no error on the way, the driver means to follow the server's word to
        another address, past the pinned one and past TLS: it must not."""
        self._sock.close()
        if not self.is_in and sys.exc_info()[0] is None:
            raise Broken("the server sends on to another address")

    # Greeting

    def _greet(self, packet: bytes) -> None:
        """Ask for TLS in the driver's place, and let the driver believe that nobody offered any."""
        tls = self._connection.tls or "prefer"
        asked = bytearray(packet)
        asked[_place_of_encryption(packet[HEADER.size :]) + HEADER.size] = (
            NO_ENCRYPTION if tls == "disable" else ENCRYPT_ON
        )
        self._send(bytes(asked))
        kind, body = self._packet()
        if kind != REPLY:
            raise Broken("is not SQL Server")
        place = _place_of_encryption(body)
        answered = body[place]
        if tls == "disable" and answered != NO_ENCRYPTION:
            raise Broken("the server requires encryption")
        if answered == NO_ENCRYPTION and tls not in ("disable", "prefer"):
            raise Broken("the server does not offer TLS")
        if answered not in (ENCRYPT_OFF, ENCRYPT_ON, NO_ENCRYPTION, ENCRYPTION_REQUIRED):
            raise Broken("is not SQL Server")
        if answered == ENCRYPT_OFF:  # to our "on" no server of the specification says so
            raise Broken("the server does not offer TLS")
        if answered != NO_ENCRYPTION:
            self._encrypt()
        shown = bytearray(body)
        shown[place] = NO_ENCRYPTION
        self._ready += HEADER.pack(REPLY, LAST, HEADER.size + len(shown), 0, 1, 0) + shown

    def _encrypt(self) -> None:
        tls = context_of(self._connection).wrap_bio(
            self._arriving, self._leaving, server_hostname=self._connection.host
        )
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._tell_in_prelogin(self._leaving.read())
                self._arriving.write(self._packet()[1])
            except ssl.SSLError as error:
                raise Broken(_words(error)) from error
        self._tell_in_prelogin(self._leaving.read())
        self._tls = tls

    def _tell_in_prelogin(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            status = LAST if start + PIECE >= len(data) else 0
            self._send(HEADER.pack(PRELOGIN, status, HEADER.size + len(piece), 0, 1, 0) + piece)

    def _packet(self) -> tuple[int, bytes]:
        """Return a whole message of the greeting; it is short, or it is none."""
        body, status, kind = b"", 0, 0
        while not status & LAST:
            kind, status, length, _, _, _ = HEADER.unpack(self._exactly(HEADER.size))
            if kind not in (REPLY, PRELOGIN) or length < HEADER.size or len(body) > CHUNK:
                raise Broken("is not SQL Server")
            body += self._exactly(length - HEADER.size)
        return kind, body

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = self._receive(count - len(found))
            if not piece:
                raise Broken("the server closed the connection")
            found += piece
        return found

    # Bytes

    def _take(self, most: int) -> bytes:
        if self._ready:
            found = bytes(self._ready[:most])
            del self._ready[:most]
            return found
        found = self._decrypted(most) if self._tls else self._receive(most)
        if not found:
            raise Broken("the server closed the connection")
        return found

    def _decrypted(self, most: int) -> bytes:
        while True:
            try:
                return self._tls.read(most)
            except ssl.SSLWantReadError:
                if not (taken := self._receive(CHUNK)):
                    return b""
                self._arriving.write(taken)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise Broken(_words(error)) from error

    def _receive(self, most: int) -> bytes:
        try:
            self._sock.settimeout(self._left())
            return self._sock.recv(most)
        except OSError as error:
            raise Broken(_words(error)) from error

    def _send(self, data: bytes) -> None:
        try:
            self._sock.settimeout(self._left())
            self._sock.sendall(data)
        except OSError as error:
            raise Broken(_words(error)) from error

    def _left(self) -> float | None:
        if self._until is None:
            return None
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def context_of(connection: Connection) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with TDS 7.4 SQL Server speaks no newer one
    context.check_hostname = connection.tls == "verify-full"
    if not connection.tls.startswith("verify-"):
        context.verify_mode = ssl.CERT_NONE
    elif authorities := os.environ.get("SQLSERVER_SSL_CA"):
        context.load_verify_locations(authorities)
    else:
        context.load_default_certs()
    return context


def _place_of_encryption(body: bytes) -> int:
    """Where in a PRELOGIN message its one byte about encryption lies."""
    at = 0
    while at + 5 <= len(body) and body[at] != END:
        token, offset, length = struct.unpack_from(">BHH", body, at)
        if token == ENCRYPTION and length and offset < len(body):
            return offset
        at += 5
    raise Broken("is not SQL Server")


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    return str(error) or type(error).__name__
