"""Whatever people change and however late sweeps come: nothing goes early, chains hold, money is bytes (I4 to I11)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from backups.models import Instance
from tests.backups import histories, shortcut
from tests.backups.retention_model import RetentionMachine
from tests.backups.time_machine import TimeMachine
from tests.backups.world import World

Run = Callable[[settings], None]


@pytest.fixture
def run(world: World, orders: Instance, time_machine: TimeMachine, monkeypatch: pytest.MonkeyPatch) -> Run:
    storages = shortcut.take(monkeypatch)

    def run(how: settings) -> None:
        histories.run(RetentionMachine, how, world=world, instance=orders, time=time_machine, storages=storages)

    return run


def test_copies_stay_are_charged_and_go_as_agreed_whatever_happens(run: Run) -> None:
    run(histories.QUICK)


@pytest.mark.soak
def test_copies_stay_are_charged_and_go_as_agreed_for_thousands_of_histories(run: Run) -> None:
    run(histories.SOAK)
