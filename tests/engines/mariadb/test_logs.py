from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

from backups.engines import confinement
from backups.engines.facts import LogPiece, RestoreRequest, SetFacts, Source, Stopped
from backups.engines.mariadb import (
    arriving,
    ask,
    check,
    count_rows,
    discard,
    forget_receiver,
    outgoing,
    probe,
    receive_logs,
    receiver_lag,
    restore,
    start_again,
    take_full,
)
from regions.refusals import Refusal
from tests.engines.mariadb.crossing import Moment, Writer, receiver, taken
from tests.engines.mariadb.servers import Server, running
from tests.engines.mariadb.test_mbstream import file
from tests.engines.postgresql.clusters import PASSWORD
from tests.engines.postgresql.crossing import keep_in, keep_set, logs_in, lying, set_from, without
from tests.room import ROOM

pytestmark = pytest.mark.long


def eventually(true: Callable[[], Any], seconds: float = 20) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def for_seconds(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


@dataclass
class Story:
    """What is on the far side after the source is gone."""

    full: Source
    logs: list[Source]
    early: Moment
    late: Moment
    order: list[str]
    said: bytes


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """A table written without pause; its receiver is killed on the way, and in the end the source itself."""
    spool, far = ROOM / "maria-spool", ROOM / "maria-far"
    with running("maria-story") as source:
        writer = Writer(source)
        writer.start()
        child = receiver(source, spool, far)
        assert eventually(lambda: far.exists() and len(logs_in(far)) >= 1)
        full = taken(source)
        assert eventually(lambda: logs_in(far)[-1].facts.last_position > full.facts.last_position)
        time.sleep(0.5)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        early = writer.moment()
        source.do("FLUSH BINARY LOGS")
        child = receiver(source, spool, far)
        time.sleep(1)
        late = writer.moment()
        assert eventually(lambda: writer.written > late.rows + 50)
        written_at = source.do("SELECT UTC_TIMESTAMP(6)")[0][0].replace(tzinfo=UTC)
        assert eventually(lambda: logs_in(far)[-1].facts.finished_at > written_at)
        source.kill()
        writer.end()
        child.wait(20)
        assert writer.written > late.rows
        said = (ROOM / "maria-spool.log").read_bytes() + (source.place / "log").read_bytes()
        yield Story(full, logs_in(far), early, late, (far / "order").read_text().split(), said)


@pytest.fixture
def place() -> Iterator[Path]:
    folder = ROOM / "maria-restored"
    folder.mkdir(mode=0o711)
    yield folder
    for left in folder.iterdir():
        discard(left)
    folder.rmdir()


def request(story: Story, place: Path, **different: Any) -> RestoreRequest:
    usual = {"place": place, "name": "new", "sets": (story.full,), "logs": tuple(story.logs), "network": False}
    return RestoreRequest(**{**usual, **different})


def ticks(server: Any) -> str:
    return ask(server, "shop", "SELECT CONCAT_WS(' ', MIN(id), MAX(id), COUNT(*)) FROM ticks")


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
    assert {each.last_position // 10**12 for each in facts} == {1, 2}
    assert story.order == sorted(story.order) and len(set(story.order)) >= len(story.order) - 1
    assert sum(each.length for each in facts) < sum(each.size_bytes for each in facts) / 2
    assert PASSWORD.encode() not in story.said


def test_with_the_source_gone_the_new_server_holds_exactly_the_rows_of_the_moment(story: Story, place: Path) -> None:
    stages: list[str] = []
    asked = request(story, place, until=story.late.at, network=True, progress=lambda stage, *_: stages.append(stage))
    result = restore(asked)
    server = result.server
    try:
        assert ticks(server) == f"1 {story.late.rows} {story.late.rows}"
        assert result.restored_until == story.late.at and result.last_change_at <= story.late.at
        assert list(dict.fromkeys(stages)) == list(result.seconds) == ["unpack", "replay", "start", "check"]
        assert "MariaDB's logs tell no finer" in result.notes[-1]
        assert count_rows(server) == {"shop.orders": 5000, "shop.ticks": story.late.rows}
        assert check(server).passed
        assert server.connection.host == "127.0.0.1" and server.connection.password not in repr(server)
        assert server.connection.password not in server.log.read_text()
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert b"DATABASE_URL" not in environment and b"FARSHORE" not in environment
        if os.geteuid() == 0:
            assert Path(f"/proc/{server.pid}").stat().st_uid not in (0, -1)
    finally:
        server.stop()
    assert not confinement.living_in(place) and not server.is_running
    again = start_again(server.folder, server.connection.password)
    assert ticks(again).split()[1] == str(story.late.rows)
    found = probe(again.connection)
    assert found.databases == ("shop",) and not found.is_secondary
    assert taken_of(again).fork not in ("", story.full.facts.fork)
    again.stop()


def taken_of(server: Any) -> SetFacts:
    return take_full(server.connection, lambda readable: readable.read()).facts


def test_a_moment_between_two_pieces_of_a_killed_receiver_is_there(story: Story, place: Path) -> None:
    result = restore(request(story, place, until=story.early.at))
    try:
        assert ticks(result.server) == f"1 {story.early.rows} {story.early.rows}"
        assert result.server.isolation in ("namespace", "socket")
    finally:
        result.server.stop()


def test_a_missing_log_ends_the_restore_before_it(story: Story, place: Path) -> None:
    missing = next(at for at, log in enumerate(story.logs) if log.facts.finished_at >= story.late.at)
    said = refused(request(story, place, logs=tuple(without(story.logs, missing)), until=story.late.at))
    assert said.code == "LogsBroken" and "gap" in said.sentence
    lied_about = without(story.logs, missing)
    begins = story.logs[missing].facts.first_position
    lied_about[missing] = lying(lied_about[missing], first_position=begins)
    beyond = story.logs[-1].facts.finished_at
    assert refused(request(story, place, logs=tuple(lied_about), until=beyond)).code == "LogDamaged"


@pytest.mark.parametrize("harm", ["flipped", "cut", "cut between two events"])
def test_a_damaged_log_is_refused(story: Story, place: Path, harm: str) -> None:
    damaged = len(story.logs) - 2
    whole = story.logs[damaged].open().read()
    logs = list(story.logs)
    logs[damaged] = set_from(harmed(whole, harm), logs[damaged].facts)
    said = refused(request(story, place, logs=tuple(logs), until=story.logs[-1].facts.finished_at))
    assert said.code == "LogDamaged" and "A piece of log cannot be read" in said.sentence


def harmed(piece: bytes, harm: str) -> bytes:
    if harm == "cut":
        return piece[:-20]
    if harm == "flipped":
        return piece[: len(piece) // 2] + bytes([piece[len(piece) // 2] ^ 1]) + piece[len(piece) // 2 + 1 :]
    raw = zstandard.ZstdDecompressor().stream_reader(piece).read()
    return zstandard.ZstdCompressor().compress(raw[: -int.from_bytes(last_event(raw)[9:13], "little")])


def last_event(raw: bytes) -> bytes:
    at = 4
    while at + (length := int.from_bytes(raw[at + 9 : at + 13], "little")) < len(raw):
        at += length
    return raw[at:]


def test_a_moment_that_the_logs_do_not_hold_is_refused(story: Story, place: Path) -> None:
    beyond = story.logs[-1].facts.finished_at + timedelta(minutes=5)
    assert refused(request(story, place, until=beyond)).code == "MomentNotReached"
    before = story.full.facts.started_at - timedelta(minutes=5)
    assert refused(request(story, place, until=before)).code == "MomentTooEarly"


def test_logs_of_another_history_are_not_run(story: Story, place: Path) -> None:
    other = [lying(log, fork="78") for log in story.logs]
    assert refused(request(story, place, logs=tuple(other), until=story.late.at)).code == "LogsBroken"
    for position in (story.logs[0].facts.first_position + 4, story.full.facts.last_position + 1):
        shifted = lying(story.full, last_position=position)
        said = refused(request(story, place, sets=(shifted,), until=story.late.at))
        assert said.code == "LogsBroken" and "another history" in said.sentence


@pytest.mark.parametrize("stage", ["unpack", "replay", "start"])
def test_a_restore_that_is_no_longer_wanted_leaves_no_server(story: Story, place: Path, stage: str) -> None:
    reached: list[str] = []
    asked = request(
        story, place, until=story.late.at, progress=lambda at, *_: reached.append(at), stop=lambda: stage in reached
    )
    with pytest.raises(Stopped):
        restore(asked)
    assert nothing_left(place)


def test_what_the_copy_brings_gives_no_orders(story: Story, place: Path) -> None:
    loud = b"[mariadbd]\nplugin_load=hostile\ninit_file=/tmp/hostile.sql\nevent_scheduler=ON\nskip_grant_tables\n"
    names = ("my.cnf", "master.info", "relay-log.info", "mysql/hostile.TRG")
    hostile = b"".join(file(name, loud) for name in names) + story.full.open().read()
    result = restore(request(story, place, sets=(set_from(hostile, story.full.facts),), until=story.early.at))
    try:
        asked = "SELECT CONCAT_WS(' ', @@event_scheduler, @@init_file LIKE '%hostile%', @@plugin_dir, @@read_only)"
        assert ask(result.server, "", asked) == f"OFF 0 {result.server.folder}/settings/plugins/ OFF"
        assert (
            ask(result.server, "", "SELECT COUNT(*) FROM information_schema.all_plugins WHERE load_option = ''") == "0"
        )
        assert not [
            path for path in (result.server.folder / "data").rglob("*") if path.name in ("my.cnf", "master.info")
        ]
        assert "my.cnf" in result.notes[0]
    finally:
        result.server.stop()


RESTORER = """
import sys
from pathlib import Path
from backups.engines.facts import RestoreRequest
from backups.engines.mariadb import count_rows, restore
from tests.engines.postgresql.crossing import set_in

result = restore(RestoreRequest(Path(sys.argv[1]), "new", (set_in(Path(sys.argv[2])),), network=False))
print(count_rows(result.server)["shop.ticks"], flush=True)
sys.stdin.read()
"""


def test_a_set_alone_is_restored_to_its_end_and_kill_9_of_whoever_did_it_ends_the_server(
    story: Story, place: Path
) -> None:
    keep_set(story.full, ROOM / "maria-full")
    command = [sys.executable, "-c", RESTORER, str(place), str(ROOM / "maria-full")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert 0 < int(child.stdout.readline()) < story.early.rows
        assert confinement.living_in(place)
        child.kill()
    assert eventually(lambda: not confinement.living_in(place))


def test_questions_are_answered_in_words_and_change_nothing(story: Story, place: Path) -> None:
    result = restore(request(story, place, logs=()))
    server = result.server
    try:
        assert ask(server, "shop", "SELECT note FROM orders WHERE n = 1") == "c4ca4238a0b923820dcc509a6f75849b"
        assert ask(server, "", "SELECT NULL") == "NULL"
        assert ask(server, "shop", "SELECT n FROM orders WHERE n = 0") == "no row"
        assert ask(server, "", "SELECT x'00ff'") == "\0\N{REPLACEMENT CHARACTER}"
        for sql in (
            "DELETE FROM orders",
            "DROP TABLE orders",
            "SELECT 1; SELECT 2",
            "SELECT",
            "CREATE TABLE t (n INT)",
        ):
            with pytest.raises(Refusal) as said:
                ask(server, "shop", sql)
            assert said.value.code == "QuestionFailed"
        assert count_rows(server)["shop.orders"] == 5000
        damage(server)
        found = check(server)
        assert not found.passed and any("orders" in finding for finding in found.findings)
    finally:
        server.stop()


def damage(server: Any) -> None:
    """Write over the middle of a table's pages, where a checksum tells."""
    server.stop()
    table = server.folder / "data" / "shop" / "orders.ibd"
    with open(table, "r+b") as pages:
        pages.seek(table.stat().st_size // 2)
        pages.write(os.urandom(40 << 10))
    server.run = start_again(server.folder, server.connection.password).run


# ---- receiving


def received(
    server: Server, folder: Path, seconds: float = 60, enough: Callable[[list[Source]], object] = bool, **more: Any
) -> list[Source]:
    """Receive until there is enough."""
    folder.mkdir(exist_ok=True)
    far = folder / "far"
    over = for_seconds(seconds)
    stop = lambda: over() or (far.exists() and enough(logs_in(far)))  # noqa: E731
    options = {"name": "x", "stop": stop, "flush_seconds": 0.5, **more}
    receive_logs(server.connection, folder / "spool", keep_in(far), **options)
    return logs_in(far)


def reaches(server: Server) -> Callable[[list[Source]], bool]:
    file, offset = server.do("SHOW MASTER STATUS")[0][:2]
    position = int(file.rpartition(".")[2]) * 10**12 + offset
    return lambda logs: bool(logs) and logs[-1].facts.last_position >= position


def test_a_quiet_server_makes_no_pieces_and_is_heard(server: Server, tmp_path: Path, place: Path) -> None:
    heard: list[datetime] = []
    noted: list[str] = []
    full = taken(server)
    server.do("CREATE TABLE shop.once AS SELECT 1 AS n")
    logs = received(server, tmp_path, 4, lambda logs: False, heard=heard.append, note=noted.append)
    assert 1 <= len(logs) <= 2 and noted == []
    assert heard[-1] - logs[-1].facts.finished_at > timedelta(seconds=1)
    assert len(heard) < 9 and heard == sorted(heard)
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    server.do("FLUSH BINARY LOGS")
    assert received(server, tmp_path, 2.5, lambda logs: False)[-1].facts == logs[-1].facts
    server.do("DROP TABLE shop.once")
    result = restore(RestoreRequest(place, "new", (full,), tuple(logs), logs[-1].facts.finished_at, network=False))
    assert count_rows(result.server)["shop.once"] == 1
    result.server.stop()
    assert forget_receiver(server.connection, "x") is None and receiver_lag(server.connection, "x") == 0


KINDS = (
    "CREATE TABLE shop.stamped (at TIMESTAMP NOT NULL)",
    "INSERT INTO shop.STAMPED VALUES ('2026-01-01 10:00:00'), ('2026-07-01 10:00:00')",
    "CREATE DATABASE `odd-name`",
    "CREATE TABLE shop.aria (n INT AUTO_INCREMENT PRIMARY KEY, r DOUBLE, s TEXT) ENGINE=Aria",
    "CREATE TABLE shop.isam (n INT PRIMARY KEY, s VARCHAR(99)) ENGINE=MyISAM",
    "CREATE TABLE `odd-name`.`t ``1` (j JSON, b BLOB)",
    "SET @x := 41",
    "INSERT INTO shop.aria (r, s) VALUES (RAND(), UUID()), (@x + 1, '\\! touch /tmp/farshore-hostile')",
    "INSERT INTO shop.isam SELECT n, CONCAT('delimiter ;;', n) FROM shop.orders LIMIT 500",
    "INSERT INTO `odd-name`.`t ``1` VALUES ('{\"a\": \"/*!*/;\\\\n\\\\! touch /tmp/farshore-hostile\"}', x'00ff270a')",
    "CREATE TEMPORARY TABLE shop.brief (n INT)",
    "INSERT INTO shop.brief SELECT n FROM shop.orders WHERE n < 50",
    "INSERT INTO shop.isam SELECT n + 9000, 'brief' FROM shop.brief",
    "FLUSH BINARY LOGS",
    "INSERT INTO shop.isam SELECT n + 9900, 'brief' FROM shop.brief",
    "XA START 'a'",
    "UPDATE shop.orders SET note = 'xa' WHERE n = 3",
    "XA END 'a'",
    "XA PREPARE 'a'",
    "XA COMMIT 'a'",
    "ALTER TABLE shop.orders ADD COLUMN more INT DEFAULT 7, ADD INDEX (note)",
    "CREATE PROCEDURE shop.twice(x INT) UPDATE shop.orders SET more = more * x",
    "CREATE TRIGGER shop.counts AFTER INSERT ON shop.isam FOR EACH ROW INSERT INTO shop.aria (s) VALUES (NEW.s)",
    "CALL shop.twice(3)",
    "INSERT INTO shop.isam VALUES (99999, 'trigger')",
    "BEGIN",
    "DELETE FROM shop.orders WHERE n BETWEEN 100 AND 200",
    "SAVEPOINT here",
    "DELETE FROM shop.orders",
    "ROLLBACK TO here",
    "COMMIT",
    "CREATE VIEW shop.seen AS SELECT COUNT(*) AS n FROM shop.orders",
    "CREATE USER teller IDENTIFIED BY 'x'",
    "GRANT SELECT ON shop.* TO teller",
    "RENAME TABLE shop.isam TO shop.renamed",
)
CHECKSUMS = "CHECKSUM TABLE shop.orders, shop.aria, shop.renamed, `odd-name`.`t ``1`"
STAMPED = "SELECT UNIX_TIMESTAMP(at) FROM shop.stamped ORDER BY 1"
WAYS = {"zone": "Europe/Berlin", "lower_case_table_names": "1", "default_storage_engine": "Aria", "sql_mode": ""}


@pytest.mark.parametrize("form", ["MIXED", "ROW"])
def test_everything_that_a_log_can_hold_comes_back(tmp_path: Path, place: Path, form: str) -> None:
    with running("maria-kinds", binlog_format=form, binlog_row_image="MINIMAL", **WAYS) as source:
        full = taken(source)
        received(source, tmp_path, enough=reaches(source))
        source.do(*KINDS)
        expected, stamped = source.do(CHECKSUMS), source.do(STAMPED)
        logs = received(source, tmp_path, enough=reaches(source))
    result = restore(RestoreRequest(place, "new", (full,), tuple(logs), network=False))
    try:
        found = {name: ask(result.server, "", f"CHECKSUM TABLE {quoted(name)}") for name, _ in expected}
        assert len(found) == 4 and set(found) == {name for name, _ in expected}
        with sums(result.server) as answers:
            assert answers(CHECKSUMS) == list(expected)
            assert answers("SELECT n FROM shop.seen") == [(4899,)]
            assert answers(STAMPED) == stamped
            assert answers("SELECT engine FROM information_schema.tables WHERE table_name = 'stamped'") == [("Aria",)]
            assert answers("SELECT @@sql_mode, @@lower_case_table_names") == [("", 1)]
            assert answers("SELECT COUNT(*) FROM mysql.global_priv WHERE user = 'teller'") == [(1,)]
        assert check(result.server).passed
    finally:
        result.server.stop()
    assert not Path("/tmp/farshore-hostile").exists()


def quoted(name: str) -> str:
    return ".".join("`" + part.replace("`", "``") + "`" for part in name.split(".", 1))


def sums(server: Any) -> Any:
    from contextlib import contextmanager

    from backups.engines.mariadb.connecting import ask as answers
    from backups.engines.mariadb.connecting import session

    @contextmanager
    def asked() -> Iterator[Any]:
        with session(server.connection) as opened:
            yield lambda question: answers(opened, question)

    return asked()


def test_a_full_spool_stops_receiving_until_it_was_delivered_and_large_groups_are_cut(
    server: Server, filled: None, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (arriving, outgoing):
        monkeypatch.setattr(module, "PIECE_BYTES", 1 << 20)
    seen: list[int] = []
    keep = keep_in(tmp_path / "far")

    def slow(piece: LogPiece) -> None:
        if not seen:
            fill(server, 32, as_one=True)
            seen.append(settled(tmp_path))
            fill(server, 32, as_one=False)
            seen.append(time.sleep(1) or held(tmp_path))
        keep(piece)

    full, over = taken(server), for_seconds(120)
    done = lambda: bool(seen) and reaches(server)(logs_in(tmp_path / "far"))  # noqa: E731
    receive_logs(
        server.connection, tmp_path, slow, name="x", stop=lambda: done() or over(), flush_seconds=0.5,
        spool_bytes=4 << 20,
    )  # fmt: skip
    logs = logs_in(tmp_path / "far")
    assert done() and 4 << 20 < seen[0] == seen[1] < 48 << 20
    assert all(after.facts.first_position == before.facts.last_position for before, after in pairs(logs))
    assert len(logs) > 16 and max(log.facts.size_bytes for log in logs) < 4 << 20
    expected = server.do("CHECKSUM TABLE shop.filled")
    result = restore(RestoreRequest(place, "new", (full,), tuple(logs), network=False))
    with sums(result.server) as answers:
        assert answers("CHECKSUM TABLE shop.filled") == expected
    result.server.stop()


def pairs(logs: list[Source]) -> Iterator[tuple[Source, Source]]:
    return zip(logs, logs[1:], strict=False)


@pytest.fixture
def filled(server: Server) -> Iterator[None]:
    """A table of its own, gone afterwards: the server is shared."""
    server.do("FLUSH BINARY LOGS", "CREATE TABLE shop.filled (n INT AUTO_INCREMENT PRIMARY KEY, x LONGBLOB)")
    yield
    server.do("DROP TABLE IF EXISTS shop.filled")


def fill(server: Server, mebibytes: int, *, as_one: bool) -> None:
    """Write as one group, larger than a piece, or as many small ones."""
    many = " UNION ALL ".join(["SELECT NULL, RANDOM_BYTES(1024)"] * 4)
    insert = f"INSERT INTO shop.filled SELECT NULL, REPEAT(RANDOM_BYTES(1024), 256) FROM ({many}) AS four"
    server.do(*["BEGIN"] * as_one, *[insert] * mebibytes, *["COMMIT"] * as_one)


def settled(spool: Path, seconds: float = 1.0) -> int:
    """Wait until the spool has not grown for so long; return how many bytes it holds."""
    before = -1
    while (now := held(spool)) != before:
        before = now
        time.sleep(seconds)
    return now


def held(spool: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (spool / "raw").rglob("*"))


def test_binary_logs_that_were_removed_are_a_gap_that_is_told_of_and_gone_on_behind(
    server: Server, tmp_path: Path
) -> None:
    noted: list[str] = []
    server.do("CREATE TABLE shop.gone (n INT)")
    before = received(server, tmp_path, enough=reaches(server), note=noted.append)
    server.do("INSERT INTO shop.gone VALUES (1)", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "DROP TABLE shop.gone")
    newest = server.do("SHOW MASTER STATUS")[0][0]
    server.do(f"PURGE BINARY LOGS TO '{newest}'")
    after = received(server, tmp_path, enough=reaches(server), note=noted.append)
    assert after[len(before)].facts.first_position > before[-1].facts.last_position
    assert ["have a gap" in note for note in noted] == [True]


def test_logs_that_were_begun_anew_are_refused_until_the_server_has_another_id(tmp_path: Path) -> None:
    with running("maria-anew") as source:
        source.do("FLUSH BINARY LOGS", "CREATE TABLE shop.one (n INT)")
        first = received(source, tmp_path, enough=reaches(source))
        source.do("SELECT SLEEP(1.1)")  # a binary log tells its beginning to the second
        source.do("RESET MASTER", "CREATE TABLE shop.two (n INT)")
        for _ in range(2):
            with pytest.raises(Refusal) as said:
                received(source, tmp_path)
            assert said.value.code == "HistoryBegunAnew" and "server_id" in said.value.remedy
        source.do("FLUSH BINARY LOGS", *[f"CREATE TABLE shop.t{n} (n INT)" for n in range(20)])
        with pytest.raises(Refusal) as said:  # long enough again to be taken for the old ones, but younger
            received(source, tmp_path, enough=lambda logs: len(logs) > len(first))
        assert said.value.code == "HistoryBegunAnew"
        assert len(logs_in(tmp_path / "far")) == len(first)
        source.do("SET GLOBAL server_id = 1077", "CREATE TABLE shop.three (n INT)")
        noted: list[str] = []
        spool = tmp_path / "spool"
        pieces: list[SetFacts] = []
        receive_logs(
            source.connection, spool, lambda piece: pieces.append(piece.facts), name="x",
            stop=lambda: bool(pieces), flush_seconds=0.5, note=noted.append,
        )  # fmt: skip
        assert pieces[0].fork == "1077" and "history of their own" in noted[0]


def test_a_replicas_backup_is_continued_by_the_logs_of_its_primary(tmp_path: Path, place: Path) -> None:
    with running("maria-primary") as primary:
        primary.do("CREATE TABLE shop.ticks (id INT PRIMARY KEY)", "GRANT REPLICATION SLAVE ON *.* TO copier")
        with replica_of(primary) as replica:
            writer = Writing(primary)
            full = taken(replica)
            writer.end()
            assert full.facts.fork == "77" and full.facts.last_position > 10**12
            with pytest.raises(Refusal) as said:
                received(replica, tmp_path / "none")
            assert said.value.code == "LogsOfReplica"
            logs = received(primary, tmp_path, enough=reaches(primary))
        last = primary.do("SELECT MAX(id) FROM shop.ticks")[0][0]
    assert last > 50
    result = restore(RestoreRequest(place, "new", (full,), tuple(logs), network=False))
    try:
        assert ticks(result.server) == f"1 {last} {last}"
        assert (
            ask(result.server, "", "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Slave%'")
            == "0"
        )
    finally:
        result.server.stop()


class Writing:
    """Writes until it is told to end, also while a backup is taken of whoever follows."""

    def __init__(self, server: Server) -> None:
        import threading

        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, args=(server,), daemon=True)
        self._thread.start()
        time.sleep(0.3)

    def _write(self, server: Server) -> None:
        number = 0
        with server.owner() as session, session.cursor() as cursor:
            while not self._over.is_set():
                number += 1
                cursor.execute("INSERT INTO shop.ticks VALUES (%s)", [number])
                time.sleep(0.002)

    def end(self) -> None:
        time.sleep(0.3)
        self._over.set()
        self._thread.join()


def replica_of(primary: Server) -> Any:
    """A replica made of the primary's own files, as one is made by hand; it writes no log of what it takes over."""
    from contextlib import contextmanager

    @contextmanager
    def made() -> Iterator[Server]:
        gtid = primary.do("SELECT @@gtid_binlog_pos")[0][0]
        primary.stop()
        with running("maria-replica", source=primary.data, server_id="78", read_only="ON") as replica:
            primary.start()
            password = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
            replica.do(
                f"SET GLOBAL gtid_slave_pos = '{gtid}'",
                f"CHANGE MASTER TO master_host = '127.0.0.1', master_port = {primary.port}, master_user = 'copier', "
                f"master_password = '{password}', master_use_gtid = slave_pos",
                "START SLAVE",
            )
            assert eventually(lambda: probe(replica.connection).is_secondary)
            time.sleep(0.5)
            yield replica

    return made()


def test_a_server_that_was_restarted_or_crashed_is_received_on_without_hole(tmp_path: Path, place: Path) -> None:
    with running("maria-restarted") as source:
        source.do("CREATE TABLE shop.runs (n INT)")
        received(source, tmp_path, enough=reaches(source))
        full = taken(source)
        for number, end in enumerate((source.stop, source.kill)):
            source.do(f"INSERT INTO shop.runs VALUES ({number})")
            end()
            with pytest.raises(Refusal) as gone:
                received(source, tmp_path)
            assert gone.value.code == "NotListening"
            source.start()
            source.do(f"INSERT INTO shop.runs VALUES ({number + 10})")
            logs = received(source, tmp_path, enough=reaches(source))
        assert all(after.facts.first_position == before.facts.last_position for before, after in pairs(logs))
        assert logs[-1].facts.last_position > 3 * 10**12
    result = restore(RestoreRequest(place, "new", (full,), tuple(logs), network=False))
    assert ask(result.server, "shop", "SELECT GROUP_CONCAT(n ORDER BY n) FROM runs") == "0,1,10,11"
    result.server.stop()


def test_what_was_received_is_delivered_although_the_server_is_gone(tmp_path: Path) -> None:
    """Killed after a piece was decided on, and before it was delivered."""

    class Killed(BaseException):
        pass

    def dies(piece: LogPiece) -> None:
        raise Killed

    with running("maria-gone") as source:
        source.do("CREATE TABLE shop.kept (n INT)")
        with pytest.raises(Killed):
            receive_logs(source.connection, tmp_path, dies, name="x", stop=for_seconds(20), flush_seconds=0.2)
        connection = source.connection
    pieces: list[SetFacts] = []
    with pytest.raises(Refusal) as gone:
        receive_logs(connection, tmp_path, lambda piece: pieces.append(piece.facts), name="x", stop=lambda: False)
    assert gone.value.code == "NotListening"
    assert pieces and pieces[0].first_position == 10**12
    assert pieces[0].fork == "77"
