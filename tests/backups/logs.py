"""Histories of logs for stories: backups and logs with positions, as a server's job or our receiver leaves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from backups.copying import planning
from backups.models import Alert, BackupSet, Copy, CopyState, Instance, Kind, LogGap, RestorableInterval
from backups.oversight import log_healing
from tests.backups.time_machine import TimeMachine
from tests.backups.world import TARGET, World

MINUTE = timedelta(minutes=1)


@dataclass
class History:
    """One database's log, told in minutes: a log holds ten positions, and time goes on with each."""

    world: World
    instance: Instance
    time: TimeMachine
    position: int = 100
    database: str = "Sales"
    fork: dict[str, Any] = field(default_factory=dict)

    def full(self, **more: Any) -> BackupSet:
        self.time.forward(minutes=1)
        here = {"first_position": self.position, "last_position": self.position, "fork": self.fork.get("fork", "")}
        return self._weighed(kind=Kind.FULL, **{**here, **more})

    def log(self, **more: Any) -> BackupSet:
        began_at, first = self.time.at, self.position
        self.time.forward(minutes=1)
        self.position += 10
        where = {"first_position": first, "last_position": self.position, "started_at": began_at}
        if self.instance.arrival == "found":
            where["started_at"] = self.time.at  # a log backup holds what was committed before it began
        return self._weighed(kind=Kind.LOG, **{**where, **self.fork, **more})

    def logs(self, count: int) -> list[BackupSet]:
        return [self.log() for _ in range(count)]

    def promoted(self, fork: str, parent: str) -> None:
        """A standby takes over, a little behind what was delivered; the first log there begins where that ended."""
        left = {"parent_fork": parent, "fork_position": self.position + 3, "forked_at": self.time.at}
        self.fork = {"fork": fork, **left}

    def lost_log(self) -> None:
        """Nobody ever sees this one."""
        self.time.forward(minutes=1)
        self.position += 10

    def _weighed(self, **facts: Any) -> BackupSet:
        origin = "taken" if self.instance.arrival == "taken" else "found"
        found = self.world.finished(self.instance, database=self.database, origin=origin, **facts)
        planning.weigh_due()
        return found

    def work(self) -> None:
        """Do what sweeps and workers would."""
        log_healing.heal_due()
        self.world.carry()

    @property
    def windows(self) -> list[tuple]:
        rows = RestorableInterval.objects.filter(store__region=TARGET, database=self.database)
        return list(rows.order_by("began_at").values_list("began_at", "ended_at"))

    @property
    def gaps(self) -> list[LogGap]:
        return list(LogGap.objects.filter(database=self.database))


def copied(found: BackupSet) -> Copy:
    return found.copies.get(state=CopyState.COMPLETED)


def open_alerts(code: str = "log_gap") -> list[str]:
    return list(Alert.objects.filter(code=code, closed_at=None).values_list("sentence", flat=True))
