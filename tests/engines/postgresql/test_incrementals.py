"""Incrementals of a real PostgreSQL 18: full, rows, incremental, rows, incremental; each restored, row by row (R-9)."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pytest

from backups.chains import log_chain
from backups.engines import engine_of
from backups.engines.chains import chain_set
from backups.engines.facts import Base, Excerpt, FullNeeded, RestoreRequest, Source, Stopped, TakenSet
from backups.engines.postgresql import discard, probe, restore, take_full, take_incremental
from backups.engines.postgresql.checking import session_in
from regions.refusals import Refusal
from tests.engines.postgresql.clusters import Cluster, running, started_from
from tests.engines.postgresql.crossing import set_from
from tests.engines.postgresql.test_taking import MIB, eventually, keep, kill_the_tool, left_nothing
from tests.room import ROOM

pytestmark = pytest.mark.long

RULES = engine_of("postgresql").chain_rules


@dataclass
class Taken:
    """A backup with its bytes, and the rows its server had when it was taken."""

    set: TakenSet
    archive: bytes
    rows: list[int]

    @property
    def source(self) -> Source:
        return set_from(self.archive, self.set.facts)

    @property
    def base(self) -> Base:
        return Base(self.set.facts, lambda: io.BytesIO(self.outline))

    @property
    def outline(self) -> bytes:
        lies: Excerpt = self.set.outline
        return self.archive[lies.offset : lies.offset + lies.length]


def summarizing(folder: Path) -> dict[str, str]:
    """Switch it on where ALTER SYSTEM can switch it off again."""
    with open(folder / "postgresql.conf", "a") as settings:
        settings.write("\nsummarize_wal = on\n")
    return {}


@pytest.fixture(scope="module")
def source() -> Iterator[Cluster]:
    with running("pg-incrementals", prepare=summarizing) as cluster:
        yield cluster


def write(cluster: Cluster, count: int = 500) -> list[int]:
    """Add rows, change and delete some of the older ones, and return which there are."""
    with cluster.owner() as session:
        session.execute(
            "INSERT INTO orders SELECT max(n) + g, 'new' FROM orders, generate_series(1, %s) g GROUP BY g", [count]
        )
        session.execute("DELETE FROM orders WHERE n %% 97 = %s", [count % 97])
        return rows_in(session)


def rows_in(session: object) -> list[int]:
    return [n for (n,) in session.execute("SELECT n FROM public.orders ORDER BY n")]


def taken_full(cluster: Cluster) -> Taken:
    archive = io.BytesIO()
    rows = write(cluster)
    return Taken(take_full(cluster.connection, keep(archive)), archive.getvalue(), rows)


def taken_on(base: Taken, cluster: Cluster) -> Taken:
    archive = io.BytesIO()
    rows = write(cluster)
    return Taken(take_incremental(cluster.connection, base.base, keep(archive)), archive.getvalue(), rows)


@pytest.fixture(scope="module")
def chain(source: Cluster) -> list[Taken]:
    os.environ["FARSHORE_EMBEDDED_TOOLS"] = "1"
    full = taken_full(source)
    first = taken_on(full, source)
    return [full, first, taken_on(first, source)]


@pytest.fixture
def place() -> Iterator[Path]:
    folder = ROOM / "incrementals"
    folder.mkdir(mode=0o711)
    yield folder
    for left in folder.iterdir():
        discard(left)
    folder.rmdir()


def restored_rows(place: Path, sets: list[Taken]) -> list[int]:
    result = restore(RestoreRequest(place, "new", tuple(taken.source for taken in sets), network=False))
    try:
        with closing(session_in(result.server, "postgres")) as session:
            return rows_in(session)
    finally:
        result.server.stop()
        discard(result.server.folder)


# ---- taken and restored


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_chain_of_any_length_restores_to_exactly_its_rows(chain: list[Taken], place: Path, count: int) -> None:
    assert restored_rows(place, chain[:count]) == chain[count - 1].rows


def test_an_incremental_says_what_it_stands_on_and_is_small(chain: list[Taken]) -> None:
    full, first, second = (taken.set.facts for taken in chain)
    assert [facts.kind for facts in (full, first, second)] == ["full", "differential", "differential"]
    assert (full.base_guid, first.base_guid, second.base_guid) == ("", full.set_guid, first.set_guid)
    assert (first.base_position, second.base_position) == (full.first_position, first.first_position)
    assert full.last_position <= first.first_position < first.last_position <= second.first_position
    assert first.size_bytes < full.size_bytes / 2 and first.size_bytes == len(chain[1].archive)


def test_chains_put_them_behind_each_other_and_ask_for_logs_from_the_last(chain: list[Taken]) -> None:
    sets = [chain_set(at, taken.set.facts, RULES) for at, taken in enumerate(chain)]
    assert [one.id for one in log_chain.lineage_of(2, reversed(sets), RULES)] == [0, 1, 2]
    assert log_chain.needs(sets, [], RULES) == {1: {0}, 2: {1}}
    assert RULES.logs_from(sets[2]) == chain[2].set.facts.first_position
    assert log_chain.lineage_of(2, [sets[0], sets[2]], RULES) == (), "a link is missing"


def test_the_outline_is_the_manifest_and_needs_no_other_byte(chain: list[Taken]) -> None:
    for taken in chain:
        assert hashlib.sha256(taken.outline).hexdigest() == taken.set.outline.sha256
        assert taken.outline.startswith(b'{ "PostgreSQL-Backup-Manifest-Version"') and taken.outline.endswith(b'"}\n')


def test_the_second_without_the_first_between_is_refused(chain: list[Taken], place: Path) -> None:
    with pytest.raises(Refusal) as refused:
        restored_rows(place, [chain[0], chain[2]])
    assert refused.value.code == "SetDamaged"
    assert not list(place.iterdir())


def test_how_far_it_is_is_told_without_a_guess_of_the_end(chain: list[Taken], source: Cluster) -> None:
    told: list[tuple[int, int | None]] = []
    taken = take_incremental(
        source.connection, chain[-1].base, keep(io.BytesIO()), progress=lambda *seen: told.append(seen)
    )
    assert told[-1] == (taken.facts.size_bytes, None)


# ---- refused: a full can be taken instead


def why_full(cluster: Cluster, base: Base) -> FullNeeded:
    with pytest.raises(FullNeeded) as caught:
        take_incremental(cluster.connection, base, never_reached)
    assert caught.value.sentence and left_nothing(cluster)
    return caught.value


def never_reached(readable: BinaryIO) -> None:
    """Read as the store would: the refusal comes before the first byte."""
    if readable.read(MIB):
        pytest.fail("something was sent")


def test_an_older_server_and_one_that_sums_no_wal_are_told_before_anything_starts(
    chain: list[Taken], packaged: Cluster, embedded: Cluster
) -> None:
    assert why_full(packaged, chain[0].base).code == "IncrementalTooOld"
    assert why_full(embedded, chain[0].base).code == "WalNotSummarized"


def test_a_base_of_another_server_is_no_base(chain: list[Taken], source: Cluster) -> None:
    foreign = replace(chain[0].base, facts=replace(chain[0].set.facts, server="7000000000000000000"))
    assert why_full(source, foreign).code == "OtherServer"
    identity = chain[0].set.facts.server
    lying = chain[0].outline.replace(identity.encode(), b"7" * len(identity))
    body = lying[: lying.rindex(b'"Manifest-Checksum"')]
    signed = body + b'"Manifest-Checksum": "%s"}\n' % hashlib.sha256(body).hexdigest().encode()
    assert why_full(source, Base(chain[0].set.facts, lambda: io.BytesIO(signed))).code == "OtherServer"


def test_an_outline_that_is_damaged_is_no_base(chain: list[Taken], source: Cluster) -> None:
    flipped = chain[0].outline.replace(b"base/", b"bass/", 1)
    assert why_full(source, Base(chain[0].set.facts, lambda: io.BytesIO(flipped))).code == "BaseDamaged"


def test_a_base_whose_summaries_are_gone_is_too_old() -> None:
    with running("pg-forgetful", prepare=summarizing) as cluster:
        full = taken_full(cluster)
        with cluster.owner() as session:
            for off in ("off", "on"):  # what is written in between is summed by nobody
                session.execute(f"ALTER SYSTEM SET summarize_wal = {off}")
                session.execute("SELECT pg_reload_conf(), pg_sleep(1)")
                write(cluster)
                session.execute("SELECT pg_switch_wal()")
                session.execute("CHECKPOINT")
        for summary in (cluster.server.cluster / "pg_wal" / "summaries").iterdir():
            summary.unlink()
        assert why_full(cluster, full.base).code == "WalSummariesMissing"
        assert take_full(cluster.connection, keep(io.BytesIO())).facts.kind == "full"


# ---- of a secondary


def test_an_incremental_of_a_standby_continues_a_full_of_its_primary_and_the_other_way_round(
    source: Cluster, place: Path
) -> None:
    """R-9.1: the primary is left alone."""
    full = taken_full(source)
    with started_from(full.archive, "pg-second", of=source) as standby:
        assert probe(standby.connection).is_secondary
        assert probe(standby.connection).identity == probe(source.connection).identity
        rows = write(source)
        follow(standby, source)
        archive = io.BytesIO()
        second = Taken(take_incremental(standby.connection, full.base, keep(archive)), archive.getvalue(), rows)
        assert "Taken from a standby." in second.set.notes and second.set.facts.server == full.set.facts.server
        assert not standby.slots() and not standby.senders()
        third = taken_on(second, source)
        assert why_full(standby, third.base).code == "BaseNotBefore", "the standby has no checkpoint behind it yet"
    assert restored_rows(place, [full, second]) == second.rows
    assert restored_rows(place, [full, second, third]) == third.rows


def follow(standby: Cluster, primary: Cluster) -> None:
    """Let the standby come to where its primary is, with a restart point there to begin a backup from."""
    with primary.owner() as source, standby.owner() as target:
        source.execute("CHECKPOINT")
        [(reached,)] = source.execute("SELECT pg_current_wal_flush_lsn()").fetchall()
        assert eventually(lambda: target.execute("SELECT pg_last_wal_replay_lsn() >= %s", [reached]).fetchone()[0])
        target.execute("CHECKPOINT")


# ---- ended on the way


def test_an_incremental_that_is_not_wanted_or_whose_tool_is_killed_leaves_nothing(
    chain: list[Taken], source: Cluster
) -> None:
    base = chain[0].base
    write(source, 5000)
    with pytest.raises(Stopped):
        take_incremental(source.connection, base, keep(io.BytesIO()), stop=lambda: True)
    assert left_nothing(source)

    def consume(readable: BinaryIO) -> None:
        readable.read(1 << 10)
        kill_the_tool(source)
        keep(io.BytesIO())(readable)
        pytest.fail("the reader met an end")

    with pytest.raises(Refusal) as refused:
        take_incremental(source.connection, base, consume)
    assert refused.value.code == "ToolKilled" and left_nothing(source)
