"""What speaks against a restore, what it keeps alive, and who may see it; real servers are in tests/faults."""

from __future__ import annotations

import io
import json
import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.http import Http404

from backups import access, restoring
from backups.copying import damage
from backups.engines import confinement
from backups.engines.facts import Kind as EngineKind
from backups.keeping import purging
from backups.models import (
    Copy,
    CopyState,
    Event,
    Instance,
    Kind,
    Membership,
    Pin,
    RestorableInterval,
    Restore,
    RestoreSource,
    Role,
)
from backups.oversight import audit
from backups.policies import Refusals
from backups.restoring import pins, places, reading
from backups.restoring.landing import Landing
from backups.servers import places_for_servers, reaching
from regions import clock
from regions.refusals import Refusal
from tests.backups.world import SOURCE, TARGET, World

State = Restore.State
PLENTY = 10**12
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def landing() -> Any:
    """What the worker of the destination has said of its machine."""
    cache.set(f"landing:{TARGET}", {"bytes_free": PLENTY, "versions": {"postgresql": ["15", "18"]}})
    cache.set(f"landing:{SOURCE}", {"bytes_free": PLENTY, "versions": {"postgresql": ["15", "18"]}})
    yield
    cache.clear()


@pytest.fixture
def shop(world: World) -> Instance:
    found = world.instance("shop", engine="postgresql", arrival="taken", prefixes=["shop/"], host="db")
    world.enable(found)
    return found


def arrived(world: World, instance: Instance, **more: Any) -> Copy:
    """A completed copy whose bytes are no real backup: nothing here reads them."""
    return world.arrived(instance, database="", tool_version="18.1", **more)


def codes(instance: Instance, **wanted: Any) -> list[tuple[str, str]]:
    return [
        (refusal.code, refusal.field) for refusal in restoring.checks(instance, **{"name": "new", **wanted}).refusals
    ]


# ---- what speaks against it


def test_a_completed_copy_can_be_restored_and_the_preview_says_what_that_takes(world: World, shop: Instance) -> None:
    copy = arrived(world, shop, size=1000)
    found = restoring.checks(shop, name="new")
    assert found.is_possible and found.sources == [copy] and found.anchor == copy.set
    assert (found.region.pk, found.origin, found.log_count) == (TARGET, Restore.Origin.COPY, 0), "R-2.3"
    assert (found.bytes_needed, found.bytes_free, found.seconds_expected) == (1000, PLENTY, None)
    assert found.restored_until == copy.set.finished_at and found.gigabytes == copy.stored_bytes / 2**30
    assert Restore.objects.count() == Pin.objects.count() == 0, "looking changes nothing"


def test_the_time_expected_is_that_of_restoring_and_not_of_what_a_drill_does_beside_it(
    world: World, shop: Instance
) -> None:
    base, newest = (arrived(world, shop, size=size).set for size in (1000, 500))
    at, chain = clock.now(), [{"set": base.pk}, {"set": newest.pk}]
    ended = {"state": "passed", "set": newest, "asked_at": at, "due_at": at, "finished_at": at}
    passed = {"unpack": 12, "replay": 2, "start": 1, "recovery": 15, "engine check": 700, "rows": 80}
    shop.drills.create(**ended, seconds=passed, evidence={"copies": chain})
    shop.drills.create(**ended, seconds={"recovery": 9000}, evidence={"copies": chain}, pick="canary")
    assert restoring.checks(shop, name="new").seconds_expected == 5.0, "1,500 bytes in 15 s"
    done = {"state": "ready", "region_id": TARGET, "name": "a", "asked_at": at, "due_at": at, "finished_at": at}
    made = shop.restores.create(**done, seconds={"unpack": 5, "count": 3600})
    made.sources.create(order=1, set=newest)
    assert restoring.checks(shop, name="new").seconds_expected == 5.0, "and 500 in 5 s; rows are counted beside"


def test_without_a_copy_there_is_nothing_to_restore(world: World, shop: Instance) -> None:
    assert codes(shop) == [("NothingToRestore", "store")]
    with pytest.raises(Refusals):
        restoring.ask(shop, world.by, name="new")
    assert not Restore.objects.exists()


def test_what_speaks_against_it_is_said_all_at_once_beside_its_field(
    world: World, shop: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = arrived(world, shop, size=1000)
    cache.set(f"landing:{TARGET}", {"bytes_free": 999, "versions": {"postgresql": ["15"]}})
    found = restoring.checks(shop, copy=copy, name="shop")
    assert [(one.code, one.field) for one in found.refusals] == [
        ("NameTaken", "name"),
        ("VersionMissing", "store"),
        ("NoSpace", "store"),
    ]
    assert "1,000 bytes" in found.refusals[2].sentence and "999 are free" in found.refusals[2].sentence
    assert "18.1" in found.refusals[1].sentence and "15" in found.refusals[1].sentence
    cache.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5))
    assert ("NoSpace", "store") in codes(shop), "where no worker has spoken, this machine is looked at"


def test_a_restore_on_its_way_has_its_room_reserved(world: World, shop: Instance) -> None:
    arrived(world, shop, size=1000)
    cache.set(f"landing:{TARGET}", {"bytes_free": 1500, "versions": {}})
    first = restoring.ask(shop, world.by, name="first")
    assert codes(shop) == [("NoSpace", "store")]
    restoring.cancel(first, world.by)
    assert codes(shop) == []


def test_an_engine_that_is_not_restored_yet_is_refused_with_its_reason(world: World) -> None:
    ledger = world.instance("ledger")
    world.enable(ledger)
    copy = world.arrived(ledger)
    found = restoring.checks(ledger, copy=copy, name="new")
    assert [one.code for one in found.refusals] == ["RestoreNotOffered"] and "SQL Server" in found.refusals[0].sentence
    assert codes(ledger, database="Sales") == [("RestoreNotOffered", "")], "its chain is whole all the same"
    assert ("DatabaseMissing", "database") in codes(ledger, database="Wages")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"is_encrypted": True, "certificate_thumbprint": "AB12"}, ("CertificateMissing", "set")),
        ({"method": "snapshot"}, ("SnapshotWithoutFiles", "set")),
    ],
)
def test_a_set_that_cannot_be_read_there_is_refused(
    world: World, shop: Instance, facts: dict, expected: tuple[str, str]
) -> None:
    copy = arrived(world, shop, **facts)
    assert codes(shop, copy=copy) == [expected]
    assert codes(shop) == [expected], "by moment as by set (R-3.5)"


@pytest.mark.parametrize("state", [CopyState.EXPIRED, CopyState.DAMAGED])
def test_only_completed_copies_are_restored(world: World, shop: Instance, state: str) -> None:
    copy = arrived(world, shop)
    Copy.objects.filter(pk=copy.pk).update(state=state)
    copy.refresh_from_db()
    assert codes(shop, copy=copy) == [("CopyNotCompleted", "set")]


def test_one_database_of_a_whole_server_is_not_restored_alone(world: World, shop: Instance) -> None:
    arrived(world, shop)
    assert codes(shop, database="orders") == [("DatabaseNotAlone", "database")]


def test_a_moment_that_cannot_be_had_says_which_are_near(world: World, shop: Instance) -> None:
    copy = arrived(world, shop)
    early = restoring.checks(shop, until=copy.set.finished_at - DAY, name="new").refusals[0]
    assert (early.code, early.field) == ("MomentTooEarly", "until") and "or later" in early.remedy
    late = restoring.checks(shop, until=copy.set.finished_at + DAY, name="new").refusals[0]
    assert (late.code, late.field) == ("MomentTooLate", "until") and "or earlier" in late.remedy
    assert codes(shop, until=copy.set.finished_at) == []


def test_a_set_of_somebody_else_and_a_log_alone_are_refused(world: World, shop: Instance) -> None:
    copy = arrived(world, shop)
    other = world.instance("other", engine="postgresql", prefixes=["other/"])
    assert codes(other, copy=copy) == [("NoSuchSet", "set")]
    assert codes(other, default_set=copy.set) == [("NoSuchSet", "set")]
    copy.set.kind = Kind.LOG
    assert codes(shop, copy=copy) == codes(shop, default_set=copy.set) == [("LogAlone", "set")]


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "two\nlines", "shop", "SHOP"])
def test_a_name_that_cannot_be_is_refused(world: World, shop: Instance, name: str) -> None:
    arrived(world, shop)
    with pytest.raises(Refusals) as refused:
        restoring.ask(shop, world.by, name=name)
    assert [one.field for one in refused.value.items] == ["name"]


def test_names_are_proposed_that_nobody_has(world: World, shop: Instance) -> None:
    arrived(world, shop)
    assert restoring.free_name(shop) == "shop-restored"
    restoring.ask(shop, world.by, name="shop-restored")
    assert restoring.free_name(shop) == "shop-restored-2"


def test_a_default_backup_stays_in_the_source_region(world: World, shop: Instance) -> None:
    found = world.finished(shop, database="", tool_version="18.1")
    preview = restoring.checks(shop, default_set=found, name="new")
    assert preview.is_possible and (preview.region.pk, preview.origin) == (SOURCE, Restore.Origin.DEFAULT)
    restore = restoring.ask(shop, world.by, name="new", default_set=found)
    assert (restore.region_id, restore.sources.get().copy, Pin.objects.exists()) == (SOURCE, None, False)
    found.files.update(state="gone")
    assert codes(shop, default_set=found, name="another") == [("BackupGone", "set")]


def test_the_logs_at_the_source_lead_from_a_default_backup_to_a_moment(world: World, shop: Instance) -> None:
    at = clock.now() - timedelta(hours=1)
    usual = {"database": "", "fork": "1", "tool_version": "18.1"}
    full = world.finished(shop, at, first_position=100, last_position=200, **usual)
    logs = [
        world.finished(
            shop,
            at + timedelta(minutes=10 * number),
            kind=Kind.LOG,
            started_at=at + timedelta(minutes=10 * number - 10),
            first_position=100 * number,
            last_position=100 * number + 100,
            **usual,
        )
        for number in (1, 2, 3)
    ]
    found = restoring.checks(shop, default_set=full, until=at + timedelta(minutes=15), name="new")
    assert found.refusals == [] and found.sources == [full, *logs[:2]] and found.log_count == 2
    assert (found.region.pk, found.restored_until) == (SOURCE, at + timedelta(minutes=15))
    assert restoring.checks(shop, default_set=full, name="new").sources == [full], "without a moment: exactly the set"
    logs[1].files.update(state="gone")
    assert codes(shop, default_set=full, until=at + timedelta(minutes=15)) == [("LogGap", "until")]


def test_several_instances_are_asked_for_in_one_go_and_each_is_told(world: World, shop: Instance) -> None:
    arrived(world, shop)
    empty = world.instance("empty", engine="postgresql", prefixes=["empty/"])
    outcomes = restoring.ask_many([shop, empty], world.by, until=None)
    assert [one.saved for one in outcomes] == [True, False]
    assert outcomes[0].restore.batch and outcomes[1].refusals[0].code == "NothingToRestore"


# ---- what it keeps alive


def test_what_a_restore_reads_is_not_deleted_until_it_is_over(world: World, shop: Instance) -> None:
    """I4: the pin holds back the delete and moves no date."""
    copy = arrived(world, shop)
    restore = restoring.ask(shop, world.by, name="new")
    world.disable(shop)
    ago = clock.now() - 3 * DAY
    Copy.objects.update(state=CopyState.EXPIRED, expires_at=ago, expired_at=ago, purge_at=ago + DAY)
    copy.spans.update(ended_at=ago, began_at=ago)
    assert purging.purge_due(TARGET) == 0
    copy.refresh_from_db()
    assert "restore" in copy.error and copy.expires_at == ago
    assert list(audit.CHECKS["I4 pins"]()) == []

    restoring.cancel(restore, world.by)
    Copy.objects.update(due_at=clock.now())
    assert purging.purge_due(TARGET) == 1
    assert list(audit.CHECKS["I4 pins"]()) == []


def test_pins_are_renewed_while_a_restore_waits_and_never_outlive_it(world: World, shop: Instance) -> None:
    arrived(world, shop)
    restore = restoring.ask(shop, world.by, name="new")
    Pin.objects.update(until=clock.now() + timedelta(hours=1))
    restoring.keep_pins()
    assert Pin.objects.get().until > clock.now() + timedelta(hours=23)

    Restore.objects.update(state=State.FAILED)
    assert "outlived" in next(audit.CHECKS["I4 pins"]())
    restoring.keep_pins()
    assert not Pin.objects.exists()
    Restore.objects.update(state=State.QUEUED)
    assert f"read by {restore.code} and not pinned" in next(audit.CHECKS["I4 pins"]())


def test_a_pin_of_another_kind_is_left_alone(world: World, shop: Instance) -> None:
    copy = arrived(world, shop)
    Pin.objects.create(copy=copy, reason="drill 1", pinned_at=clock.now(), until=clock.now() + DAY)
    restoring.keep_pins()
    assert Pin.objects.count() == 1 and list(pins.outlived()) == []


# ---- claiming and ending


def test_a_queued_restore_is_cancelled_at_once(world: World, shop: Instance) -> None:
    arrived(world, shop)
    restore = restoring.ask(shop, world.by, name="new")
    with pytest.raises(Refusal, match="not ready"):
        restoring.remove(restore, world.by)
    restoring.cancel(restore, world.by)
    assert restore.state == State.CANCELLED and not Pin.objects.exists()
    with pytest.raises(Refusal, match="cancelled"):
        restoring.cancel(restore, world.by)
    with pytest.raises(Refusal, match="no server runs"):
        restoring.remove(restore, world.by)
    assert restoring.claim(TARGET) is None
    assert [event.actor_name for event in Event.objects.filter(kind__startswith="restore.")] == ["admin", "admin"]


def test_a_machine_builds_only_so_many_at_once_and_still_ends_what_is_cancelled(
    world: World, shop: Instance, settings: Any
) -> None:
    settings.RESTORES_AT_ONCE = 1
    arrived(world, shop)
    restores = [restoring.ask(shop, world.by, name=f"new-{number}") for number in range(2)]
    assert restoring.regions_with_work() == [TARGET]
    first = restoring.claim(TARGET)
    assert (first.pk, first.fence, first.attempts, first.state) == (restores[0].pk, 1, 1, State.RUNNING)
    assert restoring.claim(TARGET) is None, "one is being built here"
    restoring.cancel(first, world.by)
    with pytest.raises(Refusal, match="Cancel"):
        restoring.remove(first, world.by)
    Restore.objects.filter(pk=first.pk).update(leased_until=clock.now() - timedelta(seconds=1))
    assert restoring.claim(TARGET) == restores[1]
    assert (again := restoring.claim(TARGET)) == first and again.fence == 2, "to end takes no room"


def test_a_ready_server_is_left_to_the_machine_it_stands_on(world: World, shop: Instance, tmp_path: Path) -> None:
    arrived(world, shop)
    restore = restoring.ask(shop, world.by, name="new")
    away = {"state": State.READY, "leased_by": "elsewhere:7", "folder": "/nowhere/1"}
    Restore.objects.update(**away)
    assert restoring.claim(TARGET) is None
    Restore.objects.update(folder=str(tmp_path))
    assert restoring.claim(TARGET).pk == restore.pk


def test_the_audit_sees_a_server_that_is_said_to_run_and_one_that_was_left(
    world: World, shop: Instance, tmp_path: Path
) -> None:
    arrived(world, shop)
    restoring.claim(restoring.ask(shop, world.by, name="new").region_id)
    Restore.objects.update(state=State.READY, folder=str(tmp_path))
    said = list(audit.CHECKS["I20 restored servers"]())
    assert len(said) == 1 and "does not run" in said[0]
    Restore.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    assert list(audit.CHECKS["I20 restored servers"]()) == []
    Restore.objects.update(state=State.REMOVED)
    assert "still there" in next(audit.CHECKS["I20 restored servers"]())


def test_what_a_dead_worker_left_of_a_restore_that_is_over_is_tidied_away(world: World, shop: Instance) -> None:
    arrived(world, shop)
    restore = restoring.claim(restoring.ask(shop, world.by, name="new").region_id)
    attempts = [places.prepared(restore) / str(fence) for fence in (0, 1, 2)]
    for folder in attempts:
        folder.mkdir()
    restoring.tidy()
    assert all(folder.exists() for folder in attempts), "it is not over"
    places.clear(restore)
    assert [folder.exists() for folder in attempts] == [False, False, True], "a newer fence is somebody else's"
    Restore.objects.update(state=State.FAILED, fence=2)
    restoring.tidy()
    assert not places.place_of(restore).exists()


def test_a_place_that_the_servers_account_cannot_reach_is_left_for_one_it_can(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's own home has mode 0700."""
    if confinement.account() is None:
        pytest.skip("only root gives its servers another account")
    settings.FARSHORE_DATA = tmp_path / "data"
    settings.FARSHORE_DATA.mkdir(mode=0o700)
    elsewhere = Path("/tmp") / tmp_path.name.join(("farshore-", "-elsewhere"))
    monkeypatch.setattr(places_for_servers, "ELSEWHERE", elsewhere)
    try:
        assert places.room().is_relative_to(elsewhere)
        settings.FARSHORE_DATA.rename(tmp_path / "moved")
        settings.FARSHORE_DATA = tmp_path / "moved"
        assert places.room().is_relative_to(elsewhere), "a clone that moves finds its servers again"
    finally:
        shutil.rmtree(elsewhere)


# ---- reading


def test_a_source_that_is_left_early_is_read_to_its_last_hash(world: World, shop: Instance) -> None:
    copy = arrived(world, shop, size=3 << 20)  # more than is read at once
    restore = restoring.ask(shop, world.by, name="new")
    [source], logs = reading.sources_of(restore)
    assert (source.facts.kind, logs) == (EngineKind.FULL, ())
    with source.open() as stream:
        assert len(stream.read(10)) == 10
    path = world.folder / TARGET / copy.copied_files.get().transfer.key
    flip(path)
    with pytest.raises(reading.SourceDamaged) as damaged, source.open() as stream:
        stream.read(10)
    with pytest.raises(ZeroDivisionError), source.open() as stream:
        stream.read(10)
        raise ZeroDivisionError  # who leaves with an error of their own does not wait for the rest
    assert damaged.value.source.copy == copy and damaged.value.part.number == 1
    assert damage.examine(copy, damaged.value.part)
    copy.refresh_from_db()
    assert copy.state == CopyState.DAMAGED


def flip(path: Path) -> None:
    body, was = bytearray(path.read_bytes()), path.stat()
    body[-1] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def test_what_only_went_wrong_on_its_way_does_not_condemn_the_copy(world: World, shop: Instance) -> None:
    copy = arrived(world, shop)
    restore = restoring.ask(shop, world.by, name="new")
    assert not damage.examine(copy, None)
    transfer = copy.copied_files.get().transfer
    part = transfer.parts.get()
    assert not damage.examine(copy, reading.Part(part.number, part.offset, part.size, part.sha256))
    copy.refresh_from_db()
    assert copy.state == CopyState.COMPLETED and restore.sources.get().copy == copy


def test_an_object_that_was_replaced_is_no_copy_any_more(world: World, shop: Instance) -> None:
    copy = arrived(world, shop)
    restore = restoring.ask(shop, world.by, name="new")
    [source], _ = reading.sources_of(restore)
    path = world.folder / TARGET / copy.copied_files.get().transfer.key
    path.write_bytes(b"another")
    with pytest.raises(reading.SourceDamaged), source.open() as stream:
        stream.read()
    assert damage.examine(copy, None)


def test_a_worker_says_which_versions_it_can_start() -> None:
    found = Landing(1, {"postgresql": ["15", "18"], "mariadb": ["10.11"]})
    assert found.can_start("postgresql", "18.1") and found.can_start("postgresql", "15")
    assert not found.can_start("postgresql", "1.8") and not found.can_start("postgresql", "16.2")
    assert found.can_start("mariadb", "10.11.6") and not found.can_start("mariadb", "10.1")
    assert found.can_start("sqlserver", "16.0"), "nobody knows: the worker finds out"


# ---- doors


def test_a_stranger_finds_no_restore_and_a_viewer_may_not_operate(world: World, shop: Instance) -> None:
    arrived(world, shop)
    restore = restoring.ask(shop, world.by, name="new")
    viewer, stranger = User.objects.create_user("viewer"), User.objects.create_user("stranger")
    Membership.objects.create(user=viewer, group=world.group, role=Role.VIEWER)
    assert access.restore_for(world.user, restore.code, Role.OPERATOR) == restore
    assert list(access.restores_for(viewer)) == [restore] and not access.restores_for(stranger).exists()
    with pytest.raises(PermissionDenied):
        access.restore_for(viewer, restore.code, Role.OPERATOR)
    with pytest.raises(Http404):
        access.restore_for(stranger, restore.code)


def test_the_password_is_bound_to_its_row(world: World, shop: Instance) -> None:
    arrived(world, shop)
    restore = restoring.ask(shop, world.by, name="new")
    with pytest.raises(Refusal, match="no server"):
        restoring.password_of(restore)
    assert restoring.connection_words(restore) == ""
    reaching.keep_password(shop, "of the instance")
    restore.sealed_password = shop.sealed_password
    with pytest.raises(Refusal, match="another row"):
        restoring.password_of(restore)


def run(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("restore", *words, stdout=out, stderr=err)
    except SystemExit as ended:
        return ended.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_the_command_says_no_in_words(world: World, shop: Instance) -> None:
    copy = arrived(world, shop)
    User.objects.create_user("stranger")
    refused = {
        ("nobody",): "no instance nobody",
        ("",): "no instance",
        ("shop", "--until", "yesterday"): "not a moment",
        ("shop", "--until", "2020-01-01T00:00:00"): "first moment that can be restored",
        ("shop", "--set", "0"): "no copy of set 0",
        ("shop", "--set", str(copy.set_id), "--store", SOURCE): "no copy of set",
        ("shop", "--onto", "shop"): "A copy is not restored onto shop",
        ("shop", "--name", "shop"): "there already",
        ("shop", "--user", "stranger"): "no instance shop",
        ("--remove", "rs-none"): "no restore rs-none",
    }
    for words, expected in refused.items():
        code, _, said = run(*words)
        assert code == 1 and expected in said, words
    assert not Restore.objects.exists()
    code, said, _ = run("shop", "--name", "shop", "--json")
    assert code == 1 and json.loads(said)["refusals"][0]["code"] == "NameTaken"


def test_the_command_alone_lists_what_can_be_restored(world: World, shop: Instance) -> None:
    """At three in the morning nobody knows an ID by heart."""
    assert "Nothing can be restored from copies yet" in run()[1]
    copy = arrived(world, shop)
    User.objects.create_user("stranger")
    until = RestorableInterval.objects.get(instance=shop).ended_at
    code, said, _ = run()
    assert code == 0 and f"{until:%Y-%m-%d %H:%M:%S}  {TARGET}" in said and f"{shop.code}  shop" in said
    code, said, _ = run("--json")
    [row] = json.loads(said)
    assert (row["instance"], row["name"], row["store"], row["database"]) == (shop.code, "shop", TARGET, "")
    assert datetime.fromisoformat(row["until"]) - until < timedelta(milliseconds=1)
    assert json.loads(run("--json", "--user", "stranger")[1]) == []
    assert not Restore.objects.exists() and copy.pk


def test_the_command_looks_first_and_asks_then(world: World, shop: Instance) -> None:
    copy = arrived(world, shop)
    code, said, _ = run("shop", "--check", "--json")
    assert code == 0 and json.loads(said)["sets"] == 1 and not Restore.objects.exists()
    for more in ([], ["--set", str(copy.set_id)], ["--default"], ["--store", TARGET]):
        code, said, err = run("shop", *more, "--user", "admin", "--json")
        assert code == 0 and json.loads(said)["state"] == "queued", err
    assert list(Restore.objects.order_by("pk").values_list("origin", flat=True)) == ["copy", "copy", "default", "copy"]
    assert {restore.asked_by for restore in Restore.objects.all()} == {world.user}
    assert RestoreSource.objects.count() == 4
    code, said, _ = run("--list")
    assert said.count("Queued") == 4
    code, said, _ = run("--remove", Restore.objects.first().code, "--user", "admin")
    assert code == 0 and "cancelled" in said
