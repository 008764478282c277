"""SQL Server: native backup files, read by their own headers, and servers asked over the wire (`sqlserver.md`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backups.engines.facts import Connection, DatabaseStanding, HistoryPage, ServerFacts
from backups.engines.sqlserver.checksums import Verifier
from backups.engines.sqlserver.reader import inspect
from backups.engines.sqlserver.reconciling import breakers, differences
from backups.engines.sqlserver.saying_no import SEEN_ONLY_BY_MSDB as told_by_history

__all__ = [
    "Verifier",
    "breakers",
    "differences",
    "inspect",
    "inspect_databases",
    "login_script",
    "probe",
    "read_history",
    "told_by_history",
]


def probe(connection: Connection, **more: Any) -> ServerFacts:
    """See `server.probe`; the driver is imported only by whoever asks a server."""
    from backups.engines.sqlserver import server

    return server.probe(connection, **more)


def inspect_databases(connection: Connection) -> list[DatabaseStanding]:
    """See `server.inspect_databases`."""
    from backups.engines.sqlserver import server

    return server.inspect_databases(connection)


def read_history(connection: Connection, after: int = 0, **more: Any) -> HistoryPage:
    """See `history.read_history`."""
    from backups.engines.sqlserver import history

    return history.read_history(connection, after, **more)


def login_script(login: str, databases: Iterable[str], **more: Any) -> str:
    """See `rights.script_for`."""
    from backups.engines.sqlserver import rights

    return rights.script_for(login, databases, **more)
