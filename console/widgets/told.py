"""What alerts and events say, in the language of the page; what is written of them stays English (decision 88).

A sentence is read back: the listed one that it is gives the names and numbers in it, and its translation takes them.
One that is not listed is shown as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from django.utils.translation import get_language, gettext

from console.widgets import words
from console.widgets.sentences import ALERTS, EVENTS, PARTS

PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")
NUMBER, MOMENT = r"\d+", r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?"
LONGEST = 2000  # letters; what is longer holds the output of a tool
SHAPES = {"n": NUMBER, "at": MOMENT, "until": MOMENT, "moment": MOMENT}


@dataclass(frozen=True)
class Sentence:
    """A listed sentence, the pattern of what is written of it, and how many letters of it are its own."""

    english: str
    pattern: re.Pattern[str]
    own: int


def told(text: str) -> str:
    """Return the sentence in the language of the page, without characters that turn text around or hide it."""
    return words.plain(text if (get_language() or "en").startswith("en") else _translated(text))


def is_listed(text: str) -> bool:
    return any(one.pattern.fullmatch(text) for one in _listed())


def _translated(text: str) -> str:
    for one in _listed() if len(text) <= LONGEST else ():
        if found := one.pattern.fullmatch(text):
            return gettext(one.english) % {name: _part(name, said) for name, said in found.groupdict().items()}
    return text


def _part(name: str, said: str) -> str:
    return PARTS_TOLD[name](said) if name in PARTS_TOLD else said


@cache
def _listed() -> list[Sentence]:
    """The sentence with the most words of its own comes first: what is nearly all placeholder fits nearly anything."""
    return sorted(map(_sentence, {*PARTS, *ALERTS, *EVENTS}), key=lambda one: (-one.own, one.english))


def _sentence(english: str) -> Sentence:
    pieces, end = [""], 0  # each but the first begins with a name, and tells where it ends
    for found in PLACEHOLDER.finditer(english):
        pieces[-1] += re.escape(english[end : found.start()])
        end, name = found.end(), found[1]
        if name is None:
            pieces[-1] += "%"
        elif name in SHAPES:
            pieces[-1] += f"(?P<{name}>{SHAPES[name]})"
        else:
            pieces.append(f"(?P<{name}>.+?)")
    pieces[-1] += re.escape(english[end:])
    return Sentence(english, _pattern(pieces), len(PLACEHOLDER.sub("", english)))


def _pattern(pieces: list[str]) -> re.Pattern[str]:
    """A name ends at the first place that fits, which is not tried again (?>…): no text costs more than its length."""
    first, *others = pieces
    settled = "".join(f"(?>{piece})" for piece in others[:-1])
    return re.compile(first + settled + "".join(others[-1:]), re.DOTALL)


def _label(said: str) -> str:
    """Return the label of a model, which in a sentence may have lost its capital, or a region's name."""
    written = said[:1].upper() + said[1:]
    shown = gettext(written)
    return said if shown == written else shown


def _month(said: str) -> str:
    try:
        return words.month(datetime.strptime(said, "%B %Y").replace(tzinfo=UTC))
    except ValueError:
        return said


PARTS_TOLD: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(("why", "set", "scope"), _translated),
    **dict.fromkeys(("region", "source", "destination", "label"), _label),
    "month": _month,
}
