"""Snapshot backups of the simulation (SQL Server 2022 and later): writes wait, and the storage is somebody else's.

    ALTER DATABASE name SET SUSPEND_FOR_SNAPSHOT_BACKUP = {ON [(MODE = COPY_ONLY)] | OFF}
    BACKUP DATABASE name TO DISK = path WITH METADATA_ONLY, …          in the session that suspended it; it thaws
    RESTORE DATABASE name FROM DISK = path WITH METADATA_ONLY, MOVE …   onto files that are there already

Where the machine has `volumes` the files of a database lie there while it is suspended, page by page, with what the
database was in the first one. As soon as writes go on they say so: a copy that was made too late, or too early, is
told from a frozen one when somebody restores from it. A session that ends takes its suspension along.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backups.engines.facts import Inspection, SetFacts
from backups.engines.sqlserver import inspect
from demo.mtf import Backup
from demo.tape import PAGE, data_pages
from demo.tds.tokens import Message
from demo.tds.words import Sentence, Wrong

if TYPE_CHECKING:
    from demo.tds.machine import Database, Session, SimulatedMachine

SINCE = 16  # 2022
IS_SNAPSHOT = 2
LOG_PAGES = 4
Say = Callable[[Message], None]


@dataclass
class Suspension:
    """Writes of a database wait, for a session that has a snapshot of the storage taken."""

    session: int
    copy_only: bool = False
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class File:
    """One file of a database; `pages` of 8 KiB."""

    number: int
    name: str
    path: str
    is_log: bool
    pages: int


def files_of(database: Database) -> list[File]:
    found = []
    for number, (name, path) in enumerate(database.on_disk.items(), 1):
        is_log = path.startswith("L:") or path.endswith(".ldf")
        found.append(File(number, name, path, is_log, LOG_PAGES if is_log else max(database.pages, 1)))
    return found


# ---- suspending and resuming


def alter(machine: SimulatedMachine, session: Session, name: str, sentence: Sentence, say: Say) -> None:
    """Carry out what stands behind the words SET SUSPEND_FOR_SNAPSHOT_BACKUP."""
    if machine.version[0] < SINCE:
        raise Wrong(Message(102, "Incorrect syntax near 'SUSPEND_FOR_SNAPSHOT_BACKUP'.", 15))
    sentence.must("=")
    is_on = sentence.skips("ON")
    if not is_on:
        sentence.must("OFF")
    copy_only = sentence.skips("(", "MODE", "=", "COPY_ONLY", ")")
    database = machine.database(name)
    if not database or not (session.account.alters or session.account.is_sysadmin):
        said = (
            f"User does not have permission to alter database '{name}', the database does not exist, or the database "
            "is not in a state that allows access checks."
        )
        raise _failed(Message(5011, said, 14))
    if is_on:
        _suspend(machine, session, database, copy_only, say)
    else:
        resume(machine, session, database, say)


def _suspend(machine: SimulatedMachine, session: Session, database: Database, copy_only: bool, say: Say) -> None:
    with machine.lock:
        if database.suspension:
            raise _failed(Message(3081, f"Database '{database.name}' was previously suspended for snapshot backup."))
        database.suspension = Suspension(session.number, copy_only)
        _write_files(machine, database, is_frozen=True)
    said = f"I/O is frozen on database {database.name}. No user action is required."
    say(Message(3197, said, 0))


def resume(machine: SimulatedMachine, session: Session, database: Database, say: Say) -> None:
    if not database.suspension:
        raise _failed(Message(50000, f"Database '{database.name}' is not suspended. (simulation)"))
    thaw(machine, database)
    say(Message(3198, f"I/O was resumed on database {database.name}. No user action is required.", 0))


def thaw(machine: SimulatedMachine, database: Database) -> None:
    with machine.lock:
        _write_files(machine, database, is_frozen=False)
        database.suspension = None


def _failed(why: Message) -> Wrong:
    return Wrong(why, Message(5069, "ALTER DATABASE statement failed."))


# ---- the files


def _write_files(machine: SimulatedMachine, database: Database, *, is_frozen: bool) -> None:
    for file in files_of(database):
        path = machine.path_of(file.path) if machine.volumes else None
        if path is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.stat().st_size != file.pages * PAGE:
            _fill(machine, database, file, path)
        with path.open("r+b") as out:
            out.write(_first_page(database, file, is_frozen))


def _fill(machine: SimulatedMachine, database: Database, file: File, path: Path) -> None:
    with path.open("wb") as out:
        out.write(bytes(PAGE))
        for chunk in data_pages(f"{machine.name}/{database.name}", file.number, 0, file.pages - 1):
            out.write(chunk)


def _first_page(database: Database, file: File, is_frozen: bool) -> bytes:
    said = {
        "simulation": "a file of no real database",
        "file": file.number,
        "family": str(database.family_guid),
        "reached": database.reached if is_frozen else None,
    }
    return json.dumps(said).encode().ljust(PAGE, b"\0")


def remove_files(machine: SimulatedMachine, database: Database) -> None:
    """As DROP DATABASE does, of those that lie where this machine has them."""
    for path in database.files.values():
        if here := machine.path_of(path):
            here.unlink(missing_ok=True)


# ---- backing up


def why_not_backup(database: Database, session: Session) -> Message | None:
    if database.suspension and database.suspension.session == session.number:
        return None
    return Message(50000, f"Database '{database.name}' is not suspended in this session. (simulation)")


def described(database: Database, backup: Backup) -> Backup:
    """The backup as it is of a snapshot: whether it is copy-only was said when the database was suspended."""
    files = tuple(
        replace(backup.files[0], logical=file.name, physical=file.path, pages=file.pages, file_id=file.number)
        for file in files_of(database)
        if not file.is_log
    )
    more: dict[str, Any] = {"copy_only": database.suspension.copy_only, "checksum": False}
    return replace(backup, **more, files=files, extra_flags=IS_SNAPSHOT, metadata_only=True)


# ---- restoring


def read(body: bytes) -> Inspection:
    """What a file says of itself, also a plain one of a version that our reader has never seen and this machine's
    writer writes all the same: with the version of 2019 in its place it is read, and the right one put back."""
    found = _inspected(body)
    if not found.refusal or found.refusal.code != "UnknownVersion":
        return found
    known, version, at = bytearray(body), "", body.find(b"SCIN")
    while at >= 0:
        version = f"{body[at + 0x1B]}.{body[at + 0x1A]}.{int.from_bytes(body[at + 0x18 : at + 0x1A], 'little')}"
        known[at + 0x1A : at + 0x1C] = bytes((0, 15))
        at = body.find(b"SCIN", at + 4)
    found = _inspected(bytes(known))
    return found if found.refusal else Inspection(tuple(replace(one, software_version=version) for one in found.sets))


def _inspected(body: bytes) -> Inspection:
    return inspect(lambda offset, length: body[offset : offset + length], len(body))


def why_not_attach(machine: SimulatedMachine, facts: SetFacts, moves: Mapping[str, str]) -> Message | None:
    """Why the files that are there are not those that were frozen for this backup; None when they are."""
    for file in facts.database_files:
        path = moves.get(file.logical_name, file.physical_path)
        here = machine.path_of(path)
        if here is None or not here.is_file():
            said = f'Unable to open the physical file "{path}". Operating system error 2.'
            return Message(5120, said)
        said_of_itself: dict[str, Any] = {}
        with here.open("rb") as opened, suppress(ValueError):
            said_of_itself = json.loads(opened.read(PAGE).rstrip(b"\0"))
        wanted = (facts.family_guid, facts.checkpoint_position)
        if (said_of_itself.get("family"), said_of_itself.get("reached")) != wanted:
            return Message(5173, "One or more files do not match the primary file of the database. (simulation)")
        if said_of_itself.get("file") != file.file_id:
            return Message(5173, f"{path} is another file of the database. (simulation)")
    return None
