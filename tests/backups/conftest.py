from __future__ import annotations

from pathlib import Path

import pytest

from backups.models import Instance

pytest.register_assert_rewrite(*(f"tests.backups.{name}_model" for name in ("level2", "planning", "retention")))

from tests.backups import world as worlds  # noqa: E402
from tests.backups.time_machine import TimeMachine  # noqa: E402


@pytest.fixture
def world(tmp_path: Path, db: None) -> worlds.World:
    return worlds.make(tmp_path)


@pytest.fixture
def time_machine(monkeypatch: pytest.MonkeyPatch) -> TimeMachine:
    return TimeMachine(monkeypatch)


@pytest.fixture
def orders(world: worlds.World, time_machine: TimeMachine) -> Instance:
    """An instance of SQL Server on a clock that stands still; both its possible destinations have a store."""
    world.store(worlds.TARGET)
    world.store(worlds.OTHER)
    return world.instance("orders")
