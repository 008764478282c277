"""A real PostgreSQL, backed up by Farshore and carried away; its worker killed on the way (R-2.5, R-6.2, I13)."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backups import default_backups, policies
from backups.copying import planning
from backups.models import BackupFile, BackupJob, BackupSet, CopyState, Instance, Transfer
from backups.servers import reaching
from regions import clock
from regions.refusals import Refusal
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.postgresql.clusters import OWNER, PASSWORD, Cluster, running
from tests.engines.sqlserver.conftest import until
from tests.faults.test_kill_windows import objects_of

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("taking") as found:
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


def take_next() -> BackupSet | None:
    return default_backups.take(default_backups.claim(SOURCE))


def test_enabling_takes_one_full_and_carries_it_away(world: World, instance: Instance) -> None:
    policy = world.enable(instance)
    with pytest.raises(policies.Refusals):  # a second click, of a form that is out of date
        policies.apply(instance, policies.Settings(True, 8, TARGET, agreed=True, expected="none"), world.by)
    assert default_backups.ask(instance, world.by) == BackupJob.objects.get(), "exactly one is asked for"

    taken = take_next()
    planning.weigh_due()
    [copy] = world.carry()

    assert taken.job.get().state == BackupJob.State.SUCCEEDED
    assert (copy.state, copy.reference) == (CopyState.COMPLETED, "taken"), copy.error
    transfer, file = Transfer.objects.get(), BackupFile.objects.get()
    arrived = (world.folder / TARGET / transfer.key).read_bytes()
    assert arrived == (world.folder / SOURCE / file.key).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(arrived)) as tar:
        assert "PG_VERSION" in tar.getnames()
    assert planning.has_full(policy)


@pytest.mark.parametrize("window", ["backup half sent", "backup sent, not recorded"])
def test_a_backup_survives_kill_9(
    world: World, instance: Instance, cluster: Cluster, killed: Callable[..., None], window: str
) -> None:
    world.enable(instance)
    killed(window, "take", SOURCE)
    assert BackupSet.objects.count() == 0
    assert default_backups.claim(SOURCE) is None, "the lease still protects the dead worker's job"
    BackupJob.objects.update(leased_until=clock.now() - timedelta(seconds=1))

    taken = take_next()
    assert taken is not None
    assert BackupSet.objects.count() == 1
    assert objects_of(world, SOURCE) == {BackupFile.objects.get().key}, "the dead worker's object is gone"
    assert cluster.slots() == []


def test_a_wrong_password_is_told_and_tried_again(world: World, instance: Instance) -> None:
    reaching.keep_password(instance, "wrong")
    instance.save()
    default_backups.ask(instance, world.by)
    assert take_next() is None
    job = BackupJob.objects.get()
    assert job.state == BackupJob.State.QUEUED
    assert "password" in job.error
    assert "wrong" not in job.error
    assert job.due_at > clock.now()


def test_a_found_instance_is_not_backed_up_by_us(world: World) -> None:
    with pytest.raises(Refusal, match="does not take backups"):
        default_backups.ask(world.instance("ledger"), world.by)


def test_somebody_elses_base_backup_is_not_waited_for(
    world: World, instance: Instance, cluster: Cluster, tmp_path: Path
) -> None:
    """R-6.2: nobody finds its files, so that it could not be used instead; both run side by side."""
    where = ["-h", str(cluster.server.sockets), "-p", str(cluster.port), "-U", OWNER]
    tool = [str(cluster.server.programs / "pg_basebackup"), *where, "-D", str(tmp_path / "theirs")]
    theirs = subprocess.Popen([*tool, "--max-rate=32k", "--checkpoint=fast"])
    try:
        until(lambda: _under_way(cluster))
        world.enable(instance)
        assert take_next() is not None and BackupJob.objects.get().waits_until is None
        assert theirs.poll() is None and _under_way(cluster) == 1, "theirs still runs, undisturbed"
    finally:
        theirs.kill()
        theirs.wait()


def _under_way(cluster: Cluster) -> int:
    with cluster.owner() as session:
        return session.execute("SELECT count(*) FROM pg_stat_progress_basebackup").fetchone()[0]
