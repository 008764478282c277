"""SQL Server: native backup files, read by their own headers, and servers asked over the wire (`sqlserver.md`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backups.engines.facts import Connection, DatabaseOrder, DatabaseStanding, ServerFacts, Share, SharedBackup
from backups.engines.sqlserver.checksums import Verifier
from backups.engines.sqlserver.reader import inspect

__all__ = ["Verifier", "inspect", "inspect_databases", "login_script", "probe", "take_database"]


def probe(connection: Connection, **more: Any) -> ServerFacts:
    """See `server.probe`; the driver is imported only by whoever asks a server."""
    from backups.engines.sqlserver import server

    return server.probe(connection, **more)


def inspect_databases(connection: Connection) -> list[DatabaseStanding]:
    """See `server.inspect_databases`."""
    from backups.engines.sqlserver import server

    return server.inspect_databases(connection)


def take_database(connection: Connection, order: DatabaseOrder, share: Share, **more: Any) -> SharedBackup:
    """See `outbox.take_database`."""
    from backups.engines.sqlserver import outbox

    return outbox.take_database(connection, order, share, **more)


def login_script(login: str, databases: Iterable[str], **more: Any) -> str:
    """See `rights.script_for`."""
    from backups.engines.sqlserver import rights

    return rights.script_for(login, databases, **more)
