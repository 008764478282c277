"""The demonstration fleet: brought in once, through everybody's doors, with nothing about it made up but its files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from django.contrib.auth.models import User

from backups.copying import planning, replication
from backups.default_backups import discovery
from backups.keeping import expiring
from backups.models import (
    Acceptance,
    BackupFile,
    Copy,
    CopyPolicy,
    CopyState,
    Instance,
    Kind,
    ResourceGroup,
    Transfer,
)
from backups.models import Event as History
from backups.terms import eligibility
from demo import cast, fleet
from demo.history import Stories
from demo.sqlserver_job import JOBS, Jobs, Stopped
from regions import clock
from regions.models import Store
from regions.refusals import Refusal

PROMISED = (Store, ResourceGroup, Instance, CopyPolicy, Acceptance, History)


@pytest.fixture
def data(tmp_path: Path, db: None) -> Path:
    User.objects.create_superuser("admin", "admin@example.com", "open sesame")
    with pytest.MonkeyPatch.context() as small:
        small.setattr("demo.history.PAGES", 16)
        fleet.prepare(tmp_path)
    return tmp_path


@pytest.fixture
def few_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of the demo, with files of a size for tests."""
    small = (replace(job, first_mib=0.25, later_mib=0.125, pace=64 * 1024) for job in JOBS)
    monkeypatch.setattr("demo.sqlserver_job.JOBS", tuple(small))


def find_all() -> None:
    """Look twice into every store, far enough apart, as two sweeps would."""
    for _ in range(2):
        for region in cast.REGIONS:
            for instance in discovery.due(region, timedelta(0)):
                discovery.look(instance)
        BackupFile.objects.filter(state="seen").update(first_seen_at=clock.now() - 2 * discovery.LOOKS_APART)
    planning.weigh_due()


def carry_all() -> None:
    for region in cast.REGIONS:
        while copy := replication.claim(region):
            replication.carry_slice(copy)


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_preparing_twice_changes_nothing_the_second_time(data: Path) -> None:
    rows, files = [model.objects.count() for model in PROMISED], files_below(data)
    fleet.prepare(data)
    assert [model.objects.count() for model in PROMISED] == rows
    assert files_below(data) == files


def test_there_is_something_to_see_on_every_page(data: Path) -> None:
    absent = [instance.name for instance in Instance.objects.all() if not eligibility.qualifies(instance)]
    assert sorted(absent) == ["imaging", "previews", "sandbox"]
    enabled = CopyPolicy.objects.enabled()
    assert {policy.instance.name for policy in enabled} == {
        "orders",
        "billing",
        "ledger",
        "inventory",
        "warehouse",
        "tills",
    }
    assert all(policy.acceptance.is_standing and policy.acceptance.user.username == "admin" for policy in enabled)
    assert not Instance.objects.filter(is_simulation=False).exists()


def test_a_disabled_instance_is_not_enabled_again_by_the_next_start(data: Path) -> None:
    from backups import policies

    orders = Instance.objects.get(name="orders")
    policies.apply(orders, policies.Settings(False, 7), fleet.administrator())
    fleet.prepare(data)
    assert policies.enabled_policy(orders) is None


def test_a_region_with_a_store_of_its_own_is_left_alone(tmp_path: Path, db: None) -> None:
    user = User.objects.create_superuser("admin", "admin@example.com", "open sesame")
    (tmp_path / "real").mkdir()
    fleet.attach(cast.SHANGHAI, tmp_path / "real", fleet.By(user))
    with pytest.raises(Refusal, match="has a store of its own"):
        fleet.prepare(tmp_path)
    assert not Instance.objects.exists()


def test_the_past_arrives_and_each_story_has_its_ending(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stories = Stories(fleet.administrator())
    stories.advance()
    find_all()
    for _ in range(3):
        stories.advance()
        carry_all()
    assert stories.open == []

    archive = copies_of("archive")
    assert [copy.state for copy in archive] == [CopyState.EXPIRED] + 5 * [CopyState.COMPLETED]
    assert archive[0].purge_at - archive[0].expired_at == timedelta(days=1)
    released, disabled = Instance.objects.get(name="loyalty"), Instance.objects.get(name="campaigns")
    assert released.released
    assert not disabled.policies.enabled().exists()
    assert [copy.state for copy in (*copies_of("loyalty"), *copies_of("campaigns"))] == 6 * [CopyState.COMPLETED]

    soon = archive[1].expires_at
    assert clock.now() < soon < clock.now() + cast.SOON
    monkeypatch.setattr(clock, "now", lambda: soon + timedelta(seconds=1))
    assert expiring.expire_due() == 1
    assert [copy.state for copy in copies_of("archive")] == 2 * [CopyState.EXPIRED] + 4 * [CopyState.COMPLETED]


def copies_of(name: str) -> list[Copy]:
    return list(Copy.objects.filter(set__instance__name=name).order_by("set__finished_at"))


def test_what_the_jobs_write_arrives_byte_for_byte(data: Path, few_jobs: None) -> None:
    jobs = Jobs(data / "demo", paced=False)
    for waited in (timedelta(0), timedelta(minutes=31)):
        _age(jobs, waited)
        jobs.run_due(datetime.now(UTC))
        find_all()
        _carry_and_compare(data)

    assert not BackupFile.objects.filter(state=BackupFile.State.REFUSED).exists()
    assert [copy.set.kind for copy in copies_of("orders")] == [Kind.FULL, Kind.DIFFERENTIAL]
    assert BackupFile.objects.filter(instance__name="ledger").count() == 2  # appended to: another file each time
    for name, sets in {"billing": 2, "ledger": 2, "inventory": 1, "warehouse": 1}.items():
        assert [copy.state for copy in copies_of(name)] == sets * [CopyState.COMPLETED], name


def test_a_file_left_unfinished_is_removed_and_written_anew(tmp_path: Path, few_jobs: None) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        Jobs(tmp_path, stop).run_due(datetime.now(UTC))
    jobs = Jobs(tmp_path, paced=False)
    left = tmp_path / "cn-hangzhou/sqlserver/orders/Orders_full_20261122_130000.bak"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    jobs.progress["orders/Orders"].writing = [str(left.relative_to(tmp_path))]
    jobs.tidy_up()
    assert not files_below(tmp_path / "cn-hangzhou")
    assert len(jobs.run_due(datetime.now(UTC))) == len(JOBS) + 2  # one of them in three stripes


def _carry_and_compare(data: Path) -> None:
    carry_all()
    for transfer in Transfer.objects.filter(state="verified", file__state="settled").select_related("file__instance"):
        stored = fleet.folder_of(data, transfer.store.region_id) / transfer.key
        written = fleet.folder_of(data, transfer.file.instance.region_id) / transfer.file.key
        assert stored.read_bytes() == written.read_bytes()


def _age(jobs: Jobs, by: timedelta) -> None:
    """Let the journaled times lie further back, as if that much time had gone by."""
    for one in jobs.progress.values():
        one.done_at = {kind: (datetime.fromisoformat(at) - by).isoformat() for kind, at in one.done_at.items()}
