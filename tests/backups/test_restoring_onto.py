"""Restoring onto an instance that is there: what it takes, who has to agree, and when it is not done (R-2.3, I20)."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import IntegrityError, transaction

from backups import restoring
from backups.default_backups import retiring
from backups.engines import EnginePackage
from backups.events import By
from backups.logs import log_receiving
from backups.models import (
    Alert,
    BackupFile,
    BackupSet,
    Event,
    Instance,
    Kind,
    LogStream,
    Membership,
    Restore,
    Role,
    ServerDatabase,
)
from backups.oversight import audit
from backups.policies import Refusals
from regions import clock
from regions.refusals import Refusal
from tests.backups.test_restoring import PLENTY, run
from tests.backups.world import SOURCE, TARGET, World

State = Restore.State
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def landing() -> Any:
    """What the workers of both regions have said of their machines."""
    for region in (SOURCE, TARGET):
        cache.set(f"landing:{region}", {"bytes_free": PLENTY, "versions": {}})
    yield
    cache.clear()


@pytest.fixture
def shop(world: World) -> Instance:
    """An instance whose server Farshore runs, with a default backup of it."""
    found = world.instance("shop", engine="postgresql", arrival="taken", prefixes=["shop/"], host="db")
    Restore.objects.create(
        instance=found,
        region_id=SOURCE,
        name="shop",
        state=State.READY,
        result=found,
        asked_at=clock.now(),
        due_at=clock.now(),
        leased_by="elsewhere:7",
        folder="/nowhere/1",
    )
    world.finished(found, database="", tool_version="18.1")
    return found


@pytest.fixture
def second(world: World) -> By:
    user = User.objects.create_user("second")
    Membership.objects.create(user=user, group=world.group, role=Role.APPROVER)
    return By(user)


def ask(world: World, shop: Instance, name: str = "shop") -> Restore:
    return restoring.ask(shop, world.by, onto=shop, name=name, default_set=shop.sets.get())


def codes(instance: Instance, **wanted: Any) -> list[str]:
    return [refusal.code for refusal in restoring.checks(instance, **wanted).refusals]


# ---- the second person


def test_the_name_is_typed_in_exactly(world: World, shop: Instance) -> None:
    for typed in ("", "Shop", "shop ", shop.code):
        with pytest.raises(Refusals) as refused:
            ask(world, shop, typed)
        assert [(one.code, one.field) for one in refused.value.items] == [("NameNotTyped", "typed")]
    assert ask(world, shop).state == State.WAITING


def test_nothing_begins_before_an_approver_who_did_not_ask_has_agreed(world: World, shop: Instance, second: By) -> None:
    restore = ask(world, shop)
    assert restoring.claim(SOURCE) is None
    alert = Alert.objects.get(code="restore_needs_second_person", closed_at=None)
    assert "admin" in alert.sentence and alert.instance == shop
    with pytest.raises(Refusal, match="asked for this yourself"):
        restoring.agree(restore, world.by)
    operator = User.objects.create_user("operator")
    Membership.objects.create(user=operator, group=world.group, role=Role.OPERATOR)
    for nobody in (By(operator), By(User.objects.create_user("stranger")), By()):
        with pytest.raises(Refusal, match=r"role approver|Only a person"):
            restoring.agree(restore, nobody)
    restore.refresh_from_db()
    assert restore.state == State.WAITING

    restoring.agree(restore, second)
    assert (restore.state, restore.approved_by) == (State.QUEUED, second.user)
    assert not Alert.objects.filter(code="restore_needs_second_person", closed_at=None).exists()
    assert Event.objects.get(kind="restore.agreed").actor == second.user
    with pytest.raises(Refusal, match="is queued"):
        restoring.agree(restore, second)


def test_whoever_is_alone_confirms_a_day_later(world: World, shop: Instance) -> None:
    restore = ask(world, shop)
    with pytest.raises(Refusal, match="nobody else to agree"):
        restoring.agree(restore, world.by)
    Restore.objects.filter(pk=restore.pk).update(asked_at=clock.now() - DAY)
    restoring.agree(restore, world.by)
    assert restore.state == State.QUEUED


def test_who_asks_is_a_person(world: World, shop: Instance) -> None:
    with pytest.raises(Refusals, match="asked for by a person"):
        restoring.ask(shop, By(), onto=shop, name="shop", default_set=shop.sets.get())


def test_what_nobody_agrees_to_for_days_is_over(world: World, shop: Instance) -> None:
    restore = ask(world, shop)
    restoring.lapse()
    assert Restore.objects.filter(state=State.WAITING).exists()
    Restore.objects.filter(pk=restore.pk).update(asked_at=clock.now() - 4 * DAY)
    restoring.lapse()
    restore.refresh_from_db()
    assert (restore.state, restore.error_code) == (State.CANCELLED, "NobodyAgreed")
    assert not Alert.objects.filter(closed_at=None, code="restore_needs_second_person").exists()
    assert ask(world, shop).state == State.WAITING, "and can be asked for again"


def test_what_waits_for_somebody_can_be_cancelled_and_stands_alone(world: World, shop: Instance) -> None:
    restore = ask(world, shop)
    with pytest.raises(Refusals, match="under way"):
        ask(world, shop)
    restoring.cancel(restore, world.by)
    assert restore.state == State.CANCELLED
    assert not Alert.objects.filter(closed_at=None, code="restore_needs_second_person").exists()
    ask(world, shop)


# ---- what it reads


def test_what_it_reads_stays_while_it_waits(world: World, shop: Instance) -> None:
    """R-2.5: nothing Farshore took is deleted while a restore reads it."""
    restore = ask(world, shop)
    BackupSet.objects.update(origin="taken", finished_at=clock.now() - 800 * DAY, weighed_at=clock.now())
    BackupFile.objects.update(is_ours=True)
    Instance.objects.filter(pk=shop.pk).update(released_at=clock.now() - 8 * DAY)
    assert retiring.retire_due() == 0
    assert list(audit.CHECKS["I4 pins"]()) == []
    BackupFile.objects.update(state=BackupFile.State.DELETED)
    assert f"while {restore.code} needs it" in next(audit.CHECKS["I4 pins"]())
    BackupFile.objects.update(state=BackupFile.State.SETTLED)
    restoring.cancel(restore, world.by)
    assert retiring.retire_due() == 1


def test_files_that_vanish_before_somebody_agrees_are_noticed(world: World, shop: Instance, second: By) -> None:
    restore = ask(world, shop)
    BackupFile.objects.update(state=BackupFile.State.GONE)
    with pytest.raises(Refusal, match="no longer at its source"):
        restoring.agree(restore, second)


def test_a_moment_of_the_source_needs_no_copy(world: World, shop: Instance) -> None:
    at = clock.now() - HOUR
    usual = {"database": "", "fork": "1", "tool_version": "18.1"}
    BackupSet.objects.update(finished_at=at, first_position=100, last_position=200, fork="1")
    log = world.finished(
        shop, at + HOUR / 2, kind=Kind.LOG, started_at=at, first_position=100, last_position=300, **usual
    )
    full = shop.sets.get(kind=Kind.FULL)
    found = restoring.checks(shop, at_source=True, name="new")
    assert found.is_possible and found.sources == [full, log] and found.restored_until == log.finished_at
    assert (found.origin, found.region.pk, found.store) == ("default", SOURCE, None)
    assert restoring.checks(shop, at_source=True, until=at + HOUR / 4, name="new").log_count == 1
    assert codes(shop, at_source=True, until=clock.now(), name="new") == ["MomentTooLate"]
    log.files.update(state="gone")
    assert codes(shop, at_source=True, until=at + HOUR / 4, name="new") != []


# ---- when it is not done


def test_a_server_that_farshore_does_not_run_is_never_overwritten(world: World, shop: Instance) -> None:
    Restore.objects.all().delete()
    [refusal] = restoring.checks(shop, onto=shop, default_set=shop.sets.get()).refusals
    assert refusal.code == "OriginalNotOurs" and "neither stop it" in refusal.sentence and "own tools" in refusal.remedy
    assert codes(shop, name="new", default_set=shop.sets.get()) == [], "a new one beside it always may be"


def test_an_engine_that_cannot_take_over_says_so(world: World, shop: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EnginePackage, "take_over", None)
    assert codes(shop, onto=shop, default_set=shop.sets.get()) == ["RestoreNotOffered"]


def test_a_copy_never_goes_onto_the_original(world: World, shop: Instance) -> None:
    world.enable(shop)
    copy = world.arrived(shop, database="", tool_version="18.1")
    assert codes(shop, onto=shop, copy=copy) == ["CopyOntoOriginal"]


def test_a_released_original_is_not_replaced(world: World, shop: Instance) -> None:
    Instance.objects.filter(pk=shop.pk).update(released_at=clock.now())
    shop.refresh_from_db()
    assert codes(shop, onto=shop, default_set=shop.sets.get()) == ["ProductInstanceReleased"]


def test_what_was_replaced_has_to_be_let_go_first(world: World, shop: Instance) -> None:
    Restore.objects.update(state=State.READY)
    Restore.objects.create(
        instance=shop,
        region_id=SOURCE,
        name="shop",
        state=State.ASIDE,
        result=shop,
        asked_at=clock.now(),
        due_at=clock.now(),
    )
    assert codes(shop, onto=shop, default_set=shop.sets.get()) == ["OntoUnconfirmed"]


def test_the_audit_sees_when_what_was_set_aside_is_gone(world: World, shop: Instance, tmp_path: Path) -> None:
    """I20: never neither without a way back."""
    kept = {"state": State.ASIDE, "leased_by": f"{socket.gethostname()}:7", "folder": str(tmp_path)}
    Restore.objects.update(**kept)
    assert list(audit.CHECKS["I20 restored servers"]()) == []
    Restore.objects.update(folder=str(tmp_path / "deleted"))
    assert "its data is gone" in next(audit.CHECKS["I20 restored servers"]())


def test_an_instance_has_one_server(world: World, shop: Instance) -> None:
    other = {"instance": shop, "region_id": SOURCE, "asked_at": clock.now(), "due_at": clock.now()}
    with pytest.raises(IntegrityError), transaction.atomic():
        Restore.objects.create(state=State.READY, result=shop, **other)


def test_whoever_receives_its_logs_lets_go_when_another_server_is_the_instance(world: World, shop: Instance) -> None:
    held = {"fence": 3, "leased_until": clock.now() + HOUR, "due_at": clock.now()}
    stream = LogStream.objects.create(instance=shop, state=LogStream.State.RECEIVING, **held)
    log_receiving.begin_anew(shop)
    assert not log_receiving.mine(stream).exists()
    assert log_receiving.claim(SOURCE) == stream


# ---- copies onto an instance of the destination


@pytest.fixture
def there(world: World) -> Instance:
    return world.instance("there", TARGET, engine="postgresql", arrival="taken", prefixes=["there/"])


def test_a_copy_goes_onto_no_existing_instance_unless_that_is_switched_on(
    world: World, shop: Instance, there: Instance, settings: Any
) -> None:
    """R-2.3: off by default; switched on, a whole server's backup still cannot be put beside another's databases."""
    world.enable(shop)
    copy = world.arrived(shop, database="", tool_version="18.1")
    assert codes(shop, onto=there, copy=copy) == ["OntoExistingOff", "WholeServer"]
    settings.RESTORE_ONTO_EXISTING = True
    assert codes(shop, onto=there, copy=copy) == ["WholeServer"]
    assert codes(shop, onto=there, copy=copy, name="elsewhere") == ["WholeServer", "NameNotTyped"]
    assert codes(shop, onto=there, default_set=shop.sets.first()) == ["DefaultElsewhere", "WholeServer"]


def test_a_copy_never_reaches_an_instance_of_the_source_region(world: World, shop: Instance, settings: Any) -> None:
    settings.RESTORE_ONTO_EXISTING = True
    world.enable(shop)
    beside = world.instance("beside", engine="postgresql", arrival="taken", prefixes=["beside/"])
    assert "OntoSourceRegion" in codes(shop, onto=beside, copy=world.arrived(shop, database="", tool_version="18.1"))


def test_databases_that_are_backed_up_one_by_one_go_beside_others_through_a_share(
    world: World, there: Instance, settings: Any
) -> None:
    settings.RESTORE_ONTO_EXISTING = True
    ledger, target = world.instance("ledger"), world.instance("copies", TARGET)
    world.enable(ledger)
    copy = world.arrived(ledger)
    assert codes(ledger, onto=target, copy=copy, name="copies") == ["OntoNoShare"]
    target.host, target.share_called, target.share_folder = "db", "//files/sql", "/mnt/sql"
    target.save()
    assert codes(ledger, onto=target, copy=copy, name="copies") == []
    assert codes(ledger, onto=target, copy=copy, name="another") == ["NameNotTyped"]
    seen = {"instance": target, "state": "ONLINE", "first_seen_at": clock.now(), "seen_at": clock.now()}
    ServerDatabase.objects.create(name="SALES", **seen)
    assert codes(ledger, onto=target, copy=copy, name="copies") == ["NameTaken"], "it never lands over one (I20)"
    assert codes(ledger, onto=target, copy=copy, name="copies", called="Sales-2") == []
    asked = restoring.ask(ledger, world.by, onto=target, copy=copy, name="copies", called="Sales-2")
    assert (asked.state, asked.landed_as) == (State.QUEUED, "Sales-2"), "the target's name is typed in, and that is all"
    assert codes(ledger, onto=target, copy=copy, name="copies", called="sales-2") == ["NameTaken"]
    assert "OntoOtherEngine" in codes(ledger, onto=there, copy=copy)
    BackupSet.objects.filter(pk=copy.set_id).update(method="logical")
    copy.set.refresh_from_db()
    assert "OntoNotPhysical" in codes(ledger, onto=target, copy=copy)


# ---- the command


def test_the_command_asks_agrees_and_confirms(world: World, shop: Instance, second: By) -> None:
    code, _, said = run("shop", "--default", "--onto", shop.code, "--user", "admin")
    assert code == 1 and "not the name of shop" in said
    code, said, _ = run("shop", "--default", "--onto", "shop", "--user", "admin")
    restore = Restore.objects.get(state=State.WAITING)
    assert code == 0 and "second person" in said and restore.code in said
    code, _, said = run("--agree", restore.code, "--user", "admin")
    assert code == 1 and "yourself" in said
    code, said, _ = run("--agree", restore.code, "--user", "second")
    assert code == 0 and "second agreed" in said
    code, _, said = run("--confirm", restore.code, "--user", "admin")
    assert code == 1 and "does not run" in said
    code, said, _ = run("--remove", restore.code, "--user", "admin")
    assert code == 0 and "cancelled" in said


def test_the_command_writes_off_what_a_dead_machine_held(world: World, shop: Instance) -> None:
    lost = Restore.objects.get()
    code, _, said = run("--write-off", lost.code, "--user", "admin")
    assert code == 1 and "few words" in said
    code, said, _ = run("--write-off", lost.code, "--reason", "the machine burnt", "--user", "admin")
    assert code == 0 and "written off" in said
    shop.refresh_from_db()
    lost.refresh_from_db()
    assert shop.released and (lost.state, lost.error_code) == (State.REMOVED, "WrittenOff")
