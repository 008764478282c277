"""Taking a backup: the server writes it TO DISK on a share, a second connection watches it and can end it.

The path is one that the server and this worker both see, each under its own name (`Share`). What was written is read
back by its header and compared with what msdb says of it, so that a share that is not the same one is noticed at once.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from backups.engines.facts import Connection, DatabaseStanding, Inspection, Kind, SetFacts
from backups.engines.sqlserver import history
from backups.engines.sqlserver.connecting import Session, quoted_name, session
from backups.engines.sqlserver.reader import inspect
from backups.engines.sqlserver.reconciling import differences
from backups.engines.sqlserver.saying_no import SEEN_ONLY_BY_MSDB
from backups.engines.sqlserver.server import Look, databases_of, look, why_not
from backups.engines.sqlserver.watching import Progress, Stop, carry_out
from regions.refusals import Refusal

SUCCEEDED = 3014
MOST_STRIPES = 64
ENDINGS = {Kind.FULL: "bak", Kind.DIFFERENTIAL: "dif", Kind.LOG: "trn"}
SECONDARIES_TAKE_ALL_SINCE = 17  # 2025


@dataclass(frozen=True)
class Share:
    """One folder under two names: `called` by the server (\\\\files\\sql or /var/backups), `folder` on this worker."""

    called: str
    folder: Path

    def device(self, name: str) -> str:
        sign = "\\" if "\\" in self.called else "/"
        return f"{self.called.rstrip(sign)}{sign}{name}"


@dataclass(frozen=True)
class Order:
    """What is to be taken. `compress` is left out where the edition cannot."""

    database: str
    kind: Kind = Kind.FULL
    copy_only: bool = False
    compress: bool = True
    stripes: int = 1


@dataclass(frozen=True)
class TakenFiles:
    """A backup that the server wrote whole: its facts, the names of its files in the share's folder, stripe by stripe.

    `notes` are sentences worth showing beside it.
    """

    facts: SetFacts
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def take(
    connection: Connection,
    order: Order,
    share: Share,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    seconds: float | None = None,
) -> TakenFiles:
    """Let the server back up one database into the share.

    Nothing was taken unless this returns: it raises Refusal with the reason in words (also when it took longer than
    `seconds`), or Stopped when `stop` said so; then the server has given it up, and what it had written is removed.
    `progress(percent)` and `stop()` are called about twice a second. Safe to repeat: every backup has files of its own.
    """
    if not share.folder.is_dir():
        raise _not_shared(share, f"{share.folder} is no folder here")
    with ExitStack() as stack:
        watching = stack.enter_context(session(connection))
        found = look(watching)
        why_not(found)
        notes = _checked(watching, found, order)
        plan = _planned(order, found)
        taking = stack.enter_context(session(connection))
        try:
            _carry_out(taking, watching, plan, share, progress=progress, stop=stop, seconds=seconds)
            remembered = _remembered(watching, plan)
            facts = _facts_of(remembered, plan, share)
        except BaseException:
            _remove(plan, share)
            raise
    return TakenFiles(facts, plan.files, tuple(notes))


# ---- before anything is begun


def _checked(watching: Session, found: Look, order: Order) -> list[str]:
    """Raise Refusal when the database cannot be backed up so; returns what is worth saying all the same."""
    known = {one.name.casefold(): one for one in databases_of(watching, found)}
    database = known.get(order.database.casefold())
    if not database:
        raise Refusal(
            "DatabaseMissing", f"The server has no database {order.database}.", "Look at its databases again."
        )
    if refusal := why_not_take(database, order, found.major):
        raise refusal
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
    """One order with the names it goes by: the set's own in msdb, and those of its files."""

    order: Order
    name: str
    files: tuple[str, ...]
    compress: bool


def _planned(order: Order, found: Look) -> Plan:
    token = uuid4().hex[:12]
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", order.database)[:60]
    stem = f"{safe}_{order.kind}_{datetime.now(UTC):%Y%m%d_%H%M%S}_{token}"
    ending = ENDINGS[order.kind]
    if order.stripes == 1:
        files: tuple[str, ...] = (f"{stem}.{ending}",)
    else:
        files = tuple(f"{stem}_{number}of{order.stripes}.{ending}" for number in range(1, order.stripes + 1))
    compress = order.compress and "Express" not in found.edition
    return Plan(order, f"Farshore {order.kind} {token}", files, compress)


def statement_of(plan: Plan) -> str:
    """The BACKUP statement; the devices and the set's name are its parameters, in this order."""
    order = plan.order
    what = "LOG" if order.kind is Kind.LOG else "DATABASE"
    options = ["FORMAT", "CHECKSUM", "COMPRESSION" if plan.compress else "NO_COMPRESSION", "STATS = 5"]
    options += ["COPY_ONLY"] if order.copy_only else []
    options += ["DIFFERENTIAL"] if order.kind is Kind.DIFFERENTIAL else []
    devices = ", ".join("DISK = %s" for _ in plan.files)
    name = quoted_name(order.database).replace("%", "%%")
    return f"BACKUP {what} {name} TO {devices} WITH {', '.join(options)}, NAME = %s"


def _carry_out(taking: Session, watching: Session, plan: Plan, share: Share, **asked: Any) -> None:
    devices = [share.device(file) for file in plan.files]
    said = carry_out(taking, watching, statement_of(plan), *devices, plan.name, **asked)
    if not any(message.number == SUCCEEDED for message in said):
        raise Refusal("NotConfirmed", "The server did not say that the backup succeeded.", "See the server's log.")


# ---- afterwards


def _remembered(watching: Session, plan: Plan) -> history.HistorySet:
    found = history.set_named(watching, plan.name, plan.order.database)
    if not found:
        raise Refusal(
            "NotInHistory",
            "The server took the backup and its msdb does not name it.",
            "See that nobody cleans msdb at once.",
        )
    return found


def _facts_of(remembered: history.HistorySet, plan: Plan, share: Share) -> SetFacts:
    """Return what the files say of themselves, once msdb agrees; what msdb says where they cannot be read."""
    facts = None
    for sequence, file in enumerate(plan.files, 1):
        inspection = _inspected(share, file)
        if inspection.refusal and inspection.refusal.code in SEEN_ONLY_BY_MSDB:
            facts = facts or remembered.facts
            continue
        if inspection.refusal:
            raise _not_shared(share, f"{file}: {inspection.refusal.sentence}")
        read = inspection.sets[0]
        fields = differences(remembered.facts, read)
        if fields or read.set_guid != remembered.facts.set_guid or read.family_sequence != sequence:
            raise _not_shared(share, f"{file} is not what the server wrote ({', '.join(fields) or 'another set'})")
        facts = facts or read
    return replace(facts, family_count=len(plan.files))


def _inspected(share: Share, name: str) -> Inspection:
    try:
        with open(share.folder / name, "rb") as file:
            size = file.seek(0, 2)

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            return inspect(read, size)
    except OSError as error:
        raise _not_shared(share, f"{name} cannot be read here: {error.strerror}") from error


def _not_shared(share: Share, why: str) -> Refusal:
    return Refusal(
        "NotShared",
        f"What the server writes to {share.called} is not what this worker sees in its folder: {why}.",
        "Mount the same share for both, and let this worker read it.",
    )


def _remove(plan: Plan, share: Share) -> None:
    """Leave nothing behind of a backup that was not taken; these names are nobody else's."""
    for name in plan.files:
        with suppress(OSError):
            (share.folder / name).unlink(missing_ok=True)
