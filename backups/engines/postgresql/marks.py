"""Asking which moment a position of the log stands for.

WAL has the time of each commit in it, but only decoding tells; so a piece claims the last moment we know to be in it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg

from backups.engines.marks import Marks

# A transaction takes its time before it writes its commit; a busy disk may come between the two.
COMMIT_MARGIN = timedelta(seconds=1)
SEGMENT_HEADER = 40

CLOCK = """
SELECT CASE WHEN pg_is_in_recovery()
            THEN coalesce(pg_last_xact_replay_timestamp(), (SELECT checkpoint_time FROM pg_control_checkpoint()))
            ELSE clock_timestamp() END
"""
POSITION = """
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
             ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint
"""


def ask(marks: Marks, session: psycopg.Connection[Any], segment_bytes: int) -> int:
    """Make a mark; returns the server's position, at the beginning of a segment that has only its header."""
    when = session.execute(CLOCK).fetchone()[0]
    position = session.execute(POSITION).fetchone()[0]
    if position % segment_bytes <= SEGMENT_HEADER:
        position -= position % segment_bytes
    marks.add(position, when - COMMIT_MARGIN)
    return position
