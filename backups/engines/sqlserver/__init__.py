"""SQL Server: native backup files, read by their own headers, and servers asked over the wire (`sqlserver.md`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backups.engines.facts import (
    CheckResult,
    Connection,
    DatabaseStanding,
    LandedDatabase,
    LandedRequest,
    LandingFacts,
    RunningServer,
    ServerFacts,
    Surroundings,
)
from backups.engines.sqlserver.checksums import Verifier
from backups.engines.sqlserver.reader import inspect

__all__ = [
    "Verifier",
    "ask",
    "check",
    "count_rows",
    "drop_database",
    "inspect",
    "inspect_databases",
    "inspect_landing",
    "login_script",
    "look_around",
    "probe",
    "restore_database",
]


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


def check(server: RunningServer, **more: Any) -> CheckResult:
    """See `checking.check`."""
    from backups.engines.sqlserver import checking

    return checking.check(server, **more)


def count_rows(server: RunningServer, **more: Any) -> dict[str, int]:
    """See `checking.count_rows`."""
    from backups.engines.sqlserver import checking

    return checking.count_rows(server, **more)


def ask(server: RunningServer, database: str, question: str) -> str:
    """See `checking.ask`."""
    from backups.engines.sqlserver import checking

    return checking.ask(server, database, question)


def login_script(login: str, databases: Iterable[str], **more: Any) -> str:
    """See `rights.script_for`."""
    from backups.engines.sqlserver import rights

    return rights.script_for(login, databases, **more)


def inspect_landing(connection: Connection, **share: Any) -> LandingFacts:
    """See `landing.inspect_landing`."""
    from backups.engines.sqlserver import landing

    return landing.inspect_landing(connection, **share)


def restore_database(connection: Connection, request: LandedRequest) -> LandedDatabase:
    """See `landing.restore_database`."""
    from backups.engines.sqlserver import landing

    return landing.restore_database(connection, request)


def drop_database(connection: Connection, name: str, **of: Any) -> bool:
    """See `dropping.drop_database`."""
    from backups.engines.sqlserver import dropping

    return dropping.drop_database(connection, name, **of)
