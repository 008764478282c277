"""Taking a full backup: the engine's own mariadb-backup, streamed to whoever stores it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from backups.engines.facts import Connection, Kind, Method, SetFacts, TakenSet
from backups.engines.mariadb import datadir
from backups.engines.mariadb.connecting import option_file, session, tool_environment
from backups.engines.mariadb.door import Door
from backups.engines.mariadb.mbstream import BackupReader, Story, one_file
from backups.engines.mariadb.refusals import refusal_from
from backups.engines.mariadb.server import Look, Place, databases_of, look, place_of, remarks, why_not
from backups.engines.mariadb.tools import Tools, tools_for
from backups.engines.mariadb.ways import FILE, Ways, ways_of
from backups.engines.scratch import scratch
from backups.engines.streaming import ToolStream

OPTIONS = ("--backup", "--stream=mbstream")
TELLING = re.compile(r"error|failed|denied|can't|cannot|lack", re.IGNORECASE)

Consume = Callable[[BinaryIO], object]
Progress = Callable[[int, int | None], None]
Stop = Callable[[], bool]


def take_full(
    connection: Connection, consume: Consume, *, progress: Progress | None = None, stop: Stop | None = None
) -> TakenSet:
    """Back up the whole server as one mbstream, which `consume` reads to its end; memory stays bounded.

    Nothing was taken unless this returns: it raises Refusal with the reason in words (also when the server's data
    directory is not on this worker), Stopped when `stop` said so, or what `consume` raised; then the tool is gone, and
    with it its lock. `progress(bytes, expected bytes or None)` and `stop()` are called by the thread that reads, about
    once a second and twice a second. Safe to repeat.

    The set of a replica has the positions of the primary that it follows, for that is whose logs continue it: a place
    at or before the one it shows. What of those logs it has already, its own GTID position tells (see replaying).
    """
    asked, tools = _ask(connection)
    started_at = datetime.now(UTC)
    with _running(tools, connection, asked, progress, stop) as stream:
        consume(stream)
        story = stream.story()
    facts = _facts(asked, story, started_at, stream.size)
    return TakenSet(facts, (*remarks(asked.found), *_places(asked.found, story)))


@dataclass(frozen=True)
class Asked:
    """What is asked before anything is started; `began` is the server's place in its own log then."""

    found: Look
    ways: Ways
    began: Place | None
    data_bytes: int


def _ask(connection: Connection) -> tuple[Asked, Tools]:
    """Raises Refusal when no backup can be taken of the server from here."""
    with session(connection) as opened:
        found = look(opened)
        why_not(found)
        tools = tools_for(found.series)
        datadir.must_be_here(found.datadir, found.log_folder, opened)
        return Asked(found, ways_of(opened), place_of(opened), databases_of(opened)[1]), tools


class BackupStream(ToolStream[Story]):
    """A running mariadb-backup, which tells of every file that it copies; a file of ours goes before its own."""

    def __init__(self, first: bytes, *arguments: Any, **options: Any) -> None:
        self._first, self._before = memoryview(first), len(first)
        super().__init__(*arguments, **options)

    @property
    def size(self) -> int:
        return self._before + super().size

    def readinto(self, buffer: Any) -> int:
        if not self._first:
            return super().readinto(buffer)
        view = memoryview(buffer).cast("B")
        taken = min(len(view), len(self._first))
        view[:taken] = self._first[:taken]
        self._first = self._first[taken:]
        return taken + super().readinto(view[taken:])

    def _is_chatter(self, line: str) -> bool:
        return not TELLING.search(line)


@contextmanager
def _running(
    tools: Tools, connection: Connection, asked: Asked, progress: Progress | None, stop: Stop | None
) -> Iterator[BackupStream]:
    with Door(connection) as door, option_file(connection, door.path()) as (path, fd), scratch() as folder:
        command = [str(tools.program("mariadb-backup")), f"--defaults-file={path}", *OPTIONS]
        more = ["--slave-info"] if asked.found.is_secondary else []
        stream = BackupStream(
            one_file(FILE, asked.ways.text()),
            [*command, f"--target-dir={folder}", f"--tmpdir={folder}", *more],
            tool_environment(),
            BackupReader(),
            keep=(fd,),
            expected=asked.data_bytes,
            explain=lambda words: refusal_from(words, connection),
            progress=progress,
            stop=stop,
        )
        with stream:
            yield stream


def _facts(asked: Asked, story: Story, started_at: datetime, size: int) -> SetFacts:
    fork, first, last = _lineage(asked.found, asked.began, story)
    return SetFacts(
        database="",
        kind=Kind.FULL,
        method=Method.PHYSICAL,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        first_position=first.position if first else None,
        last_position=last.position if last else None,
        fork=fork,
        set_guid=str(uuid.uuid4()),
        has_checksums=True,
        server=asked.found.hostname,
        software_version=asked.found.release,
        size_bytes=size,
        length=size,
    )


def _lineage(found: Look, began: Place | None, story: Story) -> tuple[str, Place | None, Place | None]:
    """Whose binary log continues the set, and from where; nobody's where that is not known."""
    if not found.is_secondary:
        ended = Place(*story.place) if story.place else None
        return str(found.server_id), began if ended else None, ended
    primary = found.follows
    if not primary or not primary.server_id or not primary.place:
        return "", None, None
    ended = Place(*story.primary_place) if story.primary_place else primary.place
    return str(primary.server_id), primary.place, ended


def _places(found: Look, story: Story) -> Iterator[str]:
    if found.is_secondary:
        yield "Taken from a replica."
    if story.place:
        file, offset = story.place
        gtid = f", GTID {story.gtid}" if story.gtid else ""
        yield f"Its place in the binary log of {found.hostname}: {file}, {offset}{gtid}."
