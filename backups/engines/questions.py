"""Whether a question to a restored database is one statement that reads, as far as its words tell. Pure.

The server has the last word when it is asked; this says no to what it could never answer, when it is written down.
"""

from __future__ import annotations

import re

from regions.refusals import Refusal

REMEDY = "Ask with one SELECT."


def why_not_read(question: str, *, quoted: re.Pattern[str], begins: str, writes: str) -> Refusal | None:
    """Return why not, in the words of a dialect.

    `quoted`: what is text, a name or a comment in it. `begins`: the words a statement that reads begins with, `writes`:
    those that no such statement has in it, both as alternatives of an expression.
    """
    words = quoted.sub(" ", question).strip().rstrip("; \r\n\t").upper()
    if not re.match(rf"[\s(]*({begins})\b", words) or ";" in words:
        return Refusal("NoRows", "The question is not one SELECT.", REMEDY, "sql")
    if named := re.search(rf"\b({writes})\b", words):
        return Refusal("NoRows", f"The question has {named[0]} in it.", REMEDY, "sql")
    return None
