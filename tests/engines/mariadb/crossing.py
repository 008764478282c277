"""A source that is written to without pause, its full backup, and its logs as they reached the far side."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pymysql

from backups.engines.facts import Source
from backups.engines.mariadb import take_full
from tests.engines.mariadb.servers import Server
from tests.engines.postgresql.crossing import set_from

RECEIVER = """
import sys
from pathlib import Path
from backups.engines.facts import Connection
from backups.engines.mariadb import receive_logs
from tests.engines.postgresql.crossing import keep_in

host, port, spool, far = sys.argv[1:5]
connection = Connection(host, int(port), "copier", sys.stdin.readline()[:-1], hostaddr="127.0.0.1")
receive_logs(connection, Path(spool), keep_in(Path(far)), name="story", stop=lambda: False, flush_seconds=1)
"""


def receiver(server: Server, spool: Path, far: Path) -> subprocess.Popen[bytes]:
    """Receive in a process of its own, so that it can be killed."""
    where = [server.connection.host, str(server.port), str(spool), str(far)]
    with open(spool.parent / f"{spool.name}.log", "ab") as log:
        child = subprocess.Popen([sys.executable, "-c", RECEIVER, *where], stdin=subprocess.PIPE, stderr=log)
    child.stdin.write(f"{server.connection.password}\n".encode())
    child.stdin.flush()
    return child


def taken(server: Server) -> Source:
    archive = io.BytesIO()
    facts = take_full(server.connection, lambda readable: archive.write(readable.read())).facts
    return set_from(archive.getvalue(), facts)


@dataclass(frozen=True)
class Moment:
    at: datetime
    rows: int


class Writer(threading.Thread):
    """Commits a row every few milliseconds, and now and then a statement that only logs as such; counts them."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.written = 0
        self._may_write = threading.Event()
        self._may_write.set()
        self._over = False
        server.do("CREATE TABLE shop.ticks (id INT PRIMARY KEY, at TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6))")

    def run(self) -> None:
        with suppress(pymysql.Error), self._server.owner() as session, session.cursor() as cursor:
            while not self._over:
                self._may_write.wait()
                cursor.execute("INSERT INTO shop.ticks (id) VALUES (%s)", [self.written + 1])
                self.written += 1
                time.sleep(0.005)

    def moment(self) -> Moment:
        """Hold the pen over the end of a second, and name it: what was written before it belongs to it, as MariaDB
        writes down whole seconds."""
        self._may_write.clear()
        time.sleep(0.1)
        at = self._server.do("SELECT UTC_TIMESTAMP(6)")[0][0].replace(tzinfo=UTC)
        held = Moment(at, self.written)
        time.sleep(1.1 - at.microsecond / 1e6)
        self._may_write.set()
        return held

    def end(self) -> None:
        self._over = True
        self._may_write.set()
        self.join()
