"""A relay on this machine that takes every mail and keeps it, over the wire (RFC 5321)."""

from __future__ import annotations

import email
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message


class _Talk(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self._say("220 relay")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self._say("354 go on")
                self._keep()
            self._say("221 bye" if line == b"QUIT" else "250 ok")

    def _keep(self) -> None:
        lines = iter(self.rfile.readline, b".\r\n")
        self.server.mails.append(email.message_from_bytes(b"".join(lines)))

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True
    mails: list[Message]

    @property
    def port(self) -> int:
        return self.server_address[1]


@contextmanager
def running() -> Iterator[Relay]:
    with Relay(("127.0.0.1", 0), _Talk) as relay:
        relay.mails = []
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        yield relay
        relay.shutdown()
