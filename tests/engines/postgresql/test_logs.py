from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.engines import confinement
from backups.engines.facts import LogPiece, RestoreRequest, RunningServer, SetFacts, Source, Stopped
from backups.engines.postgresql import (
    check,
    count_rows,
    discard,
    forget_receiver,
    receive_logs,
    receiver_lag,
    restore,
    start_again,
    take_full,
)
from backups.engines.postgresql.checking import session_in
from regions.refusals import Refusal
from tests.engines.postgresql.clusters import Cluster, running
from tests.engines.postgresql.crossing import (
    Moment,
    Writer,
    keep_in,
    keep_set,
    kill,
    logs_in,
    lying,
    receiver,
    set_from,
    without,
)
from tests.room import ROOM


@dataclass
class Story:
    """What is on the far side after the source is gone."""

    full: Source
    incremental: Source
    logs: list[Source]
    early: Moment
    late: Moment
    order: list[str]


pytestmark = pytest.mark.long


def eventually(true: Callable[[], Any], seconds: float = 20) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def taken(cluster: Cluster) -> Source:
    archive = io.BytesIO()
    facts = take_full(cluster.connection, lambda readable: archive.write(readable.read())).facts
    return set_from(archive.getvalue(), facts)


def taken_incremental(cluster: Cluster, base: Source) -> Source:
    with tarfile.open(fileobj=base.open()) as tar:
        manifest = ROOM / "manifest"
        manifest.write_bytes(tar.extractfile("backup_manifest").read())
    where = ["-h", str(cluster.server.sockets), "-p", str(cluster.port), "-U", "farshore"]
    options = ["-D", "-", "-Ft", "-X", "fetch", "-c", "fast", f"--incremental={manifest}"]
    tool = cluster.server.programs / "pg_basebackup"
    archive = subprocess.run([tool, *where, *options], check=True, stdout=subprocess.PIPE).stdout
    with cluster.owner() as session:
        end = session.execute("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint, clock_timestamp()").fetchone()
    facts = replace(base.facts, first_position=base.facts.last_position, last_position=end[0], finished_at=end[1])
    return set_from(archive, replace(facts, size_bytes=len(archive)))


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """A table written without pause; its receiver is killed on the way, and in the end the source itself."""
    os.environ["FARSHORE_EMBEDDED_TOOLS"] = "1"
    spool, far = ROOM / "story-spool", ROOM / "story-far"
    with running("pg-story", prepare=lambda folder: {"summarize_wal": "on", "max_replication_slots": "4"}) as source:
        with source.owner() as session:
            session.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO copier")
        writer = Writer(source)
        writer.start()
        child = receiver(source, spool, far)
        assert eventually(source.slots)
        full = taken(source)
        assert eventually(lambda: len(logs_in(far)) >= 2)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        early = writer.moment()
        incremental = taken_incremental(source, full)
        time.sleep(1)
        child = receiver(source, spool, far)
        time.sleep(1)
        late = writer.moment()
        assert eventually(lambda: logs_in(far)[-1].facts.finished_at > late.at)
        writer_gone = kill(source)
        writer.end()
        child.wait(20)
        assert writer_gone is None and writer.written > late.rows
        yield Story(full, incremental, logs_in(far), early, late, (far / "order").read_text().split())


@pytest.fixture
def place() -> Iterator[Path]:
    folder = ROOM / "restored"
    folder.mkdir(mode=0o711)
    yield folder
    for left in folder.iterdir():
        discard(left)
    folder.rmdir()


def request(story: Story, place: Path, **different: Any) -> RestoreRequest:
    usual = {"place": place, "name": "new", "sets": (story.full,), "logs": tuple(story.logs), "network": False}
    return RestoreRequest(**{**usual, **different})


def ticks(server: RunningServer) -> list[int]:
    with closing(session_in(server, "postgres")) as session:
        return [number for (number,) in session.execute("SELECT id FROM public.ticks ORDER BY id")]


def refused(asked: RestoreRequest) -> Refusal:
    with pytest.raises(Refusal) as caught:
        restore(asked)
    assert nothing_left(asked.place)
    return caught.value


def nothing_left(place: Path) -> bool:
    return not confinement.living_in(place) and not list(place.iterdir())


def test_the_logs_follow_each_other_without_hole_or_double_though_the_receiver_was_killed(story: Story) -> None:
    facts = [log.facts for log in story.logs]
    for before, after in zip(facts, facts[1:], strict=False):
        assert (after.first_position, after.fork) == (before.last_position, before.fork)
        assert after.started_at == before.finished_at
    assert story.order == sorted(story.order) and len(set(story.order)) >= len(story.order) - 1
    assert all(log.facts.length < log.facts.size_bytes / 4 for log in story.logs)


def test_with_the_source_gone_the_new_server_holds_exactly_the_rows_of_the_moment(story: Story, place: Path) -> None:
    stages: list[str] = []
    asked = request(story, place, until=story.late.at, network=True, progress=lambda stage, *_: stages.append(stage))
    result = restore(asked)
    server = result.server
    try:
        assert ticks(server) == list(range(1, story.late.rows + 1))
        assert result.restored_until == story.late.at and result.last_change_at <= story.late.at
        assert list(dict.fromkeys(stages)) == list(result.seconds) == ["unpack", "replay", "start", "check"]
        assert count_rows(server)["postgres.public.ticks"] == story.late.rows
        assert check(server).passed
        assert server.connection.host == "127.0.0.1" and server.connection.password not in repr(server)
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert b"DATABASE_URL" not in environment and b"FARSHORE" not in environment
        if os.geteuid() == 0:
            assert Path(f"/proc/{server.pid}").stat().st_uid not in (0, -1)
    finally:
        server.stop()
    assert not confinement.living_in(place) and not server.is_running
    again = start_again(server.folder, server.connection.password)
    assert ticks(again)[-1] == story.late.rows
    again.stop()


def test_a_moment_between_two_pieces_of_a_killed_receiver_is_there(story: Story, place: Path) -> None:
    result = restore(request(story, place, until=story.early.at))
    try:
        assert ticks(result.server) == list(range(1, story.early.rows + 1))
        assert result.server.isolation in ("namespace", "socket")
    finally:
        result.server.stop()


def test_an_incremental_in_between_leads_to_the_same_rows(story: Story, place: Path) -> None:
    sets = (story.full, story.incremental)
    result = restore(request(story, place, sets=sets, until=story.late.at))
    try:
        assert ticks(result.server) == list(range(1, story.late.rows + 1))
    finally:
        result.server.stop()


def test_a_missing_log_ends_the_restore_before_it(story: Story, place: Path) -> None:
    missing = len(story.logs) - 2
    said = refused(request(story, place, logs=tuple(without(story.logs, missing)), until=story.late.at))
    assert said.code == "LogsBroken" and "gap" in said.sentence
    lied_about = without(story.logs, missing)
    begins = story.logs[missing].facts.first_position
    lied_about[missing] = lying(lied_about[missing], first_position=begins)
    assert refused(request(story, place, logs=tuple(lied_about), until=story.late.at)).code == "MomentNotReached"


def test_a_moment_that_the_logs_do_not_hold_is_refused(story: Story, place: Path) -> None:
    beyond = story.logs[-1].facts.finished_at + timedelta(minutes=5)
    assert refused(request(story, place, until=beyond)).code == "MomentNotReached"
    before = story.full.facts.started_at - timedelta(minutes=5)
    assert refused(request(story, place, until=before)).code == "MomentTooEarly"


@pytest.mark.parametrize("stage", ["replay", "start"])
def test_a_restore_that_is_no_longer_wanted_leaves_no_server(story: Story, place: Path, stage: str) -> None:
    reached: list[str] = []
    asked = request(
        story, place, until=story.late.at, progress=lambda at, *_: reached.append(at), stop=lambda: stage in reached
    )
    with pytest.raises(Stopped):
        restore(asked)
    assert nothing_left(place)


def with_more(full: Source, *members: tarfile.TarInfo, content: bytes = b"") -> Source:
    """The same backup with more in front of it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return set_from(
        out.getvalue()[: out.tell()].rstrip(b"\0").ljust(1, b"\0") and _body(out) + full.open().read(), full.facts
    )


def _body(out: io.BytesIO) -> bytes:
    """A tar without its end, so that another can follow."""
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return out.getvalue()[: max(-(-(each.offset_data + each.size) // 512) * 512 for each in tar)]


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("/tmp/farshore-hostile"),
        tarfile.TarInfo("base/../../hostile"),
        link("base/hostile", "/etc"),
        link("hostile", "/etc/passwd", tarfile.LNKTYPE),
        link("hostile", "", tarfile.CHRTYPE),
    ],
    ids=["absolute", "upwards", "link", "hard link", "device"],
)
def test_a_backup_that_reaches_outside_its_folder_is_refused(
    story: Story, place: Path, member: tarfile.TarInfo
) -> None:
    assert refused(request(story, place, sets=(with_more(story.full, member),), logs=())).code == "SetDamaged"
    assert not Path("/tmp/farshore-hostile").exists()


def test_settings_that_the_copy_brings_are_left_out(story: Story, place: Path) -> None:
    loud = b"shared_preload_libraries = 'hostile'\narchive_command = 'touch /tmp/farshore-hostile'\narchive_mode = on\n"
    names = ("postgresql.auto.conf", "postgresql.conf", "standby.signal", "tablespace_map", "recovery.signal")
    hostile = with_more(story.full, *map(tarfile.TarInfo, names), link("pg_tblspc/1", "/etc"), content=loud)
    result = restore(request(story, place, sets=(hostile,), until=story.early.at))
    try:
        with closing(session_in(result.server, "postgres")) as session:
            settings = dict(session.execute("SELECT name, setting FROM pg_settings").fetchall())
        assert (settings["shared_preload_libraries"], settings["archive_mode"]) == ("", "off")
        assert not (result.server.folder / "data" / "pg_tblspc" / "1").exists()
        assert len(ticks(result.server)) == story.early.rows
        assert "postgresql.auto.conf" in result.notes[0]
    finally:
        result.server.stop()


RESTORER = """
import sys
from pathlib import Path
from backups.engines.facts import RestoreRequest
from backups.engines.postgresql import count_rows, restore
from tests.engines.postgresql.crossing import set_in

result = restore(RestoreRequest(Path(sys.argv[1]), "new", (set_in(Path(sys.argv[2])),), network=False))
print(count_rows(result.server)["postgres.public.ticks"], flush=True)
sys.stdin.read()
"""


def test_a_set_alone_is_restored_to_its_end_and_kill_9_of_whoever_did_it_ends_the_server(
    story: Story, place: Path
) -> None:
    keep_set(story.full, ROOM / "story-full")
    command = [sys.executable, "-c", RESTORER, str(place), str(ROOM / "story-full")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert 0 < int(child.stdout.readline()) < story.early.rows
        assert confinement.living_in(place)
        child.kill()
    assert eventually(lambda: not confinement.living_in(place))


@contextmanager
def may_switch(cluster: Cluster) -> Iterator[None]:
    with cluster.owner() as session:
        session.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO copier")
        yield
        session.execute("REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM copier")


def for_seconds(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


@pytest.fixture
def slot(embedded: Cluster) -> Iterator[str]:
    yield "quiet"
    forget_receiver(embedded.connection, "quiet")
    assert not embedded.slots()


def test_a_quiet_server_makes_few_pieces_and_a_quiet_moment_can_be_restored(
    embedded: Cluster, slot: str, tmp_path: Path, place: Path
) -> None:
    full, heard = taken(embedded), []
    with embedded.owner() as session:
        session.execute("CREATE TABLE once AS SELECT clock_timestamp() AS at")
        written_at = session.execute("SELECT at FROM once").fetchone()[0]
    with may_switch(embedded):
        receive_logs(
            embedded.connection, tmp_path / "spool", keep_in(tmp_path / "far"), name=slot,
            stop=for_seconds(6), flush_seconds=1.5, heard=heard.append,
        )  # fmt: skip
        assert receiver_lag(embedded.connection, slot) < 16 << 20
    logs = logs_in(tmp_path / "far")
    assert 1 <= len(logs) <= 3
    assert heard[-1] > logs[-1].facts.finished_at > written_at
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    result = restore(RestoreRequest(place, "new", (full,), tuple(logs), logs[-1].facts.finished_at, network=False))
    assert count_rows(result.server)["postgres.public.once"] == 1
    result.server.stop()
    with embedded.owner() as session:
        session.execute("DROP TABLE once")


def test_a_full_spool_stops_receiving_until_it_was_delivered(embedded: Cluster, slot: str, tmp_path: Path) -> None:
    seen: list[int] = []
    pieces: list[SetFacts] = []

    def slow(piece: LogPiece) -> None:
        if not pieces:
            fill(embedded, 10)
            time.sleep(1)
            seen.extend([allocated(tmp_path), time.sleep(1) or allocated(tmp_path)])
        pieces.append(piece.facts)

    with embedded.owner() as session:
        session.execute("SELECT pg_create_physical_replication_slot('farshore_quiet', true)")
    fill(embedded, 1)
    receive_logs(
        embedded.connection, tmp_path, slow, name=slot, stop=lambda: sum(f.size_bytes for f in pieces) > 150 << 20,
        flush_seconds=0.5, spool_bytes=48 << 20,
    )  # fmt: skip
    assert seen[0] == seen[1] < 150 << 20
    assert all(after.first_position == before.last_position for before, after in zip(pieces, pieces[1:], strict=False))


def fill(cluster: Cluster, segments: int) -> None:
    with cluster.owner() as session:
        for _ in range(segments):
            session.execute("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 8 << 20))")
            session.execute("SELECT pg_switch_wal()")


def allocated(spool: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (spool / "wal").iterdir())


def test_a_slot_that_the_server_gave_up_is_refused_until_it_is_dropped(
    embedded: Cluster, slot: str, tmp_path: Path
) -> None:
    def receive() -> None:
        receive_logs(embedded.connection, tmp_path, lambda piece: None, name=slot, stop=lambda: True)

    receive()
    with embedded.owner() as session:
        session.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        session.execute("SELECT pg_reload_conf()")
        fill(embedded, 3)
        session.execute("CHECKPOINT")
        session.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        session.execute("SELECT pg_reload_conf()")
    for refusing in (receive, lambda: receiver_lag(embedded.connection, slot)):
        with pytest.raises(Refusal) as lost:
            refusing()
        assert lost.value.code == "SlotLost"
    forget_receiver(embedded.connection, slot)
    receive()
    assert receiver_lag(embedded.connection, slot) < 16 << 20


def test_what_could_be_better_is_noted_once(packaged: Cluster, tmp_path: Path) -> None:
    noted: list[str] = []
    try:
        receive_logs(
            packaged.connection, tmp_path, lambda piece: None, name="x", stop=for_seconds(2), flush_seconds=0.5,
            note=noted.append,
        )  # fmt: skip
    finally:
        forget_receiver(packaged.connection, "x")
    assert ["pg_switch_wal" in note for note in noted] == [True, False] and "max_slot_wal_keep_size" in noted[1]
    with pytest.raises(Refusal) as missing:
        receiver_lag(packaged.connection, "x")
    assert missing.value.code == "SlotMissing"
