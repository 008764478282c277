"""How a server is reached, and what is said when it is not: real sockets, the real driver, a server that misbehaves."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytds
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from backups.engines.connections import refuse_ambiguous
from backups.engines.facts import Connection
from backups.engines.sqlserver import wire
from backups.engines.sqlserver.connecting import quoted_name, session, typed
from backups.engines.sqlserver.refusals import REASONS, Said, cause_of
from demo.tds import Encryption, SimulatedMachine, SimulatedServer
from regions.refusals import Refusal
from tests.engines.sqlserver.conftest import reach

HOST = "sql.simulation.test"


def refused(connection: Connection) -> Refusal:
    with pytest.raises(Refusal) as found, session(connection):
        pytest.fail("let in")
    return found.value


def asked(connection: Connection) -> str:
    with session(connection) as opened:
        return opened.ask("SELECT SUSER_SNAME() AS who, %s AS said", "100% ☂ 'x'")[0]["said"]


# ---- logging in


def test_it_logs_in_with_any_password_and_asks_with_values_beside_the_words(connection: Connection) -> None:
    assert asked(connection) == "100% ☂ 'x'"


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"password": "wrong"}, "PasswordWrong", "password"),
        ({"username": "nobody"}, "PasswordWrong", "password"),
        ({"dbname": "Nowhere"}, "DatabaseUnknown", "dbname"),
        ({"tls": "require"}, "NoTls", "tls"),
        ({"tls": "verify-full"}, "NoTls", "tls"),
        ({"tls": "sometimes"}, "UnknownTls", "tls"),
        ({"host": "a,b"}, "BadHost", "host"),
        ({"host": "server\\instance"}, "BadHost", "host"),
        ({"host": "no-such-host.invalid"}, "HostUnknown", "host"),
        ({"username": "x" * 129}, "TooLong", ""),
        ({"password": "a\nb"}, "BadCharacter", "password"),
    ],
)
def test_each_way_of_being_refused_has_its_words(server: SimulatedServer, given: dict, code: str, field: str) -> None:
    found = refused(reach(server, **given))
    assert found.code == code and found.remedy
    assert not field or found.field == field
    assert "☂" not in str(found), "no password in words"


def test_a_port_where_nobody_listens_is_named(server: SimulatedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert refused(reach(server, port=port)).code == "NotListening"


def test_the_pinned_address_is_used_and_the_name_is_not_asked_again(server: SimulatedServer) -> None:
    assert asked(reach(server, host="no-such-host.invalid", hostaddr="127.0.0.1"))


def test_a_server_that_sends_on_to_another_address_is_not_followed(
    machine: SimulatedMachine, server: SimulatedServer
) -> None:
    """The driver would open a connection of its own there, and say the password in the clear."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        machine.routes_to = ("127.0.0.1", elsewhere.getsockname()[1])
        found = refused(reach(server))
        assert (found.code, found.field) == ("SentElsewhere", "host")
        elsewhere.settimeout(0.2)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


# ---- TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate and key for HOST, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, today = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    (tmp_path / "crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return str(tmp_path / "crt"), str(tmp_path / "key")


@contextmanager
def ended(listener: socket.socket) -> Iterator[None]:
    """Shut it before it is closed: its thread would wait on, and accept for whoever gets the same number next."""
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def eavesdropped(server: SimulatedServer) -> Iterator[tuple[int, bytearray]]:
    """A port that passes everything on to the server, and all the bytes that went through it."""
    heard = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                heard.extend(data)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def listen() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                ahead = socket.create_connection(("127.0.0.1", server.port))
                for pair in ((client, ahead), (ahead, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    with ended(listener):
        yield listener.getsockname()[1], heard


@pytest.mark.parametrize("offered", [Encryption.OFF, Encryption.ON])
@pytest.mark.parametrize("tls", ["prefer", "require", "verify-ca", "verify-full"])
def test_what_is_asked_goes_encrypted_where_the_server_can(
    machine: SimulatedMachine,
    certificate: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tls: str,
    offered: Encryption,
) -> None:
    monkeypatch.setenv("SQLSERVER_SSL_CA", certificate[0])
    with (
        SimulatedServer(machine, encryption=offered, certificate=certificate) as server,
        eavesdropped(server) as (port, heard),
    ):
        found = asked(reach(server, host=HOST, hostaddr="127.0.0.1", port=port, tls=tls))
    assert found == "100% ☂ 'x'"
    assert "SUSER_SNAME".encode("utf-16-le") not in heard and "farshore".encode("utf-16-le") not in heard


def test_without_tls_the_same_words_are_heard(server: SimulatedServer) -> None:
    with eavesdropped(server) as (port, heard):
        asked(reach(server, port=port, tls="prefer"))
    assert "SUSER_SNAME".encode("utf-16-le") in heard, "or the story above proves nothing"


def test_certificates_are_checked_as_far_as_was_asked(
    machine: SimulatedMachine, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with SimulatedServer(machine, encryption=Encryption.ON, certificate=certificate) as server:
        monkeypatch.delenv("SQLSERVER_SSL_CA", raising=False)
        for tls in ("verify-ca", "verify-full"):
            found = refused(reach(server, host=HOST, hostaddr="127.0.0.1", tls=tls))
            assert (found.code, found.field) == ("CertificateNotTrusted", "tls")
        monkeypatch.setenv("SQLSERVER_SSL_CA", certificate[0])
        other = {"host": "other.simulation.test", "hostaddr": "127.0.0.1"}
        assert refused(reach(server, **other, tls="verify-full")).code == "CertificateNotTrusted"
        assert asked(reach(server, **other, tls="verify-ca"))
        assert refused(reach(server, tls="disable")).code == "TlsRequired"


def test_a_server_that_can_do_without_is_met_plain_when_told_so(
    machine: SimulatedMachine, certificate: tuple[str, str]
) -> None:
    with SimulatedServer(machine, encryption=Encryption.OFF, certificate=certificate) as server:
        assert asked(reach(server, tls="disable"))


# ---- servers that misbehave


@contextmanager
def listening(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port at which every connection is treated so."""
    listener = socket.create_server(("127.0.0.1", 0))

    def treat(client: socket.socket) -> None:
        with suppress(OSError), client:
            behave(client)

    def listen() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=treat, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    with ended(listener):
        yield listener.getsockname()[1]


def silent(client: socket.socket) -> None:
    client.recv(4096)
    time.sleep(30)


def trickling(client: socket.socket) -> None:
    """A byte every now and then, so that no single wait is ever long."""
    client.recv(4096)
    for byte in struct.pack(">BBHHBB", 4, 1, 600, 0, 1, 0) + bytes(600):
        client.sendall(bytes([byte]))
        time.sleep(0.05)


def half_a_packet(client: socket.socket) -> None:
    client.recv(4096)
    client.sendall(struct.pack(">BBHHBB", 4, 1, 500, 0, 1, 0) + b"half")


def http(client: socket.socket) -> None:
    client.recv(4096)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def shorter_than_itself(client: socket.socket) -> None:
    client.recv(4096)
    client.sendall(struct.pack(">BBHHBB", 4, 1, 3, 0, 1, 0) * 10)


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (silent, "NoAnswer"),
        (trickling, "NoAnswer"),
        (half_a_packet, "ConnectionLost"),
        (http, "NotSqlServer"),
        (shorter_than_itself, "NotSqlServer"),
    ],
)
def test_a_server_that_never_lets_in_is_given_up_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch, behave: Callable[[socket.socket], None], code: str
) -> None:
    monkeypatch.setattr(wire, "LOGIN_SECONDS", 1)
    with listening(behave) as port:
        began = time.monotonic()
        assert refused(Connection("127.0.0.1", port, "farshore", "x")).code == code
        assert time.monotonic() - began < 20


def test_a_question_is_heard_out_and_an_error_behind_its_rows_is_not_lost(connection: Connection) -> None:
    with session(connection) as opened:
        for value in ("one", 2):
            assert opened.ask("SELECT %s AS said", value) == [{"said": value}]
            assert opened._driver._tds_socket.main_session.state == pytds.tds_base.TDS_IDLE, "nothing is left unheard"
        with pytest.raises(Refusal) as found:
            opened.ask("SELECT 1 AS one; KILL 9999")
    assert "6106" in found.value.sentence


def test_garbage_instead_of_tokens_is_refused_and_never_hangs(
    server: SimulatedServer, machine: SimulatedMachine
) -> None:
    """Whatever the server's answer is replaced by, what comes back is a Refusal."""
    for garbage in (
        b"\x81\xff\x7f",
        b"\xd1" * 40,
        b"\xaa\xff\xff",
        b"\xfd\x00",
        bytes(range(256)),
        b"\x81\x01\x00" + b"\xe7" * 9,
    ):
        with (
            garbled(server, garbage) as port,
            pytest.raises(Refusal) as found,
            session(reach(server, port=port)) as opened,
        ):
            opened.ask("SELECT 1 AS one")
        assert found.value.code in ("NotSqlServer", "ConnectionLost", "ServerRefused"), found.value


@contextmanager
def garbled(server: SimulatedServer, garbage: bytes) -> Iterator[int]:
    """The server up to its login; the answer to the first question after it is garbage."""

    def behave(client: socket.socket) -> None:
        ahead = socket.create_connection(("127.0.0.1", server.port))
        with ahead:
            for _ in range(2):
                ahead.sendall(client.recv(65536))
                time.sleep(0.05)
                client.sendall(ahead.recv(65536))
            client.recv(65536)
            client.sendall(struct.pack(">BBHHBB", 4, 1, 8 + len(garbage), 0, 1, 0) + garbage)

    with listening(behave) as port:
        yield port


@contextmanager
def flipping(server: SimulatedServer, seed: int) -> Iterator[int]:
    """The server, one of whose bytes after the login arrives as another."""
    chance = random.Random(seed)

    def behave(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as ahead:
            ahead.settimeout(2)
            for number in range(4):
                ahead.sendall(client.recv(65536))
                answer = bytearray(ahead.recv(65536))
                if number > 1 and answer:
                    answer[chance.randrange(len(answer))] = chance.randrange(256)
                client.sendall(answer)

    with listening(behave) as port:
        yield port


def test_one_wrong_byte_gives_an_answer_or_a_refusal_and_never_a_hang(server: SimulatedServer) -> None:
    ends = Counter()
    for seed in range(150):
        with flipping(server, seed) as port:
            try:
                with session(reach(server, port=port)) as opened:
                    opened.ask("SELECT name, database_id, create_date FROM sys.databases", seconds=1)
                    opened.ask("SELECT @@VERSION AS v, CAST(5 AS numeric(25, 0)) AS n", seconds=1)
                ends["answered"] += 1
            except Refusal as refusal:
                ends[refusal.code] += 1
    assert set(ends) <= {"answered", "NotSqlServer", "ConnectionLost", "NoAnswer", "ServerRefused"}
    assert len(ends) > 1, "some of them must have hurt"


def test_a_server_that_dies_while_it_answers_is_noticed_at_once(machine: SimulatedMachine) -> None:
    with SimulatedServer(machine) as server, session(reach(server)) as opened:
        assert opened.ask("SELECT 1 AS one") == [{"one": 1}]
        server.die()
        with pytest.raises(Refusal) as found:
            opened.ask("SELECT 1 AS one")
    assert found.value.code in ("ConnectionLost", "NotListening")


# ---- words


def test_the_cause_is_the_error_before_the_one_that_only_ends() -> None:
    said = [Said(3211, "5 percent", 0), Said(3201, "Cannot open", 16), Said(3013, "terminating abnormally", 16)]
    assert cause_of(said).number == 3201
    assert cause_of([Said(12345, "odd", 16), Said(3201, "Cannot open", 16), Said(3013, "x", 16)]).number == 3201
    assert cause_of([Said(3211, "5 percent", 0)]) is None


def test_every_known_number_says_what_to_do() -> None:
    values = {"host": "h", "port": 1, "username": "u", "dbname": "d"}
    for number, known in REASONS.items():
        assert known.code and known.sentence.format(**values).endswith((".", "!")), number
        assert known.remedy


def test_texts_go_as_nvarchar_of_a_length_and_numbers_as_they_are() -> None:
    text, number = typed(("\\\\files\\sql\\a.bak", 7))
    assert text.type.get_declaration() == "NVARCHAR(4000)" and number == 7
    assert typed(()) is None


def test_names_are_quoted_whatever_is_in_them() -> None:
    assert quoted_name("a]b'c") == "[a]]b'c]"
    refuse_ambiguous(Connection("h", 1, "u"))
