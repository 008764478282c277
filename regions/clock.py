"""One clock for every decision: the database's, so that workers on many machines agree (invariants.md)."""

from __future__ import annotations

from datetime import datetime

from django.db import connection


def now() -> datetime:
    """Return the database's wall clock as aware UTC; unlike SQL's now() it moves inside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
