"""A cluster that knows no encoding (SQL_ASCII: an initdb without a locale) is looked at like any other."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from backups.engines import ENGINES
from backups.engines.facts import RunningServer
from backups.engines.postgresql import checking
from tests.engines.postgresql.clusters import OWNER, Cluster, running

ENGINE = ENGINES["postgresql"]
NO_ENCODING = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
LATIN_NAME = "größe".encode("latin-1")


@pytest.fixture(scope="module")
def ascii_cluster() -> Iterator[Cluster]:
    with running("pg-ascii") as cluster:
        with cluster.owner(dbname="shop") as session:
            session.execute("UPDATE pg_database SET datistemplate = false WHERE datname = 'template1'")
            for database in ("postgres", "template1"):
                session.execute(f"DROP DATABASE {database}")
                session.execute(f"CREATE DATABASE {database} {NO_ENCODING}")
            session.execute("UPDATE pg_database SET datistemplate = true WHERE datname = 'template1'")
        with cluster.owner() as session:
            session.execute("SET client_encoding TO 'SQL_ASCII'")
            session.execute(b'CREATE TABLE "' + LATIN_NAME + b"\" AS SELECT 'gr\xf6\xdfer'::text AS said")
            session.execute('CREATE TABLE "Orders" AS SELECT n FROM generate_series(1, 7) n')
        yield cluster


@pytest.fixture
def server(ascii_cluster: Cluster) -> RunningServer:
    sockets = str(ascii_cluster.server.sockets)
    return SimpleNamespace(connection=ascii_cluster.connected_as(host=sockets, hostaddr="", username=OWNER))


def test_its_databases_are_named_and_what_forbids_a_backup_is_seen(ascii_cluster: Cluster) -> None:
    assert ENGINE.probe(ascii_cluster.connection).databases == ("postgres", "shop")


def test_its_rows_are_counted_whatever_bytes_its_tables_are_named_with(server: RunningServer) -> None:
    assert ENGINE.count_rows(server) == {"postgres.public.Orders": 7, "postgres.public.gr\\xf6\\xdfe": 1}


def test_its_pages_are_checked_and_it_answers(server: RunningServer) -> None:
    assert ENGINE.check(server).passed
    assert ENGINE.ask(server, "postgres", 'SELECT count(*) FROM "Orders"') == "7"
    assert checking.databases(server) == ["postgres", "shop"]
