"""Snapshot backups of Cluster Edition, against the simulation over a real socket and a hook that is a process (R-7)."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backups import default_backups, layout, policies
from backups.copying import planning
from backups.default_backups import snapshots
from backups.engines.sqlserver import suspending
from backups.models import (
    Alert,
    BackupFile,
    BackupJob,
    BackupSet,
    Copy,
    CopyState,
    Event,
    Instance,
    Kind,
    RememberedSet,
    RestorableInterval,
    StorageSnapshot,
    Transfer,
)
from backups.oversight import asking, audit, watch
from backups.policies import Settings
from demo import mtf
from demo.tds.machine import Family
from demo.tds.snapshotting import Suspension
from regions import clock
from regions.storage import StorageError
from tests.backups.snapshot_servers import Storage, ask, storage_of
from tests.backups.sql_servers import make_due, take_all
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.sqlserver.conftest import until


@pytest.fixture
def storage(world: World, settings: Any) -> Iterator[Storage]:
    with storage_of(world, settings) as found:
        yield found


@pytest.fixture
def instance(storage: Storage) -> Instance:
    return storage.add()


def failed(job: BackupJob) -> str:
    """Take the job, which must fail; return why."""
    assert default_backups.take(default_backups.claim(SOURCE)) is None
    job.refresh_from_db()
    assert job.state == "queued" and job.error
    return job.error


# ---- the story


def test_a_snapshot_is_taken_copied_and_verified_and_logs_and_differentials_stand_on_it(
    world: World, storage: Storage
) -> None:
    instance = storage.add(log_every_minutes=5)
    world.store(TARGET)
    policies.apply(instance, Settings(True, 7, TARGET, logs_enabled=True, agreed=True), world.by)
    [job] = BackupJob.objects.all()
    assert job.reason == "24h"
    [full] = take_all()
    assert (full.kind, full.method, full.is_copy_only) == ("full", "snapshot", False)
    pages = storage.orders.pages + 4
    assert [file.size for file in full.files.order_by("set_files__family_sequence")][1:] == [8 * 8192, 4 * 8192]
    assert full.size_bytes == pages * 8192 and storage.is_undone
    assert planning.has_valid(instance, "Orders", clock.now()), "R-6.1: a full (or snapshot)"

    asking.ask_due(SOURCE)
    full.refresh_from_db()
    assert instance.server_looks.get().answered_at
    assert RememberedSet.objects.count() == 0 and not full.contradiction, "what msdb says of it is what is here"

    storage.sql.work()
    for kind in (Kind.LOG, Kind.DIFFERENTIAL):
        ask(instance, kind)
    log, differential = sorted(take_all(), key=lambda one: one.kind, reverse=True)
    assert (log.kind, log.method) == ("log", "physical") and log.first_position <= full.last_position
    assert differential.base_guid == full.set_guid

    copies = world.carry()
    assert [copy.state for copy in copies] == [CopyState.COMPLETED] * 3, [copy.error for copy in copies]
    copy = next(copy for copy in copies if copy.set == full)
    assert copy.reference == "taken"
    assert copy.verification == "structure · not inspectable", "the database's files have no checksum of a backup"
    for place in copy.copied_files.select_related("file", "transfer"):
        here = (world.folder / SOURCE / place.file.key).read_bytes()
        assert here == (world.folder / TARGET / place.transfer.key).read_bytes()


def test_writers_wait_while_it_is_suspended_and_the_hook_is_told_what_and_nothing_of_ours(
    storage: Storage, instance: Instance, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARSHORE_SECRET_KEY", "nobody's business")
    diary = storage.frozen.parent / "diary"
    storage.behaves(
        settings,
        f"Path({str(diary)!r}).write_text(json.dumps([asked, dict(os.environ), os.getcwd()]))\n"
        "time.sleep(0.7)\nprint(proper())",
    )
    ask(instance)
    worked: list[float] = []

    def work() -> None:
        while not storage.orders.suspension:
            time.sleep(0.01)
        began = time.monotonic()
        storage.sql.work()
        worked.append(time.monotonic() - began)

    writer = threading.Thread(target=work)
    writer.start()
    [full] = take_all()
    writer.join(20)
    assert worked and worked[0] > 0.4, "a writer waits for the hook"
    assert storage.orders.reached > full.first_position
    asked, environment, folder = json.loads(diary.read_text())
    assert asked["action"] == "take" and asked["id"] == StorageSnapshot.objects.get().handle
    assert [(one["file_id"], one["name"], one["type"], one["size"]) for one in asked["files"]] == [
        (1, "Orders", "data", 65536),
        (2, "Orders_log", "log", 32768),
    ]
    assert asked["files"][0]["path"] == "D:\\data\\Orders.mdf" and 0 < asked["seconds"] <= 60
    assert folder == "/" and not [name for name in environment if "SECRET" in name or "DATABASE" in name]


def test_beside_somebody_elses_job_it_is_copy_only(storage: Storage) -> None:
    instance = storage.add(arrival="found", prefixes=["theirs/"])
    ask(instance)
    [full] = take_all()
    assert full.is_copy_only and full.method == "snapshot" and storage.orders.base is None, "R-6.2b"


# ---- a hook that does not do what it should


HANGS = "time.sleep(60)"
LIES = {
    "outside": ('print(json.dumps({"files": [{"file_id": n, "path": "/etc/passwd"} for n in (1, 2)]}))', "not below"),
    "climbs": (
        'path = f"{frozen}/../disks/data/Orders.mdf"\n'
        'print(json.dumps({"files": [{"file_id": n, "path": path} for n in (1, 2)]}))',
        "not below",
    ),
    "link": (
        "answer = json.loads(proper())\n"
        "one = Path(answer['files'][0]['path'])\nother = one.with_name('x'); one.rename(other); one.symlink_to(other)\n"
        "print(json.dumps(answer))",
        "cannot be carried",
    ),
    "folder link": (
        "answer = json.loads(proper())\n"
        "one = Path(answer['files'][0]['path'])\n(frozen / 'way').symlink_to(one.parent)\n"
        "answer['files'][0]['path'] = str(frozen / 'way' / one.name)\nprint(json.dumps(answer))",
        "cannot be carried",
    ),
    "short": (
        "answer = json.loads(proper())\nos.truncate(answer['files'][0]['path'], 8192)\nprint(json.dumps(answer))",
        "it has 8,192 bytes",
    ),
    "pipe": (
        "answer = json.loads(proper())\none = answer['files'][0]['path']\nos.unlink(one); os.mkfifo(one)\n"
        "print(json.dumps(answer))",
        "no plain file",
    ),
    "rubbish": ("print('all is well')", "JSON object"),
    "nothing": ("pass", "JSON object"),
    "one of two": (
        "answer = json.loads(proper())\ndel answer['files'][1]\nprint(json.dumps(answer))",
        "one path for each",
    ),
    "one twice": (
        "answer = json.loads(proper())\nanswer['files'] += answer['files'][:1]\nprint(json.dumps(answer))",
        "one path for each",
    ),
    "too much": ("print('x' * 3_000_000)", "more than a mebibyte"),
    "says no": ("sys.exit('the array\\x1b[2J is full')", "the array [2J is full"),
    "not text": ("print(json.dumps({'files': [{'file_id': [], 'path': 3}]}))", "JSON object"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_hook_that_lies_takes_no_backup_and_leaves_nothing_suspended(
    world: World, storage: Storage, instance: Instance, settings: Any, lie: str
) -> None:
    body, why = LIES[lie]
    storage.behaves(settings, body)
    job = ask(instance)
    assert why in failed(job)
    for link in storage.frozen.iterdir():
        assert link.is_symlink() and link.unlink() is None, "only what the hook put there beside its snapshot"
    assert storage.is_undone and not storage.sql.machine.history, "thawed, and msdb knows of no backup"
    settings.SNAPSHOT_HOOK = str(storage.hook)
    make_due()
    assert [one.method for one in take_all()] == ["snapshot"]


def test_a_hook_that_hangs_is_ended_with_all_it_started_and_writes_go_on(
    storage: Storage, instance: Instance, settings: Any
) -> None:
    settings.SNAPSHOT_SECONDS = 1
    pid = storage.frozen.parent / "pid"
    started = "subprocess.Popen(['sleep', '50'])"
    storage.behaves(settings, f"Path({str(pid)!r}).write_text(str({started}.pid))\n{HANGS}")
    job, began = ask(instance), time.monotonic()
    assert "did not end in time" in failed(job)
    assert time.monotonic() - began < 10 and storage.is_undone
    until(lambda: is_over(int(pid.read_text())))


def is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def test_whatever_else_hangs_writes_go_on_in_time(
    storage: Storage, instance: Instance, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that does not answer, say: nothing can end this thread, and the suspension ends all the same."""
    settings.SNAPSHOT_SECONDS = 1
    waited: list[float] = []

    def hanging(*given: Any) -> None:
        began = time.monotonic()
        until(lambda: not storage.orders.suspension)
        waited.append(time.monotonic() - began)

    monkeypatch.setattr(snapshots.frozen_files, "check", hanging)
    assert "was suspended for 1 s" in failed(ask(instance))
    assert waited[0] < 3 and storage.is_undone


def test_without_a_hook_or_with_one_that_others_can_write_nothing_is_suspended(
    storage: Storage, instance: Instance, settings: Any
) -> None:
    job = ask(instance)
    storage.hook.chmod(0o777)
    assert "can be written or replaced by others" in failed(job)
    storage.hook.chmod(0o700)
    storage.hook.parent.chmod(0o777)
    make_due()
    assert "can be written or replaced by others" in failed(job)
    settings.SNAPSHOT_HOOK = ""
    make_due()
    assert "know no program" in failed(job)
    assert not StorageSnapshot.objects.exists()


# ---- a server that does not do what it should


def test_what_speaks_against_it_is_said_before_anything_waits(storage: Storage, instance: Instance) -> None:
    account = storage.sql.machine.accounts["farshore"]
    job = ask(instance)
    account.alters = False
    assert "may not suspend Orders" in failed(job)
    account.alters, account.sees_state = True, False
    make_due()
    assert "does not see whether a database is still suspended" in failed(job)
    account.sees_state, storage.sql.machine.version = True, (15, 0, 4430)
    make_due()
    assert "snapshot backups begin with 2022" in failed(job)
    assert not StorageSnapshot.objects.exists()


def test_somebody_elses_suspension_is_left_alone(storage: Storage, instance: Instance) -> None:
    with storage.sql.machine.entered("other", storage.sql.machine.accounts["farshore"], "Their tool", "x") as theirs:
        storage.orders.suspension = Suspension(theirs.number)
        job = ask(instance)
        assert "suspended for somebody else's snapshot" in failed(job)
        assert storage.orders.suspension.session == theirs.number
        assert StorageSnapshot.objects.get().released_at, "ours is over all the same"


def test_a_backup_that_fails_while_it_is_suspended_leaves_it_thawed(
    storage: Storage, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(instance)
    storage.sql.machine.shares.clear()
    assert "cannot open the backup device" in failed(job)
    assert storage.is_undone


def test_a_connection_that_is_cut_meanwhile_leaves_it_thawed(
    storage: Storage, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has not even noticed; it is told from another session."""
    storage.sql.machine.is_unaware = True
    check = snapshots.frozen_files.check

    def cut(*given: Any) -> None:
        check(*given)
        for session in list(storage.sql.machine.sessions.values()):
            if storage.sql.machine.suspended_by(session):
                session.killed.set()

    monkeypatch.setattr(snapshots.frozen_files, "check", cut)
    job = ask(instance)
    assert failed(job)
    assert storage.is_undone


def test_a_server_that_goes_away_meanwhile_is_asked_again_when_it_is_back(
    storage: Storage, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a suspension ends with its server is not taken for granted: it is looked."""
    server, port, check = storage.sql.server, storage.sql.server.port, snapshots.frozen_files.check

    def dying(*given: Any) -> None:
        check(*given)
        server.die()

    monkeypatch.setattr(snapshots.frozen_files, "check", dying)
    ask(instance)
    assert default_backups.take(default_backups.claim(SOURCE)) is None
    row = StorageSnapshot.objects.get()
    assert row.given_up_at and row.thawed_at is None and "Nothing listens" in row.error
    assert not storage.snapshots, "the storage is not held up"
    StorageSnapshot.objects.update(began_at=clock.now() - timedelta(minutes=10), tried_at=None)
    watch.watch()
    assert "its writes wait" in Alert.objects.get(code="snapshot_not_undone").sentence
    server._address = ("127.0.0.1", port)
    with server:
        assert snapshots.settle_due(SOURCE) == 1 and storage.is_undone


def test_of_a_released_instance_a_server_that_is_gone_is_not_asked_for_ever(
    storage: Storage, instance: Instance
) -> None:
    job = ask(instance)
    StorageSnapshot.objects.create(
        job=job, fence=1, database="Orders", handle="x", metadata="x", began_at=clock.now() - timedelta(days=2)
    )
    storage.sql.server.die()
    assert snapshots.settle_due(SOURCE) == 0
    Instance.objects.update(released_at=clock.now())
    StorageSnapshot.objects.update(tried_at=None)
    assert snapshots.settle_due(SOURCE) == 1


def test_a_store_that_fails_leaves_no_snapshot_and_no_object(
    world: World, storage: Storage, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    pour, calls = snapshots.pour, []

    def breaking(*given: Any, **more: Any) -> Any:
        calls.append(given[1])
        if len(calls) == 3:
            raise StorageError("The store is away.", retry=True)
        return pour(*given, **more)

    monkeypatch.setattr(snapshots, "pour", breaking)
    job = ask(instance)
    assert failed(job) == "The store is away."
    assert storage.is_undone
    assert not [path for path in (world.folder / SOURCE).rglob("*of3*") if path.is_file()]


# ---- what cannot be undone at once


def test_a_hook_that_does_not_release_is_asked_again_and_an_alert_says_so(
    storage: Storage, instance: Instance, settings: Any
) -> None:
    holds = storage.hook.with_name("holds")
    storage.behaves(settings, "print(proper())")
    text = (storage.hook.with_name("other-hook")).read_text()
    holds.write_text(text.replace("    print(proper())\n    sys.exit()", "    sys.exit('busy')", 1))
    holds.chmod(0o700)
    settings.SNAPSHOT_HOOK = str(holds)
    ask(instance)
    [full] = take_all()
    assert full.method == "snapshot" and storage.snapshots, "the backup is there all the same"
    assert snapshots.regions_to_settle() == [], "not at once"
    StorageSnapshot.objects.update(began_at=clock.now() - timedelta(hours=1), tried_at=None)
    assert snapshots.regions_to_settle() == [SOURCE] and snapshots.settle_due(SOURCE) == 0
    watch.watch()
    alert = Alert.objects.get(code="snapshot_not_undone")
    assert "may still hold the snapshot" in alert.sentence and "busy" in alert.remedy
    settings.SNAPSHOT_HOOK = str(storage.hook)
    StorageSnapshot.objects.update(tried_at=clock.now() - timedelta(minutes=1))
    assert snapshots.settle_due(SOURCE) == 1 and storage.is_undone
    watch.watch()
    alert.refresh_from_db()
    assert alert.closed_at
    assert full.files.count() == 3 and instance.sets.valid().filter(pk=full.pk).exists(), "its objects stay"


@pytest.mark.parametrize(
    ("owner", "step"),
    [(suspending, "files_of"), (snapshots.snapshot_hook, "take"), (suspending.Taking, "_written")],
)
def test_a_worker_that_was_given_up_records_nothing_and_leaves_nothing(
    storage: Storage, instance: Instance, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    """It was paused until its lease ran out, and the sweep has thawed and released behind its back (I15)."""
    ask(instance)
    going_on = getattr(owner, step)

    def overtaken(*given: Any) -> Any:
        if StorageSnapshot.objects.exists():
            BackupJob.objects.update(leased_until=clock.now() - timedelta(seconds=1))
            assert snapshots.settle_due(SOURCE) == 1
        return going_on(*given)

    monkeypatch.setattr(owner, step, overtaken)
    assert default_backups.take(default_backups.claim(SOURCE)) is None
    assert not instance.sets.exists() and storage.is_undone


def test_a_job_that_was_cancelled_is_undone_by_the_sweep(storage: Storage, instance: Instance) -> None:
    job = ask(instance)
    claimed = default_backups.claim(SOURCE)
    StorageSnapshot.objects.create(
        job=claimed,
        fence=claimed.fence,
        database="Orders",
        attempt=f"{instance.code}-{job.pk}-{claimed.fence}-20261127T130000Z",
        handle="x",
        metadata="x.bkm",
        began_at=clock.now(),
    )
    assert snapshots.regions_to_settle() == []
    default_backups.cancel_all(instance)
    assert snapshots.settle_due(SOURCE) == 1 and storage.is_undone


def test_objects_left_over_are_looked_for_only_in_the_store_itself(
    world: World, storage: Storage, instance: Instance
) -> None:
    """Another place at the same path says politely that nothing is left there, and then nobody would come again."""
    job = ask(instance)
    claimed = default_backups.claim(SOURCE)
    row = StorageSnapshot.objects.create(
        job=claimed,
        fence=claimed.fence,
        database="Orders",
        attempt=f"{instance.code}-{job.pk}-{claimed.fence}-20261127T130000Z",
        handle="x",
        metadata="x.bkm",
        key=layout.snapshot_keys(claimed, 2)[0],
        began_at=clock.now(),
    )
    default_backups.cancel_all(instance)
    world.lose(SOURCE)
    assert snapshots.settle_due(SOURCE) == 0
    row.refresh_from_db()
    assert row.thawed_at and row.released_at is None and row.error
    world.get_back(SOURCE)
    StorageSnapshot.objects.update(tried_at=None)
    assert snapshots.settle_due(SOURCE) == 1


# ---- somebody else's


def test_the_metadata_of_another_tools_snapshot_is_no_backup(world: World) -> None:
    """Nothing can be restored from it alone (R-7.3)."""
    found = world.instance("orders", edition="cluster", backup_method="snapshot")
    metadata = replace(mtf.full(started_at=clock.now()), extra_flags=2, metadata_only=True)
    world.drop(found, "theirs.bak", metadata)
    assert world.find(found) == 0 and not BackupSet.objects.exists()
    file = BackupFile.objects.get()
    assert (file.state, file.refusal_code) == ("refused", "SnapshotWithoutFiles") and "another tool" in file.refusal
    assert not planning.has_valid(found, metadata.database, clock.now())


def metadata_of(database: str, **more: Any) -> mtf.Backup:
    return replace(mtf.full(database, started_at=clock.now(), **more), extra_flags=2, metadata_only=True)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_among_backups_in_one_file_it_is_refused_by_itself(world: World, client: Client, place: int) -> None:
    """Wherever it stands; the backups are found, carried and restorable, at their own places in the file (R-7.3)."""
    found = world.instance("orders", edition="cluster", backup_method="snapshot")
    world.enable(found)
    world.set(found, logs_enabled=True)
    at = clock.now()
    full = mtf.full("Sales", started_at=at)
    log = mtf.log(full, first=full.last, last=full.last + 10**5, started_at=at + timedelta(minutes=2))
    sets = [full, log]
    sets.insert(place, metadata_of("Stock"))
    path = world.drop(found, "all.bak", *sets)
    assert world.find(found) == 2
    kept = BackupSet.objects.order_by("pk")
    assert [(one.database, one.kind, one.status) for one in kept] == [
        ("Sales", Kind.FULL, "succeeded"),
        ("Sales", Kind.LOG, "succeeded"),
    ]
    assert [one.set_files.get().position for one in kept] == [sets.index(full) + 1, sets.index(log) + 1]
    assert planning.has_valid(found, "Sales", clock.now()) and not planning.has_valid(found, "Stock", clock.now())
    file = BackupFile.objects.get()
    assert (file.state, file.refusal_code) == ("settled", "SnapshotWithoutFiles")
    assert f"set {place + 1} of Stock" in file.refusal and "another tool" in file.refusal
    assert "Sales" not in file.refusal
    [told] = Event.objects.filter(kind="set.refused")
    assert told.data["file"] == file.pk and f"set {place + 1} of Stock" in told.sentence
    client.force_login(world.user)
    assert f"set {place + 1} of Stock" in client.get(reverse("backup_sets:page", args=[kept[0].pk])).content.decode()
    world.carry()
    assert [(copy.state, copy.error) for copy in Copy.objects.all()] == [(CopyState.COMPLETED, "")] * 2
    assert path.read_bytes() == (world.folder / TARGET / Transfer.objects.get().key).read_bytes()
    assert RestorableInterval.objects.get().reached == kept[1].last_position
    assert list(audit.breaches()) == []


def test_what_is_appended_later_is_found_and_the_same_words_are_no_news(world: World) -> None:
    found = world.instance("orders", edition="cluster", backup_method="snapshot")
    sets = [mtf.full("Sales", started_at=clock.now()), metadata_of("Stock")]
    media = mtf.media_of(sets[0])
    for number in range(3):
        path = world.drop(found, "all.bak", body=mtf.file_of(*sets, media=media))
        os.utime(path, (1_800_000_000 + number, 1_800_000_000 + number))
        world.find(found)
        sets.append(mtf.full("Sales", started_at=clock.now(), seed=f"night {number}"))
    assert BackupSet.objects.count() == 3 and BackupFile.objects.count() == 3
    assert Event.objects.filter(kind="set.refused").count() == 1
    assert all("set 2 of Stock" in file.refusal for file in BackupFile.objects.all())
    sets.append(metadata_of("Stock", seed="another"))
    world.drop(found, "all.bak", body=mtf.file_of(*sets, media=media))
    world.find(found)
    assert Event.objects.filter(kind="set.refused").count() == 2
    newest = BackupFile.objects.get(state="settled")
    assert "set 2 of Stock" in newest.refusal and "set 6 of Stock" in newest.refusal


def test_nor_is_it_where_only_the_server_knows_what_it_is(
    world: World, storage: Storage, instance: Instance, settings: Any
) -> None:
    """Files of 2022 cannot be read here: then msdb says what they are, and of this one that it is a snapshot."""
    theirs = storage.sql.add(name="theirs", arrival="found", prefixes=["theirs/"])
    storage.sql.machine.remember(
        replace(mtf.full("Orders", started_at=clock.now()), version=(16, 0, 1000)),
        (Family("\\\\files\\sql\\theirs.bak"),),
        "sa",
        is_snapshot=True,
    )
    body = mtf.file_of(storage.sql.machine.history[-1].backup)
    world.drop(theirs, "theirs.bak", body=body)
    world.find(theirs)
    asking.ask_due(SOURCE)
    assert RememberedSet.objects.filter(instance=theirs, method="snapshot").exists()
    assert BackupFile.objects.get().state == "refused" and not BackupSet.objects.exists()
