"""Promotions of real servers: the logs lead on from one timeline to the next, and to exactly the rows (R-8.3, I7)."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backups.chains import log_chain
from backups.engines import engine_of
from backups.engines.chains import ChainSet, chain_set
from backups.engines.facts import RestoreRequest, Source
from backups.engines.postgresql import discard, restore, take_full
from backups.engines.postgresql.checking import session_in
from backups.engines.postgresql.spool import Journal, Spool
from backups.engines.postgresql.timelines import Left, ancestors_in, child_of, left_at, parent_of
from tests.engines.postgresql.clusters import Cluster, running, started_from
from tests.engines.postgresql.crossing import kill, logs_in, receiver, set_from
from tests.room import ROOM

RULES = engine_of("postgresql").chain_rules
MIB = 1 << 20


@dataclass
class Moment:
    at: datetime
    rows: list[int]


def eventually(true, seconds: float = 30):
    until = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.1)
    assert found
    return found


class Story:
    """A primary and its standby, one receiver's spool, and what has arrived on the far side."""

    def __init__(self, primary: Cluster, name: str) -> None:
        self.primary, self.standby = primary, primary
        self.spool, self.far = ROOM / f"{name}-spool", ROOM / f"{name}-far"
        self.rows = 0
        self.child: subprocess.Popen[bytes] | None = None
        with primary.owner() as session:
            session.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO copier")
            session.execute("CREATE TABLE ticks (id int PRIMARY KEY)")

    def write(self, where: Cluster, count: int = 5) -> None:
        with where.owner() as session:
            for _ in range(count):
                self.rows += 1
                session.execute("INSERT INTO ticks VALUES (%s)", [self.rows])

    def moment(self, where: Cluster) -> Moment:
        """A moment before which everything that is there now was written, and after which comes what follows."""
        time.sleep(0.1)
        with where.owner() as session:
            rows = [number for (number,) in session.execute("SELECT id FROM ticks ORDER BY id")]
            at = session.execute("SELECT clock_timestamp()").fetchone()[0]
        time.sleep(0.1)
        return Moment(at, rows)

    def receive_from(self, cluster: Cluster) -> None:
        self.end()
        self.child = receiver(cluster, self.spool, self.far)
        eventually(lambda: cluster.slots() and cluster.senders())

    def end(self) -> None:
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None

    def promote(self) -> None:
        with self.standby.owner() as session:
            assert session.execute("SELECT pg_promote()").fetchone()[0]

    def follow(self) -> None:
        """The standby comes to where its primary is."""
        with self.primary.owner() as source, self.standby.owner() as target:
            there = source.execute("SELECT pg_current_wal_flush_lsn()").fetchone()[0]
            eventually(lambda: target.execute("SELECT pg_last_wal_replay_lsn() >= %s", [there]).fetchone()[0])

    def is_quiet(self) -> bool:
        """All that was written has been delivered, up to the end of a segment."""
        with self.primary.owner() as session:
            position = session.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()[0]
        return position - position % (16 * MIB) == self.logs[-1].facts.last_position and position % (16 * MIB) <= 40

    @property
    def logs(self) -> list[Source]:
        return logs_in(self.far) if self.far.exists() else []

    def arrived(self, moment: Moment, fork: str) -> None:
        eventually(lambda: any(log.facts.fork == fork and log.facts.finished_at > moment.at for log in self.logs))

    def log_sets(self) -> list[ChainSet]:
        return [chain_set(number, log.facts, RULES) for number, log in enumerate(self.logs, 1)]


@contextmanager
def told(name: str) -> Iterator[tuple[Story, Source]]:
    """A full on timeline 1, taken before anything else; then its standby follows."""
    with running(f"{name}-1", prepare=lambda folder: {"max_replication_slots": "4"}) as primary:
        story, archive = Story(primary, name), io.BytesIO()
        story.write(primary)
        facts = take_full(primary.connection, lambda readable: archive.write(readable.read())).facts
        full = set_from(archive.getvalue(), facts)
        with started_from(archive.getvalue(), f"{name}-2", of=primary) as story.standby:
            try:
                yield story, full
            finally:
                story.end()


@pytest.fixture(autouse=True)
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = ROOM / "restored-timelines"
    folder.mkdir(mode=0o711)
    yield folder
    for left in folder.iterdir():
        discard(left)
    folder.rmdir()


def restored(story: Story, full: Source, place: Path, moment: Moment) -> list[int]:
    """The rows of a server that is made of what a plan for the moment names."""
    sets, logs = [chain_set(0, full.facts, RULES)], story.log_sets()
    plan = log_chain.plan_for(moment.at, sets, logs, RULES)
    assert plan.refusal is None, plan.refusal
    sources = tuple(story.logs[one.id - 1] for one in plan.sets[1:])
    result = restore(RestoreRequest(place, "new", (full,), sources, moment.at, network=False))
    try:
        with closing(session_in(result.server, "postgres")) as session:
            return [number for (number,) in session.execute("SELECT id FROM public.ticks ORDER BY id")]
    finally:
        result.server.stop()
        discard(result.server.folder)


def window(story: Story, full: Source) -> list[tuple[datetime, datetime]]:
    found = log_chain.window([chain_set(0, full.facts, RULES)], story.log_sets(), RULES)
    return [(one.start, one.end) for one in found]


def no_gap(story: Story, full: Source) -> bool:
    return not log_chain.gaps([chain_set(0, full.facts, RULES)], story.log_sets(), RULES)


@pytest.mark.long
@pytest.mark.parametrize("is_whole", [False, True], ids=["within a segment", "at the end of a segment"])
def test_a_primary_fails_and_its_standby_is_promoted_behind_the_same_address(place: Path, is_whole: bool) -> None:
    """The standby knows nothing of us: it gets a slot, and we go on where we were."""
    with told(f"failover-{is_whole:d}") as (story, full):
        story.receive_from(story.primary)
        story.write(story.primary)
        early = story.moment(story.primary)
        story.write(story.primary)
        story.arrived(early, "1")
        story.write(story.primary)
        before = story.moment(story.primary)
        if is_whole:
            eventually(story.is_quiet)
        story.follow()
        kill(story.primary)
        story.end()
        story.promote()
        story.write(story.standby)
        story.receive_from(story.standby)
        story.write(story.standby)
        late = story.moment(story.standby)
        story.write(story.standby)
        story.arrived(late, "2")
        forks = [(log.facts.fork, log.facts.parent_fork) for log in story.logs]
        assert set(forks) == {("1", ""), ("2", "1")}
        assert no_gap(story, full)
        (first_start, first_end), (second_start, second_end) = window(story, full)
        assert second_start <= first_end and first_start < early.at and late.at < second_end
        for moment in (early, before, late):
            assert restored(story, full, place, moment) == moment.rows


@pytest.mark.long
def test_a_standby_whose_logs_are_received_is_promoted_meanwhile(place: Path) -> None:
    with told("promoted") as (story, full):
        story.receive_from(story.standby)
        story.write(story.primary)
        with story.primary.owner() as session:
            session.execute("SELECT pg_switch_wal()")
        story.write(story.primary)
        before = story.moment(story.primary)
        story.follow()
        kill(story.primary)
        story.promote()
        story.write(story.standby)
        late = story.moment(story.standby)
        story.write(story.standby)
        story.arrived(late, "2")
        assert story.child.poll() is None, "one and the same receiver"
        assert no_gap(story, full)
        (_, first_end), (second_start, second_end) = window(story, full)
        assert second_start <= first_end and late.at < second_end
        for moment in (before, late):
            assert restored(story, full, place, moment) == moment.rows


@pytest.mark.long
def test_what_a_former_primary_wrote_on_its_own_stays_its_own_history(place: Path) -> None:
    """Its logs go beyond the place where the new timeline left: they lead to its rows, and to no others."""
    with told("divergent") as (story, full):
        story.receive_from(story.primary)
        story.write(story.primary)
        story.follow()
        story.promote()
        story.write(story.primary, 100)
        alone = story.moment(story.primary)
        story.write(story.primary)
        story.arrived(alone, "1")
        kill(story.primary)
        story.end()
        kept = story.rows
        story.write(story.standby)
        story.receive_from(story.standby)
        time.sleep(2)
        story.write(story.standby)
        late = story.moment(story.standby)
        story.write(story.standby)
        story.arrived(late, "2")
        assert late.rows == [*range(1, 11), *range(kept + 1, kept + 11)]
        assert no_gap(story, full)
        assert restored(story, full, place, alone) == alone.rows
        assert restored(story, full, place, late) == late.rows
        new = next(log.facts for log in story.logs if log.facts.fork == "2")
        old = [log.facts for log in story.logs if log.facts.fork == "1"][-1]
        assert new.first_position <= new.fork_position < old.last_position and new.forked_at > alone.at


# ---- history files

PROMOTED = "no recovery target specified"
HISTORY = f"1\t0/3000000\t{PROMOTED}\n\n2\t1/A0\t{PROMOTED}\n"
RESTORED = "before 2026-03-01 00:00:00+00"


def test_a_history_file_tells_where_each_timeline_was_left() -> None:
    assert ancestors_in(HISTORY) == [Left(1, 3 << 24), Left(2, (1 << 32) + 0xA0)]
    assert ancestors_in("# This timeline has been lived by another server.\n") == []


def test_what_a_restore_to_a_moment_undid_is_no_past_of_its_timeline() -> None:
    """I7: the hours between that moment and the restore were another history's."""
    assert ancestors_in(f"1\t0/3000000\t{RESTORED}\n") == []
    assert ancestors_in(f"1\t0/3000000\t{RESTORED}\n2\t1/A0\t{PROMOTED}\n") == [Left(2, (1 << 32) + 0xA0)]
    assert ancestors_in(f"1\t0/3000000\t{PROMOTED}\n2\t1/A0\t{RESTORED}\n") == []


def test_the_parent_is_the_nearest_timeline_that_can_have_logs() -> None:
    """R-8.3: a timeline that was left within its first segment has none, and the next one's hold its bytes."""
    assert parent_of([Left(1, 20 * MIB), Left(2, 40 * MIB)], 16 * MIB) == Left(2, 40 * MIB)
    assert parent_of([Left(1, 20 * MIB), Left(2, 32 * MIB)], 16 * MIB) == Left(2, 32 * MIB)
    assert parent_of([Left(1, 20 * MIB), Left(2, 30 * MIB)], 16 * MIB) == Left(1, 20 * MIB)
    assert parent_of([Left(1, 20 * MIB), Left(2, 30 * MIB), Left(3, 31 * MIB)], 16 * MIB) == Left(1, 20 * MIB)
    assert parent_of([], 16 * MIB) is None


def test_a_history_leaves_each_of_its_timelines_once() -> None:
    ancestors = [Left(1, 50), Left(3, 40)]  # 3 was restored to a moment before 1 was left
    assert [left_at(ancestors, timeline) for timeline in (1, 2, 3)] == [40, None, 40]
    assert [child_of(ancestors, timeline, 5) for timeline in (1, 3)] == [3, 5]


def test_a_journal_of_before_says_nothing_of_timelines(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(server="7", segment_bytes=16 * MIB, covered=datetime(2026, 3, 1, tzinfo=UTC))
    text = (tmp_path / "journal").read_text()
    (tmp_path / "journal").write_text(text.replace(', "met": 0, "branch": null', ""))
    assert "branch" not in (tmp_path / "journal").read_text()
    assert Spool(tmp_path).journal == Journal("7", 16 * MIB, covered=datetime(2026, 3, 1, tzinfo=UTC))
