"""SQL Server: native backup files, read by their own headers, and servers asked over the wire (`sqlserver.md`)."""

from __future__ import annotations

from typing import Any

from backups.engines.facts import Connection, ServerFacts
from backups.engines.sqlserver.checksums import Verifier
from backups.engines.sqlserver.reader import inspect

__all__ = ["Verifier", "inspect", "probe"]


def probe(connection: Connection, **more: Any) -> ServerFacts:
    """See `server.probe`; the driver is imported only by whoever asks a server."""
    from backups.engines.sqlserver import server

    return server.probe(connection, **more)
