"""SELECT over tables in memory: the part of T-SQL that Farshore asks with, and no more.

    SELECT [TOP (n) [WITH TIES]] expression [AS name], … | *
    [FROM table [AS alias] {[INNER | LEFT [OUTER]] JOIN table [AS alias] ON expression
                            | CROSS APPLY table (expression, …) [AS alias]}]
    [WHERE expression] [ORDER BY expression [ASC | DESC], …]

Expressions: columns, literals, @parameters, @@variables, functions, CAST, CASE WHEN, = <> < <= > >= + -, AND, OR, NOT,
IN (…), LIKE, IS [NOT] NULL. Texts are compared without regard to case, as the usual collation does; NULL is never
equal.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from demo.tds import values
from demo.tds.tokens import Column, Message
from demo.tds.values import SqlType
from demo.tds.words import Sentence, Wrong

Env = Mapping[str, Any]
CLAUSES = ("FROM", "WHERE", "ORDER", "JOIN", "INNER", "LEFT", "CROSS", "ON", "UNION", "GROUP")


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


@dataclass(frozen=True)
class Expression:
    """`reads`: the column it is, "" for anything else."""

    type: SqlType
    value: Callable[[Env], Any]
    reads: str = ""
    counts: bool = False  # COUNT_BIG(*): of all rows, not of one


@dataclass
class Source:
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


@dataclass
class Selected:
    columns: list[Column]
    rows: Iterator[list[Any]] | list[list[Any]]


@dataclass
class Select:
    """Reads one SELECT from a sentence and gives its answer."""

    sentence: Sentence
    catalogue: Catalogue
    parameters: Mapping[str, Any]
    sources: list[Source] = field(default_factory=list)

    def run(self) -> Selected:
        most, ties = self._top()
        begun = self.sentence.at
        self._skip_items()  # their types are only known once the tables are
        if self.sentence.skips("FROM"):
            self._read_sources()
        where = self.expression() if self.sentence.skips("WHERE") else None
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
        most = int(self._primary().value({}))
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
                expression = self.expression()
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
                yield column, _column(f"{source.alias}.{column.name.lower()}", column.type)

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
            source.on, source.is_outer = self.expression(), is_outer

    def _applied(self) -> Source:
        """A table-valued function: its first columns are what it is given."""
        table = self.catalogue.table(self.sentence.dotted().lower())
        given = self._arguments()
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
        one = self._primary()
        if not self.sentence.skips("="):
            return None
        both = (one.reads, self._primary().reads)
        mine = next((name for name in both if name.startswith(f"{alias}.")), "")
        other = next((name for name in both if name and name != mine), "")
        return (other, mine) if mine and other else None

    def _order(self) -> list[tuple[Expression, bool]]:
        found = []
        while True:
            expression = self.expression()
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

    # Expressions, from the loosest to the tightest

    def expression(self) -> Expression:
        found = self._both()
        while self.sentence.skips("OR"):
            found = _logical(any, found, self._both())
        return found

    def _both(self) -> Expression:
        found = self._negated()
        while self.sentence.skips("AND"):
            found = _logical(all, found, self._negated())
        return found

    def _negated(self) -> Expression:
        if not self.sentence.skips("NOT"):
            return self._compared()
        inner = self._compared()
        return Expression(values.BOOLEAN, lambda env: not inner.value(env))

    def _compared(self) -> Expression:
        left = self._sum()
        word = self.sentence.next
        if word.plain in _COMPARISONS:
            self.sentence.take()
            return _comparison(_COMPARISONS[word.plain], left, self._sum())
        if self.sentence.skips("IS"):
            is_wanted = not self.sentence.skips("NOT")
            self.sentence.must("NULL")
            return Expression(values.BOOLEAN, lambda env: (left.value(env) is None) == is_wanted)
        is_not = self.sentence.skips("NOT")
        if self.sentence.skips("LIKE"):
            return _like(left, self._sum(), is_not)
        if self.sentence.skips("IN"):
            return _among(left, self._arguments(), is_not)
        return left

    def _sum(self) -> Expression:
        found = self._primary()
        while self.sentence.next.plain in ("+", "-"):
            sign = operator.add if self.sentence.take().plain == "+" else operator.sub
            found = _sum(sign, found, self._primary())
        return found

    def _primary(self) -> Expression:
        word = self.sentence.next
        if self.sentence.skips("("):
            found = self.expression()
            self.sentence.must(")")
            return found
        if self.sentence.skips("-"):
            inner = self._primary()
            return Expression(inner.type, lambda env: -inner.value(env))
        if word.kind in ("text", "number", "binary"):
            return _literal(self.sentence.take().value, word.kind)
        if self.sentence.skips("NULL"):
            return _constant(values.INTEGER, None)
        if self.sentence.skips("CAST"):
            return self._cast()
        if self.sentence.skips("CASE"):
            return self._case()
        if word.plain.startswith("@@"):
            return _constant(*self.catalogue.variable(self.sentence.take().plain))
        if word.plain.startswith("@"):
            return self._parameter(self.sentence.take().value)
        return self._named()

    def _parameter(self, name: str) -> Expression:
        if name.lower() not in self.parameters:
            raise Wrong(Message(137, f'Must declare the scalar variable "{name}".', 15, 2))
        value = self.parameters[name.lower()]
        return _constant(_type_of(value), value)

    def _cast(self) -> Expression:
        self.sentence.must("(")
        inner = self.expression()
        self.sentence.must("AS")
        kind, size = self.sentence.name().lower(), 0
        if self.sentence.skips("("):
            size = 0 if self.sentence.skips("MAX") else self.sentence.number()
            if self.sentence.skips(","):
                self.sentence.number()
            self.sentence.must(")")
        self.sentence.must(")")
        if kind not in _CASTS:
            raise Wrong(Message(243, f"Type {kind} is not a defined system type. (simulation)", 16))
        wanted, convert = _CASTS[kind](size)

        def cast(env: Env) -> Any:
            value = inner.value(env)
            try:
                return None if value is None else convert(value)
            except (ValueError, ArithmeticError) as error:
                raise Wrong(Message(241, f"Conversion failed when converting to {kind}.")) from error

        return Expression(wanted, cast)

    def _case(self) -> Expression:
        branches, otherwise = [], _constant(values.INTEGER, None)
        while self.sentence.skips("WHEN"):
            condition = self.expression()
            self.sentence.must("THEN")
            branches.append((condition, self.expression()))
        if self.sentence.skips("ELSE"):
            otherwise = self.expression()
        self.sentence.must("END")

        def case(env: Env) -> Any:
            return next((then for when, then in branches if when.value(env)), otherwise).value(env)

        return Expression(branches[0][1].type if branches else otherwise.type, case)

    def _named(self) -> Expression:
        name = self.sentence.dotted()
        if self.sentence.sees("("):
            return self._call(name)
        return self._column(name)

    def _call(self, name: str) -> Expression:
        if name.upper() == "COUNT_BIG":
            self.sentence.must("(", "*", ")")
            return Expression(values.BIGINT, lambda env: None, counts=True)
        if name.upper() in ("COALESCE", "ISNULL"):
            return _first_known(self._arguments())
        arguments = self._arguments()
        try:
            kind = self.catalogue.call(name.upper(), [None] * len(arguments))[0]
        except (TypeError, AttributeError):
            raise Wrong(Message(189, f"The {name} function takes other arguments. (simulation)", 15)) from None

        def call(env: Env) -> Any:
            return self.catalogue.call(name.upper(), [argument.value(env) for argument in arguments])[1]

        return Expression(kind, call)

    def _arguments(self) -> list[Expression]:
        self.sentence.must("(")
        found: list[Expression] = []
        while not self.sentence.skips(")"):
            if found:
                self.sentence.must(",")
            found.append(self.expression())
        return found

    def _column(self, name: str) -> Expression:
        alias, _, short = name.lower().rpartition(".")
        for source in self.sources:
            if alias not in ("", source.alias):
                continue
            for column in source.table.columns:
                if column.name.lower() == short:
                    return _column(f"{source.alias}.{short}", column.type)
        raise Wrong(Message(207, f"Invalid column name '{name}'.", 16))


def _column(name: str, kind: SqlType) -> Expression:
    return Expression(kind, lambda env: env[name], name)


def _constant(kind: SqlType, value: Any) -> Expression:
    return Expression(kind, lambda env: value)


def _literal(said: str, kind: str) -> Expression:
    if kind == "text":
        return _constant(values.text_type(len(said)), said)
    if kind == "binary":
        return _constant(values.THUMBPRINT, bytes.fromhex(said[2:]))
    return _constant(values.BIGINT if len(said) > 9 else values.INTEGER, Decimal(said) if "." in said else int(said))


def _type_of(value: Any) -> SqlType:
    if isinstance(value, str):
        return values.text_type(len(value))
    if isinstance(value, bytes):
        return values.THUMBPRINT
    return values.LSN if isinstance(value, Decimal) else values.BIGINT


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return value.rstrip(" ").casefold()
    return str(value).casefold() if isinstance(value, UUID) else value


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, _comparable(value) if value is not None else 0)


def _comparison(compare: Callable[[Any, Any], bool], left: Expression, right: Expression) -> Expression:
    def compared(env: Env) -> bool:
        one, other = left.value(env), right.value(env)
        return one is not None and other is not None and compare(_comparable(one), _comparable(other))

    return Expression(values.BOOLEAN, compared)


def _logical(decide: Callable[[Iterable[Any]], bool], *parts: Expression) -> Expression:
    return Expression(values.BOOLEAN, lambda env: decide(part.value(env) for part in parts))


def _sum(sign: Callable[[Any, Any], Any], left: Expression, right: Expression) -> Expression:
    def added(env: Env) -> Any:
        one, other = left.value(env), right.value(env)
        return None if one is None or other is None else sign(one, other)

    kind = values.LONG_TEXT if left.type.code == values.NVARCHAR else left.type
    return Expression(kind, added)


def _like(left: Expression, pattern: Expression, is_not: bool) -> Expression:
    def liked(env: Env) -> bool:
        value, like = left.value(env), pattern.value(env)
        if value is None or like is None:
            return False
        parts = ({"%": ".*", "_": "."}.get(part, re.escape(part)) for part in re.split(r"([%_])", like))
        return bool(re.fullmatch("".join(parts), value, re.IGNORECASE | re.DOTALL)) != is_not

    return Expression(values.BOOLEAN, liked)


def _among(left: Expression, options: list[Expression], is_not: bool) -> Expression:
    def among(env: Env) -> bool:
        value = _comparable(left.value(env))
        found = value is not None and any(value == _comparable(option.value(env)) for option in options)
        return value is not None and found != is_not

    return Expression(values.BOOLEAN, among)


def _first_known(options: list[Expression]) -> Expression:
    def known(env: Env) -> Any:
        return next((value for option in options if (value := option.value(env)) is not None), None)

    return Expression(options[0].type, known)


def _joined(found: Iterable[dict[str, Any]], source: Source) -> Iterator[dict[str, Any]]:
    """Join by equal columns where the condition begins so; else every row is tried."""
    rows = [source.named(row) for row in source.table.rows()]
    places: dict[Any, list[dict[str, Any]]] = {}
    if source.keys:
        for row in rows:
            places.setdefault(_comparable(row[source.keys[1]]), []).append(row)
    for env in found:
        candidates = places.get(_comparable(env[source.keys[0]]), []) if source.keys else rows
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


def _moment(value: Any) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_CASTS: dict[str, Callable[[int], tuple[SqlType, Callable[[Any], Any]]]] = {
    "int": lambda size: (values.INTEGER, int),
    "bigint": lambda size: (values.BIGINT, int),
    "bit": lambda size: (values.BOOLEAN, bool),
    "nvarchar": lambda size: (values.text_type(size), lambda value: str(value)[: size or None]),
    "varchar": lambda size: (values.text_type(size), lambda value: str(value)[: size or None]),
    "numeric": lambda size: (values.SqlType(values.NUMERIC, size), Decimal),
    "uniqueidentifier": lambda size: (values.IDENTIFIER, lambda value: UUID(str(value))),
    "varbinary": lambda size: (values.THUMBPRINT, bytes),
    "datetime": lambda size: (values.MOMENT, _moment),
    "datetime2": lambda size: (values.FINE_MOMENT, _moment),
}
