"""SQL Server 2022 (the simulation) writes into its region's own store, a real S3 region, while workers die (0079).

BACKUP LOG ends the log on the server, so that what was written and is not recorded could never be had again.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings

from backups import cleaning, default_backups, layout, policies
from backups.default_backups import buckets, recording
from backups.default_backups.jobs import Heartbeat
from backups.default_backups.taking import attempt
from backups.engines import facts
from backups.engines.facts import Stopped
from backups.engines.sqlserver import scin, to_url
from backups.events import FARSHORE
from backups.layout import Written
from backups.leases import LeaseLost
from backups.models import BackupFile, BackupJob, BackupSet, CopyState, Event, Instance, Kind
from backups.policies import Settings
from demo.tds import statements
from demo.tds.tokens import Message
from demo.tds.words import Wrong
from regions import clock, stores
from regions.models import Region, Store
from regions.refusals import Refusal
from regions.storage import patience
from regions.stores import store_of
from tests.backups.sql_servers import Fixture, make_due, take_all, writing_to
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.sqlserver.conftest import until
from tests.regions.conftest import bucket_store, make_bucket
from tests.regions.fault_proxy import running as proxied
from tests.regions.fault_proxy import says
from tests.servers import S3Region

pytestmark = pytest.mark.long
BOTH = [Kind.FULL, Kind.LOG]
Regions = tuple[S3Region, S3Region]


@pytest.fixture
def sql(world: World, ceph_regions: Regions) -> Iterator[Fixture]:
    with writing_to(world, ceph_regions[0], prefix="/backups") as found:
        yield found


@pytest.fixture
def instance(sql: Fixture) -> Instance:
    """Its first full is there, so that logs can be taken."""
    made = sql.add()
    ask(made, Kind.FULL)
    take_all()
    sql.work()
    return made


def ask(instance: Instance, kind: str, database: str = "Orders") -> BackupJob:
    return default_backups.ask(instance, FARSHORE, database=database, kind=kind)


def run_out() -> None:
    """The dead worker's lease runs out."""
    assert default_backups.claim(SOURCE) is None, "it still protects the dead worker's job"
    BackupJob.objects.filter(state="running").update(leased_until=clock.now() - timedelta(seconds=1))


def objects() -> set[str]:
    storage = store_of(SOURCE).open()
    return {found.key for found in storage.list("farshore/v1/")}


def uploads() -> list[str]:
    return [found.key for found in store_of(SOURCE).open().list_uploads("")]


def is_whole() -> bool:
    """Everything that is recorded lies in the store, and nothing else does."""
    return objects() == set(BackupFile.objects.values_list("key", flat=True)) and not uploads()


def slow(sql: Fixture) -> None:
    """A backup of it takes some seconds."""
    sql.machine.database("Orders").pages, sql.machine.pace = 64, 60_000


def is_writing(sql: Fixture) -> bool:
    return any(session.request for session in list(sql.machine.sessions.values()))


def newest(sql: Fixture) -> str:
    return str(sql.machine.history[-1].backup.set_guid)


# ---- the story


def test_written_by_the_server_copied_and_whole_over_a_killed_worker(
    world: World, sql: Fixture, ceph_regions: Regions, killed: Callable[..., None]
) -> None:
    target = bucket_store(ceph_regions[1], make_bucket(ceph_regions[1]))
    stores.attach(Region.objects.get(pk=TARGET), target.url, target.options, target.credentials, user=world.user)
    sql.machine.add("Archive", recovery_model="SIMPLE", pages=8)
    instance = sql.add(log_every_minutes=5)
    assert instance.engine_version.startswith("16.") and default_backups.can_take(instance)
    policies.apply(instance, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
    assert [(one.database, one.kind) for one in take_all()] == [("Archive", "full"), ("Orders", "full")]

    for window in ("", "server has ended it, nobody looked", "backup sent, not recorded"):
        sql.work()
        make_due(next_log_at=clock.now())
        assert default_backups.ask_logs_by_timetable() == 1
        default_backups.take(default_backups.claim(SOURCE))  # the job that asks for one of each database
        if window:
            killed(window, "take", SOURCE)
            run_out()
        [log] = take_all()
        assert log.set_guid == newest(sql) and log.kind == "log"
    logs = list(instance.sets.filter(kind="log").order_by("first_position"))
    assert [one.first_position for one in logs[1:]] == [one.last_position for one in logs[:-1]]
    assert len(sql.machine.history) == 5, "no log was taken twice"
    assert is_whole()

    copies = world.carry()
    assert {copy.state for copy in copies} == {CopyState.COMPLETED} and len(copies) == 5, [c.error for c in copies]
    assert {(copy.verification, copy.reference) for copy in copies} == {("structure", "none")}
    for copy in copies:
        [file] = copy.set.files.all()
        here, there = store_of(SOURCE).open(), store_of(TARGET).open()
        key = copy.copied_files.get().transfer.key
        with here.open_range(file.key, 0, file.size) as ours, there.open_range(key, 0, file.size) as theirs:
            assert all_of(ours, file.size) == all_of(theirs, file.size)
        assert file.is_ours and file.integrity == {}


def all_of(stream: Any, length: int) -> bytes:
    buffer, seen = bytearray(length), 0
    while seen < length:
        seen += stream.readinto(memoryview(buffer)[seen:])
    return bytes(buffer)


# ---- workers die


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("window", ["server has ended it, nobody looked", "backup sent, not recorded"])
def test_what_the_server_ended_is_recorded_after_kill_9(
    sql: Fixture, instance: Instance, killed: Callable[..., None], window: str, kind: str
) -> None:
    job = ask(instance, kind)
    killed(window, "take", SOURCE)
    assert BackupSet.objects.count() == 1 and len(objects()) == 2
    run_out()
    sql.work()
    [found] = take_all()
    assert len(sql.machine.history) == 2, "it is not taken once more"
    assert found.set_guid == newest(sql)
    job.refresh_from_db()
    assert (job.state, job.result) == ("succeeded", found) and is_whole()
    assert found.started_at < job.started_at, "it holds nothing of what was written after it had been taken"


@pytest.mark.parametrize("kind", BOTH)
def test_a_worker_killed_before_the_server_begins_leaves_nothing(
    sql: Fixture, instance: Instance, killed: Callable[..., None], kind: str
) -> None:
    ask(instance, kind)
    killed("key journaled", "take", SOURCE)
    run_out()
    [found] = take_all()
    assert found.set_guid == newest(sql) and len(sql.machine.history) == 2 and is_whole()


def test_a_backup_whose_worker_is_killed_is_taken_again(
    sql: Fixture, instance: Instance, killed: Callable[..., None]
) -> None:
    slow(sql)
    ask(instance, Kind.FULL)
    killed("server still writes", "take", SOURCE)
    until(lambda: not is_writing(sql))
    assert len(uploads()) == 1, "as a real server leaves it"
    run_out()
    sql.machine.pace = None
    [full] = take_all()
    assert full.set_guid == newest(sql) and is_whole()


def test_a_server_that_has_not_noticed_is_told_to_end_first(
    sql: Fixture, instance: Instance, killed: Callable[..., None]
) -> None:
    slow(sql)
    sql.machine.is_deaf = True
    ask(instance, Kind.FULL)
    killed("server still writes", "take", SOURCE)
    assert is_writing(sql)
    run_out()
    sql.machine.pace = None
    [full] = take_all()
    assert len(sql.machine.history) == 2, "the first one came to nothing"
    assert full.set_guid == newest(sql) and is_whole()


def test_a_server_that_may_not_be_told_is_waited_for(
    sql: Fixture, instance: Instance, killed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(sql)
    sql.machine.is_deaf, sql.machine.accounts["farshore"].kills = True, False
    ask(instance, Kind.FULL)
    killed("server still writes", "take", SOURCE)
    run_out()
    with monkeypatch.context() as planted:
        planted.setattr(to_url, "END_SECONDS", 0.1)
        assert take_all() == []
    job = BackupJob.objects.get(state="queued")
    assert "still runs the backup of an earlier attempt" in job.error and Written.of(job.attempt_key)
    until(lambda: not is_writing(sql))
    make_due()
    [full] = take_all()
    assert len(sql.machine.history) == 2, "what it ended after all is recorded"
    assert full.set_guid == newest(sql) and is_whole()


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_log_whose_job_was_given_up_goes_ahead_of_the_next(
    sql: Fixture, instance: Instance, killed: Callable[..., None], state: str
) -> None:
    ask(instance, Kind.LOG)
    killed("backup sent, not recorded", "take", SOURCE)
    BackupJob.objects.filter(state="running").update(state=state)
    sql.work()
    second = ask(instance, Kind.LOG)
    first_log, second_log = take_all()
    assert first_log.last_position == second_log.first_position
    second.refresh_from_db()
    assert second.result == second_log and is_whole()
    assert not BackupJob.objects.filter(state=state).exclude(attempt_key="").exists(), "it is settled"


def test_a_log_that_was_left_waits_for_no_server(
    sql: Fixture, instance: Instance, killed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last log before the disaster: the server is gone for good, the bytes are there, of a version we can read."""
    monkeypatch.setitem(scin._FIXED_PARTS, (16, 0), scin._FIXED_PARTS[15, 0])
    ask(instance, Kind.LOG)
    killed("server has ended it, nobody looked", "take", SOURCE)
    run_out()
    sql.server.die()
    [log] = take_all()
    assert log.set_guid == newest(sql) and is_whole()


def test_of_two_workers_with_one_job_the_slower_one_records_and_removes_nothing(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is paused for so long that its lease runs out; then both come to their end."""
    ask(instance, Kind.LOG)
    found, faster = buckets._found, []

    def overtaken(*given: Any) -> Any:
        monkeypatch.setattr(buckets, "_found", found)
        BackupJob.objects.filter(state="running").update(leased_until=clock.now() - timedelta(seconds=1))
        faster.extend(take_all())
        sql.work()
        ask(instance, Kind.LOG)
        faster.extend(take_all())
        return found(*given)

    monkeypatch.setattr(buckets, "_found", overtaken)
    assert default_backups.take(default_backups.claim(SOURCE)) is None
    assert [one.kind for one in faster] == ["log", "log"] and len(sql.machine.history) == 3
    assert faster[0].last_position == faster[1].first_position and is_whole()


def test_a_task_that_is_delivered_again_does_nothing(sql: Fixture, instance: Instance) -> None:
    ask(instance, Kind.LOG)
    job = default_backups.claim(SOURCE)
    BackupJob.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    taken = default_backups.take(default_backups.claim(SOURCE))
    assert default_backups.take(job) is None
    assert len(sql.machine.history) == 2 and taken.set_guid == newest(sql) and is_whole()


def test_a_backup_nobody_wants_any_more_leaves_nothing(sql: Fixture, instance: Instance) -> None:
    slow(sql)
    job = ask(instance, Kind.FULL)
    claimed = default_backups.claim(SOURCE)
    beat = Heartbeat(claimed)
    beat.lost.set()
    with pytest.raises(Stopped):
        attempt(claimed, beat)
    job.refresh_from_db()
    assert job.attempt_key == "" and is_whole() and len(sql.machine.history) == 1


# ---- stores fail, servers refuse


def test_a_store_that_is_away_after_the_backup_loses_nothing(
    world: World, sql: Fixture, instance: Instance, ceph_regions: Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its log into a store that this worker does not reach any more."""
    monkeypatch.setattr(patience, "MOST_TRIES", 1)
    store, key = store_of(SOURCE), "written/"
    with proxied(ceph_regions[0].endpoint) as proxy:
        away = {**store.options, "endpoint": proxy.endpoint}
        address = next(iter(sql.machine.buckets))
        through = address.replace(ceph_regions[0].endpoint.removeprefix("http:"), proxy.endpoint.removeprefix("http:"))
        sql.machine.buckets[through] = sql.machine.buckets[address]
        Store.objects.filter(pk=store.pk).update(options=away)
        proxy.on("HEAD", key, says(503), times=1000)
        proxy.on("GET", "list-type", says(503), times=1000)
        ask(instance, Kind.LOG)
        assert take_all() == [] and len(sql.machine.history) == 2
        job = BackupJob.objects.get(kind="log")
        assert job.state == "queued" and Written.of(job.attempt_key)
        make_due()
        assert take_all() == [] and len(sql.machine.history) == 2, "nothing is taken until it is back"
        proxy.rules.clear()
        make_due()
        [log] = take_all()
        assert log.set_guid == newest(sql) and is_whole()


def test_a_server_that_fails_leaves_no_upload(sql: Fixture, instance: Instance) -> None:
    sql.machine.room = 10_000
    ask(instance, Kind.FULL)
    assert take_all() == []
    job = BackupJob.objects.get(state="queued")
    assert "not enough space" in job.error and job.attempt_key == "" and is_whole()
    sql.machine.room = None
    make_due()
    assert [one.kind for one in take_all()] == ["full"]


def test_a_large_database_lies_in_several_files(
    world: World, sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch, killed: Callable[..., None]
) -> None:
    monkeypatch.setattr(to_url, "FILE_BYTES", 20_000)  # of 65,536
    world.store(TARGET)
    policies.apply(instance, Settings(True, 7, TARGET, agreed=True), world.by)
    world.carry()
    ask(instance, Kind.FULL)
    [full] = take_all()
    assert list(full.set_files.order_by("pk").values_list("family_sequence", flat=True)) == [1, 2, 3, 4]
    assert len(set(full.files.values_list("key", flat=True))) == 4 and is_whole()
    [copy] = world.carry()
    assert copy.state == CopyState.COMPLETED, copy.error
    assert copy.copied_files.count() == 4 and sum(full.files.values_list("size", flat=True)) == copy.stored_bytes
    with monkeypatch.context() as planted:
        planted.setattr(recording, "record", lambda *_: (_ for _ in ()).throw(LeaseLost))
        ask(instance, Kind.FULL)
        assert default_backups.take(default_backups.claim(SOURCE)) is None
    run_out()
    [found] = take_all()
    assert found.files.count() == 4 and len(sql.machine.history) == 3 and is_whole()


def test_half_of_the_stripes_are_removed(sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_url, "FILE_BYTES", 40_000)
    sql.machine.room = BackupFile.objects.get().size * 3 // 4  # enough for the first of them
    before = objects()
    ask(instance, Kind.FULL)
    assert take_all() == [], list(BackupFile.objects.values_list("key", "size"))
    assert objects() == before and not uploads()


def test_uploads_of_every_stripe_under_way_are_left_alone(
    sql: Fixture, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(instance, Kind.FULL)
    claimed = default_backups.claim(SOURCE)

    keys = layout.written_keys(claimed, 3)
    storage = store_of(SOURCE).open()
    for key in keys:
        storage.create_upload(key)
    BackupJob.objects.filter(pk=job.pk).update(attempt_key=keys[0])
    monkeypatch.setattr(cleaning, "ORPHAN_AGE", -timedelta(hours=1))
    assert cleaning.sweep_orphans(SOURCE) == 0 and len(uploads()) == 3
    BackupJob.objects.filter(pk=job.pk).update(state="failed")
    assert cleaning.sweep_orphans(SOURCE) == 3


def test_a_differential_whose_full_is_somebody_elses_is_not_kept(sql: Fixture, instance: Instance) -> None:

    orders = sql.machine.database("Orders")
    theirs = sql.machine.describe(orders, facts.Kind.FULL, copy_only=False, checksum=True, name="nightly")
    sql.machine.taken(orders, theirs)
    sql.work()
    ask(instance, Kind.DIFFERENTIAL)
    [found] = take_all()
    assert found.kind == "full" and is_whole()
    assert Event.objects.filter(kind="backup.full_instead").exists()


# ---- what is refused before anything is begun


def test_the_store_is_reached_over_https_only(
    world: World, sql: Fixture, instance: Instance, settings: LazySettings
) -> None:
    settings.FARSHORE_ALLOW_LOOPBACK = False
    assert not default_backups.can_take(instance)
    with pytest.raises(Refusal, match="plain http") as refused:
        ask(instance, Kind.FULL)
    assert refused.value.code == "StoreNotHttps" and "https" in refused.value.remedy


@pytest.mark.parametrize(
    ("version", "edition", "said"),
    [
        ((16, 0, 1000), "Express Edition (64-bit)", "does not back up to S3"),
        ((15, 0, 4430), "Developer Edition (64-bit)", "does not back up to S3"),
    ],
)
def test_a_server_that_cannot_is_told_apart(
    sql: Fixture, instance: Instance, version: tuple[int, int, int], edition: str, said: str
) -> None:
    """Also one that was newer when it was asked the last time."""
    sql.machine.version, sql.machine.edition = version, edition
    ask(instance, Kind.FULL)
    assert take_all() == []
    assert said in BackupJob.objects.get(state="queued").error
    Instance.objects.update(engine_version="15.0.4430.1")
    instance.refresh_from_db()
    with pytest.raises(Refusal) as refused:
        ask(instance, Kind.LOG)
    assert refused.value.code == "ShareMissing"


def test_without_the_right_to_keep_a_credential_it_says_so(sql: Fixture, instance: Instance) -> None:
    sql.machine.credentials.clear()
    sql.machine.accounts["farshore"].keeps_credentials = False
    ask(instance, Kind.LOG)
    assert take_all() == [] and len(sql.machine.history) == 1
    job = BackupJob.objects.get(kind="log")
    assert "ALTER ANY CREDENTIAL" in job.error and "(15247)" in job.error and job.attempt_key == ""


def test_a_key_that_was_changed_at_the_store_is_given_to_the_server(sql: Fixture, instance: Instance) -> None:
    [name] = sql.machine.credentials
    sql.machine.credentials[name] = ("S3 Access Key", "old:one")
    ask(instance, Kind.LOG)
    assert [one.kind for one in take_all()] == ["log"]


def test_the_stores_secret_is_told_nobody_but_the_server(
    sql: Fixture, instance: Instance, ceph_regions: Regions, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    """I18: not by a statement that fails, with a server that quotes it, nor by a traceback, nor by any log."""
    secret, said = ceph_regions[0].secret_key, []
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pytds").setLevel(logging.ERROR)
    bucket = buckets.bucket_of(store_of(SOURCE))
    said += [repr(bucket), str(bucket)]
    keep = to_url.keep_credential

    def kept(*given: Any) -> None:
        try:
            keep(*given)
        except Refusal as refusal:
            said.extend([str(refusal), *traceback.format_exception(refusal)])
            raise

    monkeypatch.setattr(to_url, "keep_credential", kept)

    def quoting(self: Any, *given: Any, **more: Any) -> None:
        raise Wrong(Message(102, f"Incorrect syntax near '{ceph_regions[0].access_key}:{secret}'.", 15))

    with monkeypatch.context() as planted:
        planted.setattr(statements.Statements, "_keep_credential", quoting)
        ask(instance, Kind.LOG)
        assert take_all() == []
    make_due()
    assert [one.kind for one in take_all()] == ["log"]
    said += [caplog.text, *BackupJob.objects.values_list("error", flat=True)]
    said += [f"{one.sentence} {one.data}" for one in Event.objects.all()]
    assert any("(102)" in one for one in said)
    assert secret not in "\n".join(said)
