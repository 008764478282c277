"""A proxy between us and a store that does, on request, what lines and stores do when they fail."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """`cut` bytes of the body are sent and then the connection is reset; None sends all."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None


FRAMING = ("connection", "content-length", "transfer-encoding")
Forward = Callable[[Request], Response]
Fault = Callable[[Request, Forward], Response]


@dataclass
class Rule:
    method: str
    pattern: str
    fault: Fault
    times: int

    def takes(self, request: Request) -> bool:
        return self.times > 0 and request.method == self.method and bool(re.search(self.pattern, request.target))


@dataclass
class FaultProxy:
    """`endpoint` stands for `upstream`; each rule acts on its first `times` requests, `seen` remembers all."""

    upstream: str
    endpoint: str = ""
    rules: list[Rule] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, method: str, pattern: str, fault: Fault, times: int = 1) -> None:
        self.rules.append(Rule(method, pattern, fault, times))

    def count(self, method: str, pattern: str) -> int:
        return sum(one.method == method and bool(re.search(pattern, one.target)) for one in self.seen)

    def answer(self, request: Request) -> Response:
        with self.lock:
            self.seen.append(replace(request, body=b""))
            rule = next((rule for rule in self.rules if rule.takes(request)), None)
            if rule:
                rule.times -= 1
        return rule.fault(request, self.forward) if rule else self.forward(request)

    def forward(self, request: Request) -> Response:
        connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc, timeout=30)
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.endheaders(request.body or None)
        response = connection.getresponse()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in FRAMING}
        body = response.read()
        headers["Content-Length"] = response.getheader("Content-Length") or str(len(body))
        connection.close()
        return Response(response.status, headers, body)


@contextmanager
def running(upstream: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(upstream)

    class Handler(_Handler):
        served = proxy

    server = _Server(("127.0.0.1", 0), Handler)
    proxy.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield proxy
    server.shutdown()
    server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Connections break here on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: FaultProxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        response = self.served.answer(Request(self.command, self.path, dict(self.headers.items()), body))
        head = f"HTTP/1.1 {response.status} Whatever\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in response.headers.items()) + "\r\n"
        self.wfile.write(head.encode("latin-1") + response.body[: response.cut])
        self.close_connection = response.headers.get("Connection") == "close"
        if response.cut is not None:
            self._reset()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            return  # we have reset it ourselves

    def log_message(self, *_: object) -> None:
        return


# Faults


def says(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer so, without asking the store."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request, forward: Response(status, {"Content-Length": str(len(body)), **given}, body)


def ignores_the_range(request: Request, forward: Forward) -> Response:
    kept = {name: value for name, value in request.headers.items() if name.lower() != "range"}
    return forward(replace(request, headers=kept))


def breaks_off(request: Request, forward: Forward) -> Response:
    response = forward(request)
    return replace(response, cut=len(response.body) // 2)


def loses_the_answer(request: Request, forward: Forward) -> Response:
    forward(request)
    return Response(200, {"Content-Length": "10"}, b"", cut=0)


def ends_early(request: Request, forward: Forward) -> Response:
    """Say the length asked for, send less, close in good order."""
    response = forward(request)
    return replace(response, headers={**response.headers, "Connection": "close"}, body=response.body[:-100])


def lies_about_the_length(request: Request, forward: Forward) -> Response:
    response = forward(request)
    length = {"Content-Length": str(len(response.body) - 1000)}
    return replace(response, headers={**response.headers, **length}, body=response.body[:-1000])


def flips_a_byte_coming_in(request: Request, forward: Forward) -> Response:
    response = forward(request)
    return replace(response, body=_flipped(response.body))


def flips_a_byte_going_out(request: Request, forward: Forward) -> Response:
    return forward(replace(request, body=_flipped(request.body)))


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
