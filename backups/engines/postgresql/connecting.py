"""Two ways in: psycopg for questions, environment variables for the engine's own tools. Both take the same values.

A password never becomes an argument, a variable or a file with a name.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from backups.engines.connections import refuse_ambiguous
from backups.engines.facts import Connection
from backups.engines.postgresql.refusals import refusal_from

ANSWER_SECONDS = 10
NO_FILE = "/nonexistent"  # else libpq would look for passwords in the worker's own home
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def connect(connection: Connection, **more: Any) -> psycopg.Connection[Any]:
    """Open a session, whose text is str (a database in SQL_ASCII would give bytes); raises Refusal with the reason."""
    refuse_ambiguous(connection)
    try:
        return psycopg.connect(**_parameters(connection), **{"client_encoding": "UTF8"} | more, autocommit=True)
    except psycopg.OperationalError as error:
        raise refusal_from(str(error), connection) from error


def _parameters(connection: Connection) -> dict[str, Any]:
    given = {
        "host": connection.host,
        "hostaddr": connection.hostaddr,
        "port": connection.port,
        "user": connection.username,
        "password": connection.password,
        "dbname": connection.dbname or "postgres",
        "sslmode": connection.tls or "prefer",
        "sslrootcert": _authorities(connection),
        "gssencmode": "disable",
        "passfile": NO_FILE,
        "application_name": "farshore",
        "connect_timeout": ANSWER_SECONDS,
        "keepalives_idle": 60,
    }
    return {name: value for name, value in given.items() if value != ""}


def _authorities(connection: Connection) -> str:
    if not connection.tls.startswith("verify-"):
        return ""
    known = ssl.get_default_verify_paths().cafile
    return os.environ.get("PGSSLROOTCERT") or known or SYSTEM_AUTHORITIES


def tool_environment(connection: Connection, password_file: str) -> dict[str, str]:
    """Everything a tool gets to know: where to connect, and nothing of ours (keys, broker, other PG* variables)."""
    given = {
        "LC_ALL": "C",
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", ""),
        "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
        "PGHOST": connection.host,
        "PGHOSTADDR": connection.hostaddr,
        "PGPORT": str(connection.port),
        "PGUSER": connection.username,
        "PGPASSFILE": password_file,
        "PGSSLMODE": connection.tls or "prefer",
        "PGSSLROOTCERT": _authorities(connection),
        "PGGSSENCMODE": "disable",
        "PGAPPNAME": "farshore",
        "PGCONNECT_TIMEOUT": str(ANSWER_SECONDS),
    }
    return {name: value for name, value in given.items() if value}


@contextmanager
def password_file(password: str) -> Iterator[tuple[str, int]]:
    """A password file that lives in memory only, so that no crash leaves it behind: its path for a child, its fd."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    fd = os.memfd_create("pgpass")
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, f"*:*:*:*:{escaped}\n".encode() if password else b"")
        yield f"/proc/self/fd/{fd}", fd
    finally:
        os.close(fd)
