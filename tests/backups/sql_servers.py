"""A simulated SQL Server that Farshore takes backups of: on a real socket, with a share that both sides see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from backups import default_backups, fleet
from backups.copying import planning
from backups.models import Arrival, BackupJob, BackupSet, Instance
from demo.tds import SimulatedMachine, SimulatedServer
from regions import clock, stores
from regions.models import Region
from regions.storage import open_storage
from tests.backups.world import SOURCE, World
from tests.regions.conftest import bucket_store, make_bucket
from tests.servers import S3Region

CALLED, PASSWORD = "\\\\files\\sql", "pä]ss'wörd ☂"


@dataclass
class Fixture:
    """One simulated server and what a worker of its region does about it."""

    world: World
    machine: SimulatedMachine
    server: SimulatedServer
    folder: Path
    others: list[SimulatedServer] = field(default_factory=list)
    share: dict[str, str] = field(default_factory=dict)  # where another one is named than the folder, or none

    def describe(self, **more: Any) -> Instance:
        """Return an unsaved instance that is this server."""
        self.world.store(SOURCE)
        given = {
            "name": "sql",
            "group": self.world.group,
            "region_id": SOURCE,
            "engine": "sqlserver",
            "arrival": Arrival.TAKEN,
            "host": "127.0.0.1",
            "port": self.server.port,
            "username": "farshore",
            "share_called": CALLED,
            "share_folder": str(self.folder),
            **self.share,
            "is_simulation": True,
        }
        return Instance(**given | more)

    def add(self, **more: Any) -> Instance:
        return fleet.add(self.describe(**more), PASSWORD, self.world.by)

    def names(self) -> list[str]:
        """What lies in the share, without the instance's mark."""
        return sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))

    def work(self, database: str = "Orders") -> None:
        self.machine.database(database).work()

    def secondary(self, of: str = "Orders") -> SimulatedMachine:
        """Begin another server that is a secondary of one database, and sees the same share."""
        mine, other = self.machine.database(of), SimulatedMachine("SQL-SIM-2")
        mine.group = mine.group or uuid4()
        other.login("farshore", PASSWORD)
        other.share(CALLED, self.folder)
        theirs = other.add(of, group=mine.group, is_primary=False, family_guid=mine.family_guid)
        theirs.reached, theirs.logged, theirs.base, theirs.chain_start = (
            mine.reached,
            mine.logged,
            mine.base,
            mine.chain_start,
        )
        self.others.append(SimulatedServer(other).__enter__())
        return other


@contextmanager
def running(world: World) -> Iterator[Fixture]:
    folder = world.folder / "share"
    folder.mkdir()
    machine = SimulatedMachine("SQL-SIM-1")
    machine.login("farshore", PASSWORD)
    machine.share(CALLED, folder)
    machine.add("Orders", pages=8)
    with SimulatedServer(machine) as server:
        found = Fixture(world, machine, server, folder)
        try:
            yield found
        finally:
            for other in found.others:
                other.die()


@contextmanager
def writing_to(world: World, region: S3Region, *, prefix: str = "") -> Iterator[Fixture]:
    """A server of 2022 that writes to the store of its region by itself: a new bucket of a real S3 region."""
    url = make_bucket(region)
    place = bucket_store(region, url + prefix)
    stores.attach(Region.objects.get(pk=SOURCE), place.url, place.options, place.credentials, user=world.user)
    with running(world) as found:
        found.machine.version = (16, 0, 1000)
        found.machine.shares.clear()
        address = f"{region.endpoint.replace('http:', 's3:')}/{url.removeprefix('s3://')}"
        bucket = open_storage(bucket_store(region, url))
        found.machine.bucket(address, bucket, region.access_key, region.secret_key)
        found.share = {"share_called": "", "share_folder": ""}
        yield found


def take_all(region: str = SOURCE) -> list[BackupSet]:
    """Do what a region's worker would until no backup is due; returns the sets, the oldest first."""
    before = set(BackupSet.objects.values_list("pk", flat=True))
    while job := default_backups.claim(region):
        default_backups.take(job)
    planning.weigh_due()
    return list(BackupSet.objects.exclude(pk__in=before).order_by("pk"))


def make_due(**changes: Any) -> None:
    """The moment has come for whatever waits."""
    BackupJob.objects.filter(state=BackupJob.State.QUEUED).update(due_at=clock.now())
    if changes:
        Instance.objects.update(**changes)
