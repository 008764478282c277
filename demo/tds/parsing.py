"""Expressions are parsed from a sentence, from the loosest operator to the tightest.

Columns, literals, @parameters, @@variables, functions, CAST, CASE WHEN, = <> < <= > >= + -, AND, OR, NOT, IN (…), LIKE,
IS [NOT] NULL.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.tds import values
from demo.tds.catalogue import Catalogue, Source
from demo.tds.expressions import (
    CASTS,
    COMPARISONS,
    Env,
    Expression,
    among,
    column_of,
    comparison,
    constant,
    first_known,
    like,
    literal,
    logical,
    sum_of,
    type_of,
)
from demo.tds.tokens import Message
from demo.tds.words import Sentence, Wrong


@dataclass
class Expressions:
    """`sources`: the tables whose columns may be named; whoever reads a FROM adds to them as it goes on."""

    sentence: Sentence
    catalogue: Catalogue
    parameters: Mapping[str, Any]
    sources: Sequence[Source] = ()

    def expression(self) -> Expression:
        found = self._both()
        while self.sentence.skips("OR"):
            found = logical(any, found, self._both())
        return found

    def _both(self) -> Expression:
        found = self._negated()
        while self.sentence.skips("AND"):
            found = logical(all, found, self._negated())
        return found

    def _negated(self) -> Expression:
        if not self.sentence.skips("NOT"):
            return self._compared()
        inner = self._compared()
        return Expression(values.BOOLEAN, lambda env: not inner.value(env))

    def _compared(self) -> Expression:
        left = self._sum()
        word = self.sentence.next
        if word.plain in COMPARISONS:
            self.sentence.take()
            return comparison(COMPARISONS[word.plain], left, self._sum())
        if self.sentence.skips("IS"):
            is_wanted = not self.sentence.skips("NOT")
            self.sentence.must("NULL")
            return Expression(values.BOOLEAN, lambda env: (left.value(env) is None) == is_wanted)
        is_not = self.sentence.skips("NOT")
        if self.sentence.skips("LIKE"):
            return like(left, self._sum(), is_not)
        if self.sentence.skips("IN"):
            return among(left, self.arguments(), is_not)
        return left

    def _sum(self) -> Expression:
        found = self.primary()
        while self.sentence.next.plain in ("+", "-"):
            sign = operator.add if self.sentence.take().plain == "+" else operator.sub
            found = sum_of(sign, found, self.primary())
        return found

    def primary(self) -> Expression:
        word = self.sentence.next
        if self.sentence.skips("("):
            found = self.expression()
            self.sentence.must(")")
            return found
        if self.sentence.skips("-"):
            inner = self.primary()
            return Expression(inner.type, lambda env: -inner.value(env))
        if word.kind in ("text", "number", "binary"):
            return literal(self.sentence.take().value, word.kind)
        if self.sentence.skips("NULL"):
            return constant(values.INTEGER, None)
        if self.sentence.skips("CAST"):
            return self._cast()
        if self.sentence.skips("CASE"):
            return self._case()
        if word.plain.startswith("@@"):
            return constant(*self.catalogue.variable(self.sentence.take().plain))
        if word.plain.startswith("@"):
            return self._parameter(self.sentence.take().value)
        return self._named()

    def _parameter(self, name: str) -> Expression:
        if name.lower() not in self.parameters:
            raise Wrong(Message(137, f'Must declare the scalar variable "{name}".', 15, 2))
        value = self.parameters[name.lower()]
        return constant(type_of(value), value)

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
        if kind not in CASTS:
            raise Wrong(Message(243, f"Type {kind} is not a defined system type. (simulation)", 16))
        wanted, convert = CASTS[kind](size)

        def cast(env: Env) -> Any:
            value = inner.value(env)
            try:
                return None if value is None else convert(value)
            except (ValueError, ArithmeticError) as error:
                raise Wrong(Message(241, f"Conversion failed when converting to {kind}.")) from error

        return Expression(wanted, cast)

    def _case(self) -> Expression:
        branches, otherwise = [], constant(values.INTEGER, None)
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
            return first_known(self.arguments())
        arguments = self.arguments()
        try:
            kind = self.catalogue.call(name.upper(), [None] * len(arguments))[0]
        except (TypeError, AttributeError):
            raise Wrong(Message(189, f"The {name} function takes other arguments. (simulation)", 15)) from None

        def call(env: Env) -> Any:
            return self.catalogue.call(name.upper(), [argument.value(env) for argument in arguments])[1]

        return Expression(kind, call)

    def arguments(self) -> list[Expression]:
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
                    return column_of(f"{source.alias}.{short}", column.type)
        raise Wrong(Message(207, f"Invalid column name '{name}'.", 16))
