"""What somebody else backs up on a server at this moment (R-6.2), as far as the account sees the requests of others."""

from __future__ import annotations

from backups.engines.facts import Connection
from backups.engines.sqlserver.connecting import session
from backups.engines.sqlserver.taking import sessions

REQUESTS = "SELECT session_id, database_id FROM sys.dm_exec_requests WHERE command = 'BACKUP DATABASE'"
# The statement may be given in another database than the one it is of: that one's lock tells.
LOCKS = "SELECT request_session_id, resource_database_id FROM sys.dm_tran_locks WHERE resource_type = 'DATABASE'"
NAMES = "SELECT database_id, name FROM sys.databases WHERE database_id > 4"


def being_backed_up(connection: Connection) -> frozenset[str]:
    """Name the databases of which a full or a differential is taken by anybody but Farshore; raises Refusal."""
    with session(connection) as opened:
        requests, ours = opened.ask(REQUESTS), sessions(opened)
        theirs = {row["session_id"]: row["database_id"] for row in requests if row["session_id"] not in ours}
        if not theirs:
            return frozenset()
        locked = {row["resource_database_id"] for row in opened.ask(LOCKS) if row["request_session_id"] in theirs}
        names = {row["database_id"]: row["name"] for row in opened.ask(NAMES)}
    return frozenset(names[number] for number in locked | set(theirs.values()) if number in names)
