from __future__ import annotations

import io
import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups.engines import engine_of
from backups.engines.facts import Connection
from backups.engines.postgresql import tools
from backups.engines.postgresql.refusals import refusal_from
from backups.engines.postgresql.server import Look, hold_slot, remarks, why_not
from regions.refusals import Refusal
from tests.engines.postgresql.clusters import PASSWORD, Cluster, free_port

probe, take_full = engine_of("postgresql").probe, engine_of("postgresql").take_full


def refused(verb: Any, *arguments: Any, **options: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        verb(*arguments, **options)
    assert caught.value.sentence and caught.value.remedy
    assert PASSWORD not in str(caught.value)
    return caught.value


def never_called(readable: object) -> None:
    pytest.fail("nothing should have been read")


def test_a_probe_tells_what_the_server_is(cluster: Cluster) -> None:
    found = probe(cluster.connection)
    assert found.version.split(".")[0] == cluster_major(cluster)
    assert found.databases == ("postgres", "shop")
    assert found.data_bytes > 1 << 20
    assert not found.is_secondary


def cluster_major(cluster: Cluster) -> str:
    return (cluster.server.cluster / "PG_VERSION").read_text().strip()


@pytest.mark.parametrize(
    ("wrong", "code", "field"),
    [
        ({"password": "guess"}, "PasswordWrong", "password"),
        ({"password": ""}, "PasswordMissing", "password"),
        ({"username": "nobody-here"}, "PasswordWrong", "password"),
        ({"username": "clerk", "password": "clerk"}, "NoReplicationPrivilege", "username"),
        ({"username": "hermit", "password": "hermit"}, "NoReplicationEntry", "username"),
        ({"username": "stranger", "password": "stranger"}, "NoAccessEntry", "username"),
        ({"dbname": "nowhere"}, "DatabaseUnknown", "dbname"),
        ({"host": "no-such-host.invalid", "hostaddr": ""}, "HostUnknown", "host"),
        ({"host": "one,two"}, "BadHost", "host"),
        ({"host": "/nowhere", "hostaddr": ""}, "NotListening", "port"),
        ({"dbname": "postgres\nhost=elsewhere"}, "BadCharacter", "dbname"),
        ({"tls": "perhaps"}, "UnknownTls", "tls"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_before_anything_starts(
    cluster: Cluster, wrong: dict[str, str], code: str, field: str
) -> None:
    connection = cluster.connected_as(**wrong)
    for said in (refused(probe, connection), refused(take_full, connection, never_called)):
        assert (said.code, said.field) == (code, field), said
    assert not cluster.slots()


def test_nothing_listening_is_told_from_something_else_listening(embedded: Cluster) -> None:
    said = refused(probe, embedded.connected_as(port=free_port()))
    assert (said.code, said.field) == ("NotListening", "port")


def test_tls_where_the_server_has_none_is_refused(embedded: Cluster) -> None:
    said = refused(probe, embedded.connected_as(tls="require"))
    assert (said.code, said.field) == ("NoTls", "tls")


def test_a_certificate_is_checked_against_the_name_although_the_address_is_pinned(
    packaged: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = tmp_path / "authority.crt"
    authority.write_bytes((packaged.server.cluster / "server.crt").read_bytes())
    strict = packaged.connected_as(tls="verify-full")
    assert refused(probe, strict).code == "CertificateNotTrusted"
    monkeypatch.setenv("PGSSLROOTCERT", str(authority))
    archive = io.BytesIO()
    assert take_full(strict, lambda readable: archive.write(readable.read())).facts.size_bytes
    assert refused(probe, packaged.connected_as(tls="verify-full", host="other.test")).code == "CertificateNotTrusted"


def test_tools_without_tls_are_named_when_the_server_must_be_reached_with_it(
    packaged: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "PACKAGED", ())
    with pytest.raises(Refusal) as caught:
        take_full(packaged.connected_as(tls="require"), lambda readable: readable.read())
    assert caught.value.code == "ToolsWithoutTls"


def test_a_server_without_a_free_sender_is_refused(cluster: Cluster) -> None:
    with ExitStack() as standbys:
        for _ in range(3):
            standbys.enter_context(closing(cluster.owner(replication="true")))
        assert refused(probe, cluster.connection).code == "NoFreeSender"
    assert probe(cluster.connection).version


def test_tablespaces_are_named_before_anything_starts(embedded: Cluster) -> None:
    elsewhere = embedded.server.cluster.parent / "s" / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    owner = elsewhere.parent.stat()
    os.chown(elsewhere, owner.st_uid, owner.st_gid)
    with embedded.owner() as session:
        session.execute(f"CREATE TABLESPACE cold LOCATION '{elsewhere}'")
    try:
        for said in (refused(probe, embedded.connection), refused(take_full, embedded.connection, never_called)):
            assert said.code == "Tablespaces" and "cold" in said.sentence
    finally:
        with embedded.owner() as session:
            session.execute("DROP TABLESPACE cold")


def test_missing_tools_are_named_with_the_variable_that_would_help(
    embedded: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARSHORE_EMBEDDED_TOOLS")
    monkeypatch.setattr(tools, "PACKAGED", ())
    said = refused(probe, embedded.connection)
    assert said.code == "ToolsMissing" and "PG_BIN_18" in said.remedy


def server_like(**different: Any) -> Look:
    usual = {
        "number": 160004, "is_secondary": False, "wal_level": "replica", "sums_pages": True, "tablespaces": [],
        "databases": ["postgres"],
    }  # fmt: skip
    return Look(**{**usual, **different})


@pytest.mark.parametrize(
    ("different", "code"), [({"number": 120022}, "TooOld"), ({"wal_level": "minimal"}, "WalLevel")]
)
def test_a_server_that_no_backup_can_be_taken_of_is_refused(different: dict[str, Any], code: str) -> None:
    why_not(server_like())
    assert refused(why_not, server_like(**different)).code == code


def test_versions_read_as_people_write_them() -> None:
    assert server_like(number=130021).version == "13.21"
    why_not(server_like(number=130000))


def test_what_is_worth_knowing_is_remarked() -> None:
    assert remarks(server_like()) == []
    assert "checksums are off" in remarks(server_like(sums_pages=False))[0]
    assert "2 databases" in remarks(server_like(), unseen=2)[0]


def test_words_we_do_not_know_are_quoted_and_not_guessed_at() -> None:
    somewhere = Connection("db", 5432, "copier")
    said = refusal_from("FATAL:  Passwort-Authentifizierung für Benutzer »copier« fehlgeschlagen", somewhere)
    assert said.code == "ServerRefused" and "fehlgeschlagen" in said.sentence


def test_the_slot_that_the_session_holds_goes_when_the_session_goes(embedded: Cluster) -> None:
    session: psycopg.Connection[Any] = embedded.owner()
    assert hold_slot(session) == "" and len(embedded.slots()) == 1
    session.close()
    assert not embedded.slots()
