"""What the simulated server is: its databases, their logs' clocks, what msdb remembers, who may log in, who works.

Nothing in it stores data of anybody; a "database" is a size, a recovery model and a place in its log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from backups.engines.facts import Kind
from demo import mtf
from demo.mtf import Backup
from demo.tape import Media
from demo.tds import snapshotting
from demo.tds.snapshotting import Suspension
from regions.storage import Storage

FULL, SIMPLE = "FULL", "SIMPLE"
DISK, VIRTUAL, URL = 2, 7, 9
SYSTEM = ("master", "tempdb", "model", "msdb")
FIRST_USER_SESSION = 51


@dataclass
class Account:
    """A login and what it may do; `backs_up` None: every database."""

    password: str
    backs_up: frozenset[str] | None = None
    sees_state: bool = True
    kills: bool = True
    reads_history: bool = True
    is_sysadmin: bool = False
    creates: bool = True
    keeps_credentials: bool = True
    sees_definitions: bool = True
    sees_hashes: bool = True
    reads_jobs: bool = True
    sees_keys: bool = True
    alters: bool = True

    def may_back_up(self, database: str) -> bool:
        return self.is_sysadmin or self.backs_up is None or database in self.backs_up


@dataclass
class Database:
    """One database. `reached` is where its log is now, `logged` where its next log backup begins (None: no chain)."""

    name: str
    number: int
    recovery_model: str = FULL
    state: str = "ONLINE"
    pages: int = 64
    reached: int = mtf.lsn(40)
    logged: int | None = None
    chain_start: int = 0
    base: Backup | None = None
    family_guid: UUID = field(default_factory=uuid4)
    fork_guid: UUID | None = None
    thumbprint: bytes | None = None
    group: UUID | None = None
    is_primary: bool = True
    is_preferred: bool = True
    is_busy: bool = False
    restoring: Any = None
    stopped_at: datetime | None = None
    files: dict[str, str] = field(default_factory=dict)
    created: datetime = datetime(2024, 1, 1)
    users: dict[str, set[str]] = field(default_factory=dict)  # name -> its roles
    faults: list[str] = field(default_factory=list)  # what DBCC CHECKDB finds
    suspension: Suspension | None = None

    @property
    def on_disk(self) -> dict[str, str]:
        """Logical name -> path of each of its files."""
        return self.files or {self.name: f"D:\\data\\{self.name}.mdf", f"{self.name}_log": f"L:\\log\\{self.name}.ldf"}

    @property
    def fork(self) -> UUID:
        return self.fork_guid or self.family_guid

    @property
    def is_secondary(self) -> bool:
        return self.group is not None and not self.is_primary

    def work(self, steps: int = 1) -> None:
        """Something is written to it: its log moves on, once its writes are not suspended."""
        while self.suspension:
            time.sleep(0.005)
        self.reached += steps * 10**15


@dataclass
class Principal:
    """A login: `kind` S (SQL Server), U or G (Windows)."""

    name: str
    sid: bytes
    kind: str = "S"
    password_hash: bytes | None = None
    default_database: str = "master"
    is_disabled: bool = False
    roles: tuple[str, ...] = ()


@dataclass
class Job:
    """A job of the Agent, of one step that runs `command`, every night."""

    name: str
    command: str
    owner: str = "sa"
    database: str = "master"
    description: str = "No description available."
    number: UUID = field(default_factory=uuid4)


@dataclass
class Beside:
    """What stands beside the databases. `linked`: name -> data source."""

    principals: list[Principal] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    linked: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One device that a backup went to."""

    device: str
    device_type: int = DISK
    sequence: int = 1


@dataclass(frozen=True)
class Remembered:
    """One row of msdb.dbo.backupset with its media and devices."""

    id: int
    backup: Backup
    media_id: int
    media_guid: UUID
    families: tuple[Family, ...]
    user: str
    position: int = 1
    compressed: bool = False
    is_snapshot: bool = False
    is_damaged: bool = False
    recovery_model: str = FULL
    compressed_bytes: int = 0
    time_zone: int | None = 0
    encryptor: bytes | None = None


@dataclass
class Request:
    """A statement that takes a while, as sys.dm_exec_requests shows it."""

    command: str
    database: Database
    percent: float = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Session:
    """One connection that has logged in."""

    number: int
    user: str
    account: Account
    program: str = ""
    client: str = ""
    database: str = "master"
    user_name: str = "dbo"  # as whom it goes on inside its database
    request: Request | None = None
    transaction: int = 0
    killed: threading.Event = field(default_factory=threading.Event)


@dataclass
class Numbers:
    """1, 2, 3 … as `next` gives them; unlike itertools' it can be kept and recalled."""

    upcoming: int = 1

    def __next__(self) -> int:
        self.upcoming += 1
        return self.upcoming - 1


class SimulatedMachine:
    """One simulated SQL Server. `shares` maps how the server calls a folder to where it is on this machine.

    `pace`: bytes a second that a backup writes, None for as fast as it can. `room`: bytes that a share has left for a
    backup, None for more than enough. `is_deaf`: it goes on with a backup whose client is gone, as a real server does
    until it notices; `is_unaware`: nor does it notice that one is gone which has suspended a database. `volumes`: where
    the folders of its databases' files are on this machine; without any they have no files.
    """

    def __init__(
        self,
        name: str = "SQL-SIMULATION",
        *,
        version: tuple[int, int, int] = (15, 0, 4430),
        edition: str = "Developer Edition (64-bit)",
        time_zone: int = 0,
        pace: int | None = None,
    ) -> None:
        self.name, self.version, self.edition, self.time_zone, self.pace = name, version, edition, time_zone, pace
        self.free_bytes = 2**50
        self.room: int | None = None
        self.is_deaf = self.is_unaware = False
        self.routes_to: tuple[str, int] | None = None  # as a listener with read-only routing does
        self.accounts: dict[str, Account] = {}
        self.databases: dict[str, Database] = {}
        self.certificates: dict[str, bytes] = {}
        self.shares: dict[str, Path] = {}
        self.volumes: dict[str, Path] = {}
        self.buckets: dict[str, tuple[Storage, str]] = {}  # s3://host:port/bucket -> what it is, "id:key" that opens it
        self.credentials: dict[str, tuple[str, str]] = {}  # name -> identity, secret
        self.history: list[Remembered] = []
        self.beside = Beside()
        self.on_media: dict[str, list[Backup]] = {}
        self.media_of_device: dict[str, tuple[Media, ...]] = {}
        self.sessions: dict[int, Session] = {}
        self.lock = threading.RLock()
        self._ids = Numbers()
        self._numbers, self._media = Numbers(FIRST_USER_SESSION), Numbers()
        for name_of_system in SYSTEM:
            self.add(name_of_system, recovery_model=SIMPLE)

    @property
    def product_version(self) -> str:
        return ".".join(map(str, (*self.version, 1)))

    def add(self, name: str, **more: object) -> Database:
        with self.lock:
            found = Database(name, next(self._ids), **more)
            self.databases[name.casefold()] = found
            return found

    def database(self, name: str) -> Database | None:
        return self.databases.get(name.casefold())

    def login(self, name: str, password: str, **rights: object) -> Account:
        self.accounts[name.casefold()] = Account(password, **rights)
        return self.accounts[name.casefold()]

    def share(self, called: str, folder: Path) -> None:
        """Let the server see a folder under a name of its own, such as \\\\files\\sql."""
        self.shares[called.rstrip("\\/")] = folder

    def bucket(self, url: str, storage: Storage, key_id: str, key: str) -> None:
        """Let the server reach a bucket under its address, s3://host:port/bucket."""
        self.buckets[url.rstrip("/")] = (storage, f"{key_id}:{key}")

    def path_of(self, device: str) -> Path | None:
        """Where a device's file is on this machine; None when the server would not find its folder."""
        for called, folder in (*self.shares.items(), *self.volumes.items()):
            if device.casefold().startswith((f"{called}\\".casefold(), f"{called}/".casefold())):
                rest = device[len(called) + 1 :].replace("\\", "/").split("/")
                return None if ".." in rest else folder.joinpath(*rest)
        return None

    @contextmanager
    def entered(self, user: str, account: Account, program: str, client: str) -> Iterator[Session]:
        with self.lock:
            session = Session(next(self._numbers), user, account, program, client)
            self.sessions[session.number] = session
        try:
            yield session
        finally:
            if not (self.is_unaware and self.suspended_by(session)):
                self.leave(session)

    def leave(self, session: Session) -> None:
        """A session has ended, and with it what it had suspended."""
        with self.lock:
            self.sessions.pop(session.number, None)
            for database in self.suspended_by(session):
                snapshotting.thaw(self, database)

    def suspended_by(self, session: Session) -> list[Database]:
        held = (one for one in self.databases.values() if one.suspension)
        return [one for one in held if one.suspension.session == session.number]

    def is_used(self, database: Database, *, but_for: Session) -> bool:
        """Whether another session is in the database, or works on it."""
        others = [one for one in list(self.sessions.values()) if one is not but_for]
        at_work = (one.request and one.request.database is database for one in others)
        return any(at_work) or any(one.database == database.name for one in others)

    def next_media(self) -> int:
        return next(self._media)

    def remember(self, backup: Backup, families: tuple[Family, ...], user: str, **more: object) -> Remembered:
        """Add a row to msdb, as every backup does that ends well."""
        with self.lock:
            media_id = more.pop("media_id", 0) or self.next_media()
            media_guid = more.pop("media_guid", None) or mtf.media_of(backup).guid
            row = Remembered(len(self.history) + 1, backup, media_id, media_guid, families, user, **more)
            self.history.append(row)
            return row

    # What backups do to a database

    def describe(self, database: Database, kind: Kind, *, copy_only: bool, checksum: bool, name: str) -> Backup:
        """Say what a backup of the database would be now; nothing changes before `taken`."""
        at = datetime.now(UTC).replace(microsecond=0)
        more = {
            "set_guid": uuid4(),
            "fork_guid": database.fork,
            "copy_only": copy_only,
            "checksum": checksum,
            "name": name,
            "version": self.version,
            "time_zone": self.time_zone,
        }
        chain_start = database.chain_start
        if kind is Kind.FULL:
            begins = database.logged is None and not copy_only and database.recovery_model != SIMPLE
            chain_start = database.reached if begins else chain_start
            seed = f"{self.name}/{database.name}"
            taken = mtf.full(
                database.name, server=self.name, first=database.reached, started_at=at, pages=database.pages, seed=seed
            )
            base_lsn = database.base.checkpoint if database.base else 0
            more |= {"base": base_lsn}
        elif kind is Kind.DIFFERENTIAL:
            taken = mtf.differential(database.base, first=database.reached, started_at=at)
            more |= {"base_guid": database.base.set_guid}
        else:
            base = database.base or mtf.full(database.name, server=self.name, started_at=at)
            taken = mtf.log(base, first=database.logged, last=database.reached, started_at=at)
            more |= {"base": base.checkpoint, "base_guid": UUID(int=0)}
        said = replace(taken, **more, family_guid=database.family_guid, chain_start=chain_start)
        return replace(said, finished_at=at + timedelta(seconds=1 + mtf.size_of(said) // (self.pace or 2**40)))

    def taken(self, database: Database, backup: Backup) -> None:
        """A backup ended well: the log's clock moves, and later backups stand on this one."""
        database.reached = max(database.reached, backup.last)
        if backup.kind is Kind.LOG and not backup.copy_only:
            database.logged = backup.last
            return
        if backup.kind is Kind.FULL and not backup.copy_only:
            database.base = backup
            if database.logged is None and database.recovery_model != SIMPLE:
                database.logged, database.chain_start = backup.first, backup.first

    def break_chain(self, database: Database) -> None:
        """As ALTER DATABASE … SET RECOVERY SIMPLE does it."""
        database.logged = None
