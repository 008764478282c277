"""Receiving logs from the servers whose copies are to be restorable to any moment (R-8, R-9): held work of a region.

A child process of a region's worker claims the streams that are wanted and keeps a thread in each of them. What the
engine receives comes in pieces; each is stored in the source region and recorded as a default backup of kind log, and
is owed a copy as any other. Killed, the child leaves rows whose leases run out, and pieces that are delivered again.

streams    whose logs are wanted, and what a first backup waits for
claims     a stream is held: claim, fence, lease
receivers  the child process: a thread for each stream, one loop that holds their leases
delivery   one piece on its way into the store, and the set that records it
progress   what becomes of a stream, in its row: begun, heard of, failed, lost, ended
"""

from __future__ import annotations

from backups.logs.log_receiving.claims import claim, is_due, let_go, mine
from backups.logs.log_receiving.progress import begin
from backups.logs.log_receiving.receivers import serve
from backups.logs.log_receiving.streams import (
    LOGS_FIRST,
    begin_anew,
    keep,
    keep_all,
    let_logs_begin_first,
    regions_with_streams,
    slot_of,
    spool_of,
    wanted,
)

__all__ = [
    "LOGS_FIRST",
    "begin",
    "begin_anew",
    "claim",
    "is_due",
    "keep",
    "keep_all",
    "let_go",
    "let_logs_begin_first",
    "mine",
    "regions_with_streams",
    "serve",
    "slot_of",
    "spool_of",
    "wanted",
]
