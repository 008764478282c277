"""What statements may ask about: tables in memory, functions and variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from demo.tds.expressions import Expression
from demo.tds.tokens import Column
from demo.tds.values import SqlType


@dataclass(frozen=True)
class Table:
    """Columns and, when asked, rows; a row is a mapping from the columns' names in lower case."""

    columns: tuple[Column, ...]
    rows: Callable[[], Iterable[Mapping[str, Any]]]


class Catalogue(Protocol):
    """What statements may ask about."""

    def table(self, name: str) -> Table: ...

    def call(self, name: str, arguments: Sequence[Any]) -> tuple[SqlType, Any]: ...

    def variable(self, name: str) -> tuple[SqlType, Any]: ...


@dataclass
class Source:
    """A table under the name that a statement gives it. `keys`: the two columns that `on` says are equal."""

    alias: str
    table: Table
    on: Expression | None = None
    keys: tuple[str, str] | None = None
    is_outer: bool = False

    def named(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{self.alias}.{name}": value for name, value in row.items()}

    @property
    def nothing(self) -> dict[str, Any]:
        return {f"{self.alias}.{column.name.lower()}": None for column in self.table.columns}
