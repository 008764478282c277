"""The simulated SQL Servers of the demo, reached over the wire: one that is backed up, one that is restored on.

Each listens on this machine only, sees one folder as its share, and goes on where it was after a restart.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from backups.events import By
from backups.models import Instance, LandingServer, ResourceGroup
from backups.servers import landing_servers
from console.runtime import ports
from console.runtime.places import write_private
from demo import cast, fleet, snapshot_hook
from demo.cast import Actor
from demo.tds.machine import SIMPLE, Job, Principal, SimulatedMachine
from demo.tds.remembering import keep, recall
from demo.tds.serving import SimulatedServer
from regions.models import Region

log = logging.getLogger(__name__)
HERE, LOGIN = "127.0.0.1", "farshore"
FIRST_PORT, PORTS = 14330, 200
PAGES_A_MIB = 128


@dataclass(frozen=True)
class Role:
    """What one simulated server is in the demo; `databases`: name -> mebibytes, those of `simple` keep no logs."""

    name: str
    databases: Mapping[str, float] = field(default_factory=dict)
    simple: tuple[str, ...] = ()
    version: tuple[int, int, int] = (15, 0, 4430)
    has_disks: bool = False  # its databases have files, of which snapshots are taken

    @property
    def server(self) -> str:
        return f"SQL-{self.name.upper()}"

    @property
    def share(self) -> str:
        """How the server calls its share."""
        return f"\\\\{self.server}\\backup"


OF_2022 = (16, 0, 4135)
LANDINGS = {
    cast.SHANGHAI: Role("shanghai"),
    cast.HANGZHOU: Role("hangzhou"),
    cast.SINGAPORE: Role("singapore", version=OF_2022),
}
TREASURY = Role("treasury", {"Treasury": 6, "Payroll": 2, "Sessions": 1}, simple=("Sessions",))
VAULT = Role("vault", {"Vault": 4}, version=OF_2022, has_disks=True)


class DemoServer:
    """One simulated server at its port, with its share below the demo's folder."""

    def __init__(self, role: Role, data: Path) -> None:
        self.role, self.folder = role, data / "demo" / f"sqlserver-{role.name}"
        self.share_folder = self.folder / "share"
        self._kept, self._port = self.folder / "machine", self.folder / "port"
        self.machine = SimulatedMachine(role.server, version=role.version)
        self.server: SimulatedServer | None = None

    @property
    def port(self) -> int:
        return self.server.port

    def start(self) -> None:
        self.share_folder.mkdir(parents=True, exist_ok=True)
        if not recall(self.machine, self._kept):
            for name, mib in self.role.databases.items():
                model = {"recovery_model": SIMPLE} if name in self.role.simple else {}
                self.machine.add(name, pages=int(mib * PAGES_A_MIB), **model)
            self._furnish()
        self.machine.share(self.role.share, self.share_folder)
        if self.role.has_disks:
            self._build_in_disks()
        port = self._free_port()
        self.server = SimulatedServer(self.machine, address=HERE, port=port)
        self.server.__enter__()
        write_private(self._port, f"{port}\n")

    def _furnish(self) -> None:
        """What stands beside the databases of any server: a login of the application, and a job."""
        name = self.role.name
        clerk = Principal(f"{name}_app", sha256(name.encode()).digest()[:16], password_hash=b"\x02\x00" + bytes(68))
        self.machine.beside.principals.append(clerk)
        self.machine.beside.jobs.append(Job(f"Nightly {name} report", f"EXEC dbo.Report @of = N'{name}'"))

    def _build_in_disks(self) -> None:
        """Its storage, and the hook that the demo's workers know (`up` names it): it takes snapshots by copying."""
        disks, snapshots = self.folder / "disks", self.folder.parent / "snapshots"
        self.machine.volumes = {"D:\\data": disks / "data", "L:\\log": disks / "log"}
        for folder in (*self.machine.volumes.values(), snapshots / "frozen"):
            folder.mkdir(parents=True, exist_ok=True)
        snapshot_hook.installed(snapshots, self.machine.volumes, snapshots / "frozen")

    def _free_port(self) -> int:
        """The one of last time, for that is where the fleet knows it; else another."""
        last = int(self._port.read_text()) if self._port.exists() else FIRST_PORT
        for port in (last, *range(FIRST_PORT, FIRST_PORT + PORTS)):
            if ports.is_free(HERE, port):
                return port
        return 0

    def let_in(self) -> str:
        """Give Farshore's login a new password, and return it."""
        password = secrets.token_urlsafe(24)
        self.machine.login(LOGIN, password)
        keep(self.machine, self._kept)
        return password

    def join(self, actor: Actor, by: By) -> None:
        """Add the server to the fleet and enable its cross-region backup, the first time."""
        instance = fleet.instance_of(actor)
        if instance is None:
            reach = {"host": HERE, "port": self.port, "username": LOGIN, "tls": "disable"}
            share = {"share_called": self.role.share, "share_folder": str(self.share_folder)}
            instance = fleet.add(actor, by, self.let_in(), **reach, **share)
        elif instance.port != self.port:  # another program has the one of last time
            Instance.objects.filter(pk=instance.pk).update(port=self.port)
        fleet.enable(instance, actor, by)

    def serve_restores(self, region_id: str, by: By) -> None:
        """Register it as a landing server of a region, granted to every team, the first time."""
        known = LandingServer.objects.living().filter(name=self.role.server)
        if known.exists():
            known.exclude(port=self.port).update(port=self.port)
            return
        wanted = landing_servers.Wanted(
            name=self.role.server,
            region=Region.objects.get(pk=region_id),
            engine="sqlserver",
            host=HERE,
            port=self.port,
            username=LOGIN,
            password=self.let_in(),
            tls="disable",
            called=self.role.share,
            folder=str(self.share_folder),
            groups=ResourceGroup.objects.all(),
        )
        landing_servers.register(wanted, by)

    def work(self) -> None:
        """Something is written to every database, and all of it is kept."""
        for database in list(self.machine.databases.values()):
            if database.name in self.role.databases and database.state == "ONLINE":
                database.work()
        keep(self.machine, self._kept)

    def stop(self) -> None:
        if self.server:
            self.server.die()
            keep(self.machine, self._kept)
