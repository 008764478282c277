"""Whatever happens in whatever order, every default backup has exactly one copy or a reason why not (I2, I3, I10)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from backups.models import Instance
from tests.backups import histories, shortcut
from tests.backups.planning_model import PlanningMachine
from tests.backups.time_machine import TimeMachine
from tests.backups.world import World

Run = Callable[[settings], None]


@pytest.fixture
def run(world: World, orders: Instance, time_machine: TimeMachine, monkeypatch: pytest.MonkeyPatch) -> Run:
    storages = shortcut.take(monkeypatch)

    def run(how: settings) -> None:
        histories.run(PlanningMachine, how, world=world, instance=orders, time=time_machine, storages=storages)

    return run


def test_every_default_backup_has_one_copy_or_a_reason_whatever_happens(run: Run) -> None:
    run(histories.QUICK)


@pytest.mark.soak
def test_every_default_backup_has_one_copy_or_a_reason_for_thousands_of_histories(run: Run) -> None:
    run(histories.SOAK)
