from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from backups.engines import engine_of
from backups.engines.chains import chain_set
from backups.engines.facts import RestoreRequest, Stopped
from backups.engines.mariadb import count_rows, discard, restore
from backups.engines.scratch import scratch
from regions.refusals import Refusal
from tests.engines.mariadb.crossing import taken
from tests.engines.mariadb.servers import Server, running
from tests.engines.postgresql.clusters import HOST, PASSWORD
from tests.room import ROOM

probe, take_full = engine_of("mariadb").probe, engine_of("mariadb").take_full
MIB = 1 << 20


def eventually(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return true()


def tool_pids(server: Server) -> list[int]:
    """The mariadb-backup processes that read this server's files."""
    mark = str(server.data).encode()
    return [pid for pid in pids() if b"mariadb-backup" in peek(pid, "cmdline") and lives_in(pid, mark)]


def lives_in(pid: int, folder: bytes) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd").encode() == folder
    except OSError:
        return False


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def peek(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def left_nothing(server: Server) -> bool:
    """No tool, and no session of it, that is no lock; who read the log is noticed to be gone at the next event."""
    ours = "FROM information_schema.processlist WHERE user = 'copier' AND command <> 'Binlog Dump'"
    asked = f"SELECT COUNT(*) {ours}"
    return eventually(lambda: not tool_pids(server) and server.do(asked)[0][0] == 0)


def keep(into: io.BytesIO) -> Callable[[BinaryIO], None]:
    def consume(readable: BinaryIO) -> None:
        while taken := readable.read(MIB):
            into.write(taken)

    return consume


def test_a_taken_backup_starts_as_a_server_of_its_own_and_holds_the_rows(server: Server) -> None:
    file, offset = server.do("SHOW MASTER STATUS")[0][:2]
    told: list[tuple[int, int | None]] = []
    archive = io.BytesIO()
    full = take_full(server.connection, keep(archive), progress=lambda *so_far: told.append(so_far))
    facts = full.facts
    assert (facts.database, facts.kind, facts.method, facts.fork) == ("", "full", "physical", "77")
    assert facts.first_position == facts.last_position == int(file.rpartition(".")[2]) * 10**12 + offset
    assert facts.software_version.startswith("10.") and len(facts.set_guid) == 36
    assert facts.size_bytes == facts.length == len(archive.getvalue())
    assert datetime.now(UTC) - timedelta(minutes=1) < facts.started_at <= facts.finished_at <= datetime.now(UTC)
    assert told[-1] == (facts.size_bytes, facts.size_bytes)
    gtid = server.do("SELECT @@gtid_binlog_pos")[0][0]
    assert any(f"{file}, {offset}, GTID {gtid}" in note for note in full.notes)
    assert left_nothing(server)
    place = ROOM / "taken"
    place.mkdir(mode=0o711)
    result = restore(RestoreRequest(place, "new", (taken(server),), network=False))
    assert count_rows(result.server) == {"shop.orders": 5000}
    result.server.stop()
    discard(result.server.folder)
    place.rmdir()


def test_the_password_is_in_no_process_list_and_the_tool_knows_nothing_of_ours(server: Server) -> None:
    found: list[bytes] = []

    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        (tool,) = tool_pids(server)
        found.extend([peek(tool, "environ"), *(peek(pid, "cmdline") for pid in pids())])
        keep(io.BytesIO())(readable)

    take_full(server.connection, consume)
    assert len(found) > 2
    assert not [seen for seen in found if PASSWORD.encode() in seen or PASSWORD[:6].encode() in seen]
    assert b"DATABASE_URL" not in found[0] and b"FARSHORE" not in found[0]
    assert PASSWORD not in repr(server.connection)


def freeze_the_tool(server: Server) -> None:
    (tool,) = tool_pids(server)
    os.kill(tool, signal.SIGSTOP)


def test_a_consumer_that_fails_ends_the_backup_and_leaves_nothing_behind(server: Server) -> None:
    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        freeze_the_tool(server)
        raise OSError("the store is full")

    with pytest.raises(OSError, match="the store is full"):
        take_full(server.connection, consume)
    assert left_nothing(server)


def test_a_backup_that_is_no_longer_wanted_stops_while_it_is_read(server: Server) -> None:
    wanted = [True]

    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        wanted.clear()
        time.sleep(0.6)
        keep(io.BytesIO())(readable)
        pytest.fail("the reader met an end")

    with pytest.raises(Stopped):
        take_full(server.connection, consume, stop=lambda: not wanted)
    assert left_nothing(server)


def kill_the_tool(server: Server) -> None:
    os.kill(tool_pids(server)[0], signal.SIGKILL)


def end_its_sessions(server: Server) -> None:
    for (number,) in server.do("SELECT id FROM information_schema.processlist WHERE user = 'copier'"):
        server.do(f"KILL {number}")


@pytest.mark.parametrize(
    ("harm", "code"),
    [(kill_the_tool, "ToolKilled"), (end_its_sessions, "ConnectionLost")],
    ids=["tool", "session"],
)
def test_a_backup_killed_midway_never_reaches_an_end(server: Server, harm: Callable[[Server], None], code: str) -> None:
    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        harm(server)
        keep(io.BytesIO())(readable)
        pytest.fail("the reader met an end")

    with pytest.raises(Refusal) as refused:
        take_full(server.connection, consume)
    assert refused.value.code == code
    assert left_nothing(server)


WORKER = """
import sys
from backups.engines.facts import Connection
from backups.engines.mariadb import take_full

def consume(readable):
    readable.read(1 << 20)
    print("reading", flush=True)
    sys.stdin.read()

take_full(Connection(sys.argv[1], int(sys.argv[2]), "copier", sys.stdin.readline()[:-1], hostaddr="127.0.0.1"), consume)
"""


def test_kill_9_of_the_worker_ends_the_tool_and_frees_its_lock(server: Server) -> None:
    command = [sys.executable, "-c", WORKER, HOST, str(server.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        child.stdin.write(f"{PASSWORD}\n")
        child.stdin.flush()
        assert child.stdout.readline() == "reading\n"
        freeze_the_tool(server)
        child.kill()
    assert left_nothing(server)
    assert folders_of(child.pid)
    with scratch():
        assert not folders_of(child.pid) and folders_of(os.getpid())
    assert not folders_of(os.getpid())


def folders_of(pid: int) -> list[Path]:
    """What a kill -9 leaves below /tmp (no byte of a backup) until the next one works there."""
    return list(Path(tempfile.gettempdir()).glob(f"farshore-work-{pid}-*"))


def test_a_set_of_a_server_without_a_binary_log_says_that_no_log_continues_it() -> None:
    with running("mariadb-no-log", skip_log_bin="ON") as silent:
        full = take_full(silent.connection, keep(io.BytesIO()))
    assert (full.facts.first_position, full.facts.last_position) == (None, None)
    rules = engine_of("mariadb").chain_rules
    assert rules.logs_from(chain_set(1, full.facts, rules)) is None
    assert "log_bin" in full.notes[0]
