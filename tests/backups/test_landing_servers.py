"""Landing servers: registered after a proof, used by whom they were granted, checked before OK (R-17.1, R-3.5)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from backups import restoring
from backups.chains import certificates, windows
from backups.models import (
    Alert,
    BackupSet,
    Event,
    Instance,
    LandingServer,
    Pin,
    ResourceGroup,
    RestorableInterval,
    Restore,
)
from backups.oversight import watch
from backups.policies import Refusals
from backups.restoring import on_landing
from backups.restoring.choosing import Choice, Wanted, choose
from backups.servers import landing_servers
from regions import clock
from regions.refusals import Refusal
from tests.backups.landings import PASSWORD, Place, chain, copied, place_in
from tests.backups.test_restoring import run
from tests.backups.world import SOURCE, TARGET, World


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    with place_in(world) as found:
        yield found


@pytest.fixture
def orders(world: World) -> Instance:
    found = world.instance("orders")
    copied(world, found, chain())
    return found


def codes(instance: Instance, **wanted: Any) -> list[tuple[str, str]]:
    return [(one.code, one.field) for one in restoring.checks(instance, **{"name": "new", **wanted}).refusals]


# ---- registering


def test_a_server_is_registered_after_a_look_that_proves_it(place: Place) -> None:
    place.machine.certificates["Vault"] = bytes.fromhex("ab" * 20)
    row = place.register()
    assert (row.version, row.certificates, row.is_simulation) == ("15.0.4430.1", ["ab" * 20], True)
    assert "master" in row.databases and row.bytes_free and row.looked_at and not row.error
    assert landing_servers.connection_of(row).password == PASSWORD and PASSWORD.encode() not in bytes(
        row.sealed_password
    )
    assert Event.objects.filter(kind="landing.registered").get().actor_name == "admin"
    assert list(place.share.iterdir()) == []


def test_one_that_proves_nothing_is_refused_beside_its_field_and_nothing_is_kept(place: Place) -> None:
    (place.share.parent / "another").mkdir()
    place.register()
    cases = {
        ("NameTaken", "name"): {"name": "LANDING-1"},
        ("InvalidName", "name"): {"name": " "},
        ("PasswordWrong", "password"): {"name": "b", "password": "x"},
        ("ShareNotSame", "share_called"): {"name": "b", "folder": str(place.share.parent / "another")},
        ("ShareNotHere", "share_folder"): {"name": "b", "folder": "relative"},
        ("RestoreNotOffered", "engine"): {"name": "b", "engine": "postgresql"},
    }
    for expected, more in cases.items():
        with pytest.raises(Refusal) as refused:
            place.register(**more)
        assert (refused.value.code, refused.value.field) == expected and refused.value.remedy
    assert LandingServer.objects.count() == Event.objects.filter(kind="landing.registered").count() == 1


def test_it_is_looked_at_every_minute_and_what_is_wrong_is_an_alert(place: Place) -> None:
    row = place.register()
    place.machine.add("Payroll")
    landing_servers.look_around(TARGET)
    row.refresh_from_db()
    assert "Payroll" in row.databases
    shutil.rmtree(place.share)
    landing_servers.look_around(SOURCE)
    assert not LandingServer.objects.exclude(error="").exists()
    landing_servers.look_around(TARGET)
    watch.watch()
    told = Alert.objects.get(code="landing_server_down", closed_at=None)
    assert "landing-1" in told.sentence and told.remedy
    place.share.mkdir()
    assert landing_servers.retry(row, place.world.by) is None
    watch.watch()
    assert not Alert.objects.filter(code="landing_server_down", closed_at=None).exists()


def test_one_that_is_needed_is_not_retired(place: Place, orders: Instance) -> None:
    row = place.register()
    restore = restoring.ask(orders, place.world.by, name="Back", landing=row)
    with pytest.raises(Refusal, match="on their way"):
        landing_servers.retire(row, place.world.by)
    restoring.cancel(restore, place.world.by)
    landing_servers.retire(row, place.world.by)
    assert row.retired_at and row.sealed_password is None
    assert codes(orders, landing=row)[0][0] == "LandingOther"
    place.register()


# ---- what speaks against a restore there


def test_a_database_can_be_restored_there_and_the_preview_says_what_that_takes(place: Place, orders: Instance) -> None:
    row = place.register()
    found = restoring.checks(orders, landing=row, name="Sales-restored")
    assert found.is_possible, found.refusals
    assert (found.region.pk, found.log_count) == (TARGET, 3)
    assert found.bytes_free == row.bytes_free and found.bytes_needed == found.sources[0].set.size_bytes
    assert found.warnings[-1] == "It will be a database on landing-1, not an instance of its own."
    assert restoring.free_database_name(row, "Sales") == "Sales-restored"
    assert Restore.objects.count() == Pin.objects.count() == 0, "looking changes nothing"


def test_without_a_landing_server_it_says_that_one_is_needed(orders: Instance) -> None:
    assert codes(orders) == [("RestoreNotOffered", "")]
    assert "takes a landing server" in restoring.checks(orders).refusals[0].sentence


def test_everything_that_speaks_against_it_is_said_at_once(place: Place, orders: Instance) -> None:
    place.machine.version = (14, 0, 1)
    place.machine.free_bytes = 5
    row = place.register(groups=[], region=place.world.region(SOURCE))
    LandingServer.objects.update(error="It does not answer.", remedy="Start it.")
    row.refresh_from_db()
    assert codes(orders, landing=row, name="MASTER") == [
        ("NameTaken", "name"),
        ("LandingNotGranted", "landing"),
        ("LandingElsewhere", "landing"),
        ("LandingDown", "landing"),
        ("NewerVersion", "landing"),
        ("NoSpace", "landing"),
    ]
    with pytest.raises(Refusals):
        restoring.ask(orders, place.world.by, name="x", landing=row)
    assert not Restore.objects.exists()


def test_another_groups_landing_server_is_not_used(place: Place, orders: Instance) -> None:
    row = place.register(groups=[ResourceGroup.objects.create(name="Others")])
    assert codes(orders, landing=row) == [("LandingNotGranted", "landing")]
    assert not landing_servers.usable_for(orders).exists()
    landing_servers.grant(row, [place.world.group], place.world.by)
    assert codes(orders, landing=row) == [] and landing_servers.usable_for(orders).get() == row


@pytest.mark.parametrize("thumbprint", ["ab12" * 10, "0xAB12" + "AB12" * 9])
def test_an_encrypted_set_needs_its_certificate_there(place: Place, orders: Instance, thumbprint: str) -> None:
    row = place.register()
    choice = choose(Wanted(orders, landing=row))
    assert list(on_landing.why_not(choice, row, orders)) == []
    sealed = with_certificate(choice, thumbprint)
    [refusal] = on_landing.why_not(sealed, row, orders)
    assert (refusal.code, refusal.field) == ("CertificateMissing", "landing") and "ab12" in refusal.sentence
    place.machine.certificates["Vault"] = bytes.fromhex("ab12" * 10)
    landing_servers.look(row)
    assert list(on_landing.why_not(sealed, row, orders)) == []
    [unknown] = on_landing.why_not(with_certificate(choice, ""), row, orders)
    assert "nobody knows which" in unknown.sentence


def with_certificate(choice: Choice, thumbprint: str) -> Choice:
    """As what is read would look once encrypted sets count as restorable where their certificate is (R-3.5)."""
    for found in choice.sets:
        found.is_encrypted, found.certificate_thumbprint = True, thumbprint
    return choice


# ---- asking


def test_several_databases_are_asked_for_in_one_go_or_none_is(place: Place, orders: Instance) -> None:
    copied(place.world, orders, chain("Wages"))
    row = place.register()
    with pytest.raises(Refusals) as refused:
        names = {"Sales": "Back", "Wages": "back", "Nothing": "x"}
        restoring.ask_databases(orders, place.world.by, landing=row, names=names)
    assert [one.sentence.partition(":")[0] for one in refused.value.items] == ["Wages", "Nothing"]
    assert not Restore.objects.exists() and not Pin.objects.exists()
    names = {"Sales": "Back", "Wages": "Back too"}
    restores = restoring.ask_databases(orders, place.world.by, landing=row, names=names)
    assert [(one.database, one.landed_as) for one in restores] == list(names.items())
    assert len({one.batch for one in restores}) == 1 and restores[0].batch
    assert codes(orders, landing=row, database="Sales", name="BACK") == [("NameTaken", "name")]


def test_a_default_backup_is_restored_on_a_landing_server_of_the_source_region(place: Place, orders: Instance) -> None:
    row = place.register(region=place.world.region(SOURCE))
    found = BackupSet.objects.filter(kind="full").get()
    assert codes(orders, landing=row, default_set=found) == []
    assert codes(orders, landing=row) == [("LandingElsewhere", "landing")]


def test_the_command_does_what_the_wizard_does(place: Place, orders: Instance) -> None:
    place.register()
    onto = ("orders", "--landing", "Landing-1", "--database", "Sales")
    assert run("orders", "--landing", "nowhere")[0] == 1
    assert "No landing server nowhere is granted to Payments" in run("orders", "--landing", "nowhere")[2]
    assert "a database master already" in run(*onto, "--as", "master", "--check")[2]
    code, said, err = run(*onto, "--as", "Back", "--user", "admin")
    assert code == 0 and "Sales of orders is restored as Back on landing-1." in said, err
    code, said, err = run(*onto, "--json")
    assert code == 0 and json.loads(said)["database"] == "Sales-restored", err
    refused = run(*onto, "--also", "Wages=Back")
    assert refused[0] == 1 and "Wages: " in refused[2] and Restore.objects.count() == 2
    copied(place.world, orders, chain("Wages"))
    code, said, err = run(*onto, "--also", "Wages=Wages back", "--json")
    assert [one["database"] for one in json.loads(said)] == ["Sales-restored-2", "Wages back"], err
    assert run("orders", "--database", "Sales", "--also", "Wages=x")[0] == 1
    assert run("--list")[1].count("Queued") == 4


def test_a_moment_that_cannot_be_had_says_why(place: Place, orders: Instance) -> None:
    row = place.register()
    assert codes(orders, landing=row, until=clock.now() + timedelta(days=1)) == [("MomentTooLate", "until")]


def test_a_certificate_on_a_landing_server_is_at_hand_in_its_region_as_long_as_it_is_there(
    world: World, place: Place
) -> None:
    """R-3.5: what is restorable there follows the server's own list."""
    sealed = world.instance("vault", certificate_thumbprint="AB" * 20)
    world.enable(sealed)
    world.arrived(sealed, at=clock.now())
    assert not windows.chain_of(sealed, world.store(TARGET), "Sales").window()
    place.machine.certificates["Vault"] = bytes.fromhex("ab" * 20)
    row = place.register()
    assert certificates.are_there(TARGET) == {"ab" * 20} and not certificates.are_there(SOURCE)
    assert RestorableInterval.objects.filter(instance=sealed).exists()
    place.machine.certificates.clear()
    landing_servers.look(row)
    assert not RestorableInterval.objects.filter(instance=sealed).exists()
