"""The demo's simulated SQL Servers are reached like any other, and go on where they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.engines import engine_of
from backups.engines.facts import Connection, Kind
from backups.engines.sqlserver.history import read_history
from backups.engines.sqlserver.taking import Order, Share, take
from demo.sqlserver_server import HERE, LOGIN, DemoServer, Role

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
