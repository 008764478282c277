"""A database from its backups, on a landing server: checked first, then restored in order, recovered at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from backups.engines.facts import Connection, Kind, Method, SetFacts
from backups.engines.sqlserver.chains import is_base
from backups.engines.sqlserver.connecting import Session, quoted_name, quoted_text, session
from backups.engines.sqlserver.dropping import drop_database
from backups.engines.sqlserver.watching import Stop, carry_out
from regions.refusals import Refusal

LANDING = """
SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version,
       CAST(SERVERPROPERTY('InstanceDefaultDataPath') AS nvarchar(260)) AS data_path,
       CAST(SERVERPROPERTY('InstanceDefaultLogPath') AS nvarchar(260)) AS log_path,
       HAS_PERMS_BY_NAME(NULL, NULL, 'CREATE ANY DATABASE') AS creates
"""
EXISTING = "SELECT state_desc FROM sys.databases WHERE name = %s"
LONGEST_NAME = 128

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Source:
    """One backup set, and its files as the landing server calls them, stripe by stripe; of a snapshot also the
    database's own files (`data`), in the order of their numbers, which it is restored into where they lie."""

    facts: SetFacts
    devices: tuple[str, ...]
    data: tuple[str, ...] = ()

    @property
    def is_snapshot(self) -> bool:
        return self.facts.method is Method.SNAPSHOT

    @property
    def asked(self) -> list[str]:
        """What is said to every question about it."""
        return [f"FILE = {self.facts.position}", *(["METADATA_ONLY"] if self.is_snapshot else [])]


Begins = Callable[[Source | None], None]


@dataclass(frozen=True)
class Request:
    """One database to restore. `sets`: a full and at most one differential; `logs` what came after, in order.

    `until` is an aware moment, None: as far as the logs go. A database of the same name is only overwritten where
    `overwrite` says so. `marker` stands in the names of the database's own files: what failed is only dropped again
    where it does.
    """

    name: str
    sets: tuple[Source, ...]
    logs: tuple[Source, ...] = ()
    until: datetime | None = None
    overwrite: bool = False
    marker: str = ""

    @property
    def sources(self) -> tuple[Source, ...]:
        return (*self.sets, *self.logs)


@dataclass(frozen=True)
class Restored:
    """A database that is there and recovered. It has everything that was committed until `restored_until`."""

    name: str
    restored_until: datetime
    files: tuple[str, ...]


def restore(
    connection: Connection,
    request: Request,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    begins: Begins | None = None,
) -> Restored:
    """Restore the database; raises Refusal with the reason in words, or Stopped when `stop` said so.

    Everything that can be known before is checked before. On failure nothing is left behind that was not there: a
    database that was begun is dropped (not one that was to be overwritten, which stays RESTORING). `progress` is told
    the stage (the set's kind) and its percent; `begins` is told of each set, and of None before it is brought online.
    """
    if refusal := why_not_restore(request):
        raise refusal
    with ExitStack() as stack:
        watching = stack.enter_context(session(connection))
        landing = watching.ask(LANDING)[0]
        _check_landing(watching, landing, request)
        zones = [_checked(watching, source, landing) for source in request.sources]
        moves = _moves(watching, request, landing)
        working = stack.enter_context(session(connection))
        run = partial(carry_out, working, watching, stop=stop)
        try:
            _restore_all(run, request, moves, zones, progress, begins)
            if begins:
                begins(None)
            run(f"RESTORE DATABASE {quoted_name(request.name)} WITH RECOVERY")
        except BaseException:
            if not request.overwrite:
                _drop(connection, request)
            raise
    return Restored(request.name, request.until or _reaches(request.sources[-1].facts), tuple(moves.values()))


# ---- before anything is begun


def why_not_restore(request: Request) -> Refusal | None:
    """Return why these sets do not make one database, None when they do. Pure; by position, never by name or time."""
    full, *others = [source.facts for source in request.sets] or [None]
    if full is None or full.kind is not Kind.FULL or len(others) > 1:
        return Refusal("FullMissing", "A restore begins with one full backup.", "Choose it, and what stands on it.")
    if others and not is_base(full, others[0]):
        return Refusal("OtherBase", "The differential stands on another full.", "Take the full that it was made from.")
    if not request.name or len(request.name) > LONGEST_NAME:
        return Refusal("BadName", f"A name has 1 to {LONGEST_NAME} characters.", "Enter another name.", "name")
    for source in request.sources:
        if source.is_snapshot and not source.data:
            return without_files(source.facts.database)
        if len(source.devices) + len(source.data) != source.facts.family_count:
            return Refusal(
                "StripesMissing",
                f"A set of {source.facts.database} has {source.facts.family_count} stripes, {len(source.devices)} are "
                "there.",
                "Restore from all files of the set together.",
            )
    last = others[0] if others else full
    return _why_no_logs(last, request.logs) or _why_not_until(last, request)


def without_files(database: str) -> Refusal:
    return Refusal(
        "SnapshotWithoutFiles",
        f"Of the snapshot of {database} only its metadata is there; its data is in the storage of whoever took it.",
        "Restore it with the tool that took it, or choose another backup.",
        "set",
    )


def _why_no_logs(last: SetFacts, logs: Sequence[Source]) -> Refusal | None:
    reached = last.last_position
    for log in logs:
        facts = log.facts
        if facts.kind is not Kind.LOG or (facts.family_guid, facts.fork) != (last.family_guid, last.fork):
            return Refusal("OtherFork", "A log is of another history.", "Restore along one history only.")
        if facts.first_position > reached:
            return Refusal(
                "LogGap",
                f"Between {reached} and {facts.first_position} a log is missing.",
                "Restore up to the gap, or from a later full.",
            )
        if facts.last_position < reached:
            return Refusal("LogTooEarly", "A log ends before what is restored already.", "Leave it out.")
        reached = facts.last_position
    return None


def _why_not_until(last: SetFacts, request: Request) -> Refusal | None:
    if request.until is None:
        return None
    if request.until < last.finished_at:
        return Refusal(
            "MomentTooEarly",
            "The moment lies before the end of the backup.",
            "Choose an earlier set, or a later moment.",
        )
    if not request.logs or request.until > request.logs[-1].facts.finished_at:
        return Refusal("MomentBeyondLogs", "The logs do not reach to that moment.", "Choose an earlier moment.")
    return None


def _check_landing(watching: Session, landing: dict[str, Any], request: Request) -> None:
    if not landing["creates"]:
        raise Refusal(
            "MayNotCreate",
            f"{watching.connection.username} may not create databases there.",
            "Make it a member of dbcreator; the script does that.",
            "username",
        )
    if watching.ask(EXISTING, request.name) and not request.overwrite:
        raise Refusal(
            "NameTaken",
            f"The server has a database {request.name} already.",
            "Choose another name, or say that it is to be overwritten.",
            "name",
        )


def _checked(watching: Session, source: Source, landing: dict[str, Any]) -> timedelta:
    """Raise Refusal unless the server finds this very set there and is new enough; returns the time zone it was written
    in: a header is printed in the time of the server that wrote it, and STOPAT is understood in it."""
    facts = source.facts
    metadata = " WITH METADATA_ONLY" if source.is_snapshot else ""
    rows = watching.ask(f"RESTORE HEADERONLY FROM DISK = %s{metadata}", source.devices[0])
    found = [row for row in rows if str(row["BackupSetGUID"]).lower() == facts.set_guid]
    if not found:
        raise Refusal(
            "NotThisSet",
            f"{source.devices[0]} does not hold the backup of {facts.database} that it is taken for.",
            "Put the copy there again.",
        )
    ours, theirs = int(landing["version"].partition(".")[0]), int(found[0]["SoftwareVersionMajor"])
    if theirs > ours:
        raise Refusal(
            "NewerVersion",
            f"The backup was made by SQL Server {theirs}, this one is {ours}.",
            "Restore on one that is as new.",
        )
    written = found[0]["BackupFinishDate"].replace(tzinfo=UTC, microsecond=0)
    return timedelta(minutes=15 * round((written - facts.finished_at) / timedelta(minutes=15)))


def _moves(watching: Session, request: Request, landing: dict[str, Any]) -> dict[str, str]:
    """Logical name -> path on the landing server, in its own default folders, under the new database's name."""
    full = request.sets[0]
    rows = watching.ask(f"RESTORE FILELISTONLY FROM {_disks(full)} WITH {', '.join(full.asked)}", *full.devices)
    if full.is_snapshot:
        return _in_place(full, rows)
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", request.name)[:60]
    marked = f"{safe}_{request.marker}" if request.marker else safe
    moves = {}
    for number, row in enumerate(rows):
        place, ending = landing["data_path"], ".mdf" if not number else ".ndf"
        if row["Type"] == "L":
            place, ending = landing["log_path"], ".ldf"
        elif row["Type"] != "D":  # filestream and in-memory data lie in folders
            ending = ""
        moves[row["LogicalName"]] = f"{place}{marked}_{int(row['FileId'])}{ending}"
    return moves


def _in_place(full: Source, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Logical name -> the file of a snapshot that lies in the share already, by their numbers."""
    if len(rows) != len(full.data):
        said = f"The metadata names {len(rows)} files of {full.facts.database}, and {len(full.data)} are there."
        raise Refusal("OtherFiles", said, "Restore from another set.", "set")
    numbered = sorted(rows, key=lambda row: int(row["FileId"]))
    return {row["LogicalName"]: path for row, path in zip(numbered, full.data, strict=True)}


# ---- restoring


def _restore_all(
    run: Callable[..., object],
    request: Request,
    moves: dict[str, str],
    zones: list[timedelta],
    progress: Progress | None,
    begins: Begins | None,
) -> None:
    for source, zone in zip(request.sources, zones, strict=True):
        if begins:
            begins(source)
        statement = statement_of(request, source, moves, zone)
        told = partial(progress, str(source.facts.kind)) if progress else None
        run(statement, *source.devices, progress=told)


def statement_of(request: Request, source: Source, moves: dict[str, str], zone: timedelta) -> str:
    """The RESTORE of one set; its devices are the parameters."""
    facts = source.facts
    options = [*source.asked, "NORECOVERY"]
    if not source.is_snapshot:  # nothing is read but its metadata
        options += ["STATS = 5", *(["CHECKSUM"] if facts.has_checksums else [])]
    if facts.kind is Kind.FULL:
        options += ["REPLACE"] if request.overwrite else []
        options += [f"MOVE {quoted_text(name)} TO {quoted_text(path)}" for name, path in moves.items()]
    if facts.kind is Kind.LOG and request.until:
        moment = (request.until.astimezone(UTC) + zone).replace(tzinfo=None)
        options += [f"STOPAT = '{moment.isoformat(timespec='milliseconds')}'"]
    what = "LOG" if facts.kind is Kind.LOG else "DATABASE"
    name, asked = quoted_name(request.name), ", ".join(options)
    return f"RESTORE {what} {_plain(name)} FROM {_disks(source)} WITH {_plain(asked)}"


def _plain(words: str) -> str:
    """Words among which the driver is to look for no parameter."""
    return words.replace("%", "%%")


def _disks(source: Source) -> str:
    return ", ".join("DISK = %s" for _ in source.devices)


def _reaches(facts: SetFacts) -> datetime:
    """A log surely holds what was committed before it began."""
    return facts.started_at if facts.kind is Kind.LOG else facts.finished_at


def _drop(connection: Connection, request: Request) -> None:
    """Leave no half database behind; only one that is still being restored is dropped, or that carries our marker."""
    with suppress(Refusal):
        if request.marker:
            drop_database(connection, request.name, markers=[request.marker])
            return
        with session(connection) as opened:
            if [row["state_desc"] for row in opened.ask(EXISTING, request.name)] == ["RESTORING"]:
                opened.run(f"DROP DATABASE {quoted_name(request.name)}")
