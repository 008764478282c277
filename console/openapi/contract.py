"""What the vendor's SDKs decode: every answer is fitted to the declared names, types and nesting, or refused here.

A wrong nesting makes the Python SDK return `body=None` in silence and a wrong name an attribute of None, so neither
leaves us: `fit` raises. What an operation has nothing to say about is there all the same, empty in its declared type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Fields = Mapping[str, Mapping[str, Any]]

CONTRACT: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "contract.json").read_text())
PLAIN = {"str": str, "int": int, "bool": bool, "float": float}
EMPTY = {"str": "", "int": 0, "bool": False, "float": 0.0}


class ContractBroken(Exception):
    """An answer names what is not declared, or holds another type than is declared. A bug of ours."""


def request_of(operation: str) -> Fields:
    return CONTRACT[operation]["req"]


class Shape:
    """What an object is declared to hold.

    What was found to fit is remembered by its names and types, all of which our own code wrote: of thirty rows that
    look alike one is looked at field by field.
    """

    def __init__(self, fields: Fields) -> None:
        self.plain = {name: PLAIN[one["type"]] for name, one in fields.items() if one["type"] in PLAIN}
        self.nested = {name: Nested(one) for name, one in fields.items() if one["type"] not in PLAIN}
        self.empty = {name: EMPTY.get(one["type"]) for name, one in fields.items()}
        self.fitting: set[tuple[tuple[str, ...], tuple[type, ...]]] = set()

    def fit(self, said: Any, where: str) -> dict[str, Any]:
        if not isinstance(said, dict):
            raise ContractBroken(f"{where} is an object, not {type(said).__name__}")
        look = tuple(said), tuple(map(type, said.values()))
        if look not in self.fitting:
            said = {name: value for name, value in said.items() if self._is_said(name, value, where)}
            self.fitting.add((tuple(said), tuple(map(type, said.values()))))
        found = self.empty | said
        for name, nested in self.nested.items():
            found[name] = nested.fit(said.get(name), where, name)
        return found

    def _is_said(self, name: str, value: Any, where: str) -> bool:
        """Return False for None, which is as good as nothing; raises ContractBroken."""
        kind = self.plain.get(name)
        if kind is None and name not in self.nested:
            raise ContractBroken(f"{where} has no {name}")
        if kind is not None and value is not None:
            _plain(kind, value, where, name)
        return value is not None


class Nested:
    """An object inside another, or a list; what is not said is empty, never null."""

    def __init__(self, declared: Mapping[str, Any]) -> None:
        self.is_object = declared["type"] == "object"
        self.item = str if declared["type"] == "array<string>" else None
        self.shape = Shape(declared["fields"]) if "fields" in declared else None

    def fit(self, said: Any, outer: str, name: str) -> Any:
        if said is None and not self.is_object:
            return []
        where = f"{outer}.{name}"
        if self.is_object and self.shape:
            return self.shape.fit({} if said is None else said, where)
        if not isinstance(said, list):
            raise ContractBroken(f"{where} is a list, not {type(said).__name__}")
        if self.shape:
            return [self.shape.fit(one, where) for one in said]
        return [_plain(self.item, one, where, "item") for one in said] if self.item else said


def _plain(kind: type, said: Any, where: str, name: str) -> Any:
    if type(said) is not kind:
        raise ContractBroken(f"{where}.{name} is a {kind.__name__}, not {type(said).__name__}")
    return said


ANSWERS = {operation: Shape(declared["resp"]) for operation, declared in CONTRACT.items()}


def fit(operation: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer with every declared field; raises ContractBroken."""
    return ANSWERS[operation].fit(answer, operation)
