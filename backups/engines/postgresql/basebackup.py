"""The engine's own pg_basebackup, streamed to whoever stores it: what a full and an incremental have in common."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

import psycopg

from backups.engines.facts import Connection, Kind, Method, SetFacts, TakenSet
from backups.engines.postgresql.archive import Story
from backups.engines.postgresql.connecting import connect, password_file, tool_environment
from backups.engines.postgresql.refusals import refusal_from
from backups.engines.postgresql.server import Look, hold_slot, identify, look, remarks, why_not
from backups.engines.postgresql.stream import BackupStream
from backups.engines.postgresql.tools import Tools, tools_for
from regions.refusals import Refusal

# No slot option: pg_basebackup takes one only with -X stream, which cannot be written to a pipe. We hold one ourselves.
OPTIONS = (
    "--pgdata=-",
    "--format=tar",
    "--wal-method=fetch",
    "--checkpoint=fast",
    "--manifest-checksums=SHA256",
    "--label=farshore",
    "--progress",
    "--no-password",
)

Consume = Callable[[BinaryIO], object]
Progress = Callable[[int, int | None], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Server:
    """A server that can be backed up, for as long as our session in it lives; `identity` is its system identifier."""

    connection: Connection
    session: psycopg.Connection[Any]
    found: Look
    tools: Tools
    identity: str

    def take(
        self,
        consume: Consume,
        *,
        base: SetFacts | None = None,
        options: Sequence[str] = (),
        keep: Sequence[int] = (),
        explain: Callable[[str, Connection], Refusal] = refusal_from,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> TakenSet:
        """Stream one backup; `base` is what it stands on, `keep` are files that the tool may read besides."""
        notes = [*remarks(self.found), hold_slot(self.session)]
        started_at = datetime.now(UTC)
        with password_file(self.connection.password) as (path, fd):
            stream = BackupStream(
                [str(self.tools.program("pg_basebackup")), *OPTIONS, *options],
                tool_environment(self.connection, path),
                keep=(fd, *keep),
                explain=lambda words: explain(words, self.connection),
                progress=progress,
                stop=stop,
            )
            with stream:
                consume(stream)
                story, outline = stream.story(), stream.outline()
        if story.from_standby:
            notes.append("Taken from a standby.")
        facts = self._facts(base, story, started_at, stream.size)
        return TakenSet(facts, tuple(note for note in notes if note), outline)

    def _facts(self, base: SetFacts | None, story: Story, started_at: datetime, size: int) -> SetFacts:
        return SetFacts(
            database="",
            kind=Kind.DIFFERENTIAL if base else Kind.FULL,
            method=Method.PHYSICAL,
            started_at=started_at,
            finished_at=datetime.now(UTC),
            first_position=story.first_position,
            last_position=story.last_position,
            checkpoint_position=story.checkpoint_position,
            base_position=story.base_position,
            fork=str(story.timeline),
            set_guid=str(uuid.uuid4()),
            base_guid=base.set_guid if base else "",
            has_checksums=True,
            server=self.identity,
            software_version=self.found.version,
            size_bytes=size,
            length=size,
        )


@contextmanager
def reached(connection: Connection) -> Iterator[Server]:
    """Look at a server before anything is started; raises Refusal when no backup can be taken of it."""
    with closing(connect(connection)) as session:
        found = look(session)
        why_not(found)
        yield Server(connection, session, found, tools_for(found.major), identify(connection))
