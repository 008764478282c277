from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from backups.engines import engine_of
from backups.engines.facts import Connection, Stopped
from backups.engines.postgresql import tools
from regions.refusals import Refusal
from regions.storage import PartReceipt, StoreOptions, open_storage
from regions.storage.streams import store_stream
from tests.engines.postgresql.clusters import HOST, PASSWORD, Cluster, started_from

probe, take_full = engine_of("postgresql").probe, engine_of("postgresql").take_full
MIB = 1 << 20


def eventually(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return true()


def left_nothing(cluster: Cluster) -> bool:
    return eventually(lambda: not cluster.slots() and not cluster.senders() and not tool_pids(cluster))


def tool_pids(cluster: Cluster) -> list[int]:
    """The pg_basebackup processes that talk to this cluster."""
    mark = f"PGPORT={cluster.port}".encode()
    return [pid for pid in pids() if b"--pgdata=-" in peek(pid, "cmdline") and mark in peek(pid, "environ")]


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def peek(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def keep(into: io.BytesIO) -> Callable[[BinaryIO], None]:
    def consume(readable: BinaryIO) -> None:
        while taken := readable.read(MIB):
            into.write(taken)

    return consume


def test_a_taken_backup_starts_as_a_server_of_its_own_and_holds_the_rows(cluster: Cluster) -> None:
    archive = io.BytesIO()
    with cluster.owner() as session:
        before = session.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()[0]
        identity = session.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()[0]
    taken = take_full(cluster.connection, keep(archive))
    facts = taken.facts
    assert (facts.database, facts.kind, facts.method, facts.server) == ("", "full", "physical", identity)
    assert before <= facts.first_position <= facts.checkpoint_position < facts.last_position
    assert facts.fork == "1" and len(facts.set_guid) == 36
    assert facts.size_bytes == facts.length == len(archive.getvalue())
    assert datetime.now(UTC) - timedelta(minutes=1) < facts.started_at <= facts.finished_at <= datetime.now(UTC)
    assert left_nothing(cluster)
    with started_from(archive.getvalue(), "pg-restored", cluster.server.programs) as restored, restored.owner() as rows:
        assert rows.execute("SELECT count(*), min(note) FROM orders").fetchone()[0] == 5000
        assert rows.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()[0] == identity


def test_a_newer_pg_basebackup_backs_up_an_older_server(packaged: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "PACKAGED", ())
    archive = io.BytesIO()
    taken = take_full(packaged.connection, keep(archive))
    assert taken.facts.software_version.split(".")[0] == packaged.server.programs.parent.name
    with tarfile.open(fileobj=io.BytesIO(archive.getvalue())) as tar:
        assert {"backup_label", "backup_manifest"} <= set(tar.getnames())


def test_a_backup_streams_into_a_store_with_its_hash_taken_on_the_way(embedded: Cluster, tmp_path: Path) -> None:
    store = open_storage(StoreOptions(f"file://{tmp_path}"))
    upload, stored = store.create_upload("full.tar"), {}

    def consume(readable: BinaryIO) -> None:
        stored["parts"], stored["sha256"] = store_stream(
            store, "full.tar", readable, upload_id=upload, on_part=lambda part: None
        )

    size = take_full(embedded.connection, consume).facts.size_bytes
    receipts = [PartReceipt(part.number, part.size, part.etag) for part in stored["parts"]]
    store.complete_upload("full.tar", upload, receipts)
    content = (tmp_path / "full.tar").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (size, stored["sha256"])
    assert len(receipts) > 1


def test_a_secondary_is_backed_up_as_well_and_says_so(embedded: Cluster) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    take_full(embedded.connection, keep(first))
    with started_from(first.getvalue(), "pg-standby", as_standby=True) as standby:
        assert probe(standby.connection).is_secondary
        taken = take_full(standby.connection, keep(second))
        assert not standby.slots()
    assert "Taken from a standby." in taken.notes
    with started_from(second.getvalue(), "pg-restored") as restored, restored.owner() as rows:
        assert rows.execute("SELECT count(*) FROM orders").fetchone()[0] == 5000


def test_a_slot_is_held_while_the_backup_runs_and_its_progress_is_told(cluster: Cluster) -> None:
    seen: dict[str, list] = {"slots": [], "progress": []}

    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        seen["slots"] = cluster.slots()
        keep(io.BytesIO())(readable)

    taken = take_full(cluster.connection, consume, progress=lambda *told: seen["progress"].append(told))
    assert len(seen["slots"]) == 1 and seen["slots"][0].startswith("farshore_")
    assert seen["progress"][-1] == (taken.facts.size_bytes, taken.facts.size_bytes)
    assert not [note for note in taken.notes if "slot" in note]


def test_without_a_free_slot_the_backup_is_taken_and_says_so(embedded: Cluster) -> None:
    with embedded.owner() as session:
        for name in ("mine", "yours"):
            session.execute("SELECT pg_create_physical_replication_slot(%s, true, true)", [name])
        taken = take_full(embedded.connection, keep(io.BytesIO()))
    assert any("No replication slot could be held" in note for note in taken.notes)


def test_the_password_is_in_no_process_list_and_the_tool_knows_nothing_of_ours(cluster: Cluster) -> None:
    found: list[bytes] = []

    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        (tool,) = tool_pids(cluster)
        found.extend([peek(tool, "environ"), *(peek(pid, "cmdline") for pid in pids())])
        keep(io.BytesIO())(readable)

    take_full(cluster.connection, consume)
    assert len(found) > 2
    assert not [seen for seen in found if PASSWORD.encode() in seen or PASSWORD[:6].encode() in seen]
    assert b"DATABASE_URL" not in found[0] and b"FARSHORE" not in found[0]
    assert PASSWORD not in repr(cluster.connection)


def freeze_the_tool(cluster: Cluster) -> None:
    """So that it does not end by itself when nobody reads it any more, as one that waits for the server would not."""
    (tool,) = tool_pids(cluster)
    os.kill(tool, signal.SIGSTOP)


def test_a_consumer_that_fails_ends_the_backup_and_leaves_nothing_behind(cluster: Cluster) -> None:
    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        freeze_the_tool(cluster)
        raise OSError("the store is full")

    with pytest.raises(OSError, match="the store is full"):
        take_full(cluster.connection, consume)
    assert left_nothing(cluster)


def test_a_backup_that_is_no_longer_wanted_stops_while_it_is_read(cluster: Cluster) -> None:
    wanted = [True]

    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        wanted.clear()
        time.sleep(0.6)
        keep(io.BytesIO())(readable)
        pytest.fail("the reader met an end")

    with pytest.raises(Stopped):
        take_full(cluster.connection, consume, stop=lambda: not wanted)
    assert left_nothing(cluster)


def kill_the_tool(cluster: Cluster) -> None:
    os.kill(tool_pids(cluster)[0], signal.SIGKILL)


def end_the_sender(cluster: Cluster) -> None:
    with cluster.owner() as session:
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")


@pytest.mark.parametrize(
    ("harm", "code"), [(kill_the_tool, "ToolKilled"), (end_the_sender, "ConnectionLost")], ids=["tool", "sender"]
)
def test_a_backup_killed_midway_never_reaches_an_end(
    cluster: Cluster, harm: Callable[[Cluster], None], code: str
) -> None:
    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        harm(cluster)
        keep(io.BytesIO())(readable)
        pytest.fail("the reader met an end")

    with pytest.raises(Refusal) as refused:
        take_full(cluster.connection, consume)
    assert refused.value.code == code
    assert left_nothing(cluster)


def test_a_consumer_that_hides_the_failure_does_not_make_it_a_backup(embedded: Cluster) -> None:
    def consume(readable: BinaryIO) -> None:
        readable.read(MIB)
        kill_the_tool(embedded)
        with pytest.raises(Refusal):
            keep(io.BytesIO())(readable)

    with pytest.raises(Refusal):
        take_full(embedded.connection, consume)
    with pytest.raises(RuntimeError, match="not read to its end"):
        take_full(embedded.connection, lambda readable: readable.read(MIB))


WORKER = """
import sys, resource
from backups.engines.facts import Connection
from backups.engines.postgresql import take_full

def consume(readable):
    buffer = memoryview(bytearray(1 << 20))
    while readable.readinto(buffer):
        if sys.argv[2] == "hang":
            print("reading", flush=True)
            sys.stdin.read()

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
taken = take_full(Connection(sys.argv[3], int(sys.argv[1]), "copier", sys.stdin.readline()[:-1],
                             hostaddr="127.0.0.1"), consume)
print(taken.facts.size_bytes, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def worker(connection: Connection, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(connection.port), how, HOST]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdin.write(f"{connection.password}\n")
    child.stdin.flush()
    return child


def test_kill_9_of_the_worker_ends_the_tool_and_frees_the_slot(cluster: Cluster) -> None:
    with worker(cluster.connection, "hang") as child:
        assert child.stdout.readline() == "reading\n"
        assert cluster.slots()
        freeze_the_tool(cluster)
        child.kill()
    assert left_nothing(cluster)


def test_300_mb_stream_through_bounded_memory(embedded: Cluster) -> None:
    with embedded.owner() as session:
        session.execute("CREATE TABLE bulk (page text)")
        session.execute("ALTER TABLE bulk ALTER page SET STORAGE EXTERNAL")
        session.execute("INSERT INTO bulk SELECT repeat(md5(n::text), 32768) FROM generate_series(1, 300) n")
    try:
        with worker(embedded.connection, "read") as child:
            size, before_kib, peak_kib = map(int, child.stdout.read().split())
    finally:
        with embedded.owner() as session:
            session.execute("DROP TABLE bulk")
    assert size > 300 * MIB
    assert peak_kib - before_kib < 32 << 10, f"{before_kib} KiB before, {peak_kib} KiB at its peak"
