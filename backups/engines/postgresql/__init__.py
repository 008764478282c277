"""PostgreSQL 13 and newer: the whole server as one tar, its logs in pieces, and a new server out of both.

Everything is done by the engine's own programs: pg_basebackup, pg_receivewal, pg_combinebackup, and the server itself.
"""

from __future__ import annotations

from backups.engines.postgresql.checking import ask, check, count_rows, why_not_ask
from backups.engines.postgresql.full import take_full
from backups.engines.postgresql.incremental import take_incremental
from backups.engines.postgresql.receiving import receive_logs
from backups.engines.postgresql.restoring import restore
from backups.engines.postgresql.running import start_again, startable_versions, take_over
from backups.engines.postgresql.server import probe
from backups.engines.postgresql.slots import forget_receiver, receiver_lag
from backups.engines.serving import discard

__all__ = [
    "ask",
    "check",
    "count_rows",
    "discard",
    "forget_receiver",
    "probe",
    "receive_logs",
    "restore",
    "receiver_lag",
    "start_again",
    "startable_versions",
    "take_full",
    "take_incremental",
    "take_over",
    "why_not_ask",
]
