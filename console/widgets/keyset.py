"""Pages that know where they begin instead of how many came before: no COUNT(*), no OFFSET, stable on Back and Reload.

A cursor holds the values a row is sorted by, signed. A cursor that does not fit (another sort, an old key) is the
first page, not an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core import signing
from django.db.models import Model, Q, QuerySet

ROWS = 30
_signer = signing.Signer(salt="console.keyset")


@dataclass(frozen=True)
class Order:
    """Columns to sort by, "-" before each that descends. The last is unique, and none is ever NULL."""

    columns: tuple[str, ...]

    def reversed(self) -> Order:
        return Order(tuple(column[1:] if column.startswith("-") else f"-{column}" for column in self.columns))

    def cursor_at(self, row: Model) -> str:
        values = [_plain(_value(row, column.removeprefix("-"))) for column in self.columns]
        return _signer.sign_object([list(self.columns), values], compress=True)

    def values_in(self, cursor: str) -> Sequence[Any] | None:
        try:
            columns, values = _signer.unsign_object(cursor)
        except (signing.BadSignature, ValueError):
            return None
        return values if columns == list(self.columns) else None

    def beyond(self, values: Sequence[Any]) -> Q:
        """Return what stands after the row with these values; its first column alone can use the index."""
        name, later = _later(self.columns[0], values[0])
        rest = Order(self.columns[1:])
        if not rest.columns:
            return later
        return later | (Q(**{name: values[0]}) & rest.beyond(values[1:]))


@dataclass(frozen=True)
class Page:
    rows: list[Any] = field(default_factory=list)
    before: str = ""
    after: str = ""

    @property
    def is_only(self) -> bool:
        return not (self.before or self.after)


def page(rows: QuerySet, order: Order, *, after: str = "", before: str = "", size: int = ROWS) -> Page:
    """Return at most `size` rows beyond a cursor, and the cursors of its neighbours ("" where there is none)."""
    backwards = bool(before)
    values = order.values_in(before or after) if before or after else None
    if values is None:
        found = list(rows.order_by(*order.columns)[: size + 1])
        return _page(found[:size], order, before=False, after=len(found) > size)
    walk = order.reversed() if backwards else order
    found = list(rows.filter(walk.beyond(values)).order_by(*walk.columns)[: size + 1])
    more, found = len(found) > size, found[:size]
    if backwards:
        return _page(found[::-1], order, before=more, after=True)
    return _page(found, order, before=True, after=more)


def _page(rows: list[Any], order: Order, *, before: bool, after: bool) -> Page:
    if not rows:
        return Page()
    return Page(rows, order.cursor_at(rows[0]) if before else "", order.cursor_at(rows[-1]) if after else "")


def _later(column: str, value: Any) -> tuple[str, Q]:
    name = column.removeprefix("-")
    return name, Q(**{f"{name}__{'lt' if column.startswith('-') else 'gt'}": value})


def _value(row: Model, column: str) -> Any:
    value: Any = row
    for step in column.split("__"):
        value = getattr(value, step)
    return value


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
