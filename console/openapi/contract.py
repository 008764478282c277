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


def fit(operation: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer with every declared field; raises ContractBroken."""
    return _object(CONTRACT[operation]["resp"], answer, operation)


def _object(fields: Fields, said: Any, where: str) -> dict[str, Any]:
    if not isinstance(said, Mapping):
        raise ContractBroken(f"{where} is an object, not {type(said).__name__}")
    if unknown := set(said) - set(fields):
        raise ContractBroken(f"{where} has no {', '.join(sorted(unknown))}")
    return {name: _value(declared, said.get(name), f"{where}.{name}") for name, declared in fields.items()}


def _value(declared: Mapping[str, Any], said: Any, where: str) -> Any:
    kind = declared["type"]
    if kind in PLAIN:
        return _plain(kind, said, where)
    if kind == "object":
        return _object(declared["fields"], {} if said is None else said, where)
    return _array(declared, [] if said is None else said, where)


def _plain(kind: str, said: Any, where: str) -> Any:
    if said is None:
        return EMPTY[kind]
    if type(said) is not PLAIN[kind]:
        raise ContractBroken(f"{where} is a {kind}, not {type(said).__name__}")
    return said


def _array(declared: Mapping[str, Any], said: Any, where: str) -> list[Any]:
    if not isinstance(said, list):
        raise ContractBroken(f"{where} is a list, not {type(said).__name__}")
    if declared["type"] == "array<string>":
        return [_plain("str", one, where) for one in said]
    if "fields" not in declared:
        return said
    return [_object(declared["fields"], one, where) for one in said]
