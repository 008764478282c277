"""A source that is written to without pause, its full backup, and its logs as they reached the far side."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path

import psycopg

from backups.engines.facts import LogPiece, SetFacts, Source
from tests.engines.postgresql.clusters import Cluster

RECEIVER = """
import sys
from pathlib import Path
from backups.engines.facts import Connection
from backups.engines.postgresql import receive_logs
from tests.engines.postgresql.crossing import keep_in

host, port, spool, far = sys.argv[1:5]
connection = Connection(host, int(port), "copier", sys.stdin.readline()[:-1], hostaddr="127.0.0.1")
receive_logs(connection, Path(spool), keep_in(Path(far)), name="story", stop=lambda: False, flush_seconds=1)
"""


def keep_in(far: Path) -> Callable[[LogPiece], None]:
    """Deliver into a folder as a store would keep it: a piece under its positions, whole or not at all."""
    far.mkdir(exist_ok=True)

    def deliver(piece: LogPiece) -> None:
        facts = piece.facts
        target = far / f"{int(facts.fork):03d}-{facts.first_position:020d}-{facts.last_position:020d}"
        shutil.copy(piece.path, far / ".draft")
        target.with_suffix(".json").write_text(_as_text(facts))
        (far / ".draft").rename(target)
        with open(far / "order", "a") as order:
            order.write(f"{target.name}\n")

    return deliver


def keep_set(source: Source, target: Path) -> None:
    target.write_bytes(source.open().read())
    target.with_suffix(".json").write_text(_as_text(source.facts))


def _as_text(facts: SetFacts) -> str:
    return json.dumps(
        {field.name: getattr(facts, field.name) for field in fields(SetFacts)}, default=datetime.isoformat
    )


def logs_in(far: Path) -> list[Source]:
    return [set_in(path) for path in sorted(far.iterdir()) if path.name[0].isdigit() and not path.suffix]


def set_in(path: Path) -> Source:
    told = json.loads(path.with_suffix(".json").read_text())
    written = ("started_at", "finished_at", "forked_at")
    times = {name: datetime.fromisoformat(told[name]) for name in written if told[name]}
    return Source(SetFacts(**{**told, **times, "database_files": ()}), lambda: open(path, "rb"))


def set_from(archive: bytes, facts: SetFacts) -> Source:
    return Source(facts, lambda: io.BytesIO(archive))


def receiver(cluster: Cluster, spool: Path, far: Path) -> subprocess.Popen[bytes]:
    """Receive in a process of its own, so that it can be killed."""
    where = [cluster.connection.host, str(cluster.port), str(spool), str(far)]
    with open(spool.parent / f"{spool.name}.log", "ab") as log:
        child = subprocess.Popen([sys.executable, "-c", RECEIVER, *where], stdin=subprocess.PIPE, stderr=log)
    child.stdin.write(f"{cluster.connection.password}\n".encode())
    child.stdin.flush()
    return child


class Writer(threading.Thread):
    """Commits a row every few milliseconds, with the server's clock in it; remembers what was acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self.written = 0
        self._may_write = threading.Event()
        self._may_write.set()
        self._over = False
        with cluster.owner() as session:
            session.execute("CREATE TABLE ticks (id int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())")

    def run(self) -> None:
        with suppress(psycopg.Error), self._cluster.owner() as session:
            while not self._over:
                self._may_write.wait()
                session.execute("INSERT INTO ticks (id) VALUES (%s)", [self.written + 1])
                self.written += 1
                time.sleep(0.005)

    def moment(self) -> Moment:
        """Hold the pen for a moment, and name it: what was written before it, and nothing later, belongs to it."""
        self._may_write.clear()
        time.sleep(0.2)
        with self._cluster.owner() as session:
            at = session.execute("SELECT clock_timestamp()").fetchone()[0]
        held = Moment(at, self.written)
        time.sleep(0.2)
        self._may_write.set()
        return held

    def end(self) -> None:
        self._over = True
        self._may_write.set()
        self.join()


@dataclass(frozen=True)
class Moment:
    at: datetime
    rows: int


def kill(cluster: Cluster) -> None:
    """The source's machine is gone: every process of it, at once."""
    os.kill(cluster.server.process.pid, signal.SIGKILL)
    cluster.server.process.wait()


def without(logs: list[Source], number: int) -> list[Source]:
    return [log for at, log in enumerate(logs) if at != number]


def lying(log: Source, **facts: object) -> Source:
    return replace(log, facts=replace(log.facts, **facts))
