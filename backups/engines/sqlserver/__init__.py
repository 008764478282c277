"""SQL Server: native backup files, read by their own headers (`sqlserver.md`)."""

from backups.engines.sqlserver.checksums import Verifier
from backups.engines.sqlserver.reader import inspect

__all__ = ["Verifier", "inspect"]
