"""Which questions are asked of a SQL Server at all: it has no sessions that can only read."""

from __future__ import annotations

import re

from backups.engines.questions import why_not_read
from regions.refusals import Refusal

QUOTED = re.compile(r"""'(?:[^']|'')*'|\[(?:[^\]]|\]\])*\]|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""", re.S)
WRITES = "INSERT|UPDATE|DELETE|MERGE|INTO|EXEC|EXECUTE|DROP|ALTER|CREATE|TRUNCATE|KILL"


def why_not_ask(question: str) -> Refusal | None:
    """One statement that reads: nothing else is asked of a server that others use too."""
    return why_not_read(question, quoted=QUOTED, begins="SELECT|WITH", writes=WRITES)
