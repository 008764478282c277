from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from regions.storage import StorageError
from regions.storage.wire import Wire

ROUTES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/hello": (200, {}, b"good morning"),
    "/moved": (302, {"Location": "/hello"}, b""),
    "/short": (200, {"Content-Length": "100", "Connection": "close"}, b"not a hundred bytes"),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.callers.append(self.client_address)
        status, headers, body = ROUTES[self.path]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.callers: list[Any] = []

    def handle_error(self, *_: object) -> None:
        """A client that trusts us not hangs up."""


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server()
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that only those trust who have it, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a store")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "store.pem"
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, plain, serialization.NoEncryption()))
    return path


def test_one_connection_serves_many_requests() -> None:
    with serving() as server:
        wire = Wire.to(f"http://127.0.0.1:{server.server_port}")
        assert [wire.ask("GET", "/hello", {}).body for _ in range(3)] == [b"good morning"] * 3
        assert len(set(server.callers)) == 1


def test_a_redirect_is_told_and_not_followed() -> None:
    with serving() as server:
        assert Wire.to(f"http://127.0.0.1:{server.server_port}").ask("GET", "/moved", {}).status == 302
        assert len(server.callers) == 1


def test_an_answer_that_ends_early_is_no_answer() -> None:
    with serving() as server, pytest.raises(StorageError) as refused:
        Wire.to(f"http://127.0.0.1:{server.server_port}").ask("GET", "/short", {})
    assert refused.value.retry


def test_a_certificate_is_trusted_only_when_it_was_given(certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with serving(tls) as server:
        url = f"https://127.0.0.1:{server.server_port}"
        assert Wire.to(url, str(certificate)).ask("GET", "/hello", {}).body == b"good morning"
        with pytest.raises(StorageError) as refused:
            Wire.to(url).ask("GET", "/hello", {})
    assert (refused.value.code, refused.value.retry) == ("Certificate", False)


def test_the_wire_goes_through_the_network_door(settings: Any) -> None:
    settings.FARSHORE_ALLOW_LOOPBACK = False
    with serving() as server:
        with pytest.raises(StorageError) as refused:
            Wire.to(f"http://127.0.0.1:{server.server_port}").ask("GET", "/hello", {})
        assert server.callers == []
    assert (refused.value.code, refused.value.retry) == ("AddressRefused", False)


def test_a_server_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(StorageError, match="Nothing answers at 127.0.0.1:9") as refused:
        Wire.to("http://127.0.0.1:9").ask("GET", "/", {})
    assert refused.value.retry
