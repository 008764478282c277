"""Real servers for these tests, on a port of their own, each with the roles that people forget to set up."""

from __future__ import annotations

import io
import os
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from backups.engines.facts import Connection
from console.runtime.postgres import Postgres
from tests.room import ROOM

OWNER = "farshore"
PASSWORD = r"p:a\ss 'word' ünd so"
HOST = "db.farshore.test"  # no resolver knows it: only the pinned address can lead there

ROLES = (
    f"CREATE ROLE copier LOGIN REPLICATION PASSWORD $${PASSWORD}$$",
    "CREATE ROLE clerk LOGIN PASSWORD 'clerk'",
    "CREATE ROLE hermit LOGIN REPLICATION PASSWORD 'hermit'",
    "CREATE ROLE stranger LOGIN REPLICATION PASSWORD 'stranger'",
)
DOORS = """
local all all trust
local replication all trust
host all stranger 127.0.0.1/32 reject
host all all 127.0.0.1/32 scram-sha-256
host replication copier,clerk 127.0.0.1/32 scram-sha-256
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@dataclass
class Cluster:
    """A running server; its owner comes in by the socket, everybody else by TCP and password."""

    server: Postgres
    port: int

    @property
    def connection(self) -> Connection:
        return Connection(HOST, self.port, "copier", PASSWORD, hostaddr="127.0.0.1")

    def connected_as(self, **other: Any) -> Connection:
        return replace(self.connection, **other)

    def owner(self, **more: Any) -> psycopg.Connection[Any]:
        where = {"host": str(self.server.sockets), "port": self.port, "user": OWNER, "dbname": "postgres"}
        return psycopg.connect(**where | more, autocommit=True)

    def slots(self) -> list[str]:
        with self.owner() as session:
            return [name for (name,) in session.execute("SELECT slot_name FROM pg_replication_slots")]

    def senders(self) -> int:
        with self.owner() as session:
            return session.execute("SELECT count(*) FROM pg_stat_replication").fetchone()[0]


def _server(place: Path, settings: dict[str, str], programs: Path | None) -> Postgres:
    place.mkdir(mode=0o711, exist_ok=True)
    server = Postgres(place / "cluster", place / "s", place / "log", superuser=OWNER, settings=settings, durable=False)
    server.programs = programs or server.programs
    return server


def _settings(port: int) -> dict[str, str]:
    return {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "max_wal_senders": "3",
        "max_replication_slots": "2",
        "shared_buffers": "16MB",
        "full_page_writes": "on",  # a backup of a standby wants it of its primary
    }


@contextmanager
def running(name: str, programs: Path | None = None, prepare: Callable[[Path], dict[str, str]] | None = None) -> Any:
    """A fresh cluster with rows in it; `prepare` may add files to its folder and returns more settings."""
    place, port = ROOM / name, free_port()
    server = _server(place, _settings(port), programs)
    server.prepare()
    (server.cluster / "pg_hba.conf").write_text(DOORS)
    if prepare:
        server.settings = {**server.settings, **prepare(server.cluster)}
    server.start()
    cluster = Cluster(server, port)
    try:
        with cluster.owner() as session:
            for statement in (*ROLES, "CREATE DATABASE shop"):
                session.execute(statement)
            session.execute("CREATE TABLE orders AS SELECT n, md5(n::text) AS note FROM generate_series(1, 5000) n")
        yield cluster
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def started_from(
    archive: bytes, name: str, programs: Path | None = None, *, as_standby: bool = False, of: Cluster | None = None
) -> Iterator[Cluster]:
    """A server started from nothing but a taken tar; `of`: the primary that it follows."""
    place, port = ROOM / name, free_port()
    settings = _settings(port) | (_following(of) if of else {})
    server = _server(place, settings, programs)
    unpack(archive, server)
    if as_standby or of:
        (server.cluster / "standby.signal").touch()
    server.prepare()
    server.start()
    try:
        yield Cluster(server, port)
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)


def _following(primary: Cluster) -> dict[str, str]:
    where = f"host={primary.server.sockets} port={primary.port} user={OWNER}"
    return {"primary_conninfo": where, "summarize_wal": "on"}


def unpack(archive: bytes, server: Postgres) -> None:
    server.cluster.mkdir(parents=True, mode=0o700)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(server.cluster, filter="data")
    server.cluster.chmod(0o700)
    if server.account:
        for folder, _, files in os.walk(server.cluster):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(path, server.account.uid, server.account.gid)
