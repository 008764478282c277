from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backups import tasks
from backups.models import Restore
from backups.restoring import places
from tests.backups import world as worlds

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world(tmp_path: Path, transactional_db: None) -> worlds.World:
    """A world other processes see too."""
    return worlds.make(tmp_path)


@pytest.fixture
def killed(settings: object) -> Callable[..., None]:
    """Run a verb in a process of its own that kill -9 ends in the named window, and insist that it did."""

    def run(window: str, *verb: str) -> None:
        environment = dict(os.environ, DJANGO_SETTINGS_MODULE="console.settings")
        child = subprocess.run(
            [sys.executable, "-m", "tests.faults.victim", window, *verb],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert child.returncode == -signal.SIGKILL, child.stdout + child.stderr

    return run


@pytest.fixture
def restores_tidied(world: worlds.World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each story no child of ours and no server is left."""
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    yield
    for child in tasks._holding:
        child.kill()
        child.wait()
    tasks._holding.clear()
    for restore in Restore.objects.select_related("instance"):
        restore.fence += 1
        places.clear(restore)
    assert not list(places.room().iterdir())
