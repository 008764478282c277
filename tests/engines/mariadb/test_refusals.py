from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backups.engines import engine_of
from backups.engines.facts import Connection
from backups.engines.mariadb import datadir, packets, tools
from backups.engines.mariadb.connecting import session
from backups.engines.mariadb.refusals import refusal_from
from backups.engines.mariadb.server import Look, Place, Primary, remarks, why_no_logs, why_not
from regions.refusals import Refusal
from tests.engines.mariadb.servers import Server, running
from tests.engines.postgresql.clusters import PASSWORD, free_port
from tests.engines.postgresql.tls import use_tls

probe, take_full = engine_of("mariadb").probe, engine_of("mariadb").take_full


def refused(verb: Any, *arguments: Any, **options: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        verb(*arguments, **options)
    assert caught.value.sentence and caught.value.remedy
    assert PASSWORD not in str(caught.value)
    return caught.value


def never_called(readable: object) -> None:
    pytest.fail("nothing should have been read")


def test_a_probe_tells_what_the_server_is(server: Server) -> None:
    found = probe(server.connection)
    assert found.version == ".".join(server.do("SELECT @@version")[0][0].split("-")[0].split("."))
    assert found.databases == ("shop",)
    assert found.data_bytes > 1 << 20
    assert not found.is_secondary and found.notes == ()


@pytest.mark.parametrize(
    ("wrong", "code", "field"),
    [
        ({"password": "guess"}, "PasswordWrong", "password"),
        ({"password": ""}, "PasswordMissing", "password"),
        ({"username": "nobody-here"}, "PasswordWrong", "password"),
        ({"username": "clerk", "password": "clerk"}, "PrivilegesMissing", "username"),
        ({"dbname": "nowhere"}, "DatabaseUnknown", "dbname"),
        ({"host": "no-such-host.invalid", "hostaddr": ""}, "HostUnknown", "host"),
        ({"port": free_port()}, "NotListening", "port"),
        ({"host": "one,two"}, "BadHost", "host"),
        ({"username": "a\nb"}, "BadCharacter", "username"),
        ({"tls": "sometimes"}, "UnknownTls", "tls"),
        ({"tls": "require"}, "NoTls", "tls"),
    ],
)
def test_a_connection_that_does_not_come_about_says_why(server: Server, wrong: dict, code: str, field: str) -> None:
    said = refused(probe, server.connected_as(**wrong))
    assert (said.code, said.field) == (code, field)
    assert refused(take_full, server.connected_as(**wrong), never_called).code == code


def test_missing_privileges_are_named_as_the_grant_that_would_help(server: Server) -> None:
    said = refused(probe, server.connected_as(username="clerk", password="clerk"))
    assert "GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO 'clerk'@'%'" in said.remedy
    halfway = probe(server.connected_as(username="halfway", password="halfway"))
    assert "GRANT REPLICATION SLAVE ON *.* TO 'halfway'@'%'" in halfway.notes[0]


def test_what_is_no_mariadb_is_not_taken_for_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=lambda: other.accept()[0].sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 9), daemon=True).start()
        somewhere = Connection("db.test", other.getsockname()[1], "copier", PASSWORD, hostaddr="127.0.0.1")
        assert refused(probe, somewhere).code == "NotMariaDB"


# ---- TLS


@pytest.fixture(scope="module")
def secure() -> Iterator[Server]:
    with running("mariadb-tls") as server:
        server.stop()
        use_tls(server.data)
        server.settings |= {name: str(server.data / f"server.{end}") for name, end in CERTIFICATE.items()}
        server.start()
        yield server


CERTIFICATE = {"ssl_cert": "crt", "ssl_key": "key"}


def test_a_certificate_is_checked_against_the_name_although_the_address_is_pinned(
    secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = secure.connected_as(tls="verify-full")
    assert refused(probe, strict).code == "CertificateNotTrusted"
    monkeypatch.setenv("MARIADB_SSL_CA", str(secure.data / "server.crt"))
    assert take_full(strict, lambda readable: readable.read()).facts.size_bytes
    assert refused(probe, secure.connected_as(tls="verify-full", host="other.test")).code == "CertificateNotTrusted"
    assert probe(secure.connected_as(tls="verify-ca", host="other.test")).version


@pytest.mark.parametrize(("tls", "encrypted"), [("disable", False), ("prefer", True), ("require", True)])
def test_tls_is_used_as_it_is_asked_by_our_driver_and_by_the_tools(secure: Server, tls: str, encrypted: bool) -> None:
    secure.do(f"ALTER USER clerk REQUIRE {'SSL' if encrypted else 'NONE'}")
    with session(secure.connected_as(username="clerk", password="clerk", tls=tls)) as opened:
        opened.ping()
    secure.do("ALTER USER copier REQUIRE SSL")
    if not encrypted:
        assert refused(probe, secure.connected_as(tls=tls)).code == "PasswordWrong"
        return
    assert take_full(secure.connected_as(tls=tls), lambda readable: readable.read()).facts.size_bytes


def test_a_password_is_never_sent_in_clear_to_whoever_asks_for_it() -> None:
    heard: list[bytes] = []

    def curious(listener: socket.socket) -> None:
        client = listener.accept()[0]
        greeting = b"\x0a10.11.1-MariaDB\0" + b"\1\0\0\0" + b"x" * 8 + b"\0\xff\xf7\x21\2\0\xff\x81\x15" + b"\0" * 10
        client.sendall(packets.packet(0, greeting + b"x" * 12 + b"\0mysql_native_password\0"))
        packets.read_packet(client)
        client.sendall(packets.packet(2, b"\xfemysql_clear_password\0"))
        with suppress(OSError):
            heard.append(client.recv(1 << 10))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asking = threading.Thread(target=curious, args=(listener,), daemon=True)
        asking.start()
        where = Connection("db.test", listener.getsockname()[1], "copier", PASSWORD, hostaddr="127.0.0.1")
        assert refused(probe, where).code == "PasswordInClear"
        asking.join(5)
    assert heard == [b""]


# ---- where the files are


def test_data_that_is_not_on_this_worker_is_a_note_of_the_probe_and_a_refusal_of_the_backup(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = datadir.must_be_here
    away = str(server.data.parent / "on-another-machine")
    monkeypatch.setattr(datadir, "must_be_here", lambda folder, log, opened: real(away, log, opened))
    assert "is not on this worker" in probe(server.connection).notes[0]
    said = refused(take_full, server.connection, never_called)
    assert said.code == "DataElsewhere" and "server's own machine" in said.remedy


def test_another_servers_data_under_the_same_name_is_not_copied(server: Server, secure: Server) -> None:
    secure.do("CREATE TABLE shop.more AS SELECT * FROM shop.orders", "FLUSH TABLES")
    with session(server.connection) as opened:
        datadir.must_be_here(str(server.data), "./", opened)
        assert refused(datadir.must_be_here, str(secure.data), "./", opened).code == "OtherDataHere"


def test_missing_tools_are_named_with_the_variable_that_would_help(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "PACKAGED", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(probe, server.connection)
    assert said.code == "ToolsMissing" and "MARIADB_BIN" in said.remedy


# ---- servers that are not here


def server_like(**different: Any) -> Look:
    usual = {
        "version": "10.11.6-MariaDB-log", "server_id": 7, "hostname": "db", "datadir": "/var/lib/mysql/",
        "log_folder": "./", "log_bin": 1, "logs_what_it_follows": 1, "read_only": 0, "expire_days": 7.0,
        "binlog_format": "MIXED", "account": "copier@%",
        "privileges": frozenset({"RELOAD", "PROCESS", "BINLOG MONITOR", "REPLICATION SLAVE"}),
    }  # fmt: skip
    return Look(**{**usual, **different})


@pytest.mark.parametrize(
    ("different", "code"),
    [
        ({"version": "10.4.32-MariaDB"}, "TooOld"),
        ({"privileges": frozenset({"RELOAD"})}, "PrivilegesMissing"),
        ({"encryption": ("file_key_management",)}, "Encrypted"),
    ],
)
def test_a_server_that_no_backup_can_be_taken_of_is_refused(different: dict[str, Any], code: str) -> None:
    why_not(server_like())
    why_not(server_like(version="10.5.1-MariaDB", privileges=frozenset({"ALL PRIVILEGES"})))
    assert refused(why_not, server_like(**different)).code == code


REPLICA = {"followed": 1, "read_only": 1, "follows": Primary(6, Place("mysql-bin.000002", 730))}


@pytest.mark.parametrize(
    ("different", "code"),
    [
        ({"log_bin": 0}, "BinlogOff"),
        ({"privileges": frozenset({"RELOAD", "PROCESS", "BINLOG MONITOR"})}, "NoReplicationPrivilege"),
        ({"filters": "shop"}, "BinlogFiltered"),
        (REPLICA, "LogsOfReplica"),
        ({**REPLICA, "read_only": 0, "logs_what_it_follows": 0}, "LogsOfReplica"),
    ],
)
def test_a_server_whose_logs_are_worth_nothing_is_refused(different: dict[str, Any], code: str) -> None:
    why_no_logs(server_like())
    why_no_logs(server_like(**{**REPLICA, "read_only": 0}))  # two primaries follow each other
    assert refused(why_no_logs, server_like(**different)).code == code


def test_what_is_worth_knowing_is_remarked() -> None:
    assert list(remarks(server_like())) == []
    for different, word in [
        ({"log_bin": 0}, "log_bin"),
        ({"binlog_format": "STATEMENT"}, "STATEMENT"),
        ({"followed": None}, "SLAVE MONITOR"),
        (REPLICA, "logs of the primary"),
        ({**REPLICA, "followed": 2, "follows": None}, "2 servers"),
    ]:
        (said,) = remarks(server_like(**different))
        assert word in said


def test_words_we_do_not_know_are_quoted_and_not_guessed_at() -> None:
    said = refusal_from("ERROR 9999: Etwas ganz anderes", Connection("db", 3306, "copier"))
    assert said.code == "ServerRefused" and "ganz anderes" in said.sentence
    assert replace(server_like(), version="11.4.2-MariaDB").series == "11.4"
