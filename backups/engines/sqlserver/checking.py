"""Looking into a restored database: rows per table, the server's own check of pages and structure, a team's question.

The database meant is the one that the server's connection names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

from backups.engines.facts import CheckResult, RunningServer, Stopped
from backups.engines.sqlserver.connecting import Session, quoted_name, session
from backups.engines.sqlserver.questions import why_not_ask
from backups.engines.sqlserver.refusals import Said, refusal_from
from backups.engines.sqlserver.watching import carry_out
from regions.refusals import Refusal

MOST_FINDINGS = 50
ASK_SECONDS = 300
COUNT_SECONDS = 6 * 3600
FINDINGS = (range(2500, 2600), range(5228, 5280), range(8900, 9000))
ASKER = "farshore_asks"
NOTHING, NULL = "no row", "NULL"
TABLES = """
SELECT s.name AS schema_name, t.name AS table_name
FROM sys.tables AS t JOIN sys.schemas AS s ON s.schema_id = t.schema_id
WHERE t.is_ms_shipped = 0 ORDER BY s.name, t.name
"""

Stop = Callable[[], bool]


def check(server: RunningServer, *, stop: Stop | None = None) -> CheckResult:
    """Run DBCC CHECKDB over the whole database; raises Stopped, or Refusal where the server does not answer."""
    connection = server.connection
    statement = f"DBCC CHECKDB ({quoted_name(connection.dbname)}) WITH NO_INFOMSGS, ALL_ERRORMSGS"
    with session(replace(connection, dbname="")) as working, session(connection) as watching:
        said = carry_out(working, watching, statement, stop=stop, raises=False)
    errors = [message for message in said if message.is_error]
    if any(not _is_finding(message) for message in errors):
        raise refusal_from(said, connection)
    findings = tuple(f"{message.text} ({message.number})" for message in errors)
    return CheckResult("DBCC CHECKDB", not findings, findings[:MOST_FINDINGS])


def _is_finding(message: Said) -> bool:
    """What CHECKDB says of a database; anything else says that it could not look."""
    return any(message.number in numbers for numbers in FINDINGS)


def count_rows(server: RunningServer, *, stop: Stop | None = None) -> dict[str, int]:
    """Rows of every table, by `database.schema.table`; raises Stopped between tables, Refusal for one not readable."""
    counted, database = {}, server.connection.dbname
    with session(server.connection) as opened:
        for row in opened.ask(TABLES):
            if stop and stop():
                raise Stopped("the rows need not be counted")
            schema, table = row["schema_name"], row["table_name"]
            where = f"{quoted_name(schema)}.{quoted_name(table)}"
            rows = opened.ask(f"SELECT COUNT_BIG(*) AS number FROM {where}", seconds=COUNT_SECONDS)
            counted[f"{database}.{schema}.{table}"] = int(rows[0]["number"])
    return counted


def ask(server: RunningServer, database: str, question: str) -> str:
    """Return the first value of the first row of one SELECT as text; NULL and no row by name.

    It may take five minutes; raises Refusal for anything but one SELECT, and with what the server said otherwise.
    """
    if refusal := why_not_ask(question):
        raise refusal
    with session(replace(server.connection, dbname=database or server.connection.dbname)) as opened:
        try:
            _confine(opened)
            rows = opened.ask(question.strip().rstrip(";"), seconds=ASK_SECONDS)
        except Refusal as said:
            raise Refusal("QuestionFailed", f"The server said no: {said.sentence}", "Ask it otherwise.") from said
    if not rows:
        return NOTHING
    return in_text(next(iter(rows[0].values()), None))


def _confine(opened: Session) -> None:
    """Go on as a user of this one database. Our login owns what others have restored beside it, and a view or a synonym
    that the copy brings could lead there; what a database user may ends at its database."""
    opened.hear(f"CREATE USER {ASKER} WITHOUT LOGIN")  # it may be there already; else the next says so
    opened.run(f"ALTER ROLE db_datareader ADD MEMBER {ASKER}")
    opened.run(f"EXECUTE AS USER = '{ASKER}'")


def in_text(value: Any) -> str:
    match value:
        case None:
            return NULL
        case bool():
            return str(int(value))
        case bytes():
            return f"0x{value.hex().upper()}"
        case datetime() | date() | time():
            return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    return str(value)
