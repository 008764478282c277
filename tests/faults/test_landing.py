"""Databases restored on a landing server, with the source gone and with workers killed (R-17.1, I4, I7, I20).

The server is our simulation on a real socket: it checks the order and the LSNs of what it is given.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from backups import restoring
from backups.engines.facts import Surroundings
from backups.events import FARSHORE
from backups.models import Copy, Event, Instance, LandingServer, Pin, Restore
from backups.oversight import audit
from backups.restoring import landed
from backups.servers import landing_servers, landing_shares, reaching, server_scripts
from demo import mtf
from demo.mtf import Backup
from demo.tds.machine import Job
from regions import clock
from regions.refusals import Refusal
from tests.backups.landings import MINUTE, PASSWORD, SHARE, Place, carried, chain, copied, place_in
from tests.backups.world import SOURCE, TARGET, World
from tests.faults.test_restoring import eventually, let_lease_run_out

State = Restore.State


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    with place_in(world) as found:
        yield found


@pytest.fixture
def landing(place: Place) -> LandingServer:
    return place.register()


@pytest.fixture
def backups() -> list[Backup]:
    return chain()


@pytest.fixture
def orders(world: World, backups: list[Backup]) -> Instance:
    """Copied to the destination; server and store of the source are gone."""
    found = world.instance("orders")
    copied(world, found, *((backup,) for backup in backups))
    shutil.rmtree(world.folder / SOURCE)
    return found


def ask(instance: Instance, landing: LandingServer, name: str = "Back", **wanted: Any) -> Restore:
    return restoring.ask(instance, FARSHORE, name=name, landing=landing, **wanted)


def worked_on(restore: Restore) -> Restore:
    """Do here what the worker's child does; it returns once the restore is over or ready."""
    claimed = restoring.claim(TARGET)
    assert claimed == restore
    restoring.run(claimed, threading.Event())
    restore.refresh_from_db()
    return restore


def bytes_at(world: World) -> dict[str, bytes]:
    folder = world.folder / TARGET
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def breaches() -> list[str]:
    return [said for name in ("I4 pins", "I20 restored servers") for said in audit.CHECKS[name]()]


# ---- the whole way


def test_with_the_source_gone_copies_become_a_database_under_a_new_name(
    world: World, place: Place, landing: LandingServer, orders: Instance, backups: list[Backup]
) -> None:
    before = bytes_at(world)
    restore = ask(orders, landing, "Sales-restored")
    assert Pin.objects.count() == 4
    worked_on(restore)
    assert restore.state == State.READY, restore.error
    made = place.machine.database("Sales-restored")
    assert made.state == "ONLINE" and made.reached == backups[-1].last
    assert all(f"_{restore.code}-1_" in path for path in made.files.values())
    assert restore.restored_until == backups[-1].started_at, "a log surely holds what was committed before it began"
    assert set(restore.seconds) == {"download", "full", "log", "recover"}
    assert (restore.leased_until, restore.leased_by, restore.folder) == (None, "", ""), "nobody holds a database"
    assert restoring.connection_words(restore).startswith("database Sales-restored on landing-1")
    assert not list(place.share.iterdir()) and not Pin.objects.exists() and bytes_at(world) == before
    assert restoring.claim(TARGET) is None and breaches() == []

    restoring.remove(restore, world.by)
    worked_on(restore)
    assert restore.state == State.REMOVED and place.is_clean
    said = Event.objects.filter(kind="restore.removed").get().sentence
    assert said == "The restored database Sales-restored was removed from landing-1."


def test_a_moment_between_two_logs_is_where_the_server_stops(
    place: Place, landing: LandingServer, orders: Instance, backups: list[Backup]
) -> None:
    moment = backups[2].started_at + timedelta(seconds=3)
    restore = worked_on(ask(orders, landing, until=moment))
    made = place.machine.database("Back")
    assert (restore.state, restore.restored_until) == (State.READY, moment), restore.error
    assert made.stopped_at == moment.replace(tzinfo=None)


@pytest.mark.long
def test_no_moment_behind_a_gap_is_claimed_or_restored(world: World, place: Place, landing: LandingServer) -> None:
    full, first, _, last = chain()
    orders = world.instance("orders")
    copied(world, orders, (full,), (first,), (last,))
    [refusal] = restoring.checks(orders, landing=landing, until=last.started_at, name="x").refusals
    assert (refusal.code, refusal.field) == ("MomentTooLate", "until")
    worked_on(ask(orders, landing))
    assert place.machine.database("Back").reached == first.last, "I7"


@pytest.mark.long
def test_stripes_and_appended_sets_are_brought_once_and_restored_by_their_position(
    world: World, place: Place, landing: LandingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, first, second = chain(logs=2)
    after = mtf.differential(full, first=second.last, started_at=second.started_at + MINUTE)
    orders = world.instance("orders")
    for number, body in enumerate(mtf.stripes_of(full, 3)):
        world.drop(orders, f"full-{number}.bak", body=body)
    world.drop(orders, "logs.trn", first, second)
    world.drop(orders, "later.dif", after)
    assert len(carried(world, orders)) == 4
    brought: list[int] = []
    fchmod = landing_shares.os.fchmod
    monkeypatch.setattr(landing_shares.os, "fchmod", lambda *args: (brought.append(1), fchmod(*args))[1])
    restore = worked_on(ask(orders, landing, "To a log", until=second.started_at))
    assert restore.state == State.READY, restore.error
    assert len(brought) == 4, "three stripes, and both logs in one file"
    assert place.machine.database("To a log").reached == second.last
    worked_on(ask(orders, landing, "Newest"))
    assert place.machine.database("Newest").reached == after.last
    assert not list(place.share.iterdir())


@pytest.mark.long
def test_some_databases_of_an_instance_come_back_in_one_go(world: World, place: Place, landing: LandingServer) -> None:
    orders = world.instance("orders")
    files = [(backup,) for name in ("Sales", "Wages", "Stock") for backup in chain(name, logs=1)]
    copied(world, orders, *files)
    names = {"Sales": "Sales-b", "Stock": "Stock-b"}
    for restore in restoring.ask_databases(orders, world.by, landing=landing, names=names):
        worked_on(restore)
    assert place.names == set(names.values())
    assert {one.state for one in Restore.objects.all()} == {State.READY}


@pytest.mark.long
def test_switched_on_a_copy_goes_beside_the_databases_of_an_instance_that_is_there(
    world: World, place: Place, orders: Instance, settings: Any
) -> None:
    """R-2.3."""
    settings.RESTORE_ONTO_EXISTING = True
    share = {"share_called": SHARE, "share_folder": str(place.share), "tls": "disable"}
    there = world.instance("there", TARGET, host="127.0.0.1", port=place.server.port, username="farshore", **share)
    reaching.keep_password(there, PASSWORD)
    there.save()
    theirs = place.machine.add("Sales")
    taken = worked_on(restoring.ask(orders, world.by, name="there", onto=there))
    assert (taken.state, taken.error_code) == (State.FAILED, "NameTaken"), "the server is asked, whatever rows say"
    restore = worked_on(restoring.ask(orders, world.by, name="there", onto=there, called="Sales of orders"))
    assert restore.state == State.READY, restore.error
    assert place.names == {"Sales", "Sales of orders"} and place.machine.database("Sales") is theirs
    assert restoring.connection_words(restore).startswith("database Sales of orders on there")
    restoring.remove(restore, world.by)
    worked_on(restore)
    assert restore.state == State.REMOVED and place.names == {"Sales"} and not list(place.share.iterdir())


# ---- what goes wrong


def test_a_database_of_that_name_is_never_touched(place: Place, landing: LandingServer, orders: Instance) -> None:
    restore = ask(orders, landing)
    theirs = place.machine.add("back")
    worked_on(restore)
    assert (restore.state, restore.error_code) == (State.FAILED, "NameTaken")
    assert place.machine.database("Back") is theirs and not list(place.share.iterdir()) and not Pin.objects.exists()

    del place.machine.databases["back"]
    again = worked_on(ask(orders, landing))
    ours = place.machine.database("Back")
    ours.fork_guid = None  # somebody restored another backup over it
    restoring.remove(again, FARSHORE)
    worked_on(again)
    assert again.state == State.REMOVED and place.machine.database("Back") is ours
    assert "was left alone" in Event.objects.filter(kind="restore.removed").get().sentence


@pytest.mark.long
def test_a_server_that_cannot_be_used_is_found_out_before_anything_is_brought(
    place: Place, landing: LandingServer, orders: Instance
) -> None:
    place.machine.accounts["farshore"].creates = False
    restore = worked_on(ask(orders, landing))
    assert (restore.state, restore.error_code, restore.stage) == (State.FAILED, "MayNotCreate", "")
    place.server.die()
    restore = worked_on(ask(orders, landing))
    assert (restore.state, restore.error_code, restore.folder) == (State.FAILED, "NotListening", "")
    assert place.is_clean and not Pin.objects.exists()


@pytest.mark.long
def test_a_flipped_byte_in_a_copy_fails_in_words_and_leaves_nothing(
    world: World, place: Place, landing: LandingServer, orders: Instance
) -> None:
    restore = ask(orders, landing)
    copy = restore.sources.get(order=2).copy
    path = world.folder / TARGET / copy.copied_files.get().transfer.key
    body, was = bytearray(path.read_bytes()), path.stat()
    body[-1] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    worked_on(restore)
    assert (restore.state, restore.error_code) == (State.FAILED, "SourceDamaged") and "log" in restore.error
    copy.refresh_from_db()
    assert copy.state == "damaged" and place.is_clean


@pytest.mark.long
@pytest.mark.parametrize("stage", ["download", "full"])
def test_a_cancelled_restore_leaves_no_database_and_no_files(
    world: World, place: Place, landing: LandingServer, orders: Instance, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    if stage == "download":
        make = landing_shares.make
        monkeypatch.setattr(landing_shares, "make", lambda *args: (make(*args), cancel(restore, world))[0])
    else:
        place.machine.pace = 5_000  # a minute and more
        person = threading.Thread(target=cancel_once_it_runs, args=(world, place))
        person.start()
    restore = ask(orders, landing)
    worked_on(restore)
    assert restore.state == State.CANCELLED, restore.error
    assert eventually(lambda: place.is_clean) and not Pin.objects.exists() and breaches() == []
    kinds = list(Event.objects.filter(kind__startswith="restore.").order_by("pk").values_list("kind", flat=True))
    assert kinds == ["restore.asked", "restore.cancel_asked", "restore.cancelled"]


def cancel(restore: Restore, world: World) -> None:
    restoring.cancel(Restore.objects.get(pk=restore.pk), world.by)
    assert eventually(lambda: Restore.objects.get(pk=restore.pk).cancel_asked_at)
    threading.Event().wait(0.6)  # the watch looks four times a second


def cancel_once_it_runs(world: World, place: Place) -> None:
    try:
        assert eventually(lambda: any(one.request for one in list(place.machine.sessions.values())))
        restoring.cancel(Restore.objects.get(), world.by)
    finally:
        connection.close()


@pytest.mark.long
def test_while_the_server_does_not_answer_nothing_is_called_over(
    world: World, place: Place, landing: LandingServer, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = place.server.port
    restored = landed.Landed._restore
    monkeypatch.setattr(landed.Landed, "_restore", lambda *args: (restored(*args), place.server.die())[0])
    restore = worked_on(ask(orders, landing))
    assert restore.state == State.READY, "its last word was that the database is there"
    restoring.remove(restore, world.by)
    worked_on(restore)
    assert restore.state == State.READY and restore.cancel_asked_at and "Nothing listens" in restore.error
    with pytest.raises(Refusal, match="answered when"):
        restoring.write_off(restore, world.by, "It burnt down.")
    assert landing_servers.look(landing)
    with pytest.raises(Refusal, match="stand on"):
        landing_servers.retire(landing, world.by)

    place.server._address = ("127.0.0.1", port)
    with place.server:
        Restore.objects.update(due_at=clock.now())
        worked_on(restore)
        assert restore.state == State.REMOVED and place.is_clean


@pytest.mark.long
def test_what_stands_on_a_server_that_is_gone_for_good_is_written_off(
    world: World, place: Place, landing: LandingServer, orders: Instance
) -> None:
    restore = worked_on(ask(orders, landing))
    place.server.die()
    landing_servers.look(landing)
    restoring.write_off(restore, world.by, "It burnt down.")
    assert restore.state == State.REMOVED
    landing_servers.retire(landing, world.by)


# ---- workers that die, and bells that ring twice

WINDOWS = [
    "landing journaled",
    "bringing",
    "all in the share",
    "full restored",
    "log restored",
    "database there, no row",
    "share cleared, no row",
]


@pytest.mark.long
@pytest.mark.parametrize("window", WINDOWS)
def test_a_restore_survives_kill_9_of_its_worker(
    place: Place, landing: LandingServer, orders: Instance, killed: Callable[..., None], window: str
) -> None:
    restore = ask(orders, landing)
    killed(window, "restore", TARGET)
    restore.refresh_from_db()
    assert restore.state == State.RUNNING and restore.folder and Pin.objects.exists()
    assert restoring.claim(TARGET) is None, "the lease still protects the dead worker's restore"
    let_lease_run_out()
    worked_on(restore)
    assert restore.state == State.READY, restore.error
    assert place.names == {"Back"} and not list(place.share.iterdir())
    assert all(f"_{restore.code}-2_" in path for path in place.machine.database("Back").files.values())
    assert not Pin.objects.exists() and breaches() == []


@pytest.mark.long
@pytest.mark.parametrize("window", ["log restored", "database there, no row"])
def test_what_a_dead_worker_left_is_removed_when_nobody_wants_it_any_more(
    world: World, place: Place, landing: LandingServer, orders: Instance, killed: Callable[..., None], window: str
) -> None:
    restore = ask(orders, landing)
    killed(window, "restore", TARGET)
    assert place.names == {"Back"}
    restoring.cancel(restore, world.by)
    let_lease_run_out()
    worked_on(restore)
    assert restore.state == State.CANCELLED and place.is_clean


@pytest.mark.long
def test_a_removal_survives_kill_9_of_its_worker(
    world: World, place: Place, landing: LandingServer, orders: Instance, killed: Callable[..., None]
) -> None:
    restore = worked_on(ask(orders, landing))
    restoring.remove(restore, world.by)
    killed("database dropped, no row", "restore", TARGET)
    restore.refresh_from_db()
    assert restore.state == State.READY and place.is_clean
    theirs = place.machine.add("Back")  # somebody else takes the name in that very moment
    let_lease_run_out()
    worked_on(restore)
    assert restore.state == State.REMOVED and place.machine.database("Back") is theirs


@pytest.mark.long
def test_a_worker_that_wakes_up_late_leaves_the_database_of_its_successor_alone(
    place: Place, landing: LandingServer, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = ask(orders, landing)
    late = restoring.claim(TARGET)
    ready = landed.Landed._ready

    def overtaken(work: landed.Landed, *args: Any) -> None:
        if work.restore.fence == late.fence:  # what it made is removed by its successor
            let_lease_run_out()
            worked_on(restore)
        ready(work, *args)

    monkeypatch.setattr(landed.Landed, "_ready", overtaken)
    restoring.run(late, threading.Event())
    restore.refresh_from_db()
    assert (restore.state, restore.fence) == (State.READY, 2)
    assert all(f"_{restore.code}-2_" in path for path in place.machine.database("Back").files.values())


@pytest.mark.long
def test_two_bells_make_one_database(place: Place, landing: LandingServer, orders: Instance) -> None:
    restore = ask(orders, landing)
    claimed = restoring.claim(TARGET)
    assert restoring.claim(TARGET) is None
    restoring.run(claimed, threading.Event())
    restoring.run(claimed, threading.Event())  # a child that was started twice under one fence finds it handed back
    restore.refresh_from_db()
    assert restore.state == State.READY and place.names == {"Back"}
    assert Event.objects.filter(kind="restore.ready").count() == 1 and Copy.objects.count() == 4
    assert Path(landing.share_folder).is_dir()


def test_what_stood_beside_the_database_and_is_not_there_is_listed(
    orders: Instance, place: Place, landing: LandingServer
) -> None:
    names = {"login": ("clerk (SID 0x51)", "sa2 (SID 0x52)"), "job": ("Nightly",), "certificate": ()}
    server_scripts.keep(orders, Surroundings("-- script", names))
    place.machine.beside.jobs.append(Job("Nightly", "EXEC dbo.Close"))
    done = worked_on(ask(orders, landing))
    assert done.notes[-2:] == [
        "Not on this server yet, logins: clerk (SID 0x51), sa2 (SID 0x52).",
        "The script on the set's page makes them, certificates excepted.",
    ]
