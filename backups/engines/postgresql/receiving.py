"""Receiving a server's WAL: its own pg_receivewal, whose segments are delivered as pieces, in order, without hole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from backups.engines.facts import Connection
from backups.engines.postgresql.connecting import connect, password_file, tool_environment
from backups.engines.postgresql.marks import ask
from backups.engines.postgresql.outgoing import Deliver, Outgoing
from backups.engines.postgresql.refusals import LOG_REASONS, refusal_from
from backups.engines.postgresql.server import look, standing, why_not
from backups.engines.postgresql.slots import look_at, make_slot, refuse_lost, slot_name, wait_until_free
from backups.engines.postgresql.spool import Spool
from backups.engines.postgresql.tools import tools_for
from backups.engines.receiver import Guard, ReceivingTool

SPOOL_BYTES = 2 << 30
TICK_SECONDS = 0.25
MARK_SECONDS = 1.0

OPTIONS = ("--synchronous", "--no-loop", "--no-password", "--status-interval=5")

MAY_SWITCH = "has_function_privilege('pg_catalog.pg_switch_wal()', 'EXECUTE') AND NOT pg_is_in_recovery()"
ABOUT_THE_SERVER = f"""
SELECT (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'), {MAY_SWITCH},
       current_setting('max_slot_wal_keep_size') = '-1'
"""
MAY_NOT_SWITCH = (
    "Logs leave this server only when a segment is full, because its role may not begin a new one. "
    "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {username}, or set archive_timeout on the server."
)
KEEPS_FOREVER = (
    "The server keeps WAL without limit while nobody receives it, and its disk may fill. Set max_slot_wal_keep_size."
)


def receive_logs(
    connection: Connection,
    spool: Path,
    deliver: Deliver,
    *,
    name: str,
    stop: Callable[[], bool],
    flush_seconds: float = 10,
    spool_bytes: int = SPOOL_BYTES,
    note: Callable[[str], object] | None = None,
    heard: Callable[[datetime], object] | None = None,
) -> None:
    """Receive until `stop()`; raises Refusal with the reason in words, or what `deliver` raised. Safe to repeat.

    Pieces are delivered in order, by the calling thread; what was received whole is delivered even when the server is
    gone. A piece that was delivered when this process was killed may come again, with the same positions. The server
    keeps what we have not received yet, in the slot farshore_<name>. `note` is told once per call what could be better;
    `heard(moment)`, about every `flush_seconds` while nothing changes: all until then lies in delivered pieces.
    """
    kept = Spool(spool)
    outgoing = Outgoing(kept, deliver, flush_seconds)
    outgoing.drain()
    with closing(connect(connection)) as session:
        try:
            server = _prepare(session, connection, kept, name, flush_seconds)
            for said in server.remarks(connection.username) if note else ():
                note(said)
            with _listening(server, connection, name, spool_bytes) as tool:
                while not stop():
                    _step(server, outgoing, tool, heard)
        except (psycopg.Error, ToolEnded) as error:
            outgoing.drain()
            raise refusal_from(str(error), connection, LOG_REASONS) from error


class ToolEnded(Exception):
    """pg_receivewal ended by itself; says its last words."""


@dataclass
class ServerSide:
    """What the server has for us, and when it must be asked to end a segment so that we get it."""

    session: psycopg.Connection[Any]
    spool: Spool
    version: int
    flush_seconds: float
    may_switch: bool
    keeps_forever: bool
    position: int = 0
    marked: float = float("-inf")
    switched: float = float("-inf")
    told: float = float("-inf")

    def remarks(self, username: str) -> Iterator[str]:
        if not self.may_switch:
            yield MAY_NOT_SWITCH.format(username=username)
        if self.keeps_forever:
            yield KEEPS_FOREVER

    def mark(self) -> None:
        if time.monotonic() - self.marked >= MARK_SECONDS:
            self.position = ask(self.spool.marks, self.session, self.spool.journal.segment_bytes)
            self.marked = time.monotonic()

    def switch(self) -> None:
        """End a segment that has something in it and has waited long enough; a standby may have become a primary."""
        begun = self.position % self.spool.journal.segment_bytes > 0
        if begun and time.monotonic() - self.switched >= self.flush_seconds:
            if self.session.execute(f"SELECT {MAY_SWITCH}").fetchone()[0]:
                self.session.execute("SELECT pg_switch_wal()")
            self.switched = time.monotonic()

    def tell(self, heard: Callable[[datetime], object]) -> None:
        """Say how far we know everything, where the server is still where the last piece ended."""
        if self.position != self.spool.journal.delivered or time.monotonic() - self.told < self.flush_seconds:
            return
        if moment := self.spool.marks.reached_by(self.position):
            heard(moment)
            self.told = time.monotonic()


def _prepare(
    session: psycopg.Connection[Any], connection: Connection, spool: Spool, name: str, flush_seconds: float
) -> ServerSide:
    found = look(session)
    why_not(found)
    segment_bytes, may_switch, keeps_forever = session.execute(ABOUT_THE_SERVER).fetchone()
    where = standing(connection)
    spool.belong_to(where.identity, segment_bytes, found.version)
    slot = look_at(session, name)
    if slot is None:
        if not (spool.is_new(where) and spool.leads_to(where)):  # once: what it has removed stays removed
            spool.begin_anew()
        make_slot(session, name)
    else:
        refuse_lost(slot, name)
        wait_until_free(session, name)
    spool.meet(where)
    server = ServerSide(session, spool, found.major, flush_seconds, may_switch, keeps_forever)
    server.mark()
    return server


@contextmanager
def _listening(server: ServerSide, connection: Connection, name: str, spool_bytes: int) -> Iterator[ReceivingTool]:
    program = tools_for(server.version).program("pg_receivewal")
    server.spool.drop_half_made()
    with password_file(connection.password) as (path, fd):
        tool = ReceivingTool(
            [str(program), *OPTIONS, f"--directory={server.spool.wal}", f"--slot={slot_name(name)}"],
            tool_environment(connection, path),
            server.spool.folder / "tool.log",
            keep=(fd,),
            is_full=lambda share=1.0: server.spool.size() > spool_bytes * share,
        )
        guard = Guard(tool)
        guard.start()
        try:
            tool.resume()
            yield tool
        finally:
            guard.end()
            tool.pause()


def _step(
    server: ServerSide, outgoing: Outgoing, tool: ReceivingTool, heard: Callable[[datetime], object] | None
) -> None:
    if tool.has_ended:
        raise ToolEnded(tool.last_words())
    if tool.is_paused and not tool.is_full(0.5):
        tool.resume()
    server.mark()
    if outgoing.deliver_next():
        return
    if outgoing.is_late and not server.spool.finished():
        server.switch()
    if heard:
        server.tell(heard)
    time.sleep(TICK_SECONDS)
