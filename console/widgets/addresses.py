"""What may stand in an address: row numbers that are numbers, instance IDs that can be looked up; and shared addresses.

Tabs never import each other; an address that several of them lead to is made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlencode

from django.urls import reverse

DIGITS = 18  # what fits a bigint whatever its digits are


class CodeConverter:
    """An instance ID in a path: anything a database can be asked for, so never a NUL."""

    regex = r"[^/\x00]{1,40}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


def row_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS else None


def row_numbers(texts: Iterable[str], most: int) -> list[int]:
    """Return those of the first `most` texts that are row numbers."""
    found = (row_number(text) for text in list(texts)[:most])
    return [number for number in found if number is not None]


def restoring(
    code: str,
    *,
    until: datetime | None = None,
    set: int | None = None,
    database: str = "",
    store: int | None = None,
) -> str:
    """Return where an instance is restored: to a moment, from a set, or to what is chosen there.

    `database` and `store` say of which, and from which copies; else the ones that the instance's policy means.
    """
    asked = {"instance": code}
    if store is not None:
        asked["place"] = str(store)
    if database:
        asked["database"] = database
    if until is not None:
        asked["until"] = f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if set is not None:
        asked["set"] = str(set)
    return f"{reverse('restores:new')}?{urlencode(asked)}"
