"""Emptying the database between tests that commit, in a house whose history refuses to be deleted.

Django would TRUNCATE every table; our append-only tables have triggers against that, and what the migrations wrote
(regions, prices, agreement texts) would be gone with the rest. So: the triggers stay quiet for the owner's flush
(session_replication_role), only tables that have rows are emptied, and what was there after migrating comes back.
"""

from __future__ import annotations

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

SHELF = "as_migrated"
_TABLES = """
    SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> 'django_migrations' ORDER BY tablename
"""
_COLUMNS = """
    SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = %s AND is_generated = 'NEVER'
"""


def tame_the_flush() -> None:
    """Remember what the migrations wrote, and take over from Django's flush for this connection."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {SHELF} CASCADE")
        cursor.execute(f"CREATE SCHEMA {SHELF}")
        for table in _with_rows(cursor):
            cursor.execute(f'CREATE TABLE {SHELF}."{table}" AS TABLE public."{table}"')
    # On the class: a browser's event loop gives the same thread another connection.
    type(connection.ops).execute_sql_flush = lambda ops, sql: _flush(sql)


def forget_everything() -> None:
    """Leave the database as it was after migrating, numbers included: an empty Farshore."""
    with transaction.atomic(), connection.cursor() as cursor:
        _flush([])
        cursor.execute("SET LOCAL session_replication_role = origin")
        for table in ("backupset", "backupfile", "copy", "backupjob", "instance", "transfer", "copypolicy"):
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('backups_{table}', 'id'), 1, false)")


def _flush(_: list[str]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for table in _with_rows(cursor):
            cursor.execute(f'DELETE FROM public."{table}"')
        for table in _names(cursor, SHELF):
            cursor.execute(_COLUMNS, [table])
            columns = cursor.fetchone()[0]
            put_back = f'INSERT INTO public."{table}" ({columns}) OVERRIDING SYSTEM VALUE'
            cursor.execute(f'{put_back} SELECT {columns} FROM {SHELF}."{table}"')


def _names(cursor: CursorWrapper, schema: str) -> list[str]:
    cursor.execute(_TABLES, [schema])
    return [name for (name,) in cursor.fetchall()]


def _with_rows(cursor: CursorWrapper) -> list[str]:
    """Asked in one question: most of the sixty tables are empty after most tests."""
    names = _names(cursor, "public")
    cursor.execute("SELECT " + ", ".join(f'EXISTS (SELECT FROM public."{name}")' for name in names))
    return [name for name, has_rows in zip(names, cursor.fetchone(), strict=True) if has_rows]
