"""MariaDB 10.5 and newer: the whole server as one mbstream, its binary logs in pieces, and a new server out of both.

Everything is done by the engine's own programs: mariadb-backup, mariadb-binlog, mariadb-check, and the server itself.
"""

from __future__ import annotations

from backups.engines.mariadb.checking import ask, check, count_rows, why_not_ask
from backups.engines.mariadb.full import take_full
from backups.engines.mariadb.receiving import forget_receiver, receive_logs, receiver_lag
from backups.engines.mariadb.restoring import restore
from backups.engines.mariadb.running import start_again, startable_versions, take_over
from backups.engines.mariadb.server import probe
from backups.engines.serving import discard

__all__ = [
    "ask",
    "check",
    "count_rows",
    "discard",
    "forget_receiver",
    "probe",
    "receive_logs",
    "receiver_lag",
    "restore",
    "start_again",
    "startable_versions",
    "take_full",
    "take_over",
    "why_not_ask",
]
