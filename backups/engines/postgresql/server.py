"""Asking a server what it is, and whether a base backup can be taken of it, before anything is started."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from backups.engines.facts import Connection, ServerFacts
from backups.engines.postgresql.connecting import connect
from backups.engines.postgresql.tools import OLDEST_MAJOR, tools_for
from regions.refusals import Refusal

LOOK = """
SELECT current_setting('server_version_num')::int AS number,
       pg_is_in_recovery() AS is_secondary,
       current_setting('wal_level') AS wal_level,
       current_setting('data_checksums') = 'on' AS sums_pages,
       coalesce(current_setting('summarize_wal', true), 'off') = 'on' AS sums_wal,
       ARRAY(SELECT spcname::text FROM pg_tablespace
             WHERE pg_tablespace_location(oid) LIKE '/%' ORDER BY 1) AS tablespaces,
       ARRAY(SELECT datname::text FROM pg_database
             WHERE datallowconn AND NOT datistemplate ORDER BY 1) AS databases
"""

SIZE = """
SELECT coalesce(sum(pg_database_size(oid)) FILTER (WHERE may), 0)::bigint, count(*) FILTER (WHERE NOT may)
FROM (SELECT oid, has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE') AS may
      FROM pg_database) AS known
"""

# Our session only holds a slot, for hours perhaps: no time-out may end it. Servers before 14 do not know them all.
NO_TIMEOUTS = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('idle_session_timeout', 'idle_in_transaction_session_timeout', 'statement_timeout')
"""


@dataclass(frozen=True)
class Look:
    """What one question tells of a server."""

    number: int
    is_secondary: bool
    wal_level: str
    sums_pages: bool
    tablespaces: list[str]
    databases: list[str]
    sums_wal: bool = False

    @property
    def major(self) -> int:
        return self.number // 10_000

    @property
    def version(self) -> str:
        return f"{self.major}.{self.number % 10_000}"


def probe(connection: Connection) -> ServerFacts:
    """Learn what the server is; raises Refusal when no base backup could be taken of it from this worker."""
    with closing(connect(connection)) as session:
        found = look(session)
        why_not(found)
        tools_for(found.major)
        identity = identify(connection)
        data_bytes, unseen = session.execute(SIZE).fetchone()
    return ServerFacts(
        version=found.version,
        databases=tuple(found.databases),
        data_bytes=data_bytes,
        is_secondary=found.is_secondary,
        notes=tuple(remarks(found, unseen)),
        identity=identity,
    )


def look(session: psycopg.Connection[Any]) -> Look:
    session.execute(NO_TIMEOUTS)
    return session.cursor(row_factory=class_row(Look)).execute(LOOK).fetchone()


def why_not(found: Look) -> None:
    """Raise Refusal when a server like this cannot be backed up."""
    if found.major < OLDEST_MAJOR:
        raise Refusal(
            "TooOld",
            f"The server is PostgreSQL {found.major}; {OLDEST_MAJOR} is the oldest that is backed up.",
            "Upgrade the server.",
        )
    if found.wal_level == "minimal":
        raise Refusal(
            "WalLevel",
            "The server's wal_level is minimal, which no backup can be taken with.",
            "Set wal_level = replica and restart the server.",
        )
    if found.tablespaces:
        raise Refusal(
            "Tablespaces",
            f"The server keeps data in tablespaces of its own: {', '.join(found.tablespaces)}. A backup that is "
            "streamed into the store cannot hold more than the data directory yet.",
            "Move their tables to pg_default and drop them.",
        )


def remarks(found: Look, unseen: int = 0) -> list[str]:
    said = []
    if not found.sums_pages:
        said.append("Page checksums are off: damage on the server's disk would be backed up unnoticed.")
    if unseen:
        said.append(f"The size leaves out {unseen} databases that this role may not connect to.")
    return said


@dataclass(frozen=True)
class Standing:
    """Which server this is (its system identifier), on which timeline, and that timeline's history file, "" for 1."""

    identity: str
    timeline: int
    history: str = ""


def identify(connection: Connection) -> str:
    """Open a replication connection, as the backup will; returns the server's system identifier."""
    return standing(connection).identity


def standing(connection: Connection) -> Standing:
    """Open a replication connection and ask where in its history the server is."""
    with closing(connect(connection, replication="true")) as session:
        identity, timeline = (_text(said) for said in session.execute("IDENTIFY_SYSTEM").fetchone()[:2])
        if int(timeline) == 1:
            return Standing(identity, 1)
        history = session.execute(f"TIMELINE_HISTORY {int(timeline)}").fetchone()[1]
    return Standing(identity, int(timeline), _text(history))


def _text(said: object) -> str:
    """A replication connection gives text, or bytes where it names no type."""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def hold_slot(session: psycopg.Connection[Any]) -> str:
    """Keep the server from removing WAL for as long as this session lives; returns why that could not be, or "".

    The slot is temporary, so that it goes with the session, however this process ends.
    """
    name = f"farshore_{uuid.uuid4().hex[:16]}"
    try:
        session.execute("SELECT pg_create_physical_replication_slot(%s, true, true)", [name])
    except psycopg.Error as error:
        why = error.diag.message_primary or "it gave no reason"
        return f"No replication slot could be held during the backup: {why}."
    return ""
