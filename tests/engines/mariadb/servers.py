"""Real servers for these tests, on a port of their own, each with the accounts that people forget to set up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pymysql

from backups.engines import confinement
from backups.engines.facts import Connection
from tests.engines.postgresql.clusters import HOST, PASSWORD, free_port
from tests.programs import needs, program
from tests.room import ROOM

PROGRAMS = ("mariadbd", "mariadb-backup", "mariadb-binlog", "mariadb-check", "mariadb", "mariadb-install-db")
RIGHTS = "RELOAD, PROCESS, BINLOG MONITOR, SLAVE MONITOR"
ACCOUNTS = (
    ("copier", PASSWORD, f"{RIGHTS}, REPLICATION SLAVE"),
    ("halfway", "halfway", RIGHTS),
    ("clerk", "clerk", "USAGE"),
)
START_SECONDS = 60
EMPTY = ROOM / "mariadb-empty"

SETTINGS = {
    "innodb_buffer_pool_size": "16M",
    "innodb_log_file_size": "8M",
    "innodb_flush_log_at_trx_commit": "2",
    "skip_name_resolve": "ON",
    "bind_address": "127.0.0.1",
    "log_bin": "mysql-bin",
    "server_id": "77",
    "expire_logs_days": "7",
}


def _lines(values: Mapping[str, object]) -> str:
    return "".join(["[mariadbd]\n", *(f"{name}={value}\n" for name, value in values.items())])


@dataclass
class Server:
    """A running server; its owner comes in by the socket, everybody else by TCP and password."""

    place: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    zone: str = "UTC"

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def socket(self) -> Path:
        return self.place / "s.sock"

    @property
    def connection(self) -> Connection:
        return Connection(HOST, self.port, "copier", PASSWORD, hostaddr="127.0.0.1")

    def connected_as(self, **other: Any) -> Connection:
        return replace(self.connection, **other)

    def build(self, source: Path) -> None:
        self.place.mkdir(mode=0o755)
        shutil.copytree(source, self.data)
        whom = confinement.account()
        for folder, _, files in os.walk(self.place) if whom else ():
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(path, whom.uid, whom.gid)

    def start(self) -> None:
        self.port = self.port or free_port()
        places = {"datadir": self.data, "socket": self.socket, "port": self.port, "pid_file": self.place / "pid"}
        (self.place / "my.cnf").write_text(_lines({**SETTINGS, **places, **self.settings}))
        with open(self.place / "log", "ab") as out:
            self.process = subprocess.Popen(
                [program("mariadbd"), f"--defaults-file={self.place / 'my.cnf'}"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"TZ": self.zone},
                preexec_fn=confinement.confined(os.getpid(), confinement.account()),
            )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < until, (self.place / "log").read_text()[-2000:]
            time.sleep(0.05)

    def _answers(self) -> bool:
        with suppress(pymysql.Error):
            self.owner().close()
            return True
        return False

    def owner(self, **more: Any) -> pymysql.connections.Connection:
        return pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True, **more)

    def do(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the owner; returns the rows of the last."""
        with self.owner() as session, session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(by)
            self.process.wait(START_SECONDS)

    def kill(self) -> None:
        """The source's machine is gone, at once."""
        self.stop(signal.SIGKILL)


def empty() -> Path:
    """A data directory as mariadb-install-db makes it, once for all."""
    needs(*PROGRAMS)
    if not EMPTY.exists():
        options = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        made = subprocess.run(
            [program("mariadb-install-db"), *options, f"--datadir={EMPTY}", "--innodb-log-file-size=8M"],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stdout + made.stderr
    return EMPTY


@contextmanager
def running(name: str, *, source: Path | None = None, zone: str = "UTC", **settings: str) -> Iterator[Server]:
    """A fresh server with rows in it, or one from somebody's files as they are."""
    needs(*PROGRAMS)
    server = Server(ROOM / name, settings, zone=zone)
    server.build(source or empty())
    try:
        server.start()
        if source is None:
            _furnish(server)
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.place, ignore_errors=True)


def _furnish(server: Server) -> None:
    for name, password, rights in ACCOUNTS:
        quoted = pymysql.converters.escape_string(password)
        server.do(f"CREATE USER {name} IDENTIFIED BY '{quoted}'", f"GRANT {rights} ON *.* TO {name}")
    server.do(
        "CREATE DATABASE shop",
        "CREATE TABLE shop.orders (n INT PRIMARY KEY, note CHAR(32)) ENGINE=InnoDB",
        "INSERT INTO shop.orders SELECT seq, MD5(seq) FROM shop.seq_1_to_5000",
    )
