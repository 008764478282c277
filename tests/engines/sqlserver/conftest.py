"""A simulated SQL Server on a real socket, and how Farshore reaches it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backups.engines.facts import Connection
from backups.engines.sqlserver.taking import Share
from demo.tds import SimulatedMachine, SimulatedServer

PASSWORD = "pä]ss'wörd ☂"
SHARE = "\\\\files\\sql"


@pytest.fixture
def machine(tmp_path: Path) -> SimulatedMachine:
    """One server with the database Orders and a share that it sees as \\\\files\\sql."""
    made = SimulatedMachine("SQL-SIM-1")
    made.login("farshore", PASSWORD)
    made.add("Orders")
    folder = tmp_path / "share"
    folder.mkdir()
    made.share(SHARE, folder)
    return made


@pytest.fixture
def share(machine: SimulatedMachine) -> Share:
    return Share(SHARE, machine.shares[SHARE])


@pytest.fixture
def server(machine: SimulatedMachine) -> Iterator[SimulatedServer]:
    with SimulatedServer(machine) as running:
        yield running


@pytest.fixture
def connection(server: SimulatedServer) -> Connection:
    return reach(server)


def reach(server: SimulatedServer, **more: object) -> Connection:
    given = {"host": "127.0.0.1", "port": server.port, "username": "farshore", "password": PASSWORD} | more
    return Connection(**given)


def until(happens: Callable[[], object], seconds: float = 20) -> None:
    """Wait until it is so; a machine that is busy is given time."""
    ends = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.01)
