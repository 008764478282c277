"""The database engines: what each can do is data here, how it does it lives in its own package.

An engine's package offers its verbs as plain functions (`inspect`, `probe`, `take_full`); it is imported when a verb
is first asked for, so that a driver nobody uses is never loaded. A verb an engine does not offer is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from backups.engines.chains import ChainRules
from backups.engines.facts import (
    Breaker,
    CheckResult,
    Connection,
    DatabaseStanding,
    HistoryPage,
    Inspection,
    Kind,
    LandedDatabase,
    LandedRequest,
    LandingFacts,
    Method,
    ReadAt,
    RestoreRequest,
    RestoreResult,
    RunningServer,
    SetFacts,
    SharedBackup,
    Surroundings,
)
from regions.refusals import Refusal


@dataclass(frozen=True)
class Capabilities:
    """What differs between engines, so that nobody else has to ask for an engine's name (R-1.3)."""

    label: str
    takes_backups: bool
    discovers_files: bool
    per_database: bool
    file_endings: tuple[str, ...]
    out_of_turn_is_copy_only: bool
    secondary_full_is_copy_only: bool
    can_snapshot: bool
    default_method: Method
    default_port: int
    differential_label: str = "Differential"  # the field's word for a backup that stands on another
    incrementals_since: int = 0  # the first major that Farshore takes incrementals of, 0: of none
    version_question: str = "SELECT version()"
    client: str = ""  # what opens a session with a server in a shell; it asks for the password itself
    takes_differentials: bool = False  # on what the server itself knows as their base, so that they need no outline
    takes_logs: bool = False  # by backups of the log on a timetable, instead of receiving it
    writes_to_buckets_since: int = 0  # the first major whose server writes to an S3 bucket by itself, 0: none does
    endings_by_kind: Mapping[str, str] = field(default_factory=dict)  # what the files of its backups end in

    @property
    def whole_server(self) -> bool:
        """One backup set holds every database of the server."""
        return not self.per_database

    @property
    def writes_to_a_share(self) -> bool:
        """Its server writes the backups that Farshore takes, each of one database, to a share (`take_database`)."""
        return self.takes_backups and self.per_database

    def takes_incrementals_of(self, version: str) -> bool:
        """Whether incrementals can be taken of this version; one that is not known may be new enough."""
        return bool(self.incrementals_since) and (not version or _major(version) >= self.incrementals_since)

    def writes_to_buckets(self, version: str) -> bool:
        """Whether a server of this version writes to an S3 bucket by itself; one that is not known does not."""
        return bool(self.writes_to_buckets_since) and self.writes_to_buckets_since <= _major(version) < A_YEAR


A_YEAR = 1000  # "2019" is what a version is called, not its number: what it can is known once the server has said it


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


class Verdict(Protocol):
    """What a verifier concludes: the level proven (or "damaged"), and the same in a sentence."""

    @property
    def level(self) -> str: ...

    @property
    def sentence(self) -> str: ...


class Verifier(Protocol):
    """Checks a file by what stands in it while its bytes stream past in order; `state` survives an interruption."""

    def feed(self, data: memoryview) -> None: ...

    def verdict(self) -> Verdict: ...

    def state(self) -> dict[str, Any]: ...

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Verifier: ...


class Engine(Protocol):
    """One engine; a verb it does not offer is None.

    `inspect` and `verifier` read found files; `probe`, `take_full` and `take_incremental` (on a Base; it may say
    FullNeeded) talk to a server that is backed up, `inspect_databases` says how each of its databases stands and
    `look_around` what stands beside them (logins, jobs); `being_backed_up` names those that somebody else backs up at
    this moment into files that Farshore can find. Where backups are of one database each, `take_database` lets
    the server write one into a share (a DatabaseOrder, a Share), `write_database` into a Bucket; `find_written` says
    what an earlier attempt at that came to. `snapshot_database` suspends one while somebody has the storage take a
    snapshot of it; `thaw_database` ends what an attempt at that left.
    `receive_logs` works until it is stopped, `forget_receiver` ends what the server keeps for it and `receiver_lag`
    says how many bytes that is. `restore`, `start_again`, `discard` make and unmake a restored server, of the versions
    that `startable_versions` names ("17" is every 17.x); `take_over` starts one at the address that was another's, from
    then on. `inspect_landing`, `restore_database` and `drop_database` (of what that one made, nothing else) work on a
    server that is there: one that is kept for this, a landing server; `lives_in` says whether a database there has
    files that a snapshot brought. `check`, `count_rows` and `ask` (one value to one question, as text) look into it;
    `why_not_ask` says of a question alone why it could never be answered.
    `login_script` is what an administrator runs to let Farshore in with no more rights than it uses. `restore_by_hand`
    says how the files of a set, by their names, are restored without us.
    """

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def inspect(self) -> Callable[[ReadAt, int], Inspection] | None: ...

    @property
    def verifier(self) -> Callable[[], Verifier] | None: ...

    @property
    def probe(self) -> Callable[..., Any] | None: ...

    @property
    def inspect_databases(self) -> Callable[[Connection], list[DatabaseStanding]] | None: ...

    @property
    def look_around(self) -> Callable[[Connection], Surroundings] | None: ...

    @property
    def being_backed_up(self) -> Callable[[Connection], frozenset[str]] | None: ...

    @property
    def read_history(self) -> Callable[..., HistoryPage] | None: ...

    @property
    def differences(self) -> Callable[[SetFacts, SetFacts], tuple[str, ...]] | None: ...

    @property
    def breakers(self) -> Callable[..., list[Breaker]] | None: ...

    @property
    def told_by_history(self) -> tuple[str, ...]: ...

    @property
    def take_full(self) -> Callable[..., Any] | None: ...

    @property
    def take_incremental(self) -> Callable[..., Any] | None: ...

    @property
    def take_database(self) -> Callable[..., SharedBackup] | None: ...

    @property
    def write_database(self) -> Callable[..., SharedBackup] | None: ...

    @property
    def snapshot_database(self) -> Callable[..., SharedBackup] | None: ...

    @property
    def thaw_database(self) -> Callable[..., None] | None: ...

    @property
    def find_written(self) -> Callable[..., SharedBackup | None] | None: ...

    @property
    def receive_logs(self) -> Callable[..., Any] | None: ...

    @property
    def forget_receiver(self) -> Callable[..., Any] | None: ...

    @property
    def receiver_lag(self) -> Callable[..., int] | None: ...

    @property
    def restore(self) -> Callable[[RestoreRequest], RestoreResult] | None: ...

    @property
    def start_again(self) -> Callable[[Path, str], RunningServer] | None: ...

    @property
    def take_over(self) -> Callable[..., RunningServer] | None: ...

    @property
    def inspect_landing(self) -> Callable[..., LandingFacts] | None: ...

    @property
    def restore_database(self) -> Callable[[Connection, LandedRequest], LandedDatabase] | None: ...

    @property
    def drop_database(self) -> Callable[..., bool] | None: ...

    @property
    def startable_versions(self) -> Callable[[], list[str]] | None: ...

    @property
    def discard(self) -> Callable[[Path], None] | None: ...

    @property
    def lives_in(self) -> Callable[..., bool] | None: ...

    @property
    def check(self) -> Callable[..., CheckResult] | None: ...

    @property
    def count_rows(self) -> Callable[..., dict[str, int]] | None: ...

    @property
    def ask(self) -> Callable[..., str] | None: ...

    @property
    def why_not_ask(self) -> Callable[[str], Refusal | None] | None: ...

    @property
    def login_script(self) -> Callable[..., str] | None: ...

    @property
    def restore_by_hand(self) -> Callable[[SetFacts, Sequence[str]], str]: ...

    @property
    def chain_rules(self) -> ChainRules: ...


@dataclass(frozen=True)
class EnginePackage:
    """An engine whose verbs are the functions of the package `backups.engines.<name>`."""

    name: str
    capabilities: Capabilities

    @property
    def inspect(self) -> Callable[[ReadAt, int], Inspection] | None:
        return self._verb("inspect")

    @property
    def verifier(self) -> Callable[[], Verifier] | None:
        return self._verb("Verifier")

    @property
    def probe(self) -> Callable[..., Any] | None:
        return self._verb("probe")

    @property
    def inspect_databases(self) -> Callable[[Connection], list[DatabaseStanding]] | None:
        return self._verb("inspect_databases")

    @property
    def look_around(self) -> Callable[[Connection], Surroundings] | None:
        return self._verb("look_around")

    @property
    def being_backed_up(self) -> Callable[[Connection], frozenset[str]] | None:
        return self._verb("being_backed_up")

    @property
    def read_history(self) -> Callable[..., HistoryPage] | None:
        return self._verb("read_history")

    @property
    def differences(self) -> Callable[[SetFacts, SetFacts], tuple[str, ...]] | None:
        return self._verb("differences")

    @property
    def breakers(self) -> Callable[..., list[Breaker]] | None:
        return self._verb("breakers")

    @property
    def told_by_history(self) -> tuple[str, ...]:
        return self._verb("told_by_history") or ()

    @property
    def take_full(self) -> Callable[..., Any] | None:
        return self._verb("take_full")

    @property
    def take_incremental(self) -> Callable[..., Any] | None:
        return self._verb("take_incremental")

    @property
    def take_database(self) -> Callable[..., SharedBackup] | None:
        return self._verb("take_database")

    @property
    def write_database(self) -> Callable[..., SharedBackup] | None:
        return self._verb("write_database")

    @property
    def snapshot_database(self) -> Callable[..., SharedBackup] | None:
        return self._verb("snapshot_database")

    @property
    def thaw_database(self) -> Callable[..., None] | None:
        return self._verb("thaw_database")

    @property
    def find_written(self) -> Callable[..., SharedBackup | None] | None:
        return self._verb("find_written")

    @property
    def receive_logs(self) -> Callable[..., Any] | None:
        return self._verb("receive_logs")

    @property
    def forget_receiver(self) -> Callable[..., Any] | None:
        return self._verb("forget_receiver")

    @property
    def receiver_lag(self) -> Callable[..., int] | None:
        return self._verb("receiver_lag")

    @property
    def restore(self) -> Callable[[RestoreRequest], RestoreResult] | None:
        return self._verb("restore")

    @property
    def start_again(self) -> Callable[[Path, str], RunningServer] | None:
        return self._verb("start_again")

    @property
    def take_over(self) -> Callable[..., RunningServer] | None:
        return self._verb("take_over")

    @property
    def inspect_landing(self) -> Callable[..., LandingFacts] | None:
        return self._verb("inspect_landing")

    @property
    def restore_database(self) -> Callable[[Connection, LandedRequest], LandedDatabase] | None:
        return self._verb("restore_database")

    @property
    def drop_database(self) -> Callable[..., bool] | None:
        return self._verb("drop_database")

    @property
    def startable_versions(self) -> Callable[[], list[str]] | None:
        return self._verb("startable_versions")

    @property
    def discard(self) -> Callable[[Path], None] | None:
        return self._verb("discard")

    @property
    def lives_in(self) -> Callable[..., bool] | None:
        return self._verb("lives_in")

    @property
    def check(self) -> Callable[..., CheckResult] | None:
        return self._verb("check")

    @property
    def count_rows(self) -> Callable[..., dict[str, int]] | None:
        return self._verb("count_rows")

    @property
    def ask(self) -> Callable[..., str] | None:
        return self._verb("ask")

    @property
    def why_not_ask(self) -> Callable[[str], Refusal | None] | None:
        return self._verb("why_not_ask")

    @property
    def login_script(self) -> Callable[..., str] | None:
        return self._verb("login_script")

    @property
    def restore_by_hand(self) -> Callable[[SetFacts, Sequence[str]], str]:
        return import_module(f"{__name__}.{self.name}.by_hand").restore_by_hand

    @property
    def chain_rules(self) -> ChainRules:
        return import_module(f"{__name__}.{self.name}.chains").CHAIN_RULES

    def _verb(self, verb: str) -> Callable[..., Any] | None:
        return getattr(import_module(f"{__name__}.{self.name}"), verb, None)


_SQLSERVER = Capabilities(
    label="SQL Server",
    takes_backups=True,
    discovers_files=True,
    per_database=True,
    file_endings=(".bak", ".trn", ".dif"),
    out_of_turn_is_copy_only=True,
    secondary_full_is_copy_only=True,
    can_snapshot=True,
    default_method=Method.PHYSICAL,
    default_port=1433,
    version_question="SELECT @@VERSION",
    takes_differentials=True,
    takes_logs=True,
    writes_to_buckets_since=16,  # 2022
    endings_by_kind=MappingProxyType({Kind.FULL: ".bak", Kind.DIFFERENTIAL: ".dif", Kind.LOG: ".trn"}),
)

_POSTGRESQL = Capabilities(
    label="PostgreSQL",
    takes_backups=True,
    discovers_files=False,
    per_database=False,
    file_endings=(".tar",),
    out_of_turn_is_copy_only=False,
    secondary_full_is_copy_only=False,
    can_snapshot=False,
    default_method=Method.PHYSICAL,
    default_port=5432,
    client="psql -h {host} -p {port} -U {username} postgres",  # else it asks for a database of the user's name
    differential_label="Incremental",
    incrementals_since=17,
)

_MARIADB = Capabilities(
    label="MariaDB",
    takes_backups=True,
    discovers_files=False,
    per_database=False,
    file_endings=(".mbstream",),
    out_of_turn_is_copy_only=False,
    secondary_full_is_copy_only=False,
    can_snapshot=False,
    default_method=Method.PHYSICAL,
    default_port=3306,
    client="mariadb -h {host} -P {port} -u {username} -p",
    differential_label="Incremental",
)

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        "sqlserver": EnginePackage("sqlserver", _SQLSERVER),
        "postgresql": EnginePackage("postgresql", _POSTGRESQL),
        "mariadb": EnginePackage("mariadb", _MARIADB),
    }
)


def engine_of(name: str) -> Engine:
    try:
        return ENGINES[name]
    except KeyError:
        known = ", ".join(sorted(ENGINES))
        raise Refusal("UnknownEngine", f"{name!r} is not an engine.", f"Use one of {known}.", "engine") from None


def is_older(version: str, than: str) -> bool:
    """Whether a server of this version is of an earlier major than that; one that is not known is not."""
    return bool(version and than) and _major(version) < _major(than)


def startable_here() -> dict[str, list[str]]:
    """Return engine -> versions of which this machine can start a server, for those that can say."""
    return {name: engine.startable_versions() for name, engine in ENGINES.items() if engine.startable_versions}


def is_among(version: str, startable: Iterable[str]) -> bool:
    """Whether a server of this version can be started where these can: 16.4 where 16 can, 10.11.6 where 10.11 can."""
    return any(f"{version}.".startswith(f"{known}.") for known in startable)
