"""A snapshot backup (2022 and later): writes are suspended while somebody has the storage take a snapshot, and BACKUP …
WITH METADATA_ONLY records it and lets them go on.

A suspension is its session's: the server ends it with the session, whoever died. That is the last resort, never the
plan: on every path out of here it is ended, and seen to have ended, within the time that was allowed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from uuid import uuid4

from backups.engines.facts import Connection, DatabaseFile, DatabaseOrder, Method, SetFacts, Share, SharedBackup
from backups.engines.sqlserver import history
from backups.engines.sqlserver.connecting import Session, quoted_name, session
from backups.engines.sqlserver.server import Look, look, why_not
from backups.engines.sqlserver.taking import (
    LOOK_SECONDS,
    SUCCEEDED,
    Plan,
    facts_of,
    name_of_set,
    not_shared,
    notes_on,
    program_of,
    safe_name,
    sessions,
    standing_of,
)
from backups.engines.sqlserver.watching import Stop, carry_out
from regions.refusals import Refusal

OLDEST_MAJOR = 16  # 2022
END_SECONDS = 30.0
OFF_SECONDS = 5.0
GRACE_SECONDS = 1.0
PAGE = 8192
KINDS = {0: "data", 1: "log"}
FILES = "SELECT file_id, type, type_desc, name, physical_name, size FROM sys.database_files ORDER BY file_id"
MAY_ALTER = "SELECT HAS_PERMS_BY_NAME(%s, 'DATABASE', 'ALTER') AS may"
SUSPENDED = "SELECT db_name, suspend_session_id FROM sys.dm_server_suspend_status"
SESSION = "SELECT program_name FROM sys.dm_exec_sessions WHERE session_id = %s"

Freeze = Callable[[tuple[DatabaseFile, ...], float], None]


def snapshot_database(
    connection: Connection,
    order: DatabaseOrder,
    share: Share,
    *,
    journal: Callable[[str], None],
    freeze: Freeze,
    thawed: Callable[[], None],
    seconds: float,
    stop: Stop | None = None,
) -> SharedBackup:
    """Take a snapshot backup of one database; what it returns is the file of its metadata in the share.

    `journal(name)` hears that file's name before anything is suspended. `freeze(files, seconds)`, while it is, has the
    storage take its snapshot within so many seconds, or raises. `thawed()` says that writes are seen to go on; it is
    called however this ends, unless the server does not answer any more. From the beginning of the suspension to its
    end it takes at most `seconds`. Raises Refusal or Stopped, and what `freeze` raises. Whoever calls removes the
    metadata.
    """
    with session(connection) as watching:
        found = look(watching)
        _require_snapshots(found)
        if not share.folder.is_dir():
            raise not_shared(share, f"{share.folder} is no folder here")
        notes = notes_on(standing_of(watching, found, order), found)
        _require_right(watching, order.database)
        taking = Taking(connection, watching, _planned(order), share, freeze, thawed, seconds, stop)
        facts = taking.take(journal)
    return SharedBackup(facts, taking.plan.files, tuple(notes))


def thaw_database(connection: Connection, order: DatabaseOrder) -> None:
    """End what an earlier attempt, the order's, left suspended, and see that it has ended.

    Somebody else's suspension of that database is left alone. Raises Refusal when it is not certain. Safe to repeat.
    """
    with session(connection) as watching:
        _require_snapshots(look(watching))
        _resume(watching, _planned(order), END_SECONDS)


# ---- before anything is begun


def _require_snapshots(found: Look) -> None:
    why_not(found)
    if found.major < OLDEST_MAJOR:
        raise Refusal(
            "NoSnapshots",
            f"The server is SQL Server {found.version}; snapshot backups begin with 2022 (16.0).",
            "Upgrade the server, or make the instance's backup method physical.",
            "backup_method",
        )
    if not found.sees_requests:
        raise Refusal(
            "MayNotSeeState",
            f"{found.account} does not see whether a database is still suspended.",
            "GRANT VIEW SERVER PERFORMANCE STATE; the script does that.",
            "username",
        )


def _require_right(watching: Session, database: str) -> None:
    if not watching.ask(MAY_ALTER, quoted_name(database))[0]["may"]:
        raise Refusal(
            "MayNotSuspend",
            f"{watching.connection.username} may not suspend {database} for a snapshot.",
            "GRANT ALTER in that database; the script for a snapshot instance does that.",
            "username",
        )


def files_of(inside: Session) -> tuple[DatabaseFile, ...]:
    """Return the files of the session's own database, as large as they are now, in the order of their numbers."""
    rows = inside.ask(FILES)
    for row in rows:
        if row["type"] not in KINDS:
            raise Refusal(
                "FilesInFolders",
                f"{row['name']} ({row['type_desc']}) lies in a folder of many files, which no snapshot here carries.",
                "Make the instance's backup method physical.",
                "backup_method",
            )
    return tuple(
        DatabaseFile(row["name"], row["physical_name"], KINDS[row["type"]], row["size"] * PAGE, row["file_id"])
        for row in rows
    )


def _planned(order: DatabaseOrder) -> Plan:
    whose = str(order.attempt or uuid4().hex[:12])
    file = f"{safe_name(order.database)}_{order.kind}_{whose}.bkm"
    return Plan(order, name_of_set(order.kind, whose), program_of(whose), (file,), compress=False)


# ---- while it is suspended


@dataclass
class Taking:
    """One snapshot backup being taken; `watching` looks on from a session of its own."""

    connection: Connection
    watching: Session
    plan: Plan
    share: Share
    freeze: Freeze
    thawed: Callable[[], None]
    seconds: float
    stop: Stop | None
    until: float = 0.0
    files: tuple[DatabaseFile, ...] = ()

    def take(self, journal: Callable[[str], None]) -> SetFacts:
        with session(replace(self.connection, dbname=self.plan.order.database)) as inside:
            files_of(inside)  # what speaks against them is said before anything waits
            journal(self.plan.files[0])
            with session(self.connection, self.plan.program) as taking, self._suspended(taking):
                self.files = files_of(inside)
                self.freeze(self.files, self._left())
                self._write(taking)
        return self._written()

    def _left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise Refusal(
                "SuspendedTooLong",
                f"{self.plan.order.database} was suspended for {self.seconds:.0f} s, and no snapshot was taken.",
                "See what the snapshot hook does in that time, or allow more (SNAPSHOT_SECONDS).",
            )
        return left

    @contextmanager
    def _suspended(self, taking: Session) -> Iterator[None]:
        """Suspend writes for as long as this is entered, and see that they go on afterwards."""
        order = self.plan.order
        mode = " (MODE = COPY_ONLY)" if order.copy_only else ""
        self.until = time.monotonic() + self.seconds
        last = threading.Timer(self.seconds + GRACE_SECONDS, taking.shut)  # whatever this thread may hang in
        last.daemon = True
        last.start()
        try:
            self._carry_out(taking, f"{_setting(order.database)} = ON{mode}")
            yield
        finally:
            self._let_go(taking)
            last.cancel()

    def _carry_out(self, taking: Session, statement: str, *values: str) -> list:
        return carry_out(taking, self.watching, statement, *values, seconds=self._left(), stop=self.stop)

    def _write(self, taking: Session) -> None:
        """BACKUP … WITH METADATA_ONLY: it has to be in the session that suspended the database, and ends that."""
        name = quoted_name(self.plan.order.database).replace("%", "%%")
        statement = f"BACKUP DATABASE {name} TO DISK = %s WITH METADATA_ONLY, FORMAT, NAME = %s"
        said = self._carry_out(taking, statement, self.share.device(self.plan.files[0]), self.plan.name)
        if not any(message.number == SUCCEEDED for message in said):
            raise Refusal("NotConfirmed", "The server did not say that the backup succeeded.", "See the server's log.")

    def _let_go(self, taking: Session) -> None:
        """In this session; where it has ended or does not answer, from another."""
        with suppress(Refusal):
            if _ours(self.watching, self.plan):
                taking.run(_off(self.plan.order.database), seconds=OFF_SECONDS)
        taking.shut()
        try:
            _resume(self.watching, self.plan, END_SECONDS)
        except Refusal:  # the watch may be what broke
            with session(self.connection) as another:
                _resume(another, self.plan, END_SECONDS)
        self.thawed()

    def _written(self) -> SetFacts:
        remembered = history.ended(self.watching, self.plan.name, self.plan.order.database)
        facts = facts_of(remembered, self.plan.files, self.share)
        if facts.method is not Method.SNAPSHOT:
            raise Refusal("NotASnapshot", "The server does not call what it wrote a snapshot.", "See its log.")
        size = sum(file.size_bytes for file in self.files)
        return replace(facts, size_bytes=size, family_count=1 + len(self.files))


def _setting(database: str) -> str:
    return f"ALTER DATABASE {quoted_name(database)} SET SUSPEND_FOR_SNAPSHOT_BACKUP"


def _off(database: str) -> str:
    return f"{_setting(database)} = OFF"


# ---- that it has ended


def _ours(watching: Session, plan: Plan) -> bool:
    """Whether the database is suspended by the plan's session, or by one that is there no more."""
    name = plan.order.database.casefold()
    for row in watching.ask(SUSPENDED):
        if row["db_name"].casefold() == name:
            found = watching.ask(SESSION, int(row["suspend_session_id"]))
            return not found or (found[0]["program_name"] or "") == plan.program
    return False


def _resume(watching: Session, plan: Plan, seconds: float) -> None:
    """End the plan's session and its suspension; raises Refusal unless it is seen that neither is there any more."""
    until = time.monotonic() + seconds
    while True:
        theirs = [number for number, name in sessions(watching).items() if name == plan.program]
        if not theirs and not _ours(watching, plan):
            return
        for number in theirs:
            with suppress(Refusal):  # it may have ended by itself, or KILL not be allowed: then it is waited for
                watching.run(f"KILL {int(number)}")
        with suppress(Refusal):
            if _ours(watching, plan):
                watching.run(_off(plan.order.database), seconds=OFF_SECONDS)
        if time.monotonic() > until:
            raise Refusal(
                "StillSuspended",
                f"The server still holds {plan.order.database} suspended for a snapshot that was given up.",
                f"Run {_off(plan.order.database)}; GRANT ALTER there and ALTER ANY CONNECTION let Farshore do it.",
            )
        time.sleep(LOOK_SECONDS)
