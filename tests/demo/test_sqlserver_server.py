"""The demo's simulated SQL Servers are reached like any other, and go on where they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from backups import default_backups, drilling
from backups.copying import planning, replication
from backups.drilling import drills
from backups.engines import engine_of
from backups.engines.facts import Connection, Kind
from backups.engines.sqlserver.history import read_history
from backups.engines.sqlserver.taking import Order, Share, take
from backups.events import By
from backups.models import Copy, CopyState, Drill, Instance, LandingServer
from demo import cast, fleet, sqlserver_server
from demo.sqlserver_server import HERE, LOGIN, DemoServer, Role
from regions import clock

ROLE = Role("treasury", {"Treasury": 0.5, "Sessions": 0.25}, simple=("Sessions",))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    demo = DemoServer(ROLE, tmp_path)
    demo.start()
    yield demo
    demo.stop()


def reached(demo: DemoServer, password: str) -> Connection:
    return Connection(HERE, demo.port, LOGIN, password, tls="disable")


def test_it_says_what_it_is_and_that_it_is_a_simulation(server: DemoServer) -> None:
    connection = reached(server, server.let_in())
    standings = {one.name: one.has_logs for one in engine_of("sqlserver").inspect_databases(connection)}
    assert standings == {"Treasury": True, "Sessions": False}


def test_after_a_restart_it_remembers_its_backups_and_its_log_goes_on(server: DemoServer, tmp_path: Path) -> None:
    connection = reached(server, server.let_in())
    share = Share(ROLE.share, server.share_folder)
    full = take(connection, Order("Treasury"), share).facts
    server.work()
    reached_before, port = server.machine.database("Treasury").reached, server.port
    server.stop()
    again = DemoServer(ROLE, tmp_path)
    again.start()
    try:
        assert again.port == port, "the fleet knows it there"
        assert [one.facts.set_guid for one in read_history(connection).sets] == [full.set_guid]
        log = take(connection, Order("Treasury", Kind.LOG), share).facts
        assert log.first_position == full.first_position and log.last_position == reached_before
    finally:
        again.stop()


@pytest.mark.long
def test_it_joins_the_fleet_once_and_its_backups_cross_with_their_logs(
    transactional_db: None, tmp_path: Path, settings: Any
) -> None:
    settings.FARSHORE_DATA = tmp_path
    User.objects.create_superuser("admin", "admin@example.com", "open sesame")
    by = fleet.administrator()
    for region in (cast.HANGZHOU, cast.SHANGHAI):
        fleet.attach(region, fleet.folder_of(tmp_path, region), by)
    fleet.accept(cast.TREASURY, by)
    demo = DemoServer(sqlserver_server.TREASURY, tmp_path)
    demo.start()
    try:
        for _ in range(2):
            demo.join(cast.TREASURY, by)
        take_what_is_due()
        demo.work()
        Instance.objects.update(next_log_at=clock.now())
        default_backups.ask_logs_by_timetable()
        take_what_is_due()
    finally:
        demo.stop()
    planning.weigh_due()
    while copy := replication.claim(cast.SHANGHAI):
        replication.carry_slice(copy)
    instance = Instance.objects.get(is_simulation=True)
    arrived = Copy.objects.filter(state=CopyState.COMPLETED).values_list("set__database", "set__kind")
    logs = [(name, "log") for name in ("Payroll", "Treasury")]
    assert sorted(arrived) == sorted([*((name, "full") for name in ("Payroll", "Sessions", "Treasury")), *logs])
    assert set(Copy.objects.values_list("verification", flat=True)) == {"structure"}, "compressed"
    assert instance.scripts.get().names["job"] == ["Nightly treasury report"]
    assert instance.engine_version.startswith("15.0") and not list(demo.share_folder.glob("*.bak"))

    rehearse(instance, DemoServer(sqlserver_server.LANDINGS[cast.SHANGHAI], tmp_path), by)


@pytest.mark.long
def test_the_vaults_backups_are_snapshots_of_its_disks_and_come_back(
    transactional_db: None, tmp_path: Path, settings: Any
) -> None:
    settings.FARSHORE_DATA = tmp_path
    settings.SNAPSHOT_HOOK = str(tmp_path / "demo" / "snapshots" / "snapshot-hook")
    settings.SNAPSHOT_ROOT = str(tmp_path / "demo" / "snapshots" / "frozen")
    User.objects.create_superuser("admin", "admin@example.com", "open sesame")
    by = fleet.administrator()
    for region in (cast.HANGZHOU, cast.SINGAPORE):
        fleet.attach(region, fleet.folder_of(tmp_path, region), by)
    fleet.accept(cast.VAULT, by)
    demo = DemoServer(sqlserver_server.VAULT, tmp_path)
    demo.start()
    try:
        demo.join(cast.VAULT, by)
        take_what_is_due()
    finally:
        demo.stop()
    planning.weigh_due()
    while copy := replication.claim(cast.SINGAPORE):
        replication.carry_slice(copy)
    copy = Copy.objects.get()
    assert (copy.state, copy.set.method, copy.set.files.count()) == (CopyState.COMPLETED, "snapshot", 3), copy.error
    rehearse(copy.set.instance, DemoServer(sqlserver_server.LANDINGS[cast.SINGAPORE], tmp_path), by, cast.SINGAPORE)


def rehearse(instance: Instance, landing: DemoServer, by: By, region: str = cast.SHANGHAI) -> None:
    """What crossed comes back on the demo's landing server, and is dropped again."""
    landing.start()
    try:
        for _ in range(2):
            landing.serve_restores(region, by)
        drills.ask(instance, by)
        drilling.run(drills.claim(region))
        drill = Drill.objects.get()
        assert drill.state == Drill.State.PASSED, drill.sentence
        assert LandingServer.objects.get().is_simulation and not list(landing.share_folder.iterdir())
    finally:
        landing.stop()


def take_what_is_due() -> None:
    while job := default_backups.claim(cast.HANGZHOU):
        default_backups.take(job)
        job.refresh_from_db()
        assert job.state == job.State.SUCCEEDED, job.error
