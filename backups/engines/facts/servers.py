"""A server: how it is reached, what it is, which databases it has, what it remembers of its backups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from backups.engines.facts.sets import SetFacts


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
