"""However often level-2 backup is switched: sets are kept, aged and charged only while shown (R-18.2, I11)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from backups.models import Instance
from tests.backups import histories, shortcut
from tests.backups.level2_model import Level2Machine
from tests.backups.time_machine import TimeMachine
from tests.backups.world import World

Run = Callable[[settings], None]


@pytest.fixture
def run(world: World, orders: Instance, time_machine: TimeMachine, monkeypatch: pytest.MonkeyPatch) -> Run:
    world.second_store()
    storages = shortcut.take(monkeypatch)

    def run(how: settings) -> None:
        histories.run(Level2Machine, how, world=world, instance=orders, time=time_machine, storages=storages)

    return run


def test_sets_age_and_cost_only_while_they_are_shown_whatever_happens(run: Run) -> None:
    run(histories.QUICK)


@pytest.mark.soak
def test_sets_age_and_cost_only_while_they_are_shown_for_thousands_of_histories(run: Run) -> None:
    run(histories.SOAK)
