"""Looking into a restored server: rows per table, the engine's own check of pages and indexes, a team's question."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg

from backups.engines import confinement
from backups.engines.check_tools import run_check
from backups.engines.facts import CheckResult, RunningServer, Stopped
from backups.engines.postgresql.connecting import connect, password_file, tool_environment
from backups.engines.postgresql.tools import server_tools
from backups.engines.questions import why_not_read
from regions.refusals import Refusal

MOST_FINDINGS = 50
ASK_SECONDS = 300
NOTHING, NULL = "no row", "NULL"
QUOTED = re.compile(
    r"""\bE'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.S | re.I
)
BEGINS = "SELECT|WITH|VALUES|TABLE|SHOW"
WRITES = r"INTO|DELETE\s+FROM|UPDATE\s+\S+\s+SET"

DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
TABLES = """
SELECT nspname, relname, 'SELECT count(*) FROM ONLY ' || quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND relpersistence <> 't'
  AND nspname <> 'information_schema' AND nspname !~ '^pg_' ORDER BY 1, 2
"""


def session_in(server: RunningServer, database: str, path: str = "pg_catalog", **more: str) -> psycopg.Connection[Any]:
    """Connect as our superuser, with none of the settings that the copy keeps for databases and roles.

    A database may ask every session to load a library; what we say at connecting wins over that.
    """
    ours = {"session_preload_libraries": "", "local_preload_libraries": "", "search_path": path, **more}
    options = " ".join(f"-c {name}={value}" for name, value in ours.items())
    return connect(replace(server.connection, dbname=database), options=options)


def databases(server: RunningServer) -> list[str]:
    with closing(session_in(server, "template1")) as session:
        return [name for (name,) in session.execute(DATABASES)]


def count_rows(server: RunningServer, *, stop: Callable[[], bool] | None = None) -> dict[str, int]:
    """Rows of every table, by `database.schema.table`; raises Stopped between tables, Refusal for one not readable."""
    counted = {}
    for database in databases(server):
        with closing(session_in(server, database)) as session:
            _take_names_as_they_are(session)
            for schema, table, question in session.execute(TABLES).fetchall():
                if stop and stop():
                    raise Stopped("the rows need not be counted")
                name = f"{database}.{_shown(schema)}.{_shown(table)}"
                try:
                    counted[name] = session.execute(question).fetchone()[0]
                except psycopg.Error as error:
                    raise Refusal("RowsUnreadable", f"The rows of {name} cannot be read: {_words(error)}.") from error
    return counted


def _take_names_as_they_are(session: psycopg.Connection[Any]) -> None:
    """A database in SQL_ASCII knows no encoding of its names: the server would refuse those that are not UTF-8."""
    if session.info.parameter_status("server_encoding") == "SQL_ASCII":
        session.execute("SET client_encoding TO 'SQL_ASCII'")


def _shown(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def why_not_ask(question: str) -> Refusal | None:
    """Return why the server could never answer it; that nothing is written is what the session sees to."""
    return why_not_read(question, quoted=QUOTED, begins=BEGINS, writes=WRITES)


def ask(server: RunningServer, database: str, question: str) -> str:
    """Return the first value of the first row of one statement, in the server's own words; NULL and no row by name.

    Nothing can be changed by it, and it may take five minutes; raises Refusal with what the server said otherwise.
    """
    limits = {"default_transaction_read_only": "on", "statement_timeout": f"{ASK_SECONDS}s"}
    with closing(session_in(server, database or "postgres", '"$user",public', **limits)) as session:
        try:
            asked = session.execute(question.encode(), prepare=True).pgresult  # prepared: one statement, never several
        except psycopg.Error as error:
            raise Refusal("QuestionFailed", f"The server said no: {_words(error)}.", "Ask it otherwise.") from error
    if not asked.nfields:
        raise Refusal("NoRows", "The statement gives no rows.", "Ask with SELECT.", "sql")
    if not asked.ntuples:
        return NOTHING
    value = asked.get_value(0, 0)
    return NULL if value is None else value.decode(errors="replace")


def _words(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error).strip() or type(error).__name__).rstrip(".")


def check(server: RunningServer, *, stop: Callable[[], bool] | None = None) -> CheckResult:
    """Run pg_amcheck over every database, with the extension it needs put in for as long; raises Refusal without it."""
    with closing(session_in(server, "template1")) as session:
        major = session.info.server_version // 10_000
    program = server_tools(major).program("pg_amcheck")
    if not program.exists():
        raise Refusal("CheckMissing", f"There is no pg_amcheck of PostgreSQL {major} on this worker.", "Install it.")
    added = [name for name in databases(server) if _put_in(server, name)]
    try:
        status, said = _run(server, [str(program), "--all", "--no-password", "--heapallindexed"], stop)
    finally:
        for database in added:
            with closing(session_in(server, database)) as session:
                session.execute("DROP EXTENSION amcheck")
    findings = tuple(line for line in said.splitlines() if line.strip())[:MOST_FINDINGS]
    return CheckResult("pg_amcheck", status == 0, () if status == 0 else findings)


def _put_in(server: RunningServer, database: str) -> bool:
    with closing(session_in(server, database)) as session:
        if session.execute("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'").fetchone():
            return False
        try:
            session.execute("CREATE EXTENSION amcheck SCHEMA pg_catalog")
        except psycopg.Error as error:
            raise Refusal(
                "CheckMissing", f"The server has no amcheck extension: {error.diag.message_primary}.", "Install it."
            ) from error
    return True


def _run(server: RunningServer, command: list[str], stop: Callable[[], bool] | None) -> tuple[int, str]:
    with password_file(server.connection.password) as (path, fd):
        known = {**tool_environment(server.connection, path), **confinement.environment(), "PGPASSFILE": path}
        return run_check(command, known, fd, stop)
