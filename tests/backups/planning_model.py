"""What planning owes, said once more in plain Python, and the machine that holds the real code against it.

The model knows no tables: sets, stretches of coverage, what is on its way or has arrived, and why the rest was
cancelled. After every step both must tell the same story about every set and every destination (I2, I3, I10).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from backups import policies
from backups.copying import cancelling, planning, replication
from backups.default_backups import discovery
from backups.models import PENDING, BackupFile, BackupSet, Copy, CopyState, Family, Instance
from backups.oversight import audit
from tests.backups.histories import Machine
from tests.backups.world import OTHER, TARGET

DAY = timedelta(days=1)
RETENTION = 7 * DAY
JUMPS = [timedelta(seconds=1), timedelta(hours=1), DAY - timedelta(seconds=1), DAY, 3 * DAY]
Key = tuple[int, str]  # (number of the set, destination)


@dataclass
class Backup:
    """One default backup: `base` is the number of the full a differential needs."""

    finished: datetime
    database: str
    base: int | None = None
    is_here: bool = True
    is_weighed: bool = False

    @property
    def is_full(self) -> bool:
        return self.base is None


@dataclass
class PlanningModel:
    """Who owes which copy. `live` says "pending" or "done"; `claims` counts who touched a copy last (its fence)."""

    now: datetime
    destination: str | None = None
    suspended: bool = False
    released: bool = False
    sets: list[Backup] = field(default_factory=list)
    coverage: list[list] = field(default_factory=list)  # [destination, began, ended or None]
    ended_because: dict[str, str] = field(default_factory=dict)
    live: dict[Key, str] = field(default_factory=dict)
    as_base: set[Key] = field(default_factory=set)
    cancelled: dict[Key, list[str]] = field(default_factory=lambda: defaultdict(list))
    claims: dict[Key, int] = field(default_factory=lambda: defaultdict(int))

    # ---- settings

    def enable(self, destination: str) -> None:
        if self.destination == destination or self.released or self.suspended:
            return
        orphans = self._end("destination_changed") if self.destination else []
        self.destination = destination
        self._cover()
        for number, was_base in orphans:
            if not was_base or self._own_date(number) > self.now:
                self.plan(number, as_base=was_base)
        self._check_24_hours()

    def disable(self) -> None:
        if self.destination and not self.released:
            self._end("disabled")

    def suspend(self) -> None:
        self.suspended = True
        if self.destination:
            self._uncover()

    def resume(self) -> None:
        self.suspended = False
        if self.destination:
            self._cover()
            self._check_24_hours()

    def release(self) -> None:
        self.released = True
        self._uncover()

    def _end(self, reason: str) -> list[tuple[int, bool]]:
        pending = [key for key, state in self.live.items() if state == "pending" and key[1] == self.destination]
        orphans = [(key[0], key in self.as_base) for key in pending]
        for key in pending:
            self.cancel(key, reason)
        self._uncover()
        self.ended_because[self.destination] = reason
        self.destination = None
        return orphans

    def _cover(self) -> None:
        self.coverage.append([self.destination, self.now, None])

    def _uncover(self) -> None:
        for stretch in self.coverage:
            stretch[2] = stretch[2] or self.now

    # ---- planning

    def weigh(self, number: int) -> None:
        found = self.sets[number]
        if found.is_weighed:
            return
        found.is_weighed = True
        for destination in {stretch[0] for stretch in self.coverage}:
            self._weigh_for(number, found, destination)

    def _weigh_for(self, number: int, found: Backup, destination: str) -> None:
        mine = [stretch for stretch in self.coverage if stretch[0] == destination]
        covered = any(began <= found.finished and (not ended or found.finished < ended) for _, began, ended in mine)
        here = destination == self.destination
        if covered and here:
            self.plan(number)
        elif covered:
            self._missed(number, destination)
        elif here and not self.suspended and found.is_full and self._awaits_full(found, mine):
            self.plan(number)

    def _missed(self, number: int, destination: str) -> None:
        """Finished under a policy that has ended since: it is said, and owed to where the backups go now."""
        if (number, destination) not in self.live and not self.cancelled[number, destination]:
            self.cancelled[number, destination].append(self.ended_because[destination])
        if self.ended_because[destination] == "destination_changed" and self.destination:
            self.plan(number)

    def _awaits_full(self, found: Backup, mine: list[list]) -> bool:
        recent = any(not ended and began <= found.finished + DAY for _, began, ended in mine)
        same = [n for n, other in enumerate(self.sets) if other.is_full and other.database == found.database]
        return recent and not any((n, self.destination) in self.live for n in same)

    def _check_24_hours(self) -> None:
        valid = [(-s.finished.timestamp(), -n) for n, s in enumerate(self.sets) if self._is_valid_and_recent(s)]
        chosen: dict[str, int] = {}
        for _, minus in sorted(valid):
            chosen.setdefault(self.sets[-minus].database, -minus)
        for number in chosen.values():
            self.plan(number)

    def _is_valid_and_recent(self, found: Backup) -> bool:
        restorable = found.is_full or self.sets[found.base].is_here
        return found.is_here and restorable and found.finished >= self.now - DAY

    def plan(self, number: int, as_base: bool = False) -> None:
        """Owe a copy, its base first; one that would be past its date on arrival is cancelled at once."""
        key, found = (number, self.destination), self.sets[number]
        past = self._own_date(number) <= self.now
        if not found.is_full and self.sets[found.base].is_here and (key in self.live or not past):
            self.plan(found.base, as_base=True)
        if key in self.live:
            return
        if past and not as_base:
            self.cancelled[key].append("expired_before_arrival")
            return
        self.live[key] = "pending"
        if as_base:
            self.as_base.add(key)

    def _own_date(self, number: int) -> datetime:
        return self.sets[number].finished + RETENTION

    # ---- copies

    def cancel(self, key: Key, reason: str) -> None:
        del self.live[key]
        self.as_base.discard(key)
        self.cancelled[key].append(reason)
        self.claims[key] += 1

    def claim(self, key: Key) -> int:
        self.claims[key] += 1
        return self.claims[key]

    def carry(self, key: Key, claim: int) -> None:
        """A worker comes to the end of its work on a claimed copy, perhaps long after it lost it."""
        if self.claims[key] != claim or self.live.get(key) != "pending":
            return
        if self._date(key) <= self.now:
            self.cancel(key, "expired_before_arrival")
        elif not self.sets[key[0]].is_here:
            self.cancel(key, "source_gone")
        else:
            self.live[key] = "done"
            self.claims[key] += 1

    def _date(self, key: Key) -> datetime:
        needing = [n for n, found in enumerate(self.sets) if found.base == key[0] and (n, key[1]) in self.live]
        return max(self._own_date(number) for number in [key[0], *needing])

    def vanish(self, number: int) -> None:
        self.sets[number].is_here = False
        pending = [key for key, state in self.live.items() if state == "pending"]
        for key in [key for key in pending if not self.sets[key[0]].is_here]:
            self.cancel(key, "source_gone")


class PlanningMachine(Machine):
    """Everything that people, jobs, brokers and workers may do, in any order."""

    STEPS: ClassVar = {
        "enable": 5,
        "disable": 2,
        "suspend_or_resume": 2,
        "release": 1,
        "cancel": 2,
        "back_up": 8,
        "vanish": 2,
        "weigh_one": 4,
        "weigh_all": 4,
        "claim": 4,
        "deliver": 4,
        "carry": 3,
        "wait": 4,
    }

    def begin(self) -> None:
        self.model = PlanningModel(self.time.at)
        self.pks: list[int] = []
        self.held: list[tuple[Copy, Key, int]] = []
        self.enable()

    def finish(self) -> None:
        self.weigh_all()
        self.agree()
        self.time.forward(minutes=10)
        for name in ("I2 exactly one", "I2 never doubled", "I3 never skipped"):
            assert list(audit.CHECKS[name]()) == []

    # ---- people

    def enable(self) -> None:
        destination = self.pick([TARGET, OTHER])
        self.model.enable(destination)
        self._try(enabled=True, destination=destination)

    def disable(self) -> None:
        self.model.disable()
        self._try(enabled=False)

    def _try(self, **changes: object) -> None:
        try:
            self.world.set(self.instance, **changes)
        except policies.Refusals:
            assert self.model.released or self.model.suspended

    def suspend_or_resume(self) -> None:
        if self.model.released:
            return
        family = Family.DEDICATED if self.model.suspended else Family.SHARED
        if self.model.suspended:
            self.model.resume()
        else:
            self.model.suspend()
        Instance.objects.filter(pk=self.instance.pk).update(family=family)
        policies.requalify(self.instance)

    def release(self) -> None:
        if not self.model.released and len(self.pks) > 4:
            self.model.release()
            policies.release(self.instance, self.world.by)

    def cancel(self) -> None:
        if pending := sorted(key for key, state in self.model.live.items() if state == "pending"):
            key = self.pick(pending)
            self.model.cancel(key, "by_a_person")
            copy = Copy.objects.live().get(set=self.pks[key[0]], destination_store__region=key[1])
            assert cancelling.cancel(copy, "by_a_person", self.world.by)

    # ---- default backups

    def back_up(self) -> None:
        database, late = self.pick("AB"), self.pick([0, 0, 1, 13, 25, 24 * 8])
        finished = self.time.at - timedelta(hours=late)
        fulls = [n for n, s in enumerate(self.model.sets) if s.is_full and s.database == database]
        base = fulls[-1] if fulls and self.pick([True, False]) else None
        self.model.sets.append(Backup(finished, database, base))
        known = BackupSet.objects.get(pk=self.pks[base]) if base is not None else None
        self.pks.append(self.world.finished(self.instance, finished, database=database, base=known).pk)

    def vanish(self) -> None:
        if self.pks:
            number = self.pick(range(len(self.pks)))
            self.model.vanish(number)
            BackupFile.objects.filter(sets=self.pks[number]).update(state=BackupFile.State.GONE)
            discovery._settle_losses(self.instance)

    # ---- bells

    def weigh_one(self) -> None:
        """A bell for one set: the first, a late one, or one delivered twice."""
        if self.pks:
            number = self.pick(range(len(self.pks)))
            self.model.weigh(number)
            planning.weigh(self.pks[number])

    def weigh_all(self) -> None:
        for number in range(len(self.pks)):
            self.model.weigh(number)
        planning.weigh_due()

    def claim(self) -> None:
        region = self.pick([TARGET, OTHER])
        if copy := replication.claim(region):
            key = (self.pks.index(copy.set_id), region)
            self.held.append((copy, key, self.model.claim(key)))

    def deliver(self) -> None:
        """A worker finishes what it claimed, whatever happened to its copy meanwhile (I10, I15)."""
        if self.held:
            copy, key, claim = self.held.pop(self.pick(range(len(self.held))))
            self.model.carry(key, claim)
            replication.carry_slice(copy)

    def carry(self) -> None:
        region = self.pick([TARGET, OTHER])
        while copy := replication.claim(region):
            key = (self.pks.index(copy.set_id), region)
            self.model.carry(key, self.model.claim(key))
            replication.carry_slice(copy)

    def wait(self) -> None:
        self.model.now = self.time.forward(seconds=self.pick(JUMPS).total_seconds())

    # ---- both tell the same story

    def agree(self) -> None:
        live, cancelled = {}, defaultdict(list)
        rows = Copy.objects.order_by("pk").values_list("set", "destination_store__region", "state", "cancel_reason")
        for pk, region, state, reason in rows:
            key = (self.pks.index(pk), region)
            if state == CopyState.CANCELLED:
                cancelled[key].append(reason)
            else:
                assert key not in live, f"{key} has two live copies (I2)"
                live[key] = "pending" if state in PENDING else "done"
        assert live == self.model.live
        assert cancelled == {key: said for key, said in self.model.cancelled.items() if said}
