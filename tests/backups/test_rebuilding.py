"""The console is lost and a destination is left: what lies there becomes a catalogue again (R-1.2, I4, I19, I20)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backups import alerts, layout, policies, restore_sources
from backups.chains import windows
from backups.copying import planning
from backups.default_backups import discovery
from backups.models import (
    Alert,
    BackupFile,
    BackupSet,
    Copy,
    CopyPolicy,
    CopyState,
    Event,
    Instance,
    Recovery,
    RestorableInterval,
    StateObject,
    StorageSpan,
    Transfer,
    TransferPart,
)
from backups.oversight import audit, watch
from backups.self_recovery import state_objects
from regions import stores
from regions.models import Installation, Region, Store
from regions.storage.mover import Differs
from tests.backups import world as worlds
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, SOURCE, TARGET, World
from tests.flushing import forget_everything
from tests.regions.conftest import bucket_store, make_bucket
from tests.servers import S3Region

pytestmark = pytest.mark.long

DAY = timedelta(days=1)
SETS = [field.name for field in BackupSet._meta.concrete_fields if field.name not in ("instance", "weighed_at")]
COPIES = [
    "pk",
    "set",
    "state",
    "origin",
    "route_version",
    "total_bytes",
    "stored_bytes",
    "expires_at",
    "kept_for",
    "manifest_key",
    "manifest_etag",
    "reference",
    "verification",
]
TRANSFERS = ["key", "file", "state", "size", "digest", "reference", "etag", "version", "verified_at"]
PARTS = ["transfer__key", "number", "offset", "size", "sha256"]
FILES = ["pk", "key", "size", "etag", "version", "modified_at", "integrity", "first_seen_at", "store__uuid"]
INTERVALS = ["database", "began_at", "ended_at", "fork", "anchor", "reached"]
HOLDS = ["pk", "holds__case_number", "holds__placed_at"]
POLICIES = ["kind", "source_region", "destination", "retention_days", "logs_enabled", "route_version", "enabled_at"]


@pytest.fixture
def fleet(world: World, orders: Instance, time_machine: TimeMachine) -> World:
    """Two instances at TARGET: fulls, a differential, a set appended to another's file, one of a name beyond text."""
    stock = world.instance("stock", OTHER, host="10.0.0.9", port=1433, username="farshore", edition="cluster")
    world.enable(orders, days=30)
    world.enable(stock, days=14)
    full = world.arrived(orders)
    world.arrived(orders, base=full.set)
    world.arrived(orders, database="Stock", beside=full.set)
    time_machine.forward(days=2)
    world.arrived(stock, name="\udcff")
    left = {"fork": "2", "parent_fork": "1", "fork_position": 7, "forked_at": time_machine.at}
    world.hold(world.arrived(stock, database="Held", **left))
    write_states(TARGET)
    for instance in (orders, stock):
        windows.rebuild(instance, world.store(TARGET))
    return world


def write_states(region: str) -> int:
    return state_objects.write_stale(Store.objects.get(region=region))


def url(world: World, region: str = TARGET) -> str:
    return (world.folder / region).as_uri()


def facts() -> dict[str, Any]:
    """What the catalogue says of one destination, in words both Farshores share."""
    at = Copy.objects.filter(destination_store__region=TARGET)
    return {
        "installation": Installation.current().uuid,
        "stores": list(Store.objects.filter(region=TARGET).values("uuid", "region", "role", "url")),
        "instances": list(Instance.objects.order_by("code").values(*state_objects.INSTANCE_FIELDS, "group__name")),
        "policies": list(CopyPolicy.objects.order_by("instance__code", "destination").values(*POLICIES)),
        "sets": list(BackupSet.objects.filter(copies__in=at).order_by("pk").values(*SETS)),
        "files": list(BackupFile.objects.filter(transfers__isnull=False).order_by("pk").distinct().values(*FILES)),
        "places": list(BackupSet.files.through.objects.order_by("set", "file").values("set", "file", "position")),
        "copies": list(at.order_by("pk").values(*COPIES, "set__instance__code")),
        "transfers": list(Transfer.objects.order_by("key").values(*TRANSFERS)),
        "parts": list(TransferPart.objects.order_by("transfer__key", "number").values(*PARTS)),
        "intervals": list(RestorableInterval.objects.order_by("anchor", "began_at").values(*INTERVALS)),
        "holds": list(at.filter(holds__released_at=None).order_by("pk").values(*HOLDS)),
    }


def rebuild(*words: str) -> str:
    out = StringIO()
    call_command("rebuild_catalog", *words, stdout=out)
    return out.getvalue()


@pytest.fixture
def lost(fleet: World) -> dict[str, Any]:
    """The database is gone; what it said is known to the test alone."""
    said = facts()
    assert all(said.values()), "everything that is compared is there"
    forget_everything()
    assert not Copy.objects.exists() and not Instance.objects.exists()
    return said


def test_the_catalogue_comes_back_as_it_was_from_the_destination_alone(fleet: World, lost: dict[str, Any]) -> None:
    """R-1.2: also while both source regions are gone."""
    fleet_gone(fleet)
    assert "2 instances, 2 policies, 5 sets, 5 copies, 1 holds; 0 objects" in rebuild(url(fleet))
    found = facts()
    for noun in lost:
        assert found[noun] == lost[noun], noun
    assert not CopyPolicy.objects.filter(enabled=True).exists()
    assert set(BackupFile.objects.values_list("state", flat=True)) == {BackupFile.State.ELSEWHERE}
    assert list(Store.objects.attached().values_list("region", flat=True)) == [TARGET]
    assert list(audit.breaches()) == []


def fleet_gone(world: World) -> None:
    for region in (SOURCE, OTHER):
        (world.folder / region).rename(world.folder / f"{region} is gone")


def test_a_copy_can_be_read_and_is_verified_on_the_way(fleet: World, lost: dict[str, Any]) -> None:
    rebuild(url(fleet))
    for copy in Copy.objects.filter(copied_files__transfer__size=100):
        with restore_sources.of_copy(copy).open() as body:
            assert len(body.read()) == 100
    copy = Copy.objects.first()
    path = fleet.folder / TARGET / copy.copied_files.get().transfer.key
    looked = path.stat()
    path.write_bytes(b"!" + path.read_bytes()[1:])
    os.utime(path, ns=(looked.st_atime_ns, looked.st_mtime_ns))  # a disk that flips bits tells nobody
    with pytest.raises(Differs), restore_sources.of_copy(copy).open() as body:
        body.read()


def test_running_it_again_changes_nothing(fleet: World, lost: dict[str, Any]) -> None:
    rebuild(url(fleet))
    before, events = facts(), Event.objects.count()
    assert "nothing that was not known; 0 objects" in rebuild(url(fleet))
    assert "nothing that was not known; 0 objects" in rebuild(TARGET)
    assert (facts(), Event.objects.count()) == (before, events)


def test_many_copies_come_back_with_few_statements(world: World, orders: Instance) -> None:
    """Looked up and written together: each copy more costs less than two of them, and changes none of what is told."""
    world.enable(orders, days=30)
    for number in range(60):
        found = world.finished(orders)
        if number % 4 == 0:
            world.finished(orders, database="Beside", beside=found)
    planning.weigh_due()
    world.carry()
    said = facts()["copies"]
    manifests = sorted((world.folder / TARGET).rglob("manifest.json"))
    aside = {path: path.read_bytes() for path in manifests[:50]}
    used = []
    for there in (False, True):
        for path, body in aside.items():
            path.write_bytes(body) if there else path.unlink()
        forget_everything()
        with CaptureQueriesContext(connection) as queries:
            rebuild(url(world))
        used.append(len(queries))
    assert Copy.objects.count() == 75
    keys = ("pk", "set", "stored_bytes", "manifest_key", "verification")
    assert [[copy[key] for key in keys] for copy in facts()["copies"]] == [[copy[key] for key in keys] for copy in said]
    assert used[1] - used[0] < 2 * len(aside), used
    assert list(audit.breaches()) == []


def test_a_row_the_database_refuses_costs_its_own_copy_alone(fleet: World, lost: dict[str, Any]) -> None:
    """The others of its batch are written without it."""
    victim = lost["copies"][0]
    change(manifest_path(fleet, victim), lambda said: said["copy"].update(route_version=2**40))
    said = rebuild(url(fleet))
    assert said.count(victim["manifest_key"]) >= 1 and "It holds something impossible" in said
    assert not Copy.objects.filter(pk=victim["pk"]).exists() and Copy.objects.count() == 4
    assert TransferPart.objects.count() == len({part["transfer__key"] for part in lost["parts"]})
    assert list(audit.breaches()) == []


def test_nothing_expires_until_an_administrator_confirms(
    fleet: World, lost: dict[str, Any], time_machine: TimeMachine
) -> None:
    """A rebuilt catalogue may not know who held what, or for how long it was to be kept."""
    rebuild(url(fleet))
    time_machine.forward(days=90)
    fleet.sweep()
    assert set(Copy.objects.values_list("state", flat=True)) == {CopyState.COMPLETED}
    assert set(Copy.objects.values_list("kept_for", flat=True)) == {"unconfirmed", "hold"}
    assert list(audit.CHECKS["I11 spans"]()) == []

    with pytest.raises(CommandError):
        rebuild(TARGET, "--confirm")
    root = User.objects.create_superuser("root")
    assert "expire by their dates again" in rebuild(TARGET, "--confirm", "--user", "root")
    assert Recovery.objects.get().confirmed_by == root
    with pytest.raises(CommandError):
        rebuild(TARGET, "--confirm", "--user", "root")
    fleet.sweep()
    assert Copy.objects.filter(state=CopyState.EXPIRED).count() == 4
    time_machine.forward(days=1)
    fleet.sweep()
    assert Copy.objects.filter(state=CopyState.DELETED).count() == 4
    assert Copy.objects.get(state=CopyState.COMPLETED).kept_for == "hold"


def test_new_objects_never_take_the_place_of_old_ones(fleet: World, lost: dict[str, Any]) -> None:
    """Object keys are built from rows' numbers (I2): an instance that is enabled again goes on far behind them."""
    rebuild(url(fleet))
    mine = worlds.World(fleet.folder, User.objects.create_superuser("root"), Instance.objects.first().group)
    orders = Instance.objects.get(name="orders")
    stores.attach(Region.objects.get(pk=SOURCE), url(fleet, SOURCE))
    before = {copy["manifest_key"] for copy in lost["copies"]}
    mine.enable(orders)
    copy = mine.arrived(orders)
    assert copy.pk > max(old["pk"] for old in lost["copies"]) + 1000 and copy.manifest_key not in before
    assert Store.objects.get(region=SOURCE).uuid == BackupFile.objects.get(pk=lost["files"][0]["pk"]).store.uuid
    assert list(audit.breaches()) == []


def test_a_file_that_still_lies_at_its_source_is_known_again(fleet: World, lost: dict[str, Any]) -> None:
    rebuild(url(fleet))
    stores.attach(Region.objects.get(pk=SOURCE), url(fleet, SOURCE))
    discovery.look(Instance.objects.get(name="orders"))
    assert BackupFile.objects.filter(instance__name="orders", state=BackupFile.State.SETTLED).count() == 2
    assert planning.weigh_due() == 0


# ---- what is missing or cannot be read


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    said = json.loads(path.read_text())
    how(said)
    path.write_text(json.dumps(said))


def manifest_path(world: World, copy: dict[str, Any]) -> Path:
    return world.folder / TARGET / copy["manifest_key"]


HARM: dict[str, Callable[[Path, World], None]] = {
    "not what Farshore writes": lambda path, world: path.write_text("{"),
    "A newer Farshore wrote it": lambda path, world: change(
        path, lambda said: said.update(format="farshore-manifest/2")
    ),
    "It does not say 'files'": lambda path, world: change(path, lambda said: said.pop("files")),
    "parts that do not make up the file": lambda path, world: change(
        path, lambda said: said["files"][0]["parts"][0].__setitem__(2, "0" * 64)
    ),
    "of another copy than the place": lambda path, world: change(path, lambda said: said["copy"].update(id=999)),
    "no object of a copy": lambda path, world: change(
        path, lambda said: said["files"][0].update(key="backups/orders/000001.bak")
    ),
    "is not in the store": lambda path, world: next(path.parent.glob("[0-9]*")).unlink(),
    "Another object lies under": lambda path, world: next(path.parent.glob("[0-9]*")).write_bytes(b"x" * 100),
}


@pytest.mark.parametrize("sentence", HARM)
def test_what_is_wrong_with_one_manifest_is_told_and_the_others_come_back(
    fleet: World, lost: dict[str, Any], sentence: str
) -> None:
    """Never guessed: a manifest that names somebody else's file, say, must not become a row that deletes it."""
    [victim] = [copy for copy in lost["copies"] if copy["kept_for"] == "hold"]
    HARM[sentence](manifest_path(fleet, victim), fleet)
    said = rebuild(url(fleet))
    assert sentence in said and victim["manifest_key"] in said
    assert "A hold of" in said and "CASE-1" in said
    assert Copy.objects.count() == 4 and not Copy.objects.filter(pk=victim["pk"]).exists()
    assert list(audit.breaches()) == []


def test_without_a_state_object_only_what_manifests_say_is_known(fleet: World, lost: dict[str, Any]) -> None:
    for path in (fleet.folder / TARGET).glob("farshore/v1/*/*/state/*.json"):
        path.unlink()
    said = rebuild(url(fleet))
    assert said.count("only what its manifests say is known") == 2
    assert facts()["copies"] == [
        copy | ({"kept_for": "", "expires_at": found["expires_at"]} if copy["kept_for"] == "hold" else {})
        for copy, found in zip(lost["copies"], facts()["copies"], strict=True)
    ]
    assert set(CopyPolicy.objects.values_list("retention_days", flat=True)) == {30, 14}


def test_a_manifest_of_the_first_version_is_read_too_and_nothing_is_deleted_too_early(
    fleet: World, lost: dict[str, Any]
) -> None:
    """It did not say how long a copy is kept: the longest is assumed, and told."""
    for path in (fleet.folder / TARGET).glob("farshore/v1/*/*/state/*.json"):
        path.unlink()
    for copy in lost["copies"]:
        change(manifest_path(fleet, copy), _as_the_first_version)
    said = rebuild(url(fleet))
    assert said.count("1825 days are assumed") == 2
    assert Copy.objects.count() == 5 and Transfer.objects.count() == len(lost["transfers"])
    assert set(CopyPolicy.objects.values_list("retention_days", flat=True)) == {1825}
    assert list(audit.breaches()) == []


def _as_the_first_version(said: dict[str, Any]) -> None:
    said.pop("written_at")
    said["instance"].pop("group")
    for name in ("origin", "run_id", "discovered_at", "parent_fork", "fork_position", "forked_at"):
        said["set"].pop(name)
    for name in ("origin", "planned_at", "policy", "destination_store", "retention_days"):
        said["copy"].pop(name)
    for file in said["files"]:
        for name in ("version", "verification", "uploaded_at", "verified_at", "source"):
            file.pop(name)


def test_a_folder_that_was_moved_to_another_disk_is_accepted_when_it_hashes_to_what_was_recorded(
    fleet: World, lost: dict[str, Any]
) -> None:
    for path in [path for path in (fleet.folder / TARGET).rglob("*") if path.is_file()]:
        body = path.read_bytes()
        path.unlink()
        path.write_bytes(body)
    assert rebuild(url(fleet)).count("--rehash") == 5
    assert not Copy.objects.exists()
    assert "5 copies" in rebuild(url(fleet), "--rehash")
    for copy in Copy.objects.all():
        with restore_sources.of_copy(copy).open() as body:
            assert len(body.read()) == 100


def test_a_copy_that_a_dump_knew_as_failed_is_completed_and_its_alert_ends(fleet: World, lost: dict[str, Any]) -> None:
    """Whoever still carries it has lost it (I15)."""
    rebuild(url(fleet))
    copy = Copy.objects.filter(set__instance__name="orders", set__base_guid="").first()
    before = {name: getattr(copy, name) for name in ("state", "stored_bytes", "manifest_key", "expires_at")}
    Copy.objects.filter(pk=copy.pk).update(
        state=CopyState.FAILED, completed_at=None, stored_bytes=0, manifest_key="", error="The source is gone."
    )
    StorageSpan.objects.filter(copy=copy).delete()
    alerts.open_alert("copy_failed", f"copy:{copy.pk}", sentence="It failed.", remedy="", instance=copy.set.instance)
    assert "1 copies; 0 objects" in rebuild(url(fleet))
    found = Copy.objects.get(pk=copy.pk)
    assert {name: getattr(found, name) for name in before} == before and found.fence > copy.fence
    assert Alert.objects.get(code="copy_failed").closed_at


def test_a_store_that_is_not_there_is_named_and_found_again_where_it_lies_now(
    fleet: World, lost: dict[str, Any]
) -> None:
    rebuild(url(fleet))
    moved = fleet.folder / "mounted elsewhere"
    (fleet.folder / TARGET).rename(moved)
    with pytest.raises(CommandError, match="not there.* name its address"):
        rebuild(TARGET)
    assert "nothing that was not known; 0 objects" in rebuild(moved.as_uri())
    assert Store.objects.get(region=TARGET).url == moved.as_uri()
    assert url(fleet) in Event.objects.get(kind="store.moved").sentence
    with restore_sources.of_copy(Copy.objects.first()).open() as body:
        assert body.read()
    assert list(audit.breaches()) == []


def test_known_copies_in_a_folder_that_was_copied_are_accepted_by_what_our_rows_recorded(
    fleet: World, lost: dict[str, Any]
) -> None:
    """Not by what its manifests say: they could have been exchanged together with the bytes."""
    rebuild(url(fleet))
    moved = fleet.folder / "another disk"
    shutil.copytree(fleet.folder / TARGET, moved)
    (fleet.folder / TARGET).rename(fleet.folder / "gone")
    forged = Transfer.objects.order_by("-pk").first()
    path = moved / forged.key
    path.write_bytes(b"!" + path.read_bytes()[1:])
    count = Transfer.objects.count()
    assert rebuild(moved.as_uri()).count("--rehash") == count
    said = rebuild(moved.as_uri(), "--rehash")
    assert f"{count - 1} known objects; 1 objects are told" in said and f"file {forged.file_id}: " in said
    for copy in Copy.objects.exclude(copied_files__transfer=forged):
        with restore_sources.of_copy(copy).open() as body:
            assert len(body.read()) == 100
    assert Transfer.objects.get(pk=forged.pk).etag == forged.etag


def test_a_farshore_that_was_never_lost_moves_no_store(fleet: World) -> None:
    moved = fleet.folder / "mounted elsewhere"
    (fleet.folder / TARGET).rename(moved)
    with pytest.raises(CommandError, match="for one that was lost"):
        rebuild(moved.as_uri())
    assert Store.objects.get(region=TARGET).url == url(fleet)


def test_a_store_cannot_move_into_another(fleet: World, lost: dict[str, Any]) -> None:
    rebuild(url(fleet))
    inside = fleet.folder / SOURCE / "inside"
    stores.attach(Region.objects.get(pk=SOURCE), (fleet.folder / SOURCE).as_uri())
    (fleet.folder / TARGET).rename(inside)
    with pytest.raises(CommandError, match="lies in, or around"):
        rebuild(inside.as_uri())
    assert Store.objects.get(region=TARGET).url == url(fleet)


def test_an_object_nobody_names_is_told_and_left_alone(fleet: World, lost: dict[str, Any]) -> None:
    stray = manifest_path(fleet, lost["copies"][0]).parent.parent / "77" / "12345"
    stray.parent.mkdir()
    stray.write_bytes(b"an attempt that was under way")
    assert "No manifest that could be read names it" in rebuild(url(fleet))
    assert stray.exists()


def test_a_farshore_that_has_a_catalogue_refuses(fleet: World) -> None:
    for where in (TARGET, url(fleet)):
        with pytest.raises(CommandError, match="lost"):
            rebuild(where)
    assert not Recovery.objects.exists()
    Installation.objects.update(uuid="00000000-0000-4000-8000-000000000000")
    Store.objects.filter(region=TARGET).update(uuid="00000000-0000-4000-8000-000000000001")
    with pytest.raises(CommandError, match="a catalogue of its own"):
        rebuild(url(fleet))
    assert str(Installation.current().uuid).startswith("00000000")


def test_a_store_no_farshore_wrote_is_refused(tmp_path: Path, db: None) -> None:
    before = Installation.current().uuid
    with pytest.raises(CommandError, match=r"marker\.json"):
        rebuild(tmp_path.as_uri())
    with pytest.raises(CommandError, match="neither an address nor a region"):
        rebuild("nowhere")
    assert Installation.current().uuid == before


def test_it_waits_openly(fleet: World, lost: dict[str, Any]) -> None:
    rebuild(url(fleet))
    watch.watch()
    assert "--confirm" in Alert.objects.get(code="recovery_unconfirmed", closed_at=None).remedy


# ---- state objects


def states(world: World, instance: Instance) -> list[Path]:
    return sorted((world.folder / TARGET / layout.base() / instance.code / "state").glob("*.json"))


def test_a_state_object_is_written_after_a_change_and_only_then(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders)
    assert write_states(TARGET) == 1 and write_states(TARGET) == 0
    world.arrived(orders)
    assert write_states(TARGET) == 0
    world.set(orders, retention_days=30)
    state_objects.write_of(orders.pk)
    assert write_states(TARGET) == 0
    newest = json.loads(states(world, orders)[-1].read_text())
    assert newest["policies"][0]["retention_days"] == 30
    assert newest["acceptances"][0]["user"] == "admin"
    assert "password" not in states(world, orders)[-1].read_text()


def test_only_the_newest_few_are_kept_and_none_when_nothing_is_left(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders)
    for days in range(10, 20):
        world.set(orders, retention_days=days)
        assert write_states(TARGET) == 1
    assert [path.name for path in states(world, orders)] == [f"{number:012d}.json" for number in range(6, 11)]
    world.disable(orders)
    write_states(TARGET)
    assert states(world, orders) == []


def test_every_destination_that_holds_something_hears_of_a_change(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders)
    world.arrived(orders)
    world.set(orders, destination=OTHER)
    state_objects.write_of(orders.pk)
    assert StateObject.objects.filter(instance=orders).count() == 2
    policies.release(orders, world.by)
    state_objects.write_of(orders.pk)
    assert json.loads(states(world, orders)[-1].read_text())["instance"]["released_at"]


def test_an_unreadable_newest_state_falls_back_to_the_one_before(fleet: World, orders: Instance) -> None:
    fleet.set(orders, retention_days=60)
    write_states(TARGET)
    states(fleet, orders)[-1].write_text("torn")
    forget_everything()
    assert "not what Farshore writes" in rebuild(url(fleet))
    assert CopyPolicy.objects.get(instance__name="orders").retention_days == 30


def test_a_rebuilt_farshore_does_not_overrule_what_lies_there_until_it_is_confirmed(
    fleet: World, lost: dict[str, Any]
) -> None:
    rebuild(url(fleet))
    assert write_states(TARGET) == 0
    User.objects.create_superuser("root")
    rebuild(TARGET, "--confirm", "--user", "root")
    assert write_states(TARGET) == 2
    assert StateObject.objects.get(instance__name="orders").sequence == 2


# ---- a real bucket


@pytest.mark.long
def test_from_a_bucket_on_real_s3(
    world: World, ceph_regions: tuple[S3Region, S3Region], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bucket_store(ceph_regions[0], f"{make_bucket(ceph_regions[0])}/team/one")
    orders = world.instance("orders")
    stores.attach(Region.objects.get(pk=TARGET), place.url, place.options, place.credentials)
    world.drop(orders, "sales.bak", worlds.backup())
    world.enable(orders)
    world.find(orders)
    world.drop(orders, "more.bak", worlds.backup("Stock"))
    world.find(orders)
    world.carry()
    write_states(TARGET)
    windows.rebuild(orders, Store.objects.get(region=TARGET))
    said = facts()
    assert len(said["copies"]) == 2
    forget_everything()
    monkeypatch.setenv("FARSHORE_STORE_ACCESS_KEY_ID", place.credentials["access_key_id"])
    monkeypatch.setenv("FARSHORE_STORE_SECRET_ACCESS_KEY", place.credentials["secret_access_key"])
    assert "2 copies; 0 objects" in rebuild(place.url, "--endpoint", place.options["endpoint"])
    found = facts()
    for noun in said:
        assert found[noun] == said[noun], noun
    for copy in Copy.objects.all():
        with restore_sources.of_copy(copy).open() as body:
            assert body.read().startswith(b"TAPE")
    assert list(audit.breaches()) == []
    rebuild(place.url, "--endpoint", place.options["endpoint"])
    assert not Event.objects.filter(kind="store.moved").exists()
    store = Store.objects.get(region=TARGET)
    store.keep_credentials({"access_key_id": "of", "secret_access_key": "yesterday"})
    store.save()
    rebuild(place.url, "--endpoint", place.options["endpoint"])
    assert Store.objects.get(region=TARGET).credentials() == place.credentials
    assert "other credentials" in Event.objects.get(kind="store.moved").sentence
