"""Two ways in, both through the door: PyMySQL for questions, an option file for the engine's own tools.

A password never becomes an argument, a variable or a file with a name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import Cursor

from backups.engines.confinement import Account
from backups.engines.connections import refuse_ambiguous
from backups.engines.facts import Connection
from backups.engines.mariadb.door import Door
from backups.engines.mariadb.refusals import refusal_from

ANSWER_SECONDS = 30  # one that answers nothing for so long is gone

Session = pymysql.connections.Connection


@contextmanager
def session(connection: Connection, *, answer_seconds: float | None = ANSWER_SECONDS, **more: Any) -> Iterator[Session]:
    """Open a session for as long as it is needed; raises Refusal with the reason in words."""
    refuse_ambiguous(connection)
    with Door(connection) as door:
        opened = _connected(connection, door, answer_seconds, more)
        try:
            yield opened
        finally:
            opened._force_close()  # a farewell would wait for a server that is gone


def _connected(connection: Connection, door: Door, answer_seconds: float | None, more: dict[str, Any]) -> Session:
    try:
        opened = pymysql.connect(
            user=connection.username,
            password=connection.password.encode(),
            database=connection.dbname or None,
            charset="utf8mb4",
            autocommit=True,
            read_timeout=answer_seconds,
            write_timeout=answer_seconds,
            program_name="farshore",
            defer_connect=True,
            **more,
        )
        opened.connect(door.socket())
    except (pymysql.Error, OSError, RuntimeError) as error:  # RuntimeError: a way to log in that PyMySQL lacks
        raise refusal_from(str(error), connection) from error
    return opened


def ask(session: Session, question: str, *values: Any) -> list[tuple[Any, ...]]:
    with session.cursor(Cursor) as cursor:
        cursor.execute(question, values or None)
        return list(cursor.fetchall())


def rows(session: Session, question: str) -> list[dict[str, Any]]:
    """Answer by the names of the columns, which differ between versions in number and order."""
    with session.cursor(Cursor) as cursor:
        cursor.execute(question)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextmanager
def option_file(connection: Connection, socket: Path, whom: Account | None = None) -> Iterator[tuple[str, int]]:
    """An option file that lives in memory only, so that no crash leaves it behind: its path for a child, its fd."""
    told = {"user": connection.username, "password": connection.password, "socket": str(socket)}
    lines = ["[client]", "protocol=socket", *(f"{name}={_quoted(value)}" for name, value in told.items())]
    fd = os.memfd_create("my.cnf")
    try:
        os.fchmod(fd, 0o600)
        if whom:
            os.fchown(fd, whom.uid, whom.gid)
        os.write(fd, "\n".join([*lines, ""]).encode())
        yield f"/proc/self/fd/{fd}", fd
    finally:
        os.close(fd)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def tool_environment() -> dict[str, str]:
    """Everything a tool gets to know beside its option file: nothing of ours, and no variable of MariaDB's own."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent", **kept}
