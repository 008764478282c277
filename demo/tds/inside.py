"""What can be asked inside a simulated database: it has one table, dbo.pages, with a row for each of its pages."""

from __future__ import annotations

from demo.tds.catalogue import Table
from demo.tds.machine import Database
from demo.tds.tokens import Column
from demo.tds.values import BOOLEAN, INTEGER, NAME

SCHEMAS = (Column("schema_id", INTEGER), Column("name", NAME))
TABLES = (
    *(Column("object_id", INTEGER), Column("schema_id", INTEGER)),
    *(Column("name", NAME), Column("is_ms_shipped", BOOLEAN)),
)
PAGES = (Column("number", INTEGER),)


def table(name: str, database: Database | None) -> Table | None:
    """Return the table of this name in the database that the session is in; None for one of the server's own."""
    if name == "sys.schemas":
        return Table(SCHEMAS, lambda: [{"schema_id": 1, "name": "dbo"}])
    if name == "sys.tables":
        return Table(TABLES, lambda: [{"object_id": 1, "schema_id": 1, "name": "pages", "is_ms_shipped": False}])
    if name in ("dbo.pages", "pages") and database:
        return Table(PAGES, lambda: ({"number": number} for number in range(database.pages)))
    return None
