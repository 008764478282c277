"""A simulated SQL Server of 2022 in Cluster Edition, its storage, and the site's hook that takes snapshots of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backups import default_backups
from backups.events import FARSHORE
from backups.models import BackupJob, BackupMethod, Edition, Instance, Kind, StorageSnapshot
from demo import snapshot_hook
from tests.backups.sql_servers import Fixture, running
from tests.backups.world import World

CLUSTER = {"edition": Edition.CLUSTER, "backup_method": BackupMethod.SNAPSHOT}


@dataclass
class Storage:
    """The server with its storage: `frozen` is where the hook shows snapshots; `diary` is where it says what it did."""

    sql: Fixture
    frozen: Path
    hook: Path

    @property
    def orders(self):  # noqa: ANN201 - the machine's own
        return self.sql.machine.database("Orders")

    @property
    def snapshots(self) -> list[str]:
        return sorted(path.name for path in self.frozen.iterdir())

    def add(self, **more: Any) -> Instance:
        return self.sql.add(**CLUSTER | more)

    @property
    def is_undone(self) -> bool:
        """Nothing is suspended, no snapshot is held, and nothing is left to do."""
        is_open = StorageSnapshot.objects.filter(thawed_at=None) | StorageSnapshot.objects.filter(released_at=None)
        return not self.orders.suspension and not self.snapshots and not is_open.exists() and not self.sql.names()

    def behaves(self, settings: Any, body: str) -> None:
        """Let the hook be another one: Python that has `asked`, `done(…)` and the proper hook's `proper()`."""
        other = self.hook.with_name("other-hook")
        other.write_text(HEAD.format(python=sys.executable, hook=str(self.hook), frozen=str(self.frozen)) + body)
        other.chmod(0o700)
        settings.SNAPSHOT_HOOK = str(other)


HEAD = """#!{python}
import json, os, subprocess, sys, time
from pathlib import Path
said = sys.stdin.read()
asked, frozen = json.loads(said), Path({frozen!r})
def proper():
    return subprocess.run([{hook!r}], input=said, capture_output=True, text=True, check=True).stdout
if asked["action"] == "release":
    print(proper())
    sys.exit()
"""


@contextmanager
def storage_of(world: World, settings: Any, monkeypatch: Any = None) -> Iterator[Storage]:
    with running(world) as sql:
        sql.machine.version = (16, 0, 1000)
        disks, frozen = world.folder / "disks", world.folder / "frozen"
        for folder in (disks / "data", disks / "log", frozen):
            folder.mkdir(parents=True)
        sql.machine.volumes = {"D:\\data": disks / "data", "L:\\log": disks / "log"}
        hook = snapshot_hook.installed(world.folder / "hook", sql.machine.volumes, frozen)
        settings.SNAPSHOT_HOOK, settings.SNAPSHOT_ROOT = str(hook), str(frozen)
        if monkeypatch:  # for workers in processes of their own
            monkeypatch.setenv("SNAPSHOT_HOOK", str(hook))
            monkeypatch.setenv("SNAPSHOT_ROOT", str(frozen))
        yield Storage(sql, frozen, hook)


def ask(instance: Instance, kind: str = Kind.FULL, **more: Any) -> BackupJob:
    return default_backups.ask(instance, FARSHORE, database="Orders", kind=kind, **more)
