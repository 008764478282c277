"""How a downloaded set becomes a database again: RESTORE, with every stripe of it."""

from __future__ import annotations

from collections.abc import Sequence

from backups.engines.facts import Kind, SetFacts

LAST = "RESTORE DATABASE {database} WITH RECOVERY; -- after the last one"


def restore_by_hand(facts: SetFacts, names: Sequence[str]) -> str:
    """Return T-SQL for the files of one set, by the names they were saved under; D:\\restore is a place of yours."""
    database = "[" + facts.database.replace("]", "]]") + "]"
    what = "LOG" if facts.kind == Kind.LOG else "DATABASE"
    disks = ",\n  ".join("DISK = N'D:\\restore\\" + name.replace("'", "''") + "'" for name in names)
    options = [f"FILE = {facts.position}", "NORECOVERY", *(["CHECKSUM"] if facts.has_checksums else [])]
    first = "" if facts.kind == Kind.FULL else "-- after the full backup, and whatever lies between, in order\n"
    restore = f"{first}RESTORE {what} {database} FROM\n  {disks}\n  WITH {', '.join(options)};"
    return f"{restore}\n{LAST.format(database=database)}"
