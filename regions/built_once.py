"""Queries that are built once. For a call that reads, Django takes five times as long to build a query as to ask it.

    @built_once
    def _instance(**_: Given) -> QuerySet[Instance]:
        return Instance.objects.filter(among("group", "groups"), code=Given("code"))

    _instance(code="rm-…", groups=[1, 2])

The function is called the first time only, for each set of names it is asked with, and what it returns is kept as SQL
with places for the values. So a query may be built this way or that by which names are given, never by their values.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import partial, update_wrapper
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import BigIntegerField, BooleanField, Expression, F, Func, IntegerField, QuerySet, Subquery
from django.db.models.query import ValuesListIterable, get_related_populators
from psycopg.sql import quote


class Given(Expression):
    """A place in a query for the value of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(output_field=BigIntegerField())  # of no matter: only its place is of use
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        return "%s", [self]


def among(column: str, name: str) -> Func:
    """Whether a column is one of the list of this name, which may be empty; for `filter`."""
    return Func(F(column), Given(name), template="%(expressions)s)", arg_joiner=" = ANY(", output_field=BooleanField())


class Count(Subquery):
    """How many rows a query finds, whatever page of them is shown; told in the same statement."""

    template = "(SELECT count(*) FROM (%(subquery)s) AS counted)"
    output_field = IntegerField()

    def get_db_converters(self, connection: Any) -> list[Any]:
        return []  # it comes as it is


class Built(NamedTuple):
    sql: str
    names: list[str]  # of the values, in the order of their places
    convert: Callable[[Any], Iterable[Any]]
    row: Callable[[Any], Any]

    def ask(self, values: dict[str, Any], most: int | None = None, behind: int = 0) -> list[Any]:
        """Return the rows, at most so many (None: all) of those behind the first ones."""
        given = [values[name] for name in self.names]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, [*given, most, behind])
            return [self.row(found) for found in self.convert(cursor.fetchall())]


class BuiltOnce:
    """Asked with values by name, it returns rows: models; tuples with names where the query says `values`, or plain
    ones where it says `values_list`."""

    def __init__(self, build: Callable[..., QuerySet[Any]]) -> None:
        self.build = build
        self.kept: dict[frozenset[str], Built] = {}
        update_wrapper(self, build)

    def __call__(self, **values: Any) -> list[Any]:
        return self._built(values).ask(values)

    def some(self, most: int, **values: Any) -> list[Any]:
        """Return so many rows at most."""
        return self._built(values).ask(values, most)

    def first(self, **values: Any) -> Any:
        """Return the first row, None where there is none."""
        return next(iter(self._built(values).ask(values, 1)), None)

    def page(self, part: slice, **values: Any) -> tuple[list[Any], int]:
        """Return a part of the rows, and how many there are: the query tells it of each as `total`."""
        built = self._built(values)
        if rows := built.ask(values, part.stop - part.start, part.start):
            return rows, rows[0].total
        before = built.ask(values, 1) if part.start else []
        return [], before[0].total if before else 0

    def _built(self, values: dict[str, Any]) -> Built:
        names = frozenset(values)
        if names not in self.kept:
            self.kept[names] = _build(self.build(**{name: Given(name) for name in values}))
        return self.kept[names]


built_once = BuiltOnce


def _build(rows: QuerySet[Any]) -> Built:
    compiler = rows.query.get_compiler(using=DEFAULT_DB_ALIAS)
    sql, places = compiler.as_sql()
    names = [one.name for one in places if isinstance(one, Given)]
    return Built(
        f"{_with_constants(sql, places)} LIMIT %s OFFSET %s", names, _by_column(compiler), _row(rows, compiler)
    )


def _by_column(compiler: Any) -> Callable[[Any], Iterable[Any]]:
    """Return what converts rows as their fields want it: a column at a time, and only what is there."""
    converters = compiler.get_converters([column for column, *_ in compiler.select])
    steps = [
        (place, partial(convert, expression=expression, connection=compiler.connection))
        for place, (several, expression) in converters.items()
        for convert in several
    ]

    def converted(rows: Any) -> Iterable[Any]:
        columns: list[Any] = list(zip(*rows, strict=True))
        for place, convert in steps if columns else ():
            columns[place] = [None if value is None else convert(value) for value in columns[place]]
        return zip(*columns, strict=True)

    return converted if steps else iter


def _row(rows: QuerySet[Any], compiler: Any) -> Callable[[Any], Any]:
    if rows._fields is None:
        return _models(compiler)
    return tuple if issubclass(rows._iterable_class, ValuesListIterable) else namedtuple("Row", rows._fields)._make


def _with_constants(sql: str, places: Sequence[Any]) -> str:
    """Write what is the same in every call into the statement; only what is given has a place in it."""
    written = ["%s" if isinstance(one, Given) else quote(one).replace("%", "%%") for one in places]
    return sql.replace("%%", "%%%%") % tuple(written)


def _models(compiler: Any) -> Callable[[Any], Any]:
    """Return what makes a model of a row, with those that were selected beside it: as Django's own ModelIterable."""
    info = compiler.klass_info
    first, last = info["select_fields"][0], info["select_fields"][-1] + 1
    names = [column.target.attname for column, *_ in compiler.select[first:last]]
    related = get_related_populators(info, compiler.select, compiler.using)

    def model_of(found: Any) -> Any:
        one = info["model"].from_db(compiler.using, names, found[first:last])
        for populator in related:
            populator.populate(found, one)
        return one

    return model_of
