from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from console.openapi.asking import Asked
from console.openapi.callers import Caller, Named, Rights, instance_named

Answer = Mapping[str, Any]
Perform = Callable[[Caller, Asked], Answer]
Names = Callable[[Mapping[str, str], Rights], Named | None]


@dataclass(frozen=True)
class Operation:
    """`changes`: whether it may change anything, so that each call of it is an event. `names`: tells of a call's
    parameters, of which nothing is proven, which row it is about (None: none)."""

    name: str
    perform: Perform
    changes: bool = False
    names: Names | None = instance_named


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str, *, changes: bool = False, names: Names | None = instance_named
) -> Callable[[Perform], Perform]:
    def add(perform: Perform) -> Perform:
        OPERATIONS[name] = Operation(name, perform, changes, names)
        return perform

    return add
