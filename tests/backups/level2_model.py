"""What a level-2 backup keeps, shows and costs, said once more in plain Python, and the machine that compares (R-18.2).

Backups arrive, people switch it on and off and change its retention, time passes, sweeps come late. The model knows how
old each set is, when it was charged and what may go; after every step the rows must say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from backups import level2
from backups.copying import planning, replication
from backups.keeping import expiring, purging
from backups.level2 import Terms
from backups.models import BackupSet, Copy, StorageSpan
from backups.oversight import audit, audit_promises
from billing import metering
from tests.backups.histories import Machine
from tests.backups.world import SOURCE

HOUR, DAY, GRACE = timedelta(hours=1), timedelta(days=1), timedelta(days=1)
LONGEST = 1825 * DAY
JUMPS = [HOUR, 23 * HOUR, DAY, 3 * DAY, 8 * DAY, 40 * DAY, LONGEST - 5 * DAY]


@dataclass
class Kept:
    """A copy at the second store: how long it was hidden, its date, and the stretches it was charged for."""

    finished: datetime
    base: Kept | None
    state: str = "pending"
    hidden_at: datetime | None = None
    hidden: timedelta = timedelta(0)
    date: datetime | None = None
    expired_at: datetime | None = None
    charged: list[list[datetime | None]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return bool(self.charged) and self.charged[-1][1] is None

    def close(self, at: datetime) -> None:
        if self.is_open:
            self.charged[-1][1] = max(at, self.charged[-1][0])


@dataclass
class Level2Model:
    now: datetime
    days: int = 7
    enabled: bool = True
    copies: list[Kept] = field(default_factory=list)

    def of(self, *states: str) -> list[Kept]:
        return [copy for copy in self.copies if copy.state in states]

    # ---- while it is shown

    def arrive(self, finished: datetime, base: Kept | None) -> None:
        copy = Kept(finished, base, "completed", charged=[[self.now, None]])
        self.copies.append(copy)
        self.redate()

    def redate(self, *, by_a_person: bool = False) -> None:
        for copy in self.of("completed", "expired"):
            together = [copy, *(one for one in self.of("completed", "expired") if one.base is copy)]
            date = max(one.finished + min(self.days * DAY + one.hidden, LONGEST) for one in together)
            if date == copy.date:
                continue
            was_ahead = copy.date is not None and copy.date > self.now
            if copy.state == "completed" and copy.date and not was_ahead:
                copy.close(copy.date)
            if date <= self.now and was_ahead and by_a_person:
                copy.close(self.now)
            copy.date = date
            if date > self.now:
                self._charge(copy)

    def _charge(self, copy: Kept) -> None:
        copy.state, copy.expired_at = "completed", None
        if not copy.is_open:
            copy.charged.append([self.now, None])

    def sweep(self) -> None:
        for copy in [one for one in self.of("completed") if one.date <= self.now]:
            copy.close(copy.date)
            if not self.is_last_good(copy):
                copy.state, copy.expired_at = "expired", self.now
        for copy in [one for one in self.of("hidden") if one.date <= self.now]:
            copy.state, copy.expired_at = "expired", self.now

    def is_last_good(self, copy: Kept) -> bool:
        newer = any(one.finished > copy.finished for one in self.of("completed") if one.base is None)
        return self.enabled and copy.base is None and not newer

    # ---- what people do

    def retain(self, days: int) -> None:
        if days != self.days:
            self.days = days
            self.redate(by_a_person=True)
            self.sweep()

    def disable(self) -> None:
        self.sweep()
        self.enabled = False
        for copy in self.of("completed"):
            copy.close(self.now)
            copy.state, copy.hidden_at = "hidden", self.now
        for copy in self.of("hidden"):
            first = min(one.finished for one in (copy, copy.base) if one)
            copy.date = first + LONGEST - GRACE - HOUR

    def enable(self, days: int) -> None:
        self.enabled, self.days = True, days
        for copy in [one for one in self.copies if one.hidden_at and one.state in ("hidden", "expired")]:
            copy.hidden += self.now - copy.hidden_at
            copy.hidden_at = None
            if copy.state == "hidden":
                copy.state = "completed"
                copy.date = copy.finished + min(self.days * DAY + copy.hidden, LONGEST)
        self.redate()
        self.sweep()
        for copy in self.of("completed"):
            if copy.date > self.now:
                self._charge(copy)
        for copy in sorted(self.of("expired"), key=lambda one: one.finished, reverse=True):
            if self.is_last_good(copy):
                copy.state, copy.expired_at = "completed", None

    def may_delete(self, copy: Kept) -> bool:
        needed = any(one.base is copy for one in self.of("completed", "hidden"))
        spent = copy.state == "expired" and copy.date <= self.now and copy.expired_at + GRACE <= self.now
        return spent and not needed and not self.is_last_good(copy)

    def byte_seconds(self, size: int) -> int:
        ends = ((began, end or min(copy.date, self.now)) for copy in self.copies for began, end in copy.charged)
        return sum(size * int((end - began).total_seconds()) for began, end in ends)


class Level2Machine(Machine):
    STEPS: ClassVar = {"back_up": 8, "switch": 5, "retain": 3, "wait": 8, "sweep": 3, "purge": 4}
    SIZE = 100

    def begin(self) -> None:
        self.model = Level2Model(self.time.at)
        self.began_at = self.time.at
        self.sets: list[tuple[BackupSet, Kept]] = []
        level2.apply(self.instance, Terms(True, 7), self.world.by)

    def back_up(self) -> None:
        """A full, or a differential of the newest full that is offered; carried at once where it is wanted."""
        fulls = [(found, copy) for found, copy in self.sets if copy.base is None and copy.state == "completed"]
        usable = [one for one in fulls if one[1].date > self.time.at]
        base = usable[-1] if usable and self.pick([True, False]) else None
        found = self.world.finished(self.instance, base=base and base[0], size=self.SIZE)
        planning.weigh_due()
        if self.model.enabled:
            while copy := replication.claim(SOURCE):
                replication.carry_slice(copy)
            self.model.arrive(found.finished_at, base and base[1])
            self.sets.append((found, self.model.copies[-1]))

    def switch(self) -> None:
        """Off; or on, so long after the last backup that the 24-hour check finds none."""
        if self.model.enabled:
            self.model.disable()
            level2.apply(self.instance, Terms(False, self.model.days), self.world.by)
            return
        self.model.now = self.time.forward(hours=25)
        days = self.pick([self.model.days, 7, 30])
        self.model.enable(days)
        level2.apply(self.instance, Terms(True, days), self.world.by)

    def retain(self) -> None:
        if self.model.enabled:
            days = self.pick([7, 10, 30, 1825])
            self.model.retain(days)
            level2.apply(self.instance, Terms(True, days), self.world.by)

    def wait(self) -> None:
        self.model.now = self.time.forward(seconds=self.pick(JUMPS).total_seconds())
        if self.pick([True, True, False]):
            self.sweep()

    def sweep(self) -> None:
        self.model.sweep()
        expiring.expire_due()

    def purge(self) -> None:
        purging.purge_due(SOURCE)
        for copy, row in zip(self.model.copies, Copy.objects.order_by("pk"), strict=True):
            if row.state == "deleted" and copy.state != "deleted":
                assert self.model.may_delete(copy), f"{copy} was deleted"
                copy.state = "deleted"

    # ---- both say the same

    def agree(self) -> None:
        rows = list(Copy.objects.order_by("pk").prefetch_related("spans"))
        for copy, row in zip(self.model.copies, rows, strict=True):
            assert row.state == copy.state, f"{row.state}, and not {copy}"
            assert row.expires_at == copy.date, f"{row.expires_at}, and not {copy}"
            spans = sorted([span.began_at, span.ended_at] for span in row.spans.all())
            assert spans == sorted(copy.charged), f"{spans}, and not {copy}"

    def finish(self) -> None:
        spans = StorageSpan.objects.select_related("copy")
        charged = metering.byte_seconds(spans, self.began_at, self.time.at, at=self.time.at)
        assert charged == self.model.byte_seconds(self.SIZE)
        lines = metering.stored_between(self.began_at, self.time.at, at=self.time.at)
        assert sum(line.byte_seconds for line in lines) == charged
        assert {(line.source, line.destination) for line in lines} <= {(SOURCE, SOURCE)}
        expiring.expire_due()
        assert [*audit.wrong_spans(), *audit.shown_though_hidden(), *audit_promises.early_deletes()] == []
