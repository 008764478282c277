"""What servers and their tools say when they refuse, in our words, with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from regions.refusals import Refusal

MOST_WORDS = 500


@dataclass(frozen=True)
class Reason:
    """One kind of refusal. `said` is looked for in the server's or the tool's message; {…} are the connection's."""

    said: str
    code: str
    sentence: str
    remedy: str
    field: str = ""


def explained(message: str, reasons: Iterable[Reason], values: Mapping[str, object]) -> Refusal | None:
    """Return the first reason that fits as a refusal; None when none does."""
    for reason in reasons:
        if re.search(reason.said, message):
            return Refusal(reason.code, reason.sentence.format(**values), reason.remedy.format(**values), reason.field)
    return None


def quoted(message: str) -> str:
    """Return the end of what was said, in one line."""
    return " ".join(message.split())[-MOST_WORDS:]
