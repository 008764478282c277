"""What an expression of a SELECT is worth in a row: texts are compared without regard to case, NULL is never equal."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from demo.tds import values
from demo.tds.values import SqlType

Env = Mapping[str, Any]  # what is known of a row: alias.column → value


@dataclass(frozen=True)
class Expression:
    """`reads`: the column it is, "" for anything else."""

    type: SqlType
    value: Callable[[Env], Any]
    reads: str = ""
    counts: bool = False  # COUNT_BIG(*): of all rows, not of one


def column_of(name: str, kind: SqlType) -> Expression:
    return Expression(kind, lambda env: env[name], name)


def constant(kind: SqlType, value: Any) -> Expression:
    return Expression(kind, lambda env: value)


def literal(said: str, kind: str) -> Expression:
    if kind == "text":
        return constant(values.text_type(len(said)), said)
    if kind == "binary":
        return constant(values.THUMBPRINT, bytes.fromhex(said[2:]))
    return constant(values.BIGINT if len(said) > 9 else values.INTEGER, Decimal(said) if "." in said else int(said))


def type_of(value: Any) -> SqlType:
    if isinstance(value, str):
        return values.text_type(len(value))
    if isinstance(value, bytes):
        return values.THUMBPRINT
    return values.LSN if isinstance(value, Decimal) else values.BIGINT


def comparable(value: Any) -> Any:
    if isinstance(value, str):
        return value.rstrip(" ").casefold()
    return str(value).casefold() if isinstance(value, UUID) else value


def comparison(compare: Callable[[Any, Any], bool], left: Expression, right: Expression) -> Expression:
    def compared(env: Env) -> bool:
        one, other = left.value(env), right.value(env)
        return one is not None and other is not None and compare(comparable(one), comparable(other))

    return Expression(values.BOOLEAN, compared)


def logical(decide: Callable[[Iterable[Any]], bool], *parts: Expression) -> Expression:
    return Expression(values.BOOLEAN, lambda env: decide(part.value(env) for part in parts))


def sum_of(sign: Callable[[Any, Any], Any], left: Expression, right: Expression) -> Expression:
    def added(env: Env) -> Any:
        one, other = left.value(env), right.value(env)
        return None if one is None or other is None else sign(one, other)

    kind = values.LONG_TEXT if left.type.code == values.NVARCHAR else left.type
    return Expression(kind, added)


def like(left: Expression, pattern: Expression, is_not: bool) -> Expression:
    def liked(env: Env) -> bool:
        value, wanted = left.value(env), pattern.value(env)
        if value is None or wanted is None:
            return False
        parts = ({"%": ".*", "_": "."}.get(part, re.escape(part)) for part in re.split(r"([%_])", wanted))
        return bool(re.fullmatch("".join(parts), value, re.IGNORECASE | re.DOTALL)) != is_not

    return Expression(values.BOOLEAN, liked)


def among(left: Expression, options: list[Expression], is_not: bool) -> Expression:
    def is_among(env: Env) -> bool:
        value = comparable(left.value(env))
        found = value is not None and any(value == comparable(option.value(env)) for option in options)
        return value is not None and found != is_not

    return Expression(values.BOOLEAN, is_among)


def first_known(options: list[Expression]) -> Expression:
    def known(env: Env) -> Any:
        return next((value for option in options if (value := option.value(env)) is not None), None)

    return Expression(options[0].type, known)


def _moment(value: Any) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

CASTS: dict[str, Callable[[int], tuple[SqlType, Callable[[Any], Any]]]] = {
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
