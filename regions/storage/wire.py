"""HTTP as the mover needs it: kept-alive connections through the network door, streamed bodies, a deadline each.

Nothing here retries, follows a redirect or decodes a body: a request is sent once and its answer is told as it is.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from regions import network
from regions.refusals import Refusal
from regions.storage import Readable, StorageError
from regions.storage.buffers import borrowed

CONNECT_SECONDS = 10
SILENCE_SECONDS = 30  # no byte moved for so long: the line is dead
SLOWEST_BYTES_PER_SECOND = 64 * 1024
IDLE_SECONDS = 20
MOST_IDLE = 16  # connections kept to one server
ANSWER_BYTES = 32 << 20


class Deadline:
    """When a request must have ended: a minute, and what its bytes take on the slowest line we wait for."""

    def __init__(self, size: int = 0) -> None:
        self.at = time.monotonic() + 60 + size / SLOWEST_BYTES_PER_SECOND

    def watch(self, sock: socket.socket) -> None:
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        sock.settimeout(min(SILENCE_SECONDS, left))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Connection(http.client.HTTPConnection):
    """One TCP or TLS connection to the address the network door allowed; Host and SNI say the name."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.host, wire.port)
        self.wire, self.idle_since = wire, 0.0

    def connect(self) -> None:
        sock = network.connect(self.wire.host, self.wire.port, CONNECT_SECONDS)
        if self.wire.secure:
            sock = _trust(self.wire.verify).wrap_socket(sock, server_hostname=self.wire.host)
        self.sock = sock

    def is_stale(self) -> bool:
        """Readable while nothing was asked means the other side has closed it."""
        too_old = time.monotonic() - self.idle_since > IDLE_SECONDS
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return too_old or bool(poll.poll(0))


@lru_cache
def _trust(verify: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=verify or None)


_idle: defaultdict[Wire, list[_Connection]] = defaultdict(list)
os.register_at_fork(after_in_child=_idle.clear)  # two processes must never speak on one connection


@dataclass(frozen=True)
class Wire:
    """A way to one server. Equal wires share their idle connections."""

    host: str
    port: int
    secure: bool
    verify: str = ""

    @classmethod
    def to(cls, url: str, verify: str = "") -> Wire:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        return cls(parts.hostname or "", parts.port or (443 if secure else 80), secure, verify)

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Send a small request and return its whole answer."""
        deadline = Deadline(len(body))
        with self._connection() as connection:
            self._begin(connection, method, target, headers, len(body), deadline)
            if body:
                connection.send(body)
            return _answer(connection, deadline)

    def send(self, method: str, target: str, headers: Mapping[str, str], length: int, body: Readable) -> Answer:
        """Stream exactly `length` bytes from `body`; raises what `body` raises, with the connection dropped."""
        deadline = Deadline(length)
        with self._connection() as connection, borrowed() as buffer:
            self._begin(connection, method, target, headers, length, deadline)
            left = length
            while left:
                count = body.readinto(buffer[: min(left, len(buffer))])
                if not count:
                    raise StorageError(f"The source ended {left} bytes early.", retry=True, code="ShortRead")
                deadline.watch(connection.sock)
                if refused := _sent_or_refused(connection, buffer[:count], deadline):
                    return refused
                left -= count
            return _answer(connection, deadline)

    @contextmanager
    def receive(self, target: str, headers: Mapping[str, str], length: int) -> Iterator[Answer | Incoming]:
        """Ask for `length` bytes: yields Incoming for 200 and 206, the whole Answer for anything else.

        What the caller raises inside passes untouched; only our own reads speak of the line.
        """
        connection, deadline, incoming = self._take(), Deadline(length), None
        try:
            with _in_words(self):
                self._begin(connection, "GET", target, headers, 0, deadline)
                sock, response = connection.sock, connection.getresponse()
            incoming = Incoming(self, sock, response, deadline)
            yield incoming if response.status in (200, 206) else incoming.whole()
        finally:
            if incoming and incoming.is_at_end:
                self._give_back(connection)
            else:
                connection.close()

    def _begin(
        self,
        connection: _Connection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        length: int,
        deadline: Deadline,
    ) -> None:
        if connection.sock is None:
            connection.connect()
        deadline.watch(connection.sock)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", self.host_header)
        for name, value in headers.items():
            connection.putheader(name, value)
        if length or method in ("PUT", "POST"):
            connection.putheader("Content-Length", str(length))
        connection.endheaders()

    @contextmanager
    def _connection(self) -> Iterator[_Connection]:
        """Lend a connection for one small answer; it is used again unless something went wrong."""
        connection = self._take()
        try:
            with _in_words(self):
                yield connection
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)

    def _take(self) -> _Connection:
        idle = _idle[self]
        with suppress(IndexError):
            while connection := idle.pop():
                if not connection.is_stale():
                    return connection
                connection.close()
        return _Connection(self)

    def _give_back(self, connection: _Connection) -> None:
        if connection.sock is None:
            return
        connection.idle_since = time.monotonic()
        if len(_idle[self]) < MOST_IDLE:
            _idle[self].append(connection)
        else:
            connection.close()


class Incoming:
    """A body on its way in, read under the request's deadline."""

    def __init__(self, wire: Wire, sock: socket.socket, response: http.client.HTTPResponse, deadline: Deadline) -> None:
        self._wire, self._sock, self._response, self._deadline = wire, sock, response, deadline
        self.status, self.headers = response.status, response.headers

    @property
    def is_at_end(self) -> bool:
        return self._response.isclosed()

    def readinto(self, buffer: memoryview) -> int:
        with _in_words(self._wire):
            self._deadline.watch(self._sock)
            return self._response.readinto(buffer)

    def whole(self) -> Answer:
        with _in_words(self._wire):
            return _whole(self._response)


@contextmanager
def _in_words(wire: Wire) -> Iterator[None]:
    """Turn what the line and the network door raise into StorageErrors."""
    try:
        yield
    except Refusal as refusal:
        raise StorageError(str(refusal), code=refusal.code) from refusal
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(wire, error) from error


def _sent_or_refused(connection: _Connection, chunk: memoryview, deadline: Deadline) -> Answer | None:
    """Send a chunk; a server that closes early has often said why first, and that answer is worth more."""
    try:
        connection.sock.sendall(chunk)
    except (BrokenPipeError, ConnectionResetError):
        with suppress(OSError, http.client.HTTPException):
            answer = _answer(connection, deadline)
            connection.close()
            if answer.status >= 300:
                return answer
        raise
    return None


def _answer(connection: _Connection, deadline: Deadline) -> Answer:
    deadline.watch(connection.sock)
    return _whole(connection.getresponse())


def _whole(response: http.client.HTTPResponse) -> Answer:
    body = response.read(ANSWER_BYTES)
    if not response.isclosed() and response.read(1):
        raise http.client.HTTPException("the answer is too long")
    if response.length:  # http.client hands out what came before the line broke as if it were all
        raise http.client.IncompleteRead(body, response.length)
    return Answer(response.status, response.headers, body)


def _unreachable(wire: Wire, error: Exception) -> StorageError:
    """Say what happened on the line in words; all of it may pass, but a certificate will not mend itself."""
    where = wire.host_header
    if isinstance(error, ssl.SSLCertVerificationError):
        return StorageError(f"The certificate of {where} is not trusted: {error.verify_message}.", code="Certificate")
    if isinstance(error, socket.gaierror):
        return StorageError(f"The name {wire.host} is not known.", retry=True, code="NameUnknown")
    if isinstance(error, TimeoutError):
        return StorageError(f"{where} did not answer in time.", retry=True, code="TimedOut")
    if isinstance(error, ConnectionRefusedError):
        return StorageError(f"Nothing answers at {where}.", retry=True, code="ConnectionRefused")
    return StorageError(f"The connection to {where} broke: {error or type(error).__name__}.", retry=True, code="Broken")
