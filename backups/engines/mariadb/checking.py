"""Looking into a restored server: rows per table, the engine's own check of every table, a team's question."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pymysql

from backups.engines.check_tools import run_check
from backups.engines.facts import CheckResult, RunningServer, Stopped
from backups.engines.mariadb.connecting import Session, option_file, session, tool_environment
from backups.engines.mariadb.connecting import ask as answers
from backups.engines.mariadb.door import Door
from backups.engines.mariadb.server import SYSTEM_DATABASES
from backups.engines.mariadb.tools import series_of, server_tools
from backups.engines.questions import why_not_read
from regions.refusals import Refusal

MOST_FINDINGS = 50
ASK_SECONDS = 300
NOTHING, NULL = "no row", "NULL"
QUOTED = re.compile(r"""'(?:[^'\\]|''|\\.)*'|"(?:[^"\\]|""|\\.)*"|`(?:[^`]|``)*`|--\s[^\n]*|#[^\n]*|/\*.*?\*/""", re.S)
BEGINS = "SELECT|WITH|VALUES|SHOW|DESCRIBE|DESC|EXPLAIN"
WRITES = r"INTO|DELETE\s+FROM|UPDATE\s+\S+\s+SET"
BAD = re.compile(r"^(error|warning|status)\s*:", re.IGNORECASE)

TABLES = f"""
SELECT table_schema, table_name FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema NOT IN {SYSTEM_DATABASES} ORDER BY 1, 2
"""


@contextmanager
def session_in(server: RunningServer, database: str = "", **more: object) -> Iterator[Session]:
    """Our superuser's session, for as long as a question may take."""
    with session(replace(server.connection, dbname=database), answer_seconds=None, **more) as opened:
        yield opened


def count_rows(server: RunningServer, *, stop: Callable[[], bool] | None = None) -> dict[str, int]:
    """Rows of every table, by `database.table`; raises Stopped between tables, Refusal for one not readable."""
    counted = {}
    with session_in(server) as opened:
        for database, table in answers(opened, TABLES):
            if stop and stop():
                raise Stopped("the rows need not be counted")
            name = f"{database}.{table}"
            try:
                counted[name] = answers(opened, f"SELECT COUNT(*) FROM {_quoted(database)}.{_quoted(table)}")[0][0]
            except pymysql.Error as error:
                raise Refusal("RowsUnreadable", f"The rows of {name} cannot be read: {_words(error)}.") from error
    return counted


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def why_not_ask(question: str) -> Refusal | None:
    """Return why the server could never answer it; that nothing is written is what the session sees to."""
    return why_not_read(question, quoted=QUOTED, begins=BEGINS, writes=WRITES)


def ask(server: RunningServer, database: str, question: str) -> str:
    """Return the first value of the first row of one statement, in the server's own words; NULL and no row by name.

    Nothing can be changed by it, and it may take five minutes; raises Refusal with what the server said otherwise.
    """
    limits = f"SET SESSION max_statement_time = {ASK_SECONDS}, tx_read_only = ON"
    with session_in(server, database, conv={}, init_command=limits) as opened, opened.cursor() as cursor:
        try:
            cursor.execute(question)
            row = cursor.fetchone() if cursor.description else None
        except pymysql.Error as error:
            raise Refusal("QuestionFailed", f"The server said no: {_words(error)}.", "Ask it otherwise.") from error
        if not cursor.description:
            raise Refusal("NoRows", "The statement gives no rows.", "Ask with SELECT.", "sql")
    if row is None:
        return NOTHING
    return NULL if row[0] is None else row[0].decode(errors="replace") if isinstance(row[0], bytes) else row[0]


def _words(error: pymysql.Error) -> str:
    return str(error.args[-1] if error.args else error).rstrip(".") or type(error).__name__


def check(server: RunningServer, *, stop: Callable[[], bool] | None = None) -> CheckResult:
    """Run mariadb-check over every table of every database; raises Refusal without it."""
    with session_in(server) as opened:
        series = series_of(answers(opened, "SELECT @@version")[0][0])
    program = server_tools(series).program("mariadb-check")
    said = _run(server, [str(program), "--all-databases", "--check", "--extended"], stop)
    findings = tuple(_findings(said))[:MOST_FINDINGS]
    return CheckResult("mariadb-check", not findings, findings)


def _findings(said: str) -> Iterator[str]:
    """What is not OK: the tool says so in lines below the table's name, and ends with 0 all the same."""
    table = ""
    for line in said.splitlines():
        if BAD.match(line) and not re.match(r"status\s*:\s*OK", line):
            yield f"{table}: {line}" if table else line
        elif not re.match(r"note\s*:", line, re.IGNORECASE):
            table = line.split()[0] if line.split() else table
            if line.startswith("mariadb-check:"):
                yield line


def _run(server: RunningServer, command: list[str], stop: Callable[[], bool] | None) -> str:
    with Door(server.connection) as door, option_file(server.connection, door.path()) as (path, fd):
        call = [command[0], f"--defaults-file={path}", *command[1:]]
        status, said = run_check(call, tool_environment(), fd, stop)
    return f"mariadb-check: ended with {status}" if status and not said.strip() else said
