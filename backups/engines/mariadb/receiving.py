"""Receiving a server's binary log: its own mariadb-binlog, whose events are delivered as pieces, in order, no hole."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pymysql

from backups.engines.facts import Connection
from backups.engines.mariadb.chains import NUMBER, position_of
from backups.engines.mariadb.connecting import Session, ask, option_file, session, tool_environment
from backups.engines.mariadb.door import Door
from backups.engines.mariadb.outgoing import Deliver, Outgoing
from backups.engines.mariadb.refusals import LOG_REASONS, refusal_from
from backups.engines.mariadb.server import Look, look, number_of, place_of, why_no_logs
from backups.engines.mariadb.spool import Journal, Spool, begun_anew
from backups.engines.mariadb.tools import binlog_tool
from backups.engines.receiver import Guard, ReceivingTool

SPOOL_BYTES = 2 << 30
TICK_SECONDS = 0.25
MARK_SECONDS = 1.0
SHORT_DAYS = 1.0
CLOCK = "SELECT UTC_TIMESTAMP(6)"
NO_TIMEOUTS = "SET SESSION wait_timeout = 2147483, max_statement_time = 0"  # a delivery may take its time
OPTIONS = ("--read-from-remote-server", "--raw", "--stop-never")

KEEPS_SHORTLY = (
    "The server removes binary logs after {days:g} days, received or not: an interruption as long as that makes a gap. "
    "Raise expire_logs_days."
)
KEEPS_FOREVER = "The server keeps its binary logs without limit, and its disk may fill. Set expire_logs_days."
GAP = (
    "The server removed binary logs that had not been received yet (from number {number} on): the logs have a gap, "
    "and go on with number {oldest}. Raise expire_logs_days."
)
ANOTHER = "Another server answers now (server_id {now}, before {before}): its logs are a history of their own."


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

    Pieces are delivered in order, by the calling thread, at the latest `flush_seconds` after the last; what was
    received whole is delivered even when the server is gone. A piece that was delivered when this process was killed
    may come again, with the same positions. The first time it begins with the binary log that the server is writing,
    so that backups since the last rotation are continued too. The server keeps nothing for us: what it removed before
    it was received is a gap, which `note` is told of, as of what could be better; receiving goes on behind it.
    `heard(moment)`, about every `flush_seconds` while nothing changes: all until then lies in delivered pieces.
    """
    kept = Spool(spool)
    outgoing = Outgoing(kept, deliver, flush_seconds)
    outgoing.drain()
    with session(connection) as opened:
        try:
            server = _prepare(opened, connection, kept, note or (lambda said: None))
            with _listening(server, connection, name, spool_bytes) as tool:
                while not stop():
                    _step(server, outgoing, tool, heard, flush_seconds)
        except (pymysql.Error, ToolEnded) as error:
            kept.end_run()
            outgoing.drain()
            raise refusal_from(str(error), connection, LOG_REASONS) from error


class ToolEnded(Exception):
    """mariadb-binlog ended by itself; says its last words."""


@dataclass
class ServerSide:
    """What is asked of the server while its log is received."""

    session: Session
    spool: Spool
    series: str
    marked: float = float("-inf")
    told: float = float("-inf")

    def mark(self) -> None:
        """Ask the clock first and the place then: what was committed by then lies before it."""
        if time.monotonic() - self.marked >= MARK_SECONDS:
            when = ask(self.session, CLOCK)[0][0].replace(tzinfo=UTC)
            self.spool.marks.add(place_of(self.session).position, when)
            self.marked = time.monotonic()

    def tell(self, heard: Callable[[datetime], object], every: float) -> None:
        """Say how far we know everything, where nothing waits to be delivered."""
        if self.spool.has_changes or time.monotonic() - self.told < every:
            return
        if moment := self.spool.marks.reached_by(self.spool.reached):
            heard(moment)
            self.told = time.monotonic()


def _prepare(opened: Session, connection: Connection, spool: Spool, note: Callable[[str], object]) -> ServerSide:
    ask(opened, NO_TIMEOUTS)
    found = look(opened)
    why_no_logs(found)
    for said in _remarks(found):
        note(said)
    _find_place(opened, found, spool, note)
    server = ServerSide(opened, spool, found.series)
    server.mark()
    return server


def _remarks(found: Look) -> Iterator[str]:
    if not found.expire_days:
        yield KEEPS_FOREVER
    elif found.expire_days < SHORT_DAYS:
        yield KEEPS_SHORTLY.format(days=found.expire_days)


def _find_place(opened: Session, found: Look, spool: Spool, note: Callable[[str], object]) -> None:
    """Go on where the last piece ended, as far as the server still has that; raises Refusal for another history."""
    known = {number_of(row[0]): (row[0], int(row[1])) for row in ask(opened, "SHOW BINARY LOGS")}
    oldest, newest = min(known), max(known)
    journal = spool.journal
    whose = {
        "fork": str(found.server_id),
        "server": found.hostname,
        "version": found.release,
        "name": known[newest][0].rpartition(".")[0],
    }
    if journal.fork != whose["fork"]:
        if journal.fork:
            note(ANOTHER.format(now=whose["fork"], before=journal.fork))
        spool.begin_at(position_of(newest), **whose)
    elif not _is_the_same(journal, whose["name"], known):
        raise begun_anew(journal.fork)
    elif journal.number < oldest:
        note(GAP.format(number=journal.number, oldest=oldest))
        spool.begin_at(position_of(oldest), **whose)
    else:
        spool.write(**whose)


def _is_the_same(journal: Journal, name: str, known: dict[int, tuple[str, int]]) -> bool:
    """Whether the server's logs, by name and length, can be those of which we had the beginning."""
    newest = max(known)
    size = known[journal.number][1] if journal.number in known else journal.offset
    return journal.name == name and journal.number <= newest and journal.offset <= size


@contextmanager
def _listening(server: ServerSide, connection: Connection, name: str, spool_bytes: int) -> Iterator[ReceivingTool]:
    spool, program = server.spool, binlog_tool(server.series)
    with Door(connection) as door, option_file(connection, door.path()) as (path, fd):
        start = [str(program), f"--defaults-file={path}", *OPTIONS, f"--stop-never-slave-server-id={_our_id(name)}"]
        tool = ReceivingTool(
            lambda: [*start, *_from(spool)],
            tool_environment(),
            spool.folder / "tool.log",
            keep=(fd,),
            is_full=lambda share=1.0: spool.size() > spool_bytes * share,
        )
        guard = Guard(tool)
        guard.start()
        try:
            tool.resume()
            yield tool
        finally:
            guard.end()
            tool.pause()


def _from(spool: Spool) -> list[str]:
    """Where a run of the tool begins and where it writes to."""
    number, offset = divmod(spool.reached, NUMBER)
    first = f"{spool.journal.name}.{number:06d}"
    return [f"--result-file={spool.new_run()}/", f"--start-position={max(offset, 4)}", first]


def _our_id(name: str) -> int:
    """Whom the server takes us for among its replicas: the same one again cuts off what a kill left behind.

    In the upper half of what it may be, where people's own do not lie.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") | 1 << 31


def _step(
    server: ServerSide,
    outgoing: Outgoing,
    tool: ReceivingTool,
    heard: Callable[[datetime], object] | None,
    flush_seconds: float,
) -> None:
    if tool.has_ended:
        raise ToolEnded(f"{tool.last_words()} (mariadb-binlog ended by itself)")
    if tool.is_paused:
        server.spool.end_run()
    else:
        server.spool.look()
    if tool.is_paused and not tool.is_full(0.5):
        tool.resume()
    server.mark()
    if outgoing.deliver_next(at_once=tool.is_paused):
        return
    if heard:
        server.tell(heard, flush_seconds)
    time.sleep(TICK_SECONDS)


def forget_receiver(connection: Connection, name: str) -> None:
    """The server keeps nothing for a receiver, so there is nothing to forget."""


def receiver_lag(connection: Connection, name: str) -> int:
    """How many bytes the server keeps for this receiver: none, ever; it keeps its logs for as long as it is told to."""
    return 0
