"""Drills to a moment inside the window: the newest, the oldest and any other, with logs that crossed (I7, R-17.1)."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from backups import drilling, policies
from backups.drilling import drills
from backups.engines.facts import LogPiece
from backups.engines.postgresql import receive_logs
from backups.facts_of_sets import columns_of
from backups.models import BackupFile, BackupSet, Copy, CopyState, Drill, Instance, SetFile
from regions import clock
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.postgresql.clusters import Cluster

pytestmark = pytest.mark.long
Pick, State = Drill.Pick, Drill.State


def receive(world: World, shop: Instance, cluster: Cluster, spool: Path, seconds: float) -> None:
    """Let logs pile up for a while, every row with the server's clock in it, and carry each piece away."""
    until, rows = time.monotonic() + seconds, iter(range(10_000))
    spool.mkdir()

    def stop() -> bool:
        with cluster.owner() as session:
            session.execute("INSERT INTO ticks (id) VALUES (%s)", [next(rows)])
        return time.monotonic() > until

    def deliver(piece: LogPiece) -> None:
        plan(shop, keep(world, shop, piece))

    receive_logs(cluster.connection, spool, deliver, name="moments", stop=stop, flush_seconds=1)
    copies = world.carry(TARGET)
    assert copies and {copy.state for copy in copies} == {CopyState.COMPLETED}, [copy.error for copy in copies]


def keep(world: World, shop: Instance, piece: LogPiece) -> BackupSet:
    at, store = clock.now(), world.store(SOURCE)
    stored = store.open().put(f"logs/{piece.facts.first_position}", piece.path.read_bytes())
    file = BackupFile.objects.create(
        instance=shop,
        store=store,
        key=stored.key,
        size=stored.size,
        etag=stored.etag,
        modified_at=stored.modified_at,
        state=BackupFile.State.SETTLED,
        first_seen_at=at,
        settled_at=at,
    )
    found = BackupSet.objects.create(
        instance=shop, kind="log", origin="taken", discovered_at=at, weighed_at=at, **columns_of(piece.facts)
    )
    SetFile.objects.create(set=found, file=file)
    return found


def plan(shop: Instance, found: BackupSet) -> None:
    policy, at = policies.enabled_policy(shop), clock.now()
    Copy.objects.create(
        set=found,
        policy=policy,
        destination_store=policy.copies.first().destination_store,
        route_version=policy.route_version,
        planned_at=at,
        due_at=at,
        total_bytes=found.size_bytes,
    )


@pytest.fixture
def ticks(cluster: Cluster) -> None:
    """There before the full backup, so that every moment of the window has the table."""
    with cluster.owner() as session:
        session.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO copier")
        session.execute("CREATE TABLE ticks (id int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())")


@pytest.fixture
def logged(world: World, shop: Instance, ticks: None, copy: Copy, cluster: Cluster, tmp_path: Path) -> Instance:
    receive(world, shop, cluster, tmp_path / "spool", seconds=6)
    return shop


def rows_until(cluster: Cluster, moment: datetime) -> int:
    with cluster.owner() as session:
        return session.execute("SELECT count(*) FROM ticks WHERE at <= %s", [moment]).fetchone()[0]


def test_each_pick_restores_its_own_moment_and_exactly_the_rows_before_it(
    world: World, logged: Instance, copy: Copy, cluster: Cluster
) -> None:
    found = {}
    for pick in (Pick.NEWEST, Pick.OLDEST, Pick.RANDOM):
        drills.ask(logged, world.by, pick=pick)
        claimed = drills.claim(TARGET)
        drilling.run(claimed)
        claimed.refresh_from_db()
        assert claimed.state == State.PASSED, claimed.sentence
        assert claimed.restored_until == claimed.until
        found[pick] = claimed
    assert found[Pick.OLDEST].until < found[Pick.RANDOM].until < found[Pick.NEWEST].until
    for pick in (Pick.RANDOM, Pick.NEWEST):
        counted = found[pick].rows["postgres.public.ticks"]
        assert abs(counted - rows_until(cluster, found[pick].until)) <= 1, "a commit is a little later than its row"
    assert found[Pick.NEWEST].rows["postgres.public.ticks"] > found[Pick.OLDEST].rows["postgres.public.ticks"]
    assert [one["kind"] for one in found[Pick.NEWEST].evidence["copies"]][:2] == ["full", "log"]
