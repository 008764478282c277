"""The replication slot that makes a server keep its WAL until we have it."""

from __future__ import annotations

import re
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors
from psycopg.rows import class_row

from backups.engines.facts import Connection
from backups.engines.postgresql.connecting import connect
from backups.engines.postgresql.refusals import LOG_REASONS, refusal_from
from regions.refusals import Refusal

NAME_MOST = 63  # bytes of an identifier
FREED_SECONDS = 15  # a server notices a receiver that was killed when its connection breaks

LOOK = """
SELECT active, active_pid, coalesce(wal_status = 'lost', false) AS lost,
       (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
             ELSE pg_current_wal_flush_lsn() END - restart_lsn)::bigint AS lag
FROM pg_replication_slots WHERE slot_name = %s AND slot_type = 'physical'
"""


@dataclass(frozen=True)
class Slot:
    active: bool
    active_pid: int | None
    lost: bool
    lag: int | None


def slot_name(name: str) -> str:
    """Return the slot of a receiver; raises Refusal for a name that PostgreSQL would not take."""
    full = f"farshore_{name}"
    if not re.fullmatch(r"[a-z0-9_]+", full) or len(full) > NAME_MOST:
        raise Refusal(
            "BadSlotName", f"{full[:80]!r} cannot name a slot.", "Use lower-case letters, digits and _.", "name"
        )
    return full


def receiver_lag(connection: Connection, name: str) -> int:
    """How many bytes of WAL the server keeps for this receiver; raises Refusal when the slot is missing or lost."""
    with closing(connect(connection)) as session:
        found = look_at(session, name)
    if found is None:
        raise Refusal(
            "SlotMissing",
            f"The server has no replication slot {slot_name(name)}.",
            "Receive its logs: it is made then.",
        )
    refuse_lost(found, name)
    return max(0, found.lag or 0)


def forget_receiver(connection: Connection, name: str) -> None:
    """Let the server forget this receiver, so that it keeps no WAL for it; one that still listens is cut off."""
    with closing(connect(connection)) as session:
        until = time.monotonic() + FREED_SECONDS
        while (found := look_at(session, name)) is not None:
            try:
                _drop(session, name, found)
            except errors.ObjectInUse as busy:
                if time.monotonic() > until:
                    raise _busy(name) from busy
                time.sleep(0.2)
            except psycopg.Error as error:
                raise refusal_from(str(error), connection, LOG_REASONS) from error


def _drop(session: psycopg.Connection[Any], name: str, found: Slot) -> None:
    if found.active_pid:
        session.execute("SELECT pg_terminate_backend(%s)", [found.active_pid])
    try:
        session.execute("SELECT pg_drop_replication_slot(%s)", [slot_name(name)])
    except errors.UndefinedObject:
        return  # somebody else was faster


def look_at(session: psycopg.Connection[Any], name: str) -> Slot | None:
    return session.cursor(row_factory=class_row(Slot)).execute(LOOK, [slot_name(name)]).fetchone()


def make_slot(session: psycopg.Connection[Any], name: str) -> None:
    session.execute("SELECT pg_create_physical_replication_slot(%s, true)", [slot_name(name)])


def wait_until_free(session: psycopg.Connection[Any], name: str) -> None:
    """A receiver that was killed a moment ago may still be listened for; raises Refusal when somebody really is."""
    found = look_at(session, name)
    until = time.monotonic() + FREED_SECONDS
    while found and found.active:
        if time.monotonic() > until:
            raise _busy(name)
        time.sleep(0.2)
        found = look_at(session, name)


def refuse_lost(found: Slot, name: str) -> None:
    if found.lost:
        raise Refusal(
            "SlotLost",
            f"The server gave up the replication slot {slot_name(name)} (usually because its WAL grew past "
            "max_slot_wal_keep_size): the logs have a gap.",
            "Drop the slot and receive anew; the gap needs a new backup. Raise max_slot_wal_keep_size.",
        )


def _busy(name: str) -> Refusal:
    return Refusal(
        "SlotBusy",
        f"Somebody else receives from the slot {slot_name(name)}.",
        "One receiver per instance; end the other.",
    )
