"""A restore: what an engine is given, and what it gives back; on this machine and on a landing server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

from backups.engines.facts.servers import Connection
from backups.engines.facts.sets import SetFacts


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
