"""How moments come out of PostgreSQL.

Django extends psycopg's loader in Python, which takes 12 µs for each moment: a third of the time in which a program's
call for a page of rows should be answered. `fromisoformat` reads the same words in C.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.backends.postgresql.psycopg_any import BaseTzLoader


class MomentLoader(BaseTzLoader):
    """Reads what a session in UTC writes; all else (infinity, years before Christ) is for the one it extends."""

    timezone = UTC

    def load(self, data: Any) -> datetime:
        said = str(data, "ascii")
        if said.endswith("+00") and said[4] == "-":
            return datetime.fromisoformat(said)
        return super().load(data)


def use(connection: Any, **_: Any) -> None:
    """Read moments this way on a connection that was opened now."""
    if connection.timezone == UTC:
        connection.connection.adapters.register_loader("timestamptz", MomentLoader)
