"""The one way to a server, for our driver and for the engine's own tools: the pinned address, and TLS as it is asked.

The tools could do neither: they resolve names themselves, and compare a certificate with the address they were given.
So they come to a socket in a folder that only we can enter, and speak plain there; what leaves this machine is ours.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from backups.engines.facts import Connection
from backups.engines.mariadb import packets
from backups.engines.mariadb.packets import Broken, Told
from backups.engines.scratch import scratch

ANSWER_SECONDS = 10
CHUNK = 256 << 10
WAITING_MOST = 1 << 20
LOST = 2013  # CR_SERVER_LOST
NO_TLS = 2026  # CR_SSL_CONNECTION_ERROR
KEEPALIVE = ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))


class Door:
    """Open while it is entered; every connection made through it ends with it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stack = ExitStack()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_over = False

    def __enter__(self) -> Door:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._is_over = True
            left = list(self._open)
        for sock in left:
            _shut(sock)
        self._stack.close()

    def socket(self) -> socket.socket:
        """Return one connection to the server, as our driver uses it."""
        if own := own_socket(self._connection):
            found = socket.socket(socket.AF_UNIX)
            found.settimeout(ANSWER_SECONDS)
            found.connect(str(own))
            return found
        ours, theirs = socket.socketpair()
        self._serve(theirs)
        return ours

    def path(self) -> Path:
        """Return a socket by which tools get to the server, as often as they like."""
        if own := own_socket(self._connection):
            return own
        folder = self._stack.enter_context(scratch())
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(folder / "s"))
        os.chmod(folder / "s", 0o600)
        listener.listen(8)
        self._stack.callback(_shut, listener)
        threading.Thread(target=self._listen, args=(listener,), daemon=True, name="mariadb-door").start()
        return folder / "s"

    def _listen(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                self._serve(listener.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            if self._is_over:
                client.close()
                return
            self._open.add(client)
        threading.Thread(target=self._relay, args=(client,), daemon=True, name="mariadb-relay").start()

    def _relay(self, client: socket.socket) -> None:
        try:
            with client, suppress(OSError):
                relay(client, self._connection)
        finally:
            with self._lock:
                self._open.discard(client)


def own_socket(connection: Connection) -> Path | None:
    """The server's own socket, where the host is one or the folder that it lies in."""
    if not connection.host.startswith("/"):
        return None
    named = Path(connection.host)
    return named / "mysqld.sock" if named.is_dir() else named


def relay(client: socket.socket, connection: Connection) -> None:
    """Serve one client to its end; what goes wrong before it is let in, it is told as an error of the server's."""
    try:
        server = _reached(connection)
    except OSError as error:
        client.sendall(packets.error_packet(0, LOST, _words(error)))
        return
    with server:
        try:
            encrypted = _let_in(client, server, connection)
        except Told:
            return
        except ssl.SSLError as error:
            client.sendall(packets.error_packet(2, NO_TLS, _words(error)))
            return
        except (Broken, TimeoutError) as error:
            client.sendall(packets.error_packet(0, LOST, _words(error)))
            return
        with encrypted:
            _pump(client, encrypted)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    return str(error) or type(error).__name__


def _reached(connection: Connection) -> socket.socket:
    server = socket.create_connection((connection.hostaddr or connection.host, connection.port), ANSWER_SECONDS)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in KEEPALIVE:
        server.setsockopt(socket.IPPROTO_TCP, option, seconds)
    return server


def _let_in(client: socket.socket, server: socket.socket, connection: Connection) -> socket.socket:
    """See the client through its greeting and its password; returns the server's side, encrypted if it is to be."""
    client.settimeout(ANSWER_SECONDS)
    sequence, greeting = packets.read_packet(server)
    if greeting[:1] == bytes([packets.ERROR]):
        client.sendall(packets.packet(sequence, greeting))
        raise Told
    offered = packets.offers_tls(greeting)
    if connection.tls not in ("disable", "prefer", "") and not offered:
        client.sendall(packets.error_packet(0, NO_TLS, "the server does not offer TLS"))
        raise Told
    client.sendall(packets.packet(sequence, packets.without_tls(greeting)))
    sequence, answer = packets.read_packet(client)
    if not offered or connection.tls == "disable":
        server.sendall(packets.packet(sequence, answer))
        _see_through(client, server, 0, clear_text=False)
        return server
    asking = packets.with_tls(answer)
    server.sendall(packets.packet(sequence, asking[: packets.SSL_REQUEST_BYTES]))
    encrypted = context_of(connection).wrap_socket(server, server_hostname=connection.host)
    encrypted.sendall(packets.packet(sequence + 1, asking))
    _see_through(client, encrypted, 1, clear_text=True)
    return encrypted


def _see_through(client: socket.socket, server: socket.socket, ahead: int, *, clear_text: bool) -> None:
    """Pass on what both say about the password, until the server has decided; it is `ahead` by our own packets."""
    while True:
        sequence, said = packets.read_packet(server)
        if packets.wants_clear_text(said) and not clear_text:
            client.sendall(packets.error_packet(sequence - ahead, LOST, "it asks for the password in clear text"))
            raise Told
        client.sendall(packets.packet(sequence - ahead, said))
        if said[:1] in (bytes([packets.OK]), bytes([packets.ERROR])):
            return
        sequence, answer = packets.read_packet(client)
        server.sendall(packets.packet(sequence + ahead, answer))


def context_of(connection: Connection) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = connection.tls == "verify-full"
    if not connection.tls.startswith("verify-"):
        context.verify_mode = ssl.CERT_NONE
    elif authorities := os.environ.get("MARIADB_SSL_CA"):
        context.load_verify_locations(authorities)
    else:
        context.load_default_certs()
    return context


def _pump(client: socket.socket, server: socket.socket) -> None:
    """Pass bytes on in both directions until one side ends; one thread, since TLS allows no two."""
    waiting = {client: bytearray(), server: bytearray()}  # what is to be sent there
    other = {client: server, server: client}
    for sock in other:
        sock.setblocking(False)
    while True:
        for sock, events in _ready(waiting, other):
            if events & select.POLLOUT:
                _give(sock, waiting[sock])
            if events & ~select.POLLOUT:
                taken = _taken(sock)
                if taken == b"":
                    _send_rest(other[sock], waiting[other[sock]])
                    return
                waiting[other[sock]] += taken or b""


def _ready(
    waiting: dict[socket.socket, bytearray], other: dict[socket.socket, socket.socket]
) -> list[tuple[socket.socket, int]]:
    """Wait until something can be read, as long as not too much of it waits, or be sent on."""
    poll, by_number = select.poll(), {sock.fileno(): sock for sock in other}
    decrypted = []
    for number, sock in by_number.items():
        reads = len(waiting[other[sock]]) < WAITING_MOST
        poll.register(number, (select.POLLIN if reads else 0) | (select.POLLOUT if waiting[sock] else 0))
        if reads and isinstance(sock, ssl.SSLSocket) and sock.pending():
            decrypted.append((sock, select.POLLIN))
    found = [(by_number[number], events) for number, events in poll.poll(0 if decrypted else None)]
    return found + [more for more in decrypted if more[0] not in dict(found)]


def _taken(sock: socket.socket) -> bytes | None:
    """What can be read now: nothing at its end, None when it only seemed to be ready."""
    try:
        return sock.recv(CHUNK)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
        return b""


def _give(sock: socket.socket, waiting: bytearray) -> None:
    try:
        del waiting[: sock.send(waiting)]
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return


def _send_rest(sock: socket.socket, waiting: bytearray) -> None:
    sock.settimeout(ANSWER_SECONDS)
    with suppress(OSError):
        sock.sendall(waiting)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
