"""What every engine says about a backup it found or took: plain facts, no models, nothing guessed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

from regions.refusals import Refusal

ReadAt = Callable[[int, int], bytes]
"""(offset, length) -> exactly `length` bytes; raises when the store cannot give them."""


class Kind(StrEnum):
    FULL = "full"
    DIFFERENTIAL = "differential"
    LOG = "log"


class Method(StrEnum):
    PHYSICAL = "physical"
    LOGICAL = "logical"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True)
class DatabaseFile:
    """One file of the database inside a set, as RESTORE FILELISTONLY would print it."""

    logical_name: str
    physical_path: str
    kind: str
    size_bytes: int
    file_id: int = 0


@dataclass(frozen=True)
class SetFacts:
    """One finished backup set as its own header tells it.

    Times are aware UTC. Positions are integers that order the engine's history (SQL Server: LSN as msdb prints it),
    None where the kind has none. GUIDs are lower-case with hyphens, "" when there is none. `offset` and `length` say
    where the set lies in its file; `size_bytes` is what the engine says it wrote over all stripes.

    Where the history that a log is of left another one: at `fork_position` of `parent_fork`, with everything that was
    committed there until `forked_at`; "" and None where it never did, or nobody knows.
    """

    database: str
    kind: Kind
    method: Method
    started_at: datetime
    finished_at: datetime
    first_position: int | None = None
    last_position: int | None = None
    checkpoint_position: int | None = None
    base_position: int | None = None
    fork: str = ""
    parent_fork: str = ""
    fork_position: int | None = None
    forked_at: datetime | None = None
    set_guid: str = ""
    family_guid: str = ""
    base_guid: str = ""
    media_set_guid: str = ""
    family_sequence: int = 1
    family_count: int = 1
    position: int = 1
    is_copy_only: bool = False
    has_checksums: bool = False
    compressed: bool = False
    begins_log_chain: bool = False
    encrypted: bool = False
    server: str = ""
    software_version: str = ""
    size_bytes: int = 0
    offset: int = 0
    length: int = 0
    database_files: tuple[DatabaseFile, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What reading a found file came to: its sets, or why it is refused; never both, never neither."""

    sets: tuple[SetFacts, ...] = ()
    refusal: Refusal | None = None

    def __post_init__(self) -> None:
        if bool(self.sets) == (self.refusal is not None):
            raise ValueError("an inspection has either sets or a refusal")


class Stopped(Exception):
    """Whoever asked no longer wants it (the lease is lost): nothing was taken or made, nothing is left behind."""


@dataclass(frozen=True)
class Connection:
    """How to reach a server: separate values, never a conninfo string.

    `host` is for people and for the certificate, `hostaddr` the address that the network door pinned ("" for a socket
    folder or where nothing was pinned). `dbname` "" means the engine's own default. `tls` is disable, prefer, require,
    verify-ca or verify-full.
    """

    host: str
    port: int
    username: str
    password: str = field(default="", repr=False)
    dbname: str = ""
    tls: str = "prefer"
    hostaddr: str = ""


@dataclass(frozen=True)
class ServerFacts:
    """What a probe learns of a server that can be backed up; `notes` are sentences worth showing beside it.

    `identity` is what a primary and its secondaries have in common and no other server has, "" where the engine knows
    nothing of the kind; several of them with commas between. Where databases are not told apart a set's `server` says
    the same.
    """

    version: str
    databases: tuple[str, ...]
    data_bytes: int
    is_secondary: bool = False
    notes: tuple[str, ...] = ()
    identity: str = ""


@dataclass(frozen=True)
class DatabaseStanding:
    """How one database of a server stands, where backups are of one database each. None: what the account may not see,
    or what there is none of.

    `state` and `recovery_model` are the engine's words. `log_chain_position` is where its next log backup begins: None
    without logs, and as long as no full backup has begun the chain. `last_full_at`: the newest ordinary full that the
    server itself remembers, UTC. `availability_group`: what its replicas have in common, "" for none; `is_preferred`:
    backups are to be taken on this replica.
    """

    name: str
    state: str
    recovery_model: str
    may_back_up: bool
    data_bytes: int | None = None
    log_chain_position: int | None = None
    fork: str = ""
    last_full_at: datetime | None = None
    certificate_thumbprint: str = ""
    availability_group: str = ""
    is_primary: bool = True
    is_preferred: bool = True

    @property
    def is_online(self) -> bool:
        return self.state == "ONLINE"

    @property
    def has_logs(self) -> bool:
        return self.recovery_model != "SIMPLE"

    @property
    def is_secondary(self) -> bool:
        return bool(self.availability_group) and not self.is_primary


VIRTUAL = 7  # the type of another tool's own device
LOGICAL = 100  # added to a device's type where it has a name of its own (sp_addumpdevice)


@dataclass(frozen=True)
class Device:
    """Where one stripe of a set went, as the server calls it."""

    sequence: int
    name: str
    type: int

    @property
    def is_nowhere(self) -> bool:
        """Nothing of it is kept: BACKUP … TO NUL."""
        return self.name.strip().upper() in ("NUL", "NUL:", "/DEV/NULL")

    @property
    def is_foreign(self) -> bool:
        """It went through another tool's own device, or nowhere: the bytes are not a file that Farshore could find."""
        return self.type % LOGICAL == VIRTUAL or self.is_nowhere


@dataclass(frozen=True)
class HistorySet:
    """One backup set as a server itself remembers it, whoever took it.

    `number` is the cursor (backup_set_id) on that server. `facts` has no offset and no length, which only the file
    knows. `name` is what the job called the set, `user` who ran it; `stored_bytes` what lies on the devices together, 0
    where nobody says.
    """

    number: int
    facts: SetFacts
    devices: tuple[Device, ...]
    user: str
    name: str = ""
    is_damaged: bool = False
    encryptor_thumbprint: str = ""
    stored_bytes: int = 0

    @property
    def is_foreign(self) -> bool:
        return any(device.is_foreign for device in self.devices)


@dataclass(frozen=True)
class HistoryPage:
    """A stretch of the history, in order. `cursor` is where the next one begins; `left_out` are sets that could not be
    told as facts (backups of single files, times in no known zone), each with its reason. `began_anew`: the server
    numbers its sets from the beginning again (msdb was restored, or the server made anew), and with them the cursor."""

    sets: tuple[HistorySet, ...]
    cursor: int
    left_out: tuple[str, ...] = ()
    is_last: bool = True
    began_anew: bool = False


@dataclass(frozen=True)
class Breaker:
    """A backup that somebody else's job took and nobody can restore from here; `lost` says what hangs on it."""

    taken: HistorySet
    lost: str

    @property
    def sentence(self) -> str:
        facts = self.taken.facts
        return (
            f"{facts.database}: {self.lost} was broken at {facts.finished_at:%Y-%m-%d %H:%M} UTC "
            f"by a {facts.kind} backup {who_took(self.taken)}."
        )


def who_took(taken: HistorySet) -> str:
    """Return where a backup went and who ran it, for the end of a sentence."""
    job = f"job “{taken.name}”, " if taken.name else ""
    devices = ", ".join(device.name or "a device without a name" for device in taken.devices)
    return f"to {devices} ({job}user {taken.user or 'unknown'})"


@dataclass(frozen=True)
class Surroundings:
    """What databases need beside them on a server and no backup of theirs holds.

    `script` makes it again elsewhere; it may hold hashes of passwords, and is a secret. `names`: kind (login, job,
    linked_server, certificate) -> what two servers are compared by. `notes`: what could not be seen, and what would
    show it.
    """

    script: str = field(repr=False)
    names: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a backup's bytes that is read again later without the rest, and its SHA-256."""

    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class TakenSet:
    """A backup that was taken whole; `notes` are sentences worth showing beside it.

    `outline`: the stretch of it that an incremental on this set needs, None where none can be taken on it. `times`:
    when it began and ended, by our own clock, where that is not when its bytes came in. `shared`: what is to be
    removed from a share once this is recorded.
    """

    facts: SetFacts
    notes: tuple[str, ...] = ()
    outline: Excerpt | None = None
    times: tuple[datetime, datetime] | None = None
    shared: SharedBackup | None = None


@dataclass(frozen=True)
class Share:
    """One folder under two names: `called` by the server (\\\\files\\sql or /var/backups), `folder` on this worker."""

    called: str
    folder: Path

    def device(self, name: str) -> str:
        """What the server calls a file in it."""
        sign = "\\" if "\\" in self.called else "/"
        return f"{self.called.rstrip(sign)}{sign}{name}"

    def open(self, name: str) -> BinaryIO:
        """Open a file in it to read; raises OSError, also for a link or anything else that is no plain file."""
        opened = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise OSError(f"{name} is no plain file")
        return os.fdopen(opened, "rb")


@dataclass(frozen=True)
class Bucket:
    """A bucket that a server writes to by itself, and calls `address` (s3://host:port/bucket), opened by a key.

    `look(key)` gives one object as it is now, to read, and its size; None where there is none. It raises when the
    store cannot say. `prefix` is what the server writes in front of a key.
    """

    address: str
    key_id: str
    secret: str = field(repr=False)
    look: Callable[[str], tuple[ReadAt, int] | None] = field(repr=False)
    prefix: str = ""
    region: str = ""

    def device(self, key: str) -> str:
        """What the server calls an object in it."""
        return f"{self.address}/{self.prefix}{key}"


@dataclass(frozen=True)
class Attempt:
    """Whose attempt a backup on a share is: its set and its files carry this in their names, so that it is found again.

    `owner` is the instance, `number` tells the attempts at one job apart; `began_at` is by our own clock.
    """

    owner: str
    job: int
    number: int
    began_at: datetime

    def __str__(self) -> str:
        return f"{self.owner}-{self.job}-{self.number}-{self.began_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    def is_before(self, other: Attempt) -> bool:
        """Whether this was an earlier attempt at the same job: what it does is nobody's any more."""
        return (self.owner, self.job) == (other.owner, other.job) and self.number < other.number

    @classmethod
    def from_name(cls, said: str) -> Attempt | None:
        """Read what `str` wrote; None for anything else."""
        found = re.fullmatch(r"(.{1,60})-(\d{1,18})-(\d{1,18})-(\d{8}T\d{6})Z", said, re.ASCII)
        if not found:
            return None
        owner, job, number, began = found.groups()
        try:
            return cls(owner, int(job), int(number), datetime.strptime(began, "%Y%m%dT%H%M%S").replace(tzinfo=UTC))
        except ValueError:
            return None


@dataclass(frozen=True)
class DatabaseOrder:
    """Which backup of one database is to be taken. `compress` is left out where the edition cannot.

    `of_secondary`: nothing is taken unless the server is a secondary of that very database (R-9.1). Without an
    `attempt` nobody will look for it again.
    """

    database: str
    kind: Kind = Kind.FULL
    copy_only: bool = False
    compress: bool = True
    stripes: int = 1
    of_secondary: bool = False
    attempt: Attempt | None = None


@dataclass(frozen=True)
class SharedBackup:
    """A backup that the server wrote whole: its facts, the names of its files in the share's folder, stripe by stripe;
    in a bucket, their keys.

    `notes` are sentences worth showing beside it. `left_by`: the earlier attempt that it was taken by, None for one
    taken just now.
    """

    facts: SetFacts
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left_by: Attempt | None = None


@dataclass(frozen=True)
class Base:
    """The full or incremental that an incremental is taken on; `open` gives its outline, verified while it is read."""

    facts: SetFacts
    open: Callable[[], BinaryIO]


@dataclass
class FullNeeded(Refusal):
    """No incremental can be taken on this base, or of this server; a full can. Nothing was taken."""


@dataclass(frozen=True)
class LogPiece:
    """A finished, zstd-compressed stretch of a server's log, in the spool of this machine until it is delivered.

    In its facts `first_position` and `last_position` are where it begins and where the next one begins, `fork` the
    timeline, `size_bytes` the raw bytes. Every change committed between `started_at` and `finished_at` is in it or
    before it; it may hold a little more than it claims, never less.
    """

    path: Path
    facts: SetFacts


LOGS_LOST = frozenset({"SlotLost", "WalRemoved", "BinlogsPurged"})
"""With these codes an engine's `receive_logs` and `receiver_lag` refuse when the server no longer has what was not
received yet: once the receiver is forgotten, receiving begins anew behind a gap."""


@dataclass(frozen=True)
class Source:
    """One backup set to restore from; `open` gives its bytes from the beginning, as often as it is asked."""

    facts: SetFacts
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore, and where: a new folder `name` is made in `place`.

    `sets` are one full and the differentials that follow it, `logs` what came after, both in order; `until` an aware
    moment (None: as far as the logs go). `forks` are histories that others have lived: the new server begins none of
    them. Without `network` it has a socket only. `progress(stage, done, total or None)` is told of the stages unpack,
    replay, start and check; `stop()` is asked several times a second.
    """

    place: Path
    name: str
    sets: tuple[Source, ...]
    logs: tuple[Source, ...] = ()
    until: datetime | None = None
    forks: tuple[str, ...] = ()
    network: bool = True
    address: str = "127.0.0.1"
    port: int = 0
    progress: Callable[[str, int, int | None], None] | None = None
    stop: Callable[[], bool] | None = None


class RunningServer(Protocol):
    """A restored server, which ends when the thread that started it ends.

    `isolation` says what keeps it from the network: "namespace", "socket", or "" when it has an address.
    """

    @property
    def connection(self) -> Connection: ...

    @property
    def folder(self) -> Path: ...

    @property
    def log(self) -> Path: ...

    @property
    def isolation(self) -> str: ...

    @property
    def is_running(self) -> bool: ...

    def stop(self) -> None:
        """End it and prove that nothing of it is left; safe to repeat."""


@dataclass(frozen=True)
class RestoreResult:
    """A restored server and how it came about.

    `restored_until`: the moment whose state it has; `last_change_at`: the newest change in it, where the engine knows;
    `seconds` per stage.
    """

    server: RunningServer
    restored_until: datetime
    last_change_at: datetime | None = None
    seconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """What the engine's own check of a restored server found; `findings` are its words, empty when it passed."""

    tool: str
    passed: bool
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LandingFacts:
    """What a look at a server tells that databases are restored on.

    `databases` are the names that are taken there. `certificates` are the thumbprints, in lower-case hex, of what can
    open an encrypted backup there. `bytes_free` is of the disk where new databases come to lie, None where the account
    may not see it. `notes` are sentences worth showing beside it.
    """

    version: str
    databases: tuple[str, ...]
    certificates: tuple[str, ...] = ()
    bytes_free: int | None = None
    is_simulation: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LandedSet:
    """One backup set, and its files, stripe by stripe, by their names in the share (folders in them behind a /).

    Of a snapshot `data` are the database's own files, in the order of their numbers: they stay where they are, and the
    restored database lives in them.
    """

    facts: SetFacts
    files: tuple[str, ...]
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class LandedRequest:
    """One database to restore on a server that is there, from files in a share that it reads as `share_called`.

    The database is new there, under `name`; its own files carry `marker`, by which it is known again as this attempt's
    from its first moment on. `sets`, `logs`, `until`, `progress` and `stop` are those of a RestoreRequest; the stages
    are full, differential, log and recover.
    """

    name: str
    marker: str
    share_called: str
    sets: tuple[LandedSet, ...]
    logs: tuple[LandedSet, ...] = ()
    until: datetime | None = None
    progress: Callable[[str, int, int | None], None] | None = None
    stop: Callable[[], bool] | None = None


@dataclass(frozen=True)
class LandedDatabase:
    """A database that is there and can be used. `identity` changes when anything else takes its place."""

    identity: str
    restored_until: datetime
    seconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
