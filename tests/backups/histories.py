"""Histories that hypothesis invents, played on the real code; one history is one savepoint, undone after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar, TypeVar

from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backups.models import Instance
from tests.backups.shortcut import MemoryStorage
from tests.backups.time_machine import TimeMachine
from tests.backups.world import World

QUICK = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate],  # shrinking takes minutes; `SOAK` does it
    suppress_health_check=list(HealthCheck),
)
SEARCH = settings(QUICK, max_examples=600)  # for a planted bug; ends with the first history that shows it
SOAK = settings(QUICK, max_examples=2000, derandomize=False, phases=[Phase.generate, Phase.shrink])
Thing = TypeVar("Thing")
Step = tuple[str, int]  # the method, the dice


class Machine(ABC):
    """Plays steps: `STEPS` says how often each method is chosen; a step that makes no sense now does nothing.

    A second passes before each. `agree` compares `model` with the database after every step, `finish` at the end.
    """

    STEPS: ClassVar[dict[str, int]] = {}
    world: World
    time: TimeMachine
    instance: Instance
    storages: dict[int, MemoryStorage]
    model: Any

    def __init__(self, **where: Any) -> None:
        for name, value in where.items():
            setattr(self, name, value)
        self.dice = 0

    @abstractmethod
    def begin(self) -> None:
        """Make the model of a fresh world."""

    @abstractmethod
    def agree(self) -> None:
        """Say that the real code and the model are one."""

    @abstractmethod
    def finish(self) -> None:
        """Look once more at the end."""

    def play(self, steps: Sequence[Step]) -> None:
        began_at = self.time.at
        self.storages.clear()
        try:
            with transaction.atomic():
                self._play(steps)
                transaction.set_rollback(True)
        finally:
            self.time.at = began_at

    def _play(self, steps: Sequence[Step]) -> None:
        self.begin()
        for name, self.dice in steps:
            self.model.now = self.time.forward(seconds=1)
            getattr(self, name)()
            self.agree()
        self.finish()

    def pick(self, things: Sequence[Thing]) -> Thing:
        """Let the dice choose; picking twice in one step is two throws."""
        self.dice, choice = divmod(self.dice, len(things))
        return things[choice]


def run(machine: type[Machine], how: settings = QUICK, *, only: str = "", length: int = 30, **where: Any) -> None:
    """Play what hypothesis invents, of all steps or evenly of those named; raises what the machine found, and how."""
    names = only.split() or [name for name, often in machine.STEPS.items() for _ in range(often)]

    @how
    @given(_shrinking(names, length) if Phase.shrink in how.phases else _dense(names, length))
    def play(steps: list[Step]) -> None:
        machine(**where).play(steps)

    play()


def _shrinking(names: list[str], length: int) -> st.SearchStrategy[list[Step]]:
    """Lists that hypothesis can shorten; many of the first are dull."""
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 9999)), min_size=length, max_size=length)


def _dense(names: list[str], length: int) -> st.SearchStrategy[list[Step]]:
    """Lists that are full of life from the first one on, and cannot be shortened."""
    return st.integers(0, 2**32 - 1).map(lambda seed: _invent(Random(seed), names, length))


def _invent(random: Random, names: list[str], length: int) -> list[Step]:
    return [(random.choice(names), random.randrange(10_000)) for _ in range(length)]
