"""What stood beside a SQL Server's databases: recorded, sealed, kept where the copies go, compared (simulation)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from backups.engines.facts import Surroundings
from backups.events import FARSHORE
from backups.models import Event, Instance, ServerScript
from backups.self_recovery import state_objects
from backups.servers import reaching, server_scripts
from demo.tds import SimulatedMachine, SimulatedServer
from demo.tds.machine import Job, Principal
from regions import secrets
from regions.models import Store
from regions.refusals import Refusal
from tests.backups.time_machine import TimeMachine
from tests.backups.world import TARGET, World
from tests.flushing import forget_everything

HASH = b"\x02\x00\xde\xad\xbe\xef"


@pytest.fixture
def machine() -> SimulatedMachine:
    made = SimulatedMachine("SQL-SIM-1")
    made.login("farshore", "secret")
    made.add("Orders")
    made.beside.principals.append(Principal("clerk", b"\x51" * 16, password_hash=HASH))
    made.beside.jobs.append(Job("Nightly close", "EXEC dbo.CloseDay"))
    return made


@pytest.fixture
def server(machine: SimulatedMachine) -> Iterator[SimulatedServer]:
    with SimulatedServer(machine) as running:
        yield running


@pytest.fixture
def sql(world: World, server: SimulatedServer) -> Instance:
    row = world.instance("orders", host="127.0.0.1", port=server.port, username="farshore", tls="disable")
    reaching.keep_password(row, "secret")
    row.save()
    return row


def test_it_is_kept_once_and_again_only_when_it_has_changed(sql: Instance, machine: SimulatedMachine) -> None:
    first = server_scripts.record(sql)
    assert server_scripts.record(sql) == first and ServerScript.objects.count() == 1
    machine.beside.jobs.append(Job("Weekly report", "EXEC dbo.Report"))
    second = server_scripts.record(sql)
    assert second.names["job"] == ["Nightly close", "Weekly report"]
    told = Event.objects.filter(kind="server_script.recorded").order_by("pk").values_list("sentence", flat=True)
    assert [sentence.partition(": ")[2] for sentence in told] == [
        "1 logins, 1 jobs, 0 linked servers, 0 certificates.",
        "1 logins, 2 jobs, 0 linked servers, 0 certificates.",
    ]


def test_it_is_asked_for_again_after_an_hour_and_a_silent_server_is_no_fault(
    sql: Instance, server: SimulatedServer, time_machine: TimeMachine
) -> None:
    server_scripts.record_if_due(sql)
    seen = ServerScript.objects.get().seen_at
    server.die()
    server_scripts.record_if_due(sql)
    time_machine.forward(hours=1, seconds=1)
    server_scripts.record_if_due(sql)
    assert ServerScript.objects.get().seen_at == seen


def test_what_it_holds_is_sealed_and_whoever_reads_it_is_named(sql: Instance, world: World) -> None:
    row = server_scripts.record(sql)
    assert b"deadbeef" not in bytes(row.sealed).lower() and HASH not in bytes(row.sealed)
    assert "deadbeef" not in json.dumps(list(Event.objects.values_list("sentence", "data"))).lower()
    assert "0x0200DEADBEEF HASHED" in server_scripts.read(row, world.by)
    assert Event.objects.get(kind="server_script.read").actor == world.user


def test_a_script_moved_to_another_instance_does_not_open(sql: Instance, world: World) -> None:
    row = server_scripts.record(sql)
    row.instance = world.instance("stock")
    with pytest.raises(Refusal):
        server_scripts.read(row, FARSHORE)


def test_a_set_has_what_stood_there_when_its_backup_ended(
    sql: Instance, world: World, time_machine: TimeMachine
) -> None:
    before = world.finished(sql, time_machine.at - timedelta(days=1))
    first = server_scripts.keep(sql, Surroundings("-- one", {"login": ("a",)}))
    time_machine.forward(hours=1)
    between = world.finished(sql, time_machine.at)
    time_machine.forward(hours=1)
    second = server_scripts.keep(sql, Surroundings("-- two", {"login": ("a", "b")}))
    after = world.finished(sql, time_machine.at)
    assert [server_scripts.of_set(found) for found in (before, between, after)] == [first, first, second]


def test_what_a_new_server_has_not_is_listed_by_kind(sql: Instance) -> None:
    row = server_scripts.keep(sql, Surroundings("-- s", {"login": ("a", "b"), "job": ("j",), "certificate": ()}))
    assert server_scripts.missing(row, {"login": ["b"], "certificate": ["0a"]}) == {"login": ["a"], "job": ["j"]}
    assert server_scripts.missing(row, {"login": ["a", "b"], "job": ["j"]}) == {}


def test_it_lies_sealed_at_the_destination_and_comes_back_with_the_catalogue(sql: Instance, world: World) -> None:
    """R-1.2: the console is lost, the destination and the key ring are left."""
    world.enable(sql)
    world.arrived(sql)
    script = server_scripts.read(server_scripts.record(sql), FARSHORE)
    state_objects.write_stale(Store.objects.get(region=TARGET))
    at_rest = b"".join(path.read_bytes() for path in (world.folder / TARGET).rglob("*") if path.is_file())
    assert b"DEADBEEF" not in at_rest and b"Nightly close" in at_rest, "names are told, hashes are not"
    forget_everything()
    call_command("rebuild_catalog", (world.folder / TARGET).as_uri(), stdout=StringIO())
    row = ServerScript.objects.get()
    assert row.instance.name == "orders" and row.names["job"] == ["Nightly close"]
    assert server_scripts.read(row, FARSHORE) == script


def test_a_new_key_ring_opens_it_too(sql: Instance) -> None:
    row = server_scripts.record(sql)
    before = bytes(row.sealed)
    secrets.rotate()
    row.refresh_from_db()
    assert bytes(row.sealed) != before and "DEADBEEF" in server_scripts.read(row, FARSHORE)
