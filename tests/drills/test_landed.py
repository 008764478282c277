"""Drills of SQL Server copies on a landing server (simulation): restored beside others, checked, and dropped again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from backups import drilling
from backups.drilling import drills
from backups.models import Alert, Copy, CopyState, Drill, Instance, LandingServer, ResourceGroup
from backups.servers import landing_servers, landing_shares
from regions import clock
from regions.refusals import Refusal
from tests.backups.landings import Place, chain, copied, place_in
from tests.backups.world import SOURCE, TARGET, World

Pick, State = Drill.Pick, Drill.State


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    with place_in(world) as found:
        yield found


@pytest.fixture
def landing(place: Place) -> LandingServer:
    return place.register()


@pytest.fixture
def orders(world: World) -> Instance:
    """Copied to the destination; the source is gone."""
    found = world.instance("orders")
    copied(world, found, *((backup,) for backup in chain()))
    shutil.rmtree(world.folder / SOURCE)
    return found


def drill(instance: Instance, pick: str = Pick.NEWEST) -> Drill:
    drills.ask(instance, drills.FARSHORE, pick=pick)
    return worked_on(drills.claim(TARGET))


def worked_on(claimed: Drill) -> Drill:
    drilling.run(claimed)
    claimed.refresh_from_db()
    return claimed


def test_the_copies_become_a_database_that_is_checked_counted_asked_and_dropped(
    world: World, orders: Instance, place: Place, landing: LandingServer
) -> None:
    drills.add_query(orders, "", "SELECT COUNT_BIG(*) FROM dbo.pages WHERE number < 3", "3", world.by)
    found = drill(orders)
    assert found.state == State.PASSED, found.sentence
    assert [check["name"] for check in found.checks] == [
        "DBCC CHECKDB",
        "rows",
        "SELECT COUNT_BIG(*) FROM dbo.pages WHERE number < 3",
    ]
    assert list(found.rows) == [f"farshore_drill_{found.pk}.dbo.pages"] and found.isolation == "landing"
    assert found.evidence["landing"] == landing.code and found.evidence["is_simulation"] is True
    assert "simulation" in found.evidence["tools"]["DBCC CHECKDB"]
    assert found.evidence["removed"] is True and place.is_clean
    assert len(found.evidence["copies"]) == 4, "the full and its three logs"
    assert drills.last_proven([orders])[orders.pk].drill == found.pk
    assert not Copy.objects.filter(pins__until__gt=clock.now()).exists()


def test_what_the_check_finds_fails_the_drill_and_raises_an_alert(
    orders: Instance, place: Place, landing: LandingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(place, monkeypatch)
    found = drill(orders)
    assert found.state == State.FAILED and "Table error" in found.sentence
    assert Alert.objects.filter(code="drill_failed", closed_at=None).exists() and place.is_clean


def spoil(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is added to the machine from now on is damaged."""
    add = place.machine.add

    def added(name: str, **more: Any) -> Any:
        database = add(name, **more)
        database.faults.append("Table error: page (1:77).")
        return database

    monkeypatch.setattr(place.machine, "add", added)


def test_a_canary_is_noticed_by_the_hashes_and_by_the_server(
    orders: Instance, place: Place, landing: LandingServer
) -> None:
    found = drill(orders, Pick.CANARY)
    assert found.state == State.PASSED, found.sentence
    assert all(check["passed"] for check in found.checks) and len(found.checks) == 2 and place.is_clean


def test_a_copy_that_rotted_is_found_before_the_server_sees_it(
    world: World, orders: Instance, place: Place, landing: LandingServer
) -> None:
    copy = Copy.objects.filter(set__kind="full").get()
    path = world.folder / TARGET / copy.copied_files.get().transfer.key
    looked, body = path.stat(), bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(looked.st_atime_ns, looked.st_mtime_ns))
    found = drill(orders)
    copy.refresh_from_db()
    assert found.state == State.FAILED and copy.state == CopyState.DAMAGED and place.is_clean


def test_without_a_landing_server_that_may_be_used_it_is_skipped_and_says_why(
    world: World, orders: Instance, place: Place
) -> None:
    assert drills.ask(orders, world.by).state == State.SKIPPED
    stranger = ResourceGroup.objects.create(name="Somebody else's")
    place.register(groups=[stranger])
    skipped = drills.ask(orders, world.by)
    assert skipped.state == State.SKIPPED and "No landing server of SQL Server" in skipped.sentence


def test_what_a_killed_worker_left_is_removed_by_whoever_drills_next_and_nothing_else_is(
    orders: Instance, place: Place, landing: LandingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database is there, half restored or whole, and its files: markers in the row tell that they are its own."""

    class Killed(BaseException):
        pass

    def killed(*given: Any) -> None:
        raise Killed

    drills.ask(orders, drills.FARSHORE)
    claimed = drills.claim(TARGET)
    with monkeypatch.context() as patch:
        patch.setattr(drilling.Trial, "_look_into", killed)
        patch.setattr(drilling.LandedTrial, "_is_cleared", lambda trial, where: True)
        with pytest.raises(Killed):
            drilling.run(claimed)
    assert place.names == {f"farshore_drill_{claimed.pk}"} and not place.is_clean
    place.machine.add("Payroll")
    Drill.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    again = worked_on(drills.claim(TARGET))
    assert again.pk == claimed.pk and again.state == State.PASSED, again.sentence
    assert place.names == {"Payroll"} and not list(place.share.iterdir())


def test_a_database_of_the_drills_name_that_is_somebody_elses_stays(
    orders: Instance, place: Place, landing: LandingServer
) -> None:
    drills.ask(orders, drills.FARSHORE)
    claimed = drills.claim(TARGET)
    place.machine.add(f"farshore_drill_{claimed.pk}")
    found = worked_on(claimed)
    assert found.state == State.FAILED and "already" in found.sentence
    assert place.names == {f"farshore_drill_{claimed.pk}"} and not list(place.share.iterdir())


def test_a_landing_server_that_is_gone_puts_off_what_is_to_be_cleared(
    orders: Instance, place: Place, landing: LandingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    drills.ask(orders, drills.FARSHORE)
    claimed = drills.claim(TARGET)
    Drill.objects.update(evidence={"landing": landing.code})
    claimed.refresh_from_db()
    place.server.die()
    assert worked_on(claimed).state == State.QUEUED and claimed.sentence
    Drill.objects.update(attempts=drills.MOST_ATTEMPTS, due_at=clock.now())
    given_up = worked_on(drills.claim(TARGET))
    assert given_up.state == State.FAILED and "could not be removed" in given_up.sentence


def test_a_full_share_skips_the_drill(
    orders: Instance, place: Place, landing: LandingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Any, size: int) -> None:
        raise Refusal("NoSpace", "No room.", "Make some.")

    monkeypatch.setattr(landing_shares, "make", full)
    assert drill(orders).state == State.SKIPPED and place.is_clean
    assert landing_servers.usable_for(orders).count() == 1
