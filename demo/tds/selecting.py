"""SELECT over tables in memory: the part of T-SQL that Farshore asks with, and no more.

    SELECT [TOP (n) [WITH TIES]] expression [AS name], … | *
    [FROM table [AS alias] {[INNER | LEFT [OUTER]] JOIN table [AS alias] ON expression
                            | CROSS APPLY table (expression, …) [AS alias]}]
    [WHERE expression] [ORDER BY expression [ASC | DESC], …]

What an expression may be is said in `parsing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from demo.tds import values
from demo.tds.catalogue import Catalogue, Source
from demo.tds.expressions import Env, Expression, column_of, comparable
from demo.tds.parsing import Expressions
from demo.tds.tokens import Column
from demo.tds.words import Sentence

CLAUSES = ("FROM", "WHERE", "ORDER", "JOIN", "INNER", "LEFT", "CROSS", "ON", "UNION", "GROUP")


@dataclass
class Selected:
    columns: list[Column]
    rows: Iterator[list[Any]] | list[list[Any]]


class Select:
    """Reads one SELECT from a sentence and gives its answer."""

    def __init__(self, sentence: Sentence, catalogue: Catalogue, parameters: Mapping[str, Any]) -> None:
        self.sentence, self.catalogue = sentence, catalogue
        self.sources: list[Source] = []
        self.expressions = Expressions(sentence, catalogue, parameters, self.sources)

    def run(self) -> Selected:
        most, ties = self._top()
        begun = self.sentence.at
        self._skip_items()  # their types are only known once the tables are
        if self.sentence.skips("FROM"):
            self._read_sources()
        where = self.expressions.expression() if self.sentence.skips("WHERE") else None
        order = self._order() if self.sentence.skips("ORDER", "BY") else []
        ended, self.sentence.at = self.sentence.at, begun
        items = list(self._items())
        self.sentence.at = ended
        found = [env for env in self._joined(where) if where is None or where.value(env)]
        for expression, is_backwards in reversed(order):
            found.sort(key=lambda env, of=expression: _sortable(of.value(env)), reverse=is_backwards)
        if any(expression.counts for _, expression in items):
            return Selected([column for column, _ in items], [[len(found) for _ in items]])
        return Selected(
            [column for column, _ in items], [_answer(env, items) for env in _cut(found, most, ties, order)]
        )

    # The parts

    def _top(self) -> tuple[int | None, bool]:
        if not self.sentence.skips("TOP"):
            return None, False
        most = int(self.expressions.primary().value({}))
        return most, self.sentence.skips("WITH", "TIES")

    def _skip_items(self) -> None:
        depth = 0
        while not self.sentence.is_over:
            word = self.sentence.next
            if not depth and (word.plain in CLAUSES or word.plain == ";"):
                return
            depth += (word.plain == "(") - (word.plain == ")")
            self.sentence.take()

    def _items(self) -> Iterator[tuple[Column, Expression]]:
        while True:
            if self.sentence.skips("*"):
                yield from self._all()
            elif [word.plain for word in self.sentence.words[self.sentence.at + 1 :][:2]] == [".", "*"]:
                yield from self._all(self.sentence.dotted_star())
            else:
                expression = self.expressions.expression()
                name = expression.reads.rpartition(".")[2]
                if self.sentence.skips("AS") or self.sentence.next.kind in ("name", "quoted"):
                    name = name if self.sentence.next.plain in CLAUSES else self.sentence.name()
                yield Column(name, expression.type), expression
            if not self.sentence.skips(","):
                return

    def _all(self, alias: str = "") -> Iterator[tuple[Column, Expression]]:
        for source in self.sources:
            if alias not in ("", source.alias):
                continue
            for column in source.table.columns:
                yield column, column_of(f"{source.alias}.{column.name.lower()}", column.type)

    def _read_sources(self) -> None:
        self.sources.append(self._source())
        while True:
            if self.sentence.skips("CROSS", "APPLY"):
                self.sources.append(self._applied())
                continue
            is_outer = self.sentence.skips("LEFT")
            self.sentence.skips("OUTER") if is_outer else self.sentence.skips("INNER")
            if not self.sentence.skips("JOIN"):
                return
            source = self._source()
            self.sources.append(source)
            self.sentence.must("ON")
            begun = self.sentence.at
            source.keys = self._equal_columns(source.alias)
            self.sentence.at = begun
            source.on, source.is_outer = self.expressions.expression(), is_outer

    def _applied(self) -> Source:
        """A table-valued function: its first columns are what it is given."""
        table = self.catalogue.table(self.sentence.dotted().lower())
        given = self.expressions.arguments()
        found = Source(self._alias(), table)
        names = [f"{found.alias}.{column.name.lower()}" for column in table.columns]
        pairs = list(zip(names, given, strict=False))
        found.on = Expression(values.BOOLEAN, lambda env: all(env[name] == one.value(env) for name, one in pairs))
        return found

    def _source(self) -> Source:
        table = self.catalogue.table(self.sentence.dotted().lower())
        return Source(self._alias(), table)

    def _alias(self) -> str:
        alias = f"t{len(self.sources)}"
        word = self.sentence.next
        if self.sentence.skips("AS") or (word.kind in ("name", "quoted") and word.plain not in CLAUSES):
            alias = self.sentence.name().lower()
        return alias

    def _equal_columns(self, alias: str) -> tuple[str, str] | None:
        """Return (column of what is there already, column of the new table) when the condition begins so."""
        one = self.expressions.primary()
        if not self.sentence.skips("="):
            return None
        both = (one.reads, self.expressions.primary().reads)
        mine = next((name for name in both if name.startswith(f"{alias}.")), "")
        other = next((name for name in both if name and name != mine), "")
        return (other, mine) if mine and other else None

    def _order(self) -> list[tuple[Expression, bool]]:
        found = []
        while True:
            expression = self.expressions.expression()
            backwards = self.sentence.skips("DESC")
            self.sentence.skips("ASC")
            found.append((expression, backwards))
            if not self.sentence.skips(","):
                return found

    def _joined(self, where: Expression | None) -> Iterator[dict[str, Any]]:
        if not self.sources:
            yield {}
            return
        first, *others = self.sources
        found: Iterable[dict[str, Any]] = (first.named(row) for row in first.table.rows())
        if where:
            found = (env for env in found if _may_pass(where, env))
        for source in others:
            found = _joined(found, source)
        yield from found


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, comparable(value) if value is not None else 0)


def _joined(found: Iterable[dict[str, Any]], source: Source) -> Iterator[dict[str, Any]]:
    """Join by equal columns where the condition begins so; else every row is tried."""
    rows = [source.named(row) for row in source.table.rows()]
    places: dict[Any, list[dict[str, Any]]] = {}
    if source.keys:
        for row in rows:
            places.setdefault(comparable(row[source.keys[1]]), []).append(row)
    for env in found:
        candidates = places.get(comparable(env[source.keys[0]]), []) if source.keys else rows
        matching = [both for row in candidates if source.on.value(both := env | row)]
        yield from matching
        if not matching and source.is_outer:
            yield env | source.nothing


def _may_pass(where: Expression, env: Env) -> bool:
    """Whether a row of the first table may be in the answer; what asks for other tables is not known yet."""
    try:
        return bool(where.value(env))
    except KeyError:
        return True


def _cut(
    found: list[dict[str, Any]], most: int | None, ties: bool, order: list[tuple[Expression, bool]]
) -> list[dict[str, Any]]:
    if most is None or most >= len(found):
        return found
    if ties and most:
        last = [expression.value(found[most - 1]) for expression, _ in order]
        while most < len(found) and [expression.value(found[most]) for expression, _ in order] == last:
            most += 1
    return found[:most]


def _answer(env: Env, items: list[tuple[Column, Expression]]) -> list[Any]:
    return [expression.value(env) for _, expression in items]
