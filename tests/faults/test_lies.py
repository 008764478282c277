"""Stores, files and headers that lie: nothing is concluded from them, nothing stands still for them (I1, I3, I19)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from backups import cleaning, tasks
from backups.copying import planning, replication
from backups.default_backups import discovery
from backups.engines.facts import Inspection
from backups.engines.sqlserver.reader import inspect
from backups.keeping import expiring, purging
from backups.models import Alert, BackupFile, BackupSet, CancelReason, Copy, CopyState, Instance, Transfer
from backups.oversight import audit
from demo import mtf
from regions import clock
from regions.storage import StorageError
from regions.storage.filesystem import FolderStorage
from tests.backups import world as worlds
from tests.backups.world import OTHER, SOURCE, TARGET, World, backup

LONG_AGO, FAR_OFF = datetime(1997, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 0, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path, db: None) -> World:
    return worlds.make(tmp_path)


@pytest.fixture
def orders(world: World) -> Instance:
    instance = world.instance()
    world.enable(instance)
    return instance


@contextmanager
def unmounted(world: World, region: str) -> Iterator[None]:
    """What a mount point is while nothing is mounted on it: an empty folder that takes whatever it is given."""
    place = world.folder / region
    place.rename(world.folder / "elsewhere")
    place.mkdir()
    try:
        yield
    finally:
        assert not [path for path in place.rglob("*") if path.is_file()], "nothing was written into the wrong place"
        place.rename(world.folder / "mount point")
        (world.folder / "elsewhere").rename(place)


@contextmanager
def changed_places(world: World, one: str, other: str) -> Iterator[None]:
    """Two mounts, or two sets of credentials, taken for each other."""

    def swap() -> None:
        (world.folder / one).rename(world.folder / "between")
        (world.folder / other).rename(world.folder / one)
        (world.folder / "between").rename(world.folder / other)

    swap()
    try:
        yield
    finally:
        swap()


WRONG_PLACES: dict[str, Callable[[World, str], Any]] = {
    "unmounted": unmounted,
    "another's": lambda world, region: changed_places(world, region, OTHER),
}


@pytest.fixture(params=WRONG_PLACES)
def wrong_place(request: pytest.FixtureRequest, world: World) -> Callable[[World, str], Any]:
    world.store(OTHER)
    return WRONG_PLACES[request.param]


def carry_again(world: World) -> list[Copy]:
    Copy.objects.update(due_at=clock.now())
    return world.carry()


# ---- stores that are another place


def test_a_source_that_is_another_place_loses_no_file(
    world: World, orders: Instance, wrong_place: Callable[[World, str], Any]
) -> None:
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    with wrong_place(world, SOURCE):
        with pytest.raises(StorageError, match="mounted"):
            discovery.look(orders)
        [copy] = world.carry()
        assert copy.state == CopyState.FAILED
        assert BackupFile.objects.get().state == BackupFile.State.SETTLED
    [copy] = carry_again(world)
    assert copy.state == CopyState.COMPLETED


def test_a_source_unmounted_in_the_middle_of_a_look_loses_no_file(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    original = FolderStorage.list

    def list_then_unmount(self: FolderStorage, *args: Any) -> Iterator[Any]:
        (world.folder / SOURCE).rename(world.folder / "elsewhere")
        (world.folder / SOURCE).mkdir()
        return original(self, *args)

    monkeypatch.setattr(FolderStorage, "list", list_then_unmount)
    with pytest.raises(StorageError, match="mounted"):
        discovery.look(orders)
    assert BackupFile.objects.get().state == BackupFile.State.SETTLED
    assert Copy.objects.get().state == CopyState.PLANNED


def test_nothing_is_carried_into_another_place(
    world: World, orders: Instance, wrong_place: Callable[[World, str], Any]
) -> None:
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    with wrong_place(world, TARGET):
        [copy] = world.carry()
        assert copy.state == CopyState.FAILED
        assert "mounted" in copy.error
    assert not Transfer.objects.exists()
    [copy] = carry_again(world)
    assert copy.state == CopyState.COMPLETED


def test_a_copy_is_not_completed_by_a_manifest_in_another_place(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    original = FolderStorage.put

    def unmount_then_put(self: FolderStorage, *args: Any, **kwargs: Any) -> Any:
        (world.folder / TARGET).rename(world.folder / "elsewhere")
        (world.folder / TARGET).mkdir()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(FolderStorage, "put", unmount_then_put)
    [copy] = world.carry()
    assert copy.state == CopyState.FAILED
    assert not copy.spans.exists()


def expired(world: World, orders: Instance) -> Copy:
    """A copy that has spent its grace: only the store still stands between it and its deletion."""
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    world.carry()
    world.disable(orders)
    Copy.objects.get().spans.update(began_at=clock.now() - timedelta(days=9))
    BackupSet.objects.update(finished_at=F("finished_at") - timedelta(days=9))
    Copy.objects.update(expires_at=F("expires_at") - timedelta(days=9))
    assert expiring.expire_due() == 1
    day = timedelta(hours=25)
    Copy.objects.update(
        expires_at=F("expires_at") - day, expired_at=F("expired_at") - day, purge_at=F("purge_at") - day
    )
    return Copy.objects.get()


def test_nothing_counts_as_deleted_in_another_place(
    world: World, orders: Instance, wrong_place: Callable[[World, str], Any]
) -> None:
    copy = expired(world, orders)
    with wrong_place(world, TARGET):
        assert purging.purge_due(TARGET) == 0
    copy.refresh_from_db()
    assert (copy.state, copy.deleting_since) == (CopyState.EXPIRED, None)
    Copy.objects.update(due_at=clock.now())
    assert purging.purge_due(TARGET) == 1
    assert not list((world.folder / TARGET / "farshore/v1").rglob("*.bak"))


def test_nothing_counts_as_cleaned_in_another_place(
    world: World, orders: Instance, wrong_place: Callable[[World, str], Any]
) -> None:
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    world.carry()
    Transfer.objects.update(state=Transfer.State.ABANDONED)
    with wrong_place(world, TARGET):
        assert cleaning.clean_up(TARGET) == 0
    assert cleaning.clean_up(TARGET) == 1
    assert Transfer.objects.get().state == Transfer.State.CLEANED


def test_nothing_is_deleted_while_the_clocks_disagree(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired(world, orders)
    for minutes, deleted in ((6, 0), (-6, 0), (4, 1)):
        apart = clock.now() + timedelta(minutes=minutes)
        monkeypatch.setattr(FolderStorage, "clock", lambda _, apart=apart: apart)
        Copy.objects.update(due_at=clock.now())
        assert purging.purge_due(TARGET) == deleted, minutes


# ---- files that change under our hands


def test_a_file_that_is_appended_to_before_it_is_carried_loses_no_set(world: World, orders: Instance) -> None:
    first, second = backup(), backup()
    world.drop(orders, "sales.bak", first)
    world.find(orders)
    world.drop(orders, "sales.bak", first, second)
    [copy] = world.carry()
    assert copy.state == CopyState.COPYING, "whether it is lost, the next looks will tell"
    discovery.look(orders)
    assert Copy.objects.get().state == CopyState.COPYING

    world.find(orders)
    copies = carry_again(world)
    assert {copy.state for copy in copies} == {CopyState.COMPLETED}
    assert BackupSet.objects.count() == len(copies) == 2
    assert not Alert.objects.filter(closed_at=None).exists()
    assert list(audit.breaches()) == []


def test_a_file_that_is_overwritten_before_it_is_carried_is_given_up_in_words(world: World, orders: Instance) -> None:
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    lost = Copy.objects.get()
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    [copy] = world.carry()
    lost.refresh_from_db()
    assert (lost.state, lost.cancel_reason) == (CopyState.CANCELLED, CancelReason.SOURCE_GONE)
    assert copy.state == CopyState.COMPLETED


def test_a_file_that_is_renamed_before_it_is_carried_is_owed_again(world: World, orders: Instance) -> None:
    path = world.drop(orders, "sales.bak", backup())
    world.find(orders)
    path.rename(path.with_name("sales (1).bak"))
    world.find(orders)
    states = Copy.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == [CopyState.CANCELLED, CopyState.PLANNED]
    [copy] = world.carry()
    assert copy.state == CopyState.COMPLETED


def test_a_file_growing_while_it_is_carried_is_never_half_of_each(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.drop(orders, "sales.bak", backup())
    world.find(orders)
    original = FolderStorage.put_part

    def grow_then_put(self: FolderStorage, *args: Any) -> Any:
        with path.open("ab") as file:
            file.write(b"more")
        return original(self, *args)

    monkeypatch.setattr(FolderStorage, "put_part", grow_then_put)
    [copy] = world.carry()
    assert copy.state == CopyState.COPYING
    assert not Transfer.objects.filter(state__in=("uploaded", "verified")).exists()


def test_a_file_shrinking_while_its_header_is_read_is_another_file(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.drop(orders, "sales.bak", backup())

    def shrink_then_inspect(read: Any, size: int) -> Inspection:
        os.truncate(path, 1000)
        return inspect(read, size)

    monkeypatch.setattr("backups.engines.sqlserver.inspect", shrink_then_inspect)
    assert world.find(orders) == 0
    assert not BackupSet.objects.exists()


def test_an_empty_file_is_refused_and_what_it_becomes_is_found(world: World, orders: Instance) -> None:
    world.drop(orders, "sales.bak", body=b"")
    world.find(orders)
    assert BackupFile.objects.get().state == BackupFile.State.REFUSED
    world.drop(orders, "sales.bak", backup())
    assert world.find(orders) == 1


def test_the_same_size_and_time_under_the_same_name_is_still_another_file(world: World, orders: Instance) -> None:
    path = world.drop(orders, "sales.bak", backup())
    world.find(orders)
    before = path.stat()
    other = path.with_name("other.bak")
    other.write_bytes(mtf.file_of(backup()))
    assert other.stat().st_size == before.st_size
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)
    assert world.find(orders) == 1
    assert [copy.state for copy in world.carry()] == [CopyState.COMPLETED]


def test_one_unreadable_file_does_not_hide_the_others(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FolderStorage._open

    def open_what_may_be_read(self: FolderStorage, key: str) -> int:
        if key.endswith("locked.bak"):
            raise StorageError(f"{key} could not be read: Permission denied.", code="AccessDenied")
        return original(self, key)

    monkeypatch.setattr(FolderStorage, "_open", open_what_may_be_read)
    world.drop(orders, "a locked.bak", backup())
    world.drop(orders, "b.bak", backup())
    assert world.find(orders) == 1
    assert BackupFile.objects.get(state="seen").refusal


def test_a_name_taken_over_by_a_link_is_gone(world: World, orders: Instance) -> None:
    path = world.drop(orders, "sales.bak", backup())
    world.find(orders)
    path.unlink()
    path.symlink_to("/etc/passwd")
    world.find(orders)
    assert BackupFile.objects.get().state == BackupFile.State.GONE
    assert Copy.objects.get().cancel_reason == CancelReason.SOURCE_GONE


# ---- names somebody chose

NAMES = [
    "two\nlines.bak",
    "tab\tand \x1b[31mcolour.bak",
    "订单 приказ עברית.bak",
    "\u202eright to left.bak",
    "..bak",
    "..∕..∕up.bak",
    "'; DROP TABLE x;--<script>alert(1)</script>.bak",
    "=HYPERLINK(1).bak",
    "x" * 251 + ".bak",
    os.fsdecode(b"latin \xe9\xff.bak"),
    "percent %2e%2e%2f &amp; +.bak",
    "UPPER.BAK",
]


def test_any_name_goes_all_the_way_and_never_becomes_a_path(world: World, orders: Instance) -> None:
    for name in NAMES:
        world.drop(orders, name, backup())
    deep = "/".join(["d" * 100] * 9) + "/end.bak"
    world.drop(orders, deep, backup())
    assert world.find(orders) == len(NAMES) + 1
    copies = world.carry()
    assert {copy.state for copy in copies} == {CopyState.COMPLETED}, [copy.error for copy in copies]
    for copy in copies:
        [transfer] = Transfer.objects.filter(copied_files__copy=copy)
        source = world.folder / SOURCE / transfer.file.key
        assert (world.folder / TARGET / transfer.key).read_bytes() == source.read_bytes()
        assert transfer.key.isascii()
        manifest = json.loads((world.folder / TARGET / copy.manifest_key).read_text())
        assert manifest["files"][0]["source_key"] == str(transfer.file)
    assert list(audit.breaches()) == []


def test_a_path_longer_than_any_index_holds_up_nobody(world: World, orders: Instance) -> None:
    place = world.folder / SOURCE / orders.prefixes[0]
    place.mkdir(parents=True)
    folder = os.open(place, os.O_RDONLY)
    for step in range(16):
        name = f"{step:02}".ljust(250, "x")
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("end.bak", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)
    world.drop(orders, "sales.bak", backup())
    assert world.find(orders) == 1


def test_an_error_about_a_name_that_is_no_text_is_still_told(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop(orders, os.fsdecode(b"\xff.bak"), backup())
    world.find(orders)

    def refuse(self: FolderStorage, key: str, *args: Any) -> Any:
        raise StorageError(f"{key} could not be read: Input/output error.\0")

    monkeypatch.setattr(FolderStorage, "open_range", refuse)
    copy = replication.claim(TARGET)
    monkeypatch.setattr("backups.presence.require_ours", lambda store, storage: None)
    replication.carry_slice(copy)
    copy.refresh_from_db()
    assert copy.state == CopyState.FAILED
    assert "could not be read" in copy.error


# ---- headers that lie


DATABASES = ['o\'Reilly "quoted"', "d" * 128, "<b>bold</b>", "\u202eselaS", "=1+1", "%s {0} \\N", "🗄 数据库"]


def test_any_database_name_goes_all_the_way(world: World, orders: Instance) -> None:
    for number, name in enumerate(DATABASES):
        world.drop(orders, f"{number}.bak", backup(name))
    assert world.find(orders) == len(DATABASES)
    copies = world.carry()
    assert {copy.state for copy in copies} == {CopyState.COMPLETED}
    said = {json.loads((world.folder / TARGET / copy.manifest_key).read_text())["set"]["database"] for copy in copies}
    assert said == set(DATABASES)
    world.set(orders, retention_days=8)
    Copy.objects.update(expires_at=clock.now() - timedelta(days=9))
    BackupSet.objects.update(finished_at=clock.now() - timedelta(days=30))
    BackupSet.objects.create(
        instance=orders, database="seen", kind="full", finished_at=clock.now(), discovered_at=clock.now()
    )
    expiring.expire_due()
    assert Alert.objects.filter(code="database_not_seen").count() == len(DATABASES)


HOSTILE = {
    "a NUL in the name": {"database": "Sa\0les"},
    "a name as long as a page": {"database": "S" * 5000},
    "a server as long as a page": {"server": "S" * 5000},
    "the largest positions": {"first": mtf.lsn(2**32 - 1, 2**32 - 9000, 1)},
}


@pytest.mark.parametrize("lie", HOSTILE)
def test_one_hostile_header_holds_up_nobody(world: World, orders: Instance, lie: str) -> None:
    world.drop(orders, "a hostile.bak", backup(**HOSTILE[lie]))
    world.drop(orders, "b.bak", backup("Honest"))
    world.find(orders)
    assert BackupSet.objects.filter(database="Honest").exists()
    hostile = BackupFile.objects.get(key=f"{orders.prefixes[0]}a hostile.bak")
    assert hostile.state == BackupFile.State.REFUSED or hostile.sets.exists()
    assert Copy.objects.filter(set__database="Honest", state=CopyState.PLANNED).exists()


def test_a_reader_that_fails_refuses_one_file_and_no_other(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = iter([True])

    def fail_once(read: Any, size: int) -> Inspection:
        if next(once, False):
            raise OverflowError("date value out of range")
        return inspect(read, size)

    monkeypatch.setattr("backups.engines.sqlserver.inspect", fail_once)
    world.drop(orders, "a.bak", backup())
    world.drop(orders, "b.bak", backup())
    assert world.find(orders) == 1
    assert BackupFile.objects.get(state="refused").refusal_code == "HeaderNotUnderstood"


def test_one_step_or_copy_that_fails_holds_up_no_other(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Cursed", "Honest"):
        world.drop(orders, f"{name}.bak", backup(name))
    world.find(orders)
    world.carry()
    world.disable(orders)
    Copy.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    original = expiring.expire

    def stumble(copy: Copy, *args: Any) -> None:
        if copy.set.database == "Cursed":
            raise OverflowError
        original(copy, *args)

    monkeypatch.setattr(planning, "weigh_due", lambda: 1 / 0)
    monkeypatch.setattr(expiring, "expire", stumble)
    tasks.sweep()
    states = dict(Copy.objects.values_list("set__database", "state"))
    assert states == {"Cursed": CopyState.COMPLETED, "Honest": CopyState.EXPIRED}


@pytest.mark.parametrize("finished", [LONG_AGO, FAR_OFF], ids=["long ago", "far off"])
def test_a_date_nobody_believes_is_never_the_newest_for_ever(
    world: World, orders: Instance, finished: datetime
) -> None:
    start = finished - timedelta(hours=1)
    world.drop(orders, "lie.bak", mtf.full(database="Sales", started_at=start, finished_at=finished, seed="lie"))
    world.find(orders)
    world.drop(orders, "sales.bak", backup())
    world.find(orders)
    assert not BackupSet.objects.filter(weighed_at=None).exists()
    assert BackupSet.objects.order_by("-finished_at").first().files.get().key.endswith("sales.bak")
    assert [check.chosen.files.get().key for check in planning.examine(orders, clock.now())] == [
        f"{orders.prefixes[0]}sales.bak"
    ]
    world.carry()
    assert list(audit.breaches()) == []
