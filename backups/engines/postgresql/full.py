"""Taking a full backup."""

from __future__ import annotations

from backups.engines.facts import Connection, TakenSet
from backups.engines.postgresql.basebackup import Consume, Progress, Stop, reached


def take_full(
    connection: Connection, consume: Consume, *, progress: Progress | None = None, stop: Stop | None = None
) -> TakenSet:
    """Back up the whole server as one tar, which `consume` reads to its end; memory stays bounded.

    Nothing was taken unless this returns: it raises Refusal with the reason in words, Stopped when `stop` said so, or
    what `consume` raised; then the tool is gone and the slot with it. `progress(bytes, expected bytes or None)` and
    `stop()` are called by the thread that reads, about once a second and twice a second. Safe to repeat.
    """
    with reached(connection) as server:
        return server.take(consume, progress=progress, stop=stop)
