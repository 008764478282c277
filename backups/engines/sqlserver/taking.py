"""Taking a backup: the server writes it TO DISK on a share, a second connection watches it and can end it.

The path is one that the server and this worker both see, each under its own name (`Share`). What was written is read
back by its header and compared with what msdb says of it, so that a share that is not the same one is noticed at once.
A backup of the log ends the log on the server: its file is never removed here once the server may have ended it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

from backups.engines.facts import (
    Bucket,
    Connection,
    DatabaseStanding,
    Inspection,
    Kind,
    SetFacts,
    Share,
    SharedBackup,
)
from backups.engines.facts import DatabaseOrder as Order
from backups.engines.sqlserver import history
from backups.engines.sqlserver.connecting import PROGRAM, Session, quoted_name, session
from backups.engines.sqlserver.reader import inspect
from backups.engines.sqlserver.reconciling import differences
from backups.engines.sqlserver.saying_no import SEEN_ONLY_BY_MSDB
from backups.engines.sqlserver.server import Look, databases_of, look, why_not
from backups.engines.sqlserver.watching import Progress, Stop, carry_out
from regions.refusals import Refusal

SUCCEEDED = 3014
FAREWELL_SECONDS, LOOK_SECONDS = 5.0, 0.05
MOST_STRIPES = 64
ENDINGS = {Kind.FULL: "bak", Kind.DIFFERENTIAL: "dif", Kind.LOG: "trn"}
SECONDARIES_TAKE_ALL_SINCE = 17  # 2025
SESSIONS = "SELECT session_id, program_name FROM sys.dm_exec_sessions WHERE program_name LIKE 'Farshore %'"


def take(
    connection: Connection,
    order: Order,
    share: Share,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    seconds: float | None = None,
) -> SharedBackup:
    """Let the server back up one database into the share.

    Raises Refusal with the reason in words (also when it took longer than `seconds`), or Stopped when `stop` said so;
    then the server has given it up, and what it had written is removed. Where that is not certain, because the server
    had ended it just before or does not answer any more, the file stays: `outbox` finds it by its name.
    `progress(percent)` and `stop()` are called about twice a second. Safe to repeat: every backup has files of its own.
    """
    with session(connection) as watching:
        found = look(watching)
        why_not(found)
        return take_watched(watching, found, order, share, progress=progress, stop=stop, seconds=seconds)


def take_watched(watching: Session, found: Look, order: Order, share: Share, **asked: Any) -> SharedBackup:
    """Do what `take` says, of a server that was looked at already."""
    if not share.folder.is_dir():
        raise not_shared(share, f"{share.folder} is no folder here")
    notes = notes_on(standing_of(watching, found, order), found)
    plan = _planned(order, found)
    try:
        with session(watching.connection, plan.program) as taking:
            let_write(taking, watching, plan, share, **asked)
    except BaseException:
        _clear(watching, found, plan, share)
        raise
    return SharedBackup(_written(watching, plan, share), plan.files, tuple(notes))


# ---- before anything is begun


def standing_of(watching: Session, found: Look, order: Order) -> DatabaseStanding:
    """Return how the order's database stands; raises Refusal when it cannot be backed up so."""
    known = {one.name.casefold(): one for one in databases_of(watching, found)}
    database = known.get(order.database.casefold())
    if not database:
        raise Refusal(
            "DatabaseMissing", f"The server has no database {order.database}.", "Look at its databases again."
        )
    if refusal := why_not_take(database, order, found.major):
        raise refusal
    if order.of_secondary and not database.is_secondary:
        raise Refusal(
            "NotASecondary",
            f"The server given as the secondary is none of {database.name}.",
            "Back up the primary, or make the database a part of the availability group.",
            "secondary_host",
        )
    return database


def notes_on(database: DatabaseStanding, found: Look) -> list[str]:
    """Return what is worth saying of a backup that can be taken all the same."""
    if database.availability_group and not database.is_preferred:
        return [f"Taken on {found.name}, although the availability group prefers another replica for backups."]
    return []


def why_not_take(database: DatabaseStanding, order: Order, major: int) -> Refusal | None:
    """Return why this database cannot be backed up so, None when it can. Pure."""
    if not 1 <= order.stripes <= MOST_STRIPES:
        return Refusal("TooManyStripes", f"A backup has 1 to {MOST_STRIPES} stripes.", "Ask for fewer.")
    if not database.is_online:
        return Refusal("DatabaseOffline", f"{database.name} is {database.state}.", "Bring it online first.")
    if not database.may_back_up:
        return Refusal(
            "MayNotBackUp",
            f"The account may not back up {database.name}.",
            "Make it a member of db_backupoperator there; the script does that.",
            "username",
        )
    if order.kind is Kind.DIFFERENTIAL and order.copy_only:
        return Refusal("CopyOnlyDifferential", "No differential is copy-only.", "Ask for a full backup.")
    if order.kind is Kind.LOG and not database.has_logs:
        return Refusal(
            "RecoveryModelSimple",
            f"{database.name} is in recovery model SIMPLE, which has no log backups.",
            "ALTER DATABASE … SET RECOVERY FULL, and then take a full backup.",
        )
    return _why_not_there(database, order) if database.is_secondary and major < SECONDARIES_TAKE_ALL_SINCE else None


def _why_not_there(database: DatabaseStanding, order: Order) -> Refusal | None:
    """On a secondary: copy-only fulls and ordinary logs, nothing else (R-9.3)."""
    if order.kind is Kind.LOG and order.copy_only:
        return Refusal(
            "OnSecondary", f"A secondary of {database.name} takes no copy-only logs.", "Take an ordinary log backup."
        )
    if order.kind is Kind.LOG or (order.kind is Kind.FULL and order.copy_only):
        return None
    return Refusal(
        "OnSecondary",
        f"The server is a secondary of {database.name}: only copy-only fulls and logs can be taken there.",
        "Take a copy-only full there, or back up the primary.",
    )


@dataclass(frozen=True)
class Plan:
    """One order with the names it goes by: the set's own in msdb, the session's, and those of its files."""

    order: Order
    name: str
    program: str
    files: tuple[str, ...]
    compress: bool
    medium: str = "DISK"
    options: tuple[str, ...] = ()


def _planned(order: Order, found: Look) -> Plan:
    whose = str(order.attempt or uuid4().hex[:12])
    stem = f"{safe_name(order.database)}_{order.kind}_{whose}"
    ending = ENDINGS[order.kind]
    if order.stripes == 1:
        files: tuple[str, ...] = (f"{stem}.{ending}",)
    else:
        files = tuple(f"{stem}_{number}of{order.stripes}.{ending}" for number in range(1, order.stripes + 1))
    compress = order.compress and not found.is_express
    return Plan(order, name_of_set(order.kind, whose), program_of(whose), files, compress)


def safe_name(database: str) -> str:
    """As much of a database's name as any file system takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", database)[:60]


def name_of_set(kind: Kind, whose: str) -> str:
    return f"Farshore {kind} {whose}"


def program_of(whose: str) -> str:
    """What the server calls the session that takes it."""
    return f"{PROGRAM} {whose}"


def statement_of(plan: Plan) -> str:
    """The BACKUP statement; the devices and the set's name are its parameters, in this order."""
    order = plan.order
    what = "LOG" if order.kind is Kind.LOG else "DATABASE"
    options = ["FORMAT", "CHECKSUM", "COMPRESSION" if plan.compress else "NO_COMPRESSION", "STATS = 5"]
    options += ["COPY_ONLY"] if order.copy_only else []
    options += ["DIFFERENTIAL"] if order.kind is Kind.DIFFERENTIAL else []
    options += plan.options
    devices = ", ".join(f"{plan.medium} = %s" for _ in plan.files)
    name = quoted_name(order.database).replace("%", "%%")
    return f"BACKUP {what} {name} TO {devices} WITH {', '.join(options)}, NAME = %s"


def let_write(taking: Session, watching: Session, plan: Plan, place: Share | Bucket, **asked: Any) -> None:
    """Let the server carry the plan out, and return when it has said that it succeeded; raises as `carry_out` does."""
    devices = [place.device(file) for file in plan.files]
    said = carry_out(taking, watching, statement_of(plan), *devices, plan.name, **asked)
    if not any(message.number == SUCCEEDED for message in said):
        raise Refusal("NotConfirmed", "The server did not say that the backup succeeded.", "See the server's log.")


# ---- afterwards


def _written(watching: Session, plan: Plan, share: Share) -> SetFacts:
    remembered = _remembered(watching, plan)
    try:
        return facts_of(remembered, plan.files, share)
    except AnotherSet:
        _remove(plan, share)
        raise


def _remembered(watching: Session, plan: Plan) -> history.HistorySet:
    return history.ended(watching, plan.name, plan.order.database)


class AnotherSet(Refusal):
    """What lies under this name is another backup: the one that the server wrote is not there."""


def facts_of(remembered: history.HistorySet, files: tuple[str, ...], share: Share) -> SetFacts:
    """Return what the files say of themselves, once msdb agrees; what msdb says where they cannot be read.

    Raises Refusal where they are not what the server wrote.
    """
    return agreed(remembered, files, partial(inspected, share), partial(not_shared, share))


def agreed(
    remembered: history.HistorySet,
    files: tuple[str, ...],
    look_into: Callable[[str], Inspection],
    refused: Callable[..., Refusal],
) -> SetFacts:
    """As `facts_of`, wherever the files lie: `look_into` reads one, `refused(why)` puts what is wrong into words."""
    facts = None
    for sequence, file in enumerate(files, 1):
        inspection = look_into(file)
        if inspection.refusal and inspection.refusal.code in SEEN_ONLY_BY_MSDB:
            facts = facts or remembered.facts
            continue
        if inspection.refusal:
            raise refused(f"{file}: {inspection.refusal.sentence}")
        read = inspection.sets[0]
        if read.set_guid != remembered.facts.set_guid:
            raise refused(f"{file} is not what the server wrote (another set)", AnotherSet)
        fields = differences(remembered.facts, read)
        if fields or read.family_sequence != sequence:
            raise refused(f"{file} is not what the server wrote ({', '.join(fields) or 'another stripe'})")
        facts = facts or read
    return replace(facts, family_count=len(files))


def inspected(share: Share, name: str) -> Inspection:
    """Read a file in the share by its own header; raises Refusal when it cannot be read here."""
    try:
        with share.open(name) as file:
            size = file.seek(0, 2)

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            return inspect(read, size)
    except OSError as error:
        raise not_shared(share, f"{name} cannot be read here: {error.strerror or error}") from error


def not_shared(share: Share, why: str, kind: type[Refusal] = Refusal) -> Refusal:
    return kind(
        "NotShared",
        f"What the server writes to {share.called} is not what this worker sees in its folder: {why}.",
        "Mount the same share for both, and let this worker read it.",
    )


def _clear(watching: Session, found: Look, plan: Plan, share: Share) -> None:
    """Leave nothing behind of a backup that was not taken; what the server may have ended after all stays."""
    with suppress(Refusal):
        if not plan.order.attempt and not _is_whole(plan, share):
            _remove(plan, share)  # nobody will look for it again
            return
        is_over = found.sees_requests and has_ended(watching, plan.program, FAREWELL_SECONDS)
        if is_over and not history.set_named(watching, plan.name, plan.order.database):
            _remove(plan, share)


def has_ended(watching: Session, program: str, seconds: float) -> bool:
    """Wait until the server has no session of this name any more; it takes a moment to see that one is gone."""
    return comes_true(lambda: program not in sessions(watching).values(), seconds)


def comes_true(asked: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again until it is so; False when it is not in this time."""
    until = time.monotonic() + seconds
    while not asked():
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _is_whole(plan: Plan, share: Share) -> bool:
    try:
        return all(not inspected(share, name).refusal for name in plan.files)
    except Refusal:
        return False


def sessions(watching: Session) -> dict[int, str]:
    """Return our sessions and the names of their programs; all are seen only with VIEW SERVER STATE."""
    return {row["session_id"]: row["program_name"] or "" for row in watching.ask(SESSIONS)}


def _remove(plan: Plan, share: Share) -> None:
    """These names are nobody else's."""
    for name in plan.files:
        with suppress(OSError):
            (share.folder / name).unlink(missing_ok=True)
