"""Dropping a database that Farshore restored, and no other.

What it restores lies in files whose names carry the attempt's marker, from the first moment of the RESTORE on; nothing
is written into anybody's database to know it again. Once it is there it is also known by what changes when another
takes its place: when it was created, and the recovery fork that began when it was brought online.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection

from backups.engines.facts import Connection
from backups.engines.sqlserver.connecting import Session, quoted_name, session
from regions.refusals import Refusal

FOUND = "SELECT database_id, state_desc, create_date FROM sys.databases WHERE name = %s"
FILES = "SELECT physical_name FROM sys.master_files WHERE database_id = %s"
ALL_FILES = "SELECT physical_name FROM sys.master_files"
FORK = "SELECT recovery_fork_guid FROM sys.database_recovery_status WHERE database_id = %s"
IN_USE = "DatabaseInUse"
PATIENCE_SECONDS = 60  # a RESTORE whose client died is given up by the server within moments, not at once
PAUSE_SECONDS = 0.25


def drop_database(connection: Connection, name: str, *, markers: Collection[str], identity: str = "") -> bool:
    """Drop the database when it is one that was restored under one of the markers; its sessions are ended.

    `identity` as it was when the restore ended, "" when it did not. False: there is none of that name, or it is
    another one, which is left alone. Safe to repeat; raises Refusal when the server cannot be asked or does not let go.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    with session(connection) as opened:
        while is_ours(opened, name, markers, identity):
            try:
                _drop(opened, name)
                return True
            except Refusal as refusal:
                if refusal.code != IN_USE or time.monotonic() > until:
                    raise
            time.sleep(PAUSE_SECONDS)
    return False


def is_ours(opened: Session, name: str, markers: Collection[str], identity: str = "") -> bool:
    found = opened.ask(FOUND, name)
    if not found:
        return False
    files = [row["physical_name"] for row in opened.ask(FILES, found[0]["database_id"])]
    is_marked = bool(files) and all(_marker_in(file) in markers for file in files)
    return is_marked and (not identity or _is_same(identity, identity_of(opened, name)))


def lives_in(connection: Connection, markers: Collection[str]) -> bool:
    """Whether a database, whatever it is called by now, has a file that carries one of the markers; raises Refusal."""
    with session(connection) as opened:
        return any(_marker_in(row["physical_name"]) in markers for row in opened.ask(ALL_FILES))


def _marker_in(file: str) -> str:
    """The marker of a file's name, which `restoring` made of the database's name, the marker and the file's number."""
    found = re.search(r"_([A-Za-z0-9-]+)_\d+(?:\.[a-z]+)?$", file)
    return found[1] if found else ""


def identity_of(opened: Session, name: str) -> str:
    """When the database was created and its recovery fork, as "moment/fork"; "" without such a database.

    The fork is "" where the account may not see it (VIEW SERVER STATE).
    """
    found = opened.ask(FOUND, name)
    if not found:
        return ""
    return f"{found[0]['create_date'].isoformat()}/{_fork(opened, found[0]['database_id'])}"


def _fork(opened: Session, number: int) -> str:
    try:
        rows = opened.ask(FORK, number)
    except Refusal as refusal:
        if refusal.code != "MayNotSeeState":
            raise
        return ""
    return str(rows[0]["recovery_fork_guid"] or "").lower() if rows else ""


def _is_same(one: str, other: str) -> bool:
    (created, fork), (created_now, fork_now) = one.split("/"), other.split("/")
    return created == created_now and (not fork or not fork_now or fork == fork_now)


def _drop(opened: Session, name: str) -> None:
    """In one batch, so that nobody takes the one place that SINGLE_USER leaves."""
    quoted = quoted_name(name)
    is_online = opened.ask(FOUND, name)[0]["state_desc"] == "ONLINE"
    alone = f"ALTER DATABASE {quoted} SET SINGLE_USER WITH ROLLBACK IMMEDIATE; " if is_online else ""
    opened.run(f"{alone}DROP DATABASE {quoted}")
