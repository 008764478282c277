"""The first packets of a MariaDB connection, as far as TLS concerns them.

https://mariadb.com/kb/en/connection/: three bytes of length, one of sequence, the payload.
"""

from __future__ import annotations

import socket
import struct

ERROR, SWITCH, OK = 0xFF, 0xFE, 0x00
PROTOCOL = 10
TLS = 0x0800
MOST_BYTES = 64 << 10  # of one packet before anybody is let in
SSL_REQUEST_BYTES = 32
CLEAR_TEXT = b"mysql_clear_password"


class Broken(ConnectionError):
    """The other side ended, or speaks something else."""


class Told(Broken):
    """It cannot go on, and the client has been told why."""


def read_packet(sock: socket.socket) -> tuple[int, bytes]:
    """Return the next packet's sequence number and payload."""
    header = _exactly(sock, 4)
    size = int.from_bytes(header[:3], "little")
    if size > MOST_BYTES:
        raise Broken("what listens there is not MariaDB")
    return header[3], _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        taken = sock.recv(size - len(found))
        if not taken:
            raise Broken("server closed the connection")
        found += taken
    return bytes(found)


def packet(sequence: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([sequence % 256]) + payload


def error_packet(sequence: int, number: int, words: str) -> bytes:
    """An error as a server says it; before its greeting nobody knows of SQL states."""
    state = b"#HY000" if sequence else b""
    return packet(sequence, b"\xff" + struct.pack("<H", number) + state + words.encode())


def offers_tls(greeting: bytes) -> bool:
    return bool(_capabilities(greeting)[1] & TLS)


def without_tls(greeting: bytes) -> bytes:
    """The same greeting of a server that offers no TLS: whoever reads it need not care, we do."""
    at, flags = _capabilities(greeting)
    return greeting[:at] + struct.pack("<H", flags & ~TLS) + greeting[at + 2 :]


def _capabilities(greeting: bytes) -> tuple[int, int]:
    """Where the lower half of the server's capabilities stands, and what it says."""
    ends = greeting.find(b"\0", 1)
    at = ends + 1 + 4 + 8 + 1
    if not greeting or greeting[0] != PROTOCOL or ends < 0 or len(greeting) < at + 2:
        raise Broken("what listens there is not MariaDB")
    return at, struct.unpack_from("<H", greeting, at)[0]


def with_tls(answer: bytes) -> bytes:
    """The client's answer as of a client that asks for TLS; its first 32 bytes alone are the request for it."""
    if len(answer) < SSL_REQUEST_BYTES:
        raise Broken("the client speaks an old protocol")
    return struct.pack("<I", struct.unpack_from("<I", answer)[0] | TLS) + answer[4:]


def wants_clear_text(payload: bytes) -> bool:
    return payload[:1] == bytes([SWITCH]) and payload[1:].split(b"\0", 1)[0] == CLEAR_TEXT
