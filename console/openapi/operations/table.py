from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from console.openapi.asking import Asked
from console.openapi.callers import Caller

Answer = Mapping[str, Any]
Perform = Callable[[Caller, Asked], Answer]


@dataclass(frozen=True)
class Operation:
    """`changes`: whether it may change anything, so that each call of it is an event."""

    name: str
    perform: Perform
    changes: bool = False


OPERATIONS: dict[str, Operation] = {}


def operation(name: str, *, changes: bool = False) -> Callable[[Perform], Perform]:
    def add(perform: Perform) -> Perform:
        OPERATIONS[name] = Operation(name, perform, changes)
        return perform

    return add
