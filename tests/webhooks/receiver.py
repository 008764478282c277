"""Somebody's receiver on a real socket, with its own check of the signature: the specification, nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Message:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> dict[str, Any]:
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        stamp = self.headers["webhook-timestamp"]
        key = base64.b64decode(secret.split("_")[1])
        mac = hmac.new(key, self.id.encode() + b"." + stamp.encode() + b"." + self.body, hashlib.sha256)
        wanted = "v1," + base64.b64encode(mac.digest()).decode()
        return abs(time.time() - int(stamp)) < 300 and wanted in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """`answers`: what it answers next; the last goes on. A callable may do whatever it likes with the request."""

    port: int
    scheme: str = "http"
    answers: list[int | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=lambda: [204])
    messages: list[Message] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/hooks/farshore?from=here"

    @property
    def said(self) -> list[dict[str, Any]]:
        return [one.said for one in self.messages]

    @property
    def types(self) -> list[str]:
        return [one["type"] for one in self.said]


@contextmanager
def receiving(certificate: Path | None = None, address: str = "127.0.0.1") -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.messages.append(Message(self.path, headers, body))
            answer = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
            if callable(answer):
                answer(self)
                return
            self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver = Receiver(server.server_address[1], "https" if certificate else "http")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def redirecting(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """A byte a second, and never an answer: a timeout that begins anew with each would wait for ever."""
    for _ in range(60):
        try:
            handler.wfile.write(b"H")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.2)


def silent(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.settimeout(30)
    with suppress(OSError):
        handler.connection.recv(1)
