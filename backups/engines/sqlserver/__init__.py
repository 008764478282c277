"""SQL Server: native backup files, read by their own headers, and servers asked over the wire (`sqlserver.md`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backups.engines.facts import Connection, DatabaseStanding, ServerFacts, Surroundings
from backups.engines.sqlserver.checksums import Verifier
from backups.engines.sqlserver.reader import inspect

__all__ = ["Verifier", "inspect", "inspect_databases", "login_script", "look_around", "probe"]


def probe(connection: Connection, **more: Any) -> ServerFacts:
    """See `server.probe`; the driver is imported only by whoever asks a server."""
    from backups.engines.sqlserver import server

    return server.probe(connection, **more)


def inspect_databases(connection: Connection) -> list[DatabaseStanding]:
    """See `server.inspect_databases`."""
    from backups.engines.sqlserver import server

    return server.inspect_databases(connection)


def look_around(connection: Connection) -> Surroundings:
    """See `surroundings.look_around`."""
    from backups.engines.sqlserver import surroundings

    return surroundings.look_around(connection)


def login_script(login: str, databases: Iterable[str], **more: Any) -> str:
    """See `rights.script_for`."""
    from backups.engines.sqlserver import rights

    return rights.script_for(login, databases, **more)
