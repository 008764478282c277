"""What the dialog says about restoring by hand works, word for word, with the engines' own programs (R-16.3)."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups.engines import engine_of
from backups.engines.facts import Base, Kind, Method, SetFacts
from backups.engines.mariadb import take_full as take_mariadb
from backups.engines.postgresql import pieces, take_full, take_incremental
from tests.engines.mariadb import servers as mariadb
from tests.engines.postgresql.clusters import Cluster, free_port, running
from tests.house.running import soon
from tests.programs import needs
from tests.room import ROOM

pytestmark = pytest.mark.long


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    with running("pg-by-hand", prepare=lambda folder: {"summarize_wal": "on"}) as found:
        yield found


class Shell:
    """A folder of the server's own account, in which commands are typed."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.server, self.folder, self.port = cluster.server, ROOM / name, free_port()
        self.folder.mkdir(mode=0o700)
        self._own(self.folder)

    def _own(self, path: Path) -> None:
        if self.server.account:
            os.chown(path, self.server.account.uid, self.server.account.gid)

    def put(self, name: str, body: bytes) -> None:
        (self.folder / name).write_bytes(body)
        self._own(self.folder / name)

    def type(self, commands: str) -> None:
        account = self.server.account.popen if self.server.account else {}
        environment = {
            "PATH": f"{self.server.programs}:{os.environ['PATH']}",
            "PGPORT": str(self.port),
            "LANG": "C.UTF-8",
        }
        told = self.folder / "told"
        with open(told, "wb") as out:  # not a pipe: the server that is started keeps it open
            child = subprocess.run(
                ["/bin/sh", "-e", "-c", commands], cwd=self.folder, env=environment, stdout=out, stderr=out, **account
            )
        assert child.returncode == 0, told.read_text() + _log(self.folder)

    def rows(self) -> int:
        """Count them once the logs have been replayed: the server lets readers in before."""
        assert soon(lambda: self._ask("SELECT NOT pg_is_in_recovery()"))
        return self._ask("SELECT count(*) FROM orders")

    def _ask(self, question: str) -> Any:
        where = {"host": "127.0.0.1", "port": self.port, "user": "clerk", "password": "clerk", "dbname": "postgres"}
        with psycopg.connect(**where) as session:
            return session.execute(question).fetchone()[0]

    def stop(self) -> None:
        self.type("pg_ctl -D restored -m immediate stop")


def _log(folder: Path) -> str:
    log = folder / "restored.log"
    return log.read_text() if log.exists() else ""


def by_hand(engine: str, facts: SetFacts, *names: str) -> str:
    return engine_of(engine).restore_by_hand(facts, names)


def add_rows(cluster: Cluster, count: int) -> None:
    with cluster.owner() as session:
        session.execute(f"INSERT INTO orders SELECT n, 'later' FROM generate_series(1, {count}) n")
        session.execute("GRANT SELECT ON orders TO clerk")


def test_postgresql_a_full_and_the_incremental_on_it(cluster: Cluster) -> None:
    add_rows(cluster, 1)
    full, incremental = bytearray(), bytearray()
    base = take_full(cluster.connection, lambda stream: full.extend(stream.read()))
    add_rows(cluster, 10)
    lies = base.outline
    outline = bytes(full[lies.offset : lies.offset + lies.length])
    taken = take_incremental(
        cluster.connection, Base(base.facts, lambda: io.BytesIO(outline)), lambda s: incremental.extend(s.read())
    )
    for name, facts, rows in (("hand-full", base.facts, 5001), ("hand-incremental", taken.facts, 5011)):
        shell = Shell(cluster, name)
        shell.put("it's full.tar", bytes(full))
        shell.put("later.tar", bytes(incremental))
        if facts.kind == Kind.DIFFERENTIAL:
            shell.type('mkdir -m 700 full; tar -xf "it\'s full.tar" -C full')
        shell.type(by_hand("postgresql", facts, "later.tar" if facts.kind == Kind.DIFFERENTIAL else "it's full.tar"))
        try:
            assert shell.rows() == rows
        finally:
            shell.stop()


def test_postgresql_a_full_and_the_log_after_it(cluster: Cluster) -> None:
    needs("zstd")
    add_rows(cluster, 1)
    full = bytearray()
    base = take_full(cluster.connection, lambda stream: full.extend(stream.read()))
    add_rows(cluster, 20)
    with cluster.owner() as session:
        session.execute("SELECT pg_switch_wal()")
    segments = sorted(path for path in (cluster.server.cluster / "pg_wal").iterdir() if len(path.name) == 24)
    piece = ROOM / "hand.tar.zst"
    pieces.pack(segments, piece)
    shell = Shell(cluster, "hand-log")
    shell.put("full.tar", bytes(full))
    shell.put("log.tar.zst", piece.read_bytes())
    unpacked = by_hand("postgresql", base.facts, "full.tar").rpartition("\n")[0]  # all but the start
    shell.type(unpacked)
    shell.type(by_hand("postgresql", replace(base.facts, kind=Kind.LOG), "log.tar.zst"))
    try:
        assert shell.rows() == 5021
    finally:
        shell.stop()


def test_mariadb_a_full_becomes_a_prepared_folder() -> None:
    """What follows puts it where the packages of the reader's machine have their data: not ours to do here."""
    with mariadb.running("mariadb-by-hand") as server:
        archive = bytearray()
        facts = take_mariadb(server.connection, lambda stream: archive.extend(stream.read())).facts
    folder = ROOM / "hand-mariadb"
    folder.mkdir()
    (folder / "full.mbstream").write_bytes(archive)
    commands = by_hand("mariadb", facts, "full.mbstream").partition("\nmariadb-backup --copy-back")[0]
    done = subprocess.run(["/bin/sh", "-e", "-c", commands], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [told] = folder.glob("restored/*_checkpoints")
    assert "backup_type = log-applied" in told.read_text()


def test_sqlserver_names_every_stripe_and_its_place_in_the_file(facts: SetFacts) -> None:
    said = by_hand("sqlserver", replace(facts, position=3), "a'1.bak", "a2.bak")
    assert "RESTORE DATABASE [Sa]]les] FROM" in said and "FILE = 3, NORECOVERY, CHECKSUM;" in said
    assert "N'D:\\restore\\a''1.bak'" in said and "N'D:\\restore\\a2.bak'" in said and "--" not in said.splitlines()[0]
    assert said.endswith("RESTORE DATABASE [Sa]]les] WITH RECOVERY; -- after the last one")
    log = by_hand("sqlserver", replace(facts, kind=Kind.LOG), "a.trn")
    assert "RESTORE LOG [Sa]]les]" in log and log.startswith("-- after the full backup")


@pytest.fixture
def facts() -> SetFacts:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    return SetFacts("Sa]les", Kind.FULL, Method.PHYSICAL, at, at, has_checksums=True)
