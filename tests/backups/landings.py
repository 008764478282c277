"""A SQL Server's backups copied to another region, and a simulated landing server there: what stories of it begin with.

Everything is real but the SQL Server, which is our simulation on a real socket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backups.copying import planning
from backups.models import Copy, CopyState, Instance, LandingServer
from backups.servers import landing_servers
from backups.servers.landing_servers import Wanted
from demo import mtf
from demo.mtf import Backup
from demo.tds import SimulatedMachine, SimulatedServer
from tests.backups.world import TARGET, World

PASSWORD = "pä]ss'wörd ☂"
SHARE = "\\\\files\\landing"
MINUTE = timedelta(minutes=1)


@dataclass
class Place:
    """The landing server's machine, where it listens, its share, and how it is registered."""

    world: World
    machine: SimulatedMachine
    server: SimulatedServer
    share: Path

    def wanted(self, **more: Any) -> Wanted:
        usual = {
            "name": "landing-1",
            "region": self.world.region(TARGET),
            "engine": "sqlserver",
            "host": "127.0.0.1",
            "port": self.server.port,
            "username": "farshore",
            "password": PASSWORD,
            "tls": "disable",
            "called": SHARE,
            "folder": str(self.share),
            "groups": [self.world.group],
        }
        return Wanted(**usual | more)

    def register(self, **more: Any) -> LandingServer:
        return landing_servers.register(self.wanted(**more), self.world.by)

    @property
    def names(self) -> set[str]:
        """Its databases, the system's own left out."""
        return {one.name for one in list(self.machine.databases.values()) if one.number > 4}

    @property
    def is_clean(self) -> bool:
        return not self.names and not list(self.share.iterdir())


@contextmanager
def place_in(world: World, name: str = "SQL-LANDING") -> Iterator[Place]:
    share = world.folder / "landing share"
    share.mkdir()
    machine = SimulatedMachine(name)
    machine.login("farshore", PASSWORD)
    machine.share(SHARE, share)
    with SimulatedServer(machine) as server:
        yield Place(world, machine, server, share)


def chain(database: str = "Sales", *, logs: int = 3, ago: timedelta = 60 * MINUTE, **more: Any) -> list[Backup]:
    """A full and logs of ten minutes that follow it."""
    began = datetime.now(UTC).replace(microsecond=0) - ago
    usual = {"started_at": began, "seed": f"{database} {began}", "differentials": 0, "every": 10 * MINUTE}
    return mtf.chain(database, logs=logs, **usual | more)


def copied(world: World, instance: Instance, *files: Sequence[Backup]) -> list[Copy]:
    """Lay files of backups down, several in one where they were appended; find and copy them, logs too."""
    for number, backups in enumerate(files, 1):
        world.drop(instance, f"{number:02}.bak", *backups)
    return carried(world, instance)


def carried(world: World, instance: Instance) -> list[Copy]:
    world.find(instance)
    world.enable(instance)
    world.set(instance, logs_enabled=True)
    planning.weigh_due()
    world.carry()
    return list(Copy.objects.filter(set__instance=instance, state=CopyState.COMPLETED).order_by("set__finished_at"))
