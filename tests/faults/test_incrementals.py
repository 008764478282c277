"""A real PostgreSQL 18 and its standby, backed up in chains, carried away, restored from the far side (R-9, R-2.5)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backups import default_backups, restore_sources
from backups.chains import windows
from backups.copying import planning
from backups.default_backups import recording
from backups.engines.facts import RestoreRequest, Source
from backups.engines.postgresql import discard, restore
from backups.engines.postgresql.checking import session_in
from backups.models import BackupFile, BackupJob, BackupSet, CopyState, Event, Instance, Kind
from backups.servers import reaching
from regions import clock
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.postgresql.clusters import PASSWORD, Cluster, running, started_from
from tests.engines.postgresql.test_incrementals import follow, rows_in, summarizing, write
from tests.faults.test_kill_windows import objects_of
from tests.room import ROOM

pytestmark = pytest.mark.long
INCREMENTAL = Kind.DIFFERENTIAL


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("taking-incrementals", prepare=summarizing) as found:
        yield found


@pytest.fixture
def instance(world: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    row = world.instance(
        engine="postgresql", arrival="taken", prefixes=[], host="127.0.0.1", port=cluster.port, username="copier"
    )
    reaching.keep_password(row, PASSWORD)
    row.save()
    return row


def take(world: World, instance: Instance, kind: str = INCREMENTAL, on: str = "primary") -> BackupSet | None:
    default_backups.ask(instance, world.by, kind=kind, on=on)
    return default_backups.take(default_backups.claim(SOURCE))


def taken_chain(world: World, instance: Instance, cluster: Cluster) -> tuple[list[BackupSet], list[list[int]]]:
    """A full, and two incrementals behind it; with the rows that the server had at each."""
    sets, rows = [], []
    for kind in (Kind.FULL, INCREMENTAL, INCREMENTAL):
        rows.append(write(cluster))
        sets.append(take(world, instance, kind))
    return sets, rows


@contextmanager
def place() -> Iterator[Path]:
    folder = ROOM / "far-restored"
    folder.mkdir(mode=0o711)
    try:
        yield folder
    finally:
        for left in folder.iterdir():
            discard(left)
        shutil.rmtree(folder)


def restored_rows(sets: list[Source]) -> list[int]:
    with place() as folder:
        result = restore(RestoreRequest(folder, "new", tuple(sets), network=False))
        try:
            with closing(session_in(result.server, "postgres")) as session:
                return rows_in(session)
        finally:
            result.server.stop()


# ---- taken, carried, restored


def test_a_chain_is_taken_carried_base_first_and_restored_from_either_side(
    world: World, instance: Instance, cluster: Cluster
) -> None:
    policy = world.enable(instance)
    sets, rows = taken_chain(world, instance, cluster)
    assert [found.kind for found in sets] == [Kind.FULL, INCREMENTAL, INCREMENTAL]
    assert [found.base_guid for found in sets[1:]] == [found.set_guid for found in sets[:2]]
    assert sets[2].size_bytes < sets[0].size_bytes / 2
    assert not Event.objects.filter(kind="backup.full_instead").exists()

    planning.weigh(sets[2].pk)  # the newest is noticed first; what it needs comes before it all the same
    planning.weigh_due()
    copies = world.carry()
    assert [copy.set for copy in copies] == sets
    assert {(copy.state, copy.reference) for copy in copies} == {(CopyState.COMPLETED, "taken")}
    assert planning.has_full(policy)

    store = copies[0].destination_store
    for number, copy in enumerate(copies):
        needed = windows.copies_for_set(copy)
        assert [one.set for one in needed] == sets[: number + 1]
        assert restored_rows([restore_sources.of_copy(one) for one in needed]) == rows[number]
    window = windows.chain_of(instance, store, "").window()
    assert [found.start for found in window] == [found.finished_at for found in sets]
    assert restored_rows([restore_sources.of_default_backup(found) for found in sets]) == rows[2]


def test_an_incremental_reads_of_its_base_only_the_outline(
    world: World, instance: Instance, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store(TARGET)
    full = take(world, instance, Kind.FULL)
    read: list[int] = []
    opened = type(world.store(SOURCE).open()).open_range

    def watched(self: object, key: str, offset: int, length: int, *more: object) -> object:
        read.append(length)
        return opened(self, key, offset, length, *more)

    monkeypatch.setattr(type(world.store(SOURCE).open()), "open_range", watched)
    assert take(world, instance).kind == INCREMENTAL
    outline = full.files.get().integrity["outline"]
    marker = 1 << 10
    assert outline[1] <= sum(read) < outline[1] + marker < full.size_bytes / 20


# ---- refused: a full instead


def fell_back(world: World, instance: Instance) -> tuple[BackupSet, str]:
    found = take(world, instance)
    assert found is not None and found.kind == Kind.FULL
    assert (found.job.get().kind, found.job.get().state) == (Kind.FULL, BackupJob.State.SUCCEEDED)
    said = Event.objects.get(kind="backup.full_instead").sentence
    assert "so this is a full" in said
    assert "so this is a full" in Event.objects.get(kind="backup.taken", set=found).sentence
    return found, said


def test_without_any_base_a_full_is_taken_and_says_so(world: World, instance: Instance) -> None:
    _, said = fell_back(world, instance)
    assert "no backup yet" in said


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_a_base_that_is_not_what_was_written_is_no_base(
    world: World, instance: Instance, cluster: Cluster, harm: str
) -> None:
    full = take(world, instance, Kind.FULL)
    file = full.files.get()
    path = world.folder / SOURCE / file.key
    if harm == "gone":
        path.unlink()
    else:
        offset, length, _ = file.integrity["outline"]
        content = bytearray(path.read_bytes())
        content[offset + length // 2] ^= 1
        path.write_bytes(content)
        _keep_etag(file, world)
    found, said = fell_back(world, instance)
    assert "is not what was written there" in said
    assert cluster.slots() == []
    assert objects_of(world, SOURCE) >= {found.files.get().key}


def _keep_etag(file: BackupFile, world: World) -> None:
    """The row says what the store says now: only the hash can tell that a byte is another."""
    stored = world.store(SOURCE).open().head(file.key)
    BackupFile.objects.filter(pk=file.pk).update(etag=stored.etag, modified_at=stored.modified_at, size=stored.size)


def test_a_server_that_stopped_summing_its_wal_is_backed_up_in_full(
    world: World, instance: Instance, cluster: Cluster
) -> None:
    take(world, instance, Kind.FULL)
    with cluster.owner() as session:
        session.execute("ALTER SYSTEM SET summarize_wal = off")
        session.execute("SELECT pg_reload_conf(), pg_sleep(0.5)")
    try:
        _, said = fell_back(world, instance)
        assert "summarize_wal is off" in said and "Set summarize_wal = on" in said
    finally:
        with cluster.owner() as session:
            session.execute("ALTER SYSTEM RESET summarize_wal")
            session.execute("SELECT pg_reload_conf(), pg_sleep(0.5)")


def test_a_base_retired_while_its_incremental_was_taken_fails_that_one(
    world: World, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = take(world, instance, Kind.FULL)
    record = recording.record

    def late(*arguments: object) -> BackupSet:
        full.files.update(state=BackupFile.State.DELETED)
        return record(*arguments)

    monkeypatch.setattr(recording, "record", late)
    assert take(world, instance) is None
    assert "was removed meanwhile" in BackupJob.objects.latest("pk").error
    monkeypatch.setattr(recording, "record", record)
    BackupJob.objects.update(due_at=clock.now())
    assert default_backups.take(default_backups.claim(SOURCE)).kind == Kind.FULL


# ---- killed


@pytest.mark.parametrize("window", ["backup half sent", "backup sent, not recorded"])
def test_an_incremental_survives_kill_9(
    world: World, instance: Instance, cluster: Cluster, killed: Callable[..., None], window: str
) -> None:
    full = take(world, instance, Kind.FULL)
    rows = write(cluster)
    default_backups.ask(instance, world.by, kind=INCREMENTAL)
    killed(window, "take", SOURCE)
    assert BackupSet.objects.get() == full
    BackupJob.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    again = default_backups.take(default_backups.claim(SOURCE))
    assert (again.kind, again.base_guid) == (INCREMENTAL, full.set_guid)
    assert objects_of(world, SOURCE) == {file.key for file in BackupFile.objects.all()}, "the dead worker's is gone"
    assert cluster.slots() == [] and not cluster.senders()
    sets = [restore_sources.of_default_backup(found) for found in (full, again)]
    assert restored_rows(sets) == rows


# ---- the secondary


def test_a_backup_of_the_secondary_leaves_the_primary_alone(world: World, instance: Instance, cluster: Cluster) -> None:
    """R-9.1."""
    full = take(world, instance, Kind.FULL)
    archive = (world.folder / SOURCE / full.files.get().key).read_bytes()
    with started_from(archive, "taking-second", of=cluster) as standby:
        Instance.objects.update(secondary_host="127.0.0.1", secondary_port=standby.port)
        instance.refresh_from_db()
        rows = write(cluster)
        follow(standby, cluster)
        senders = cluster.senders()
        found = take(world, instance, on="secondary")
        assert (found.kind, found.base_guid, found.server) == (INCREMENTAL, full.set_guid, full.server)
        assert found.job.get().on == BackupJob.On.SECONDARY
        assert "Taken from a standby." in Event.objects.get(kind="backup.taken", set=found).sentence
        assert cluster.senders() == senders and not cluster.slots()
        assert restored_rows([restore_sources.of_default_backup(one) for one in (full, found)]) == rows

        Instance.objects.update(port=1)  # the primary is gone: what it was is known from its backups
        instance.refresh_from_db()
        assert take(world, instance, Kind.FULL, on="secondary").server == full.server


def why_it_failed(world: World, instance: Instance) -> str:
    assert take(world, instance, Kind.FULL, on="secondary") is None
    return BackupJob.objects.latest("pk").error


def test_what_is_no_secondary_of_this_instance_is_refused(world: World, instance: Instance, cluster: Cluster) -> None:
    Instance.objects.update(secondary_host="127.0.0.1")
    instance.refresh_from_db()
    assert "it follows no primary" in why_it_failed(world, instance), "the primary itself, at its own port"
    with running("another-primary") as other:
        BackupJob.objects.all().delete()
        foreign = world.instance(
            "foreign",
            engine="postgresql",
            arrival="taken",
            prefixes=[],
            host="127.0.0.1",
            port=other.port,
            username="copier",
        )
        reaching.keep_password(foreign, PASSWORD)
        foreign.save()
        full = take(world, foreign, Kind.FULL)
        archive = (world.folder / SOURCE / full.files.get().key).read_bytes()
        with started_from(archive, "foreign-second", as_standby=True) as standby:
            Instance.objects.filter(pk=instance.pk).update(secondary_port=standby.port)
            instance.refresh_from_db()
            assert "follows another primary" in why_it_failed(world, instance)
    assert not instance.sets.exists()
    assert objects_of(world, SOURCE) == {full.files.get().key}, "nothing was begun"
