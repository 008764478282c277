"""Taking an incremental (PostgreSQL 17 and newer): what changed since a full or an incremental before it.

The server knows what changed from its WAL summaries, and what the base holds from the base's backup_manifest.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from backups.engines.facts import Base, Connection, SetFacts, TakenSet
from backups.engines.postgresql.basebackup import Consume, Progress, Server, Stop, reached
from backups.engines.postgresql.refusals import (
    INCREMENTAL_TOO_OLD,
    OTHER_SERVER,
    WAL_NOT_SUMMARIZED,
    Reason,
    full_needed,
    incremental_refusal_from,
)

OLDEST_MAJOR = 17


def take_incremental(
    connection: Connection,
    base: Base,
    consume: Consume,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> TakenSet:
    """Back up what changed in the whole server since `base`, as `take_full` does in everything else.

    Raises FullNeeded where no incremental can be taken on this base but a full can. How many bytes are expected is
    never known: the tool would name those of a full.
    """
    with reached(connection) as server:
        if reason := _why_full(server, base.facts):
            raise full_needed(reason)
        with _outline(base) as fd:
            return server.take(
                consume,
                base=base.facts,
                options=[f"--incremental=/proc/self/fd/{fd}"],
                keep=(fd,),
                explain=incremental_refusal_from,
                progress=_unexpecting(progress),
                stop=stop,
            )


def _why_full(server: Server, base: SetFacts) -> Reason | None:
    """Return what is in the way before anything is sent; the rest only the server can judge."""
    if server.found.major < OLDEST_MAJOR:
        return INCREMENTAL_TOO_OLD
    if not server.found.sums_wal:
        return WAL_NOT_SUMMARIZED
    return OTHER_SERVER if base.server != server.identity else None


@contextmanager
def _outline(base: Base) -> Iterator[int]:
    """The base's manifest in a file without a name, so that no crash leaves it behind: its fd, for a child."""
    with tempfile.TemporaryFile() as held:
        with base.open() as manifest:
            shutil.copyfileobj(manifest, held, 1 << 20)
        held.flush()
        yield held.fileno()


def _unexpecting(progress: Progress | None) -> Progress | None:
    return (lambda done, _: progress(done, None)) if progress else None
