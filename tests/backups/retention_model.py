"""How long copies stay and what is charged, said once more in plain Python, and the machine that compares (I4 to I11).

One instance, one database, one destination; fulls, differentials, logs with and without a hole between them, sets that
share a file, and promotions, after which a former primary may go on alone. The model knows dates, charged stretches and
what may be deleted; after every step the rows must say the same, and what is shown as restorable must be what the
copies come to (I7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from typing import Any, ClassVar

from backups import policies
from backups.chains import log_chain, windows
from backups.copying import cancelling, planning, replication
from backups.keeping import expiring, purging, retention, source_gone
from backups.models import PENDING, BackupSet, Copy, CopyPolicy, CopyState, Kind, Pin, StorageSpan
from backups.oversight import audit
from billing import audit as ledger
from billing import closing, metering
from regions.models import Store
from tests.backups.histories import Machine
from tests.backups.world import SOURCE, TARGET

HOUR, DAY, GRACE = timedelta(hours=1), timedelta(days=1), timedelta(days=1)
PERIODS = [7, 8, 10, 14, 30]
JUMPS = [timedelta(hours=1), timedelta(hours=23), DAY, 3 * DAY, 8 * DAY, 24 * DAY]
LATE = timedelta(seconds=4)  # a step takes one
LAGS = [timedelta(0), timedelta(seconds=300), timedelta(seconds=301), timedelta(seconds=-301)]


@dataclass
class Kept:
    """A copy: the set it is of, what the set needs, its state, its date (None: held) and when it was charged.

    `place` is where in the log a backup was made, or a log ends; `begins` where a log begins. `parent` and `left_at`
    are what a log knows of its fork: which one it left, and where.
    """

    number: int
    finished: datetime
    base: int | None
    file: int
    place: int
    begins: int | None = None
    fork: str = ""
    parent: str = ""
    left_at: int | None = None
    state: str = "pending"
    date: datetime | None = None
    moved_at: datetime | None = None
    is_held: bool = False
    pinned_until: datetime | None = None
    expired_at: datetime | None = None
    transfer: int | None = None
    charged: list[list[datetime | None]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return bool(self.charged) and self.charged[-1][1] is None

    def close(self) -> None:
        if self.is_open:
            began = self.charged[-1][0]
            self.charged[-1][1] = max(began, self.date, self.moved_at or self.date)

    @property
    def is_log(self) -> bool:
        return self.begins is not None

    @property
    def is_full(self) -> bool:
        return self.base is None and not self.is_log

    @property
    def is_live(self) -> bool:
        return self.state not in ("cancelled", "deleted")


@dataclass
class RetentionModel:
    """Everything that decides when bytes expire, stop costing, and may go."""

    now: datetime
    days: int = 7
    former: int | None = None
    enabled: bool = False
    released: bool = False
    copies: list[Kept] = field(default_factory=list)
    transfers: int = 0
    is_gone: bool = False
    back_at: datetime | None = None

    # ---- dates

    def redate(self) -> None:
        live = [copy for copy in self.copies if copy.is_live]
        for copy in live:
            needing = self._with_dependents(copy)
            is_held = any(one.is_held for one in needing)
            self._redate(copy, None if is_held else max(self._own(one) for one in needing))

    def _own(self, copy: Kept) -> datetime:
        return copy.finished + self.days * DAY

    def _with_dependents(self, copy: Kept) -> list[Kept]:
        """Whatever needs it, at any depth: differentials of it, logs, sets in the same file and theirs (R-12.6)."""
        return self._reached(copy, lambda other, needed: self._share(other, needed) or self.needs(other, needed))

    def _reached(self, copy: Kept, leads: Callable[[Kept, Kept], bool]) -> list[Kept]:
        found, todo = [copy], [copy]
        while todo:
            needed = todo.pop()
            for other in self.copies:
                if other.is_live and other not in found and leads(other, needed):
                    found.append(other)
                    todo.append(other)
        return found

    def _share(self, copy: Kept, other: Kept) -> bool:
        return copy.transfer is not None and copy.transfer == other.transfer

    def needs(self, copy: Kept, other: Kept) -> bool:
        """Whether a copy needs another one next; a log the nearest backup that it, or logs up to it, lead on from."""
        if not other.is_live:
            return False
        if not copy.is_log:
            return copy.base == other.number
        return any(other is one for one in self._needed_by_log(copy))

    def _needed_by_log(self, log: Kept) -> list[Kept]:
        line = self._line_of(log)
        logs = [one for one in self.copies if one.is_log and one.is_live and one.begins <= line.get(one.fork, -1)]
        start = log.begins
        while joined := [one.begins for one in logs if one.begins < start <= min(one.place, line[one.fork])]:
            start = min(joined)
        backups = [one for one in self.copies if not one.is_log and one.is_live and self._has_its_base(one)]
        whole = [one for one in backups if one.place <= line.get(one.fork, -1)]
        found: list[Kept] = []
        for backup in sorted(whole, key=lambda one: (one.place, one.finished), reverse=True):
            if start <= backup.place < log.place:
                found += self._between(backup, log, line, logs)
                if backup.state in ("completed", "expired"):
                    break
        return found

    def _line_of(self, log: Kept) -> dict[str, float]:
        """Return the log's fork and those it came from, as far as logs tell: up to where each of them counts."""
        line: dict[str, float] = {log.fork: inf}
        fork = log.fork
        while (told := self._told_by(fork)) and told.parent not in line:
            fork = told.parent
            line[fork] = min(told.left_at, *line.values())
        return line

    def _told_by(self, fork: str) -> Kept | None:
        logs = (one for one in self.copies if one.is_log and one.is_live and one.fork == fork)
        return next((log for log in logs if log.parent), None)

    def _between(self, backup: Kept, log: Kept, line: dict[str, float], logs: list[Kept]) -> list[Kept]:
        """Return the log before on the same fork, or the backup; across forks all that leads from it to the log."""
        way: list[Kept] = []
        reached: float = backup.place
        while reached < log.begins:
            reached, _, furthest = max(
                (min(one.place, line[one.fork]), -n, one) for n, one in enumerate(logs) if one.begins <= reached
            )
            way.append(furthest)
        if way and way[-1].fork == log.fork:
            return way[-1:]
        forks = list(line)
        return [backup, *map(self._told_by, forks[1 : forks.index(backup.fork)]), *way]

    def _has_its_base(self, copy: Kept) -> bool:
        return copy.base is None or any(one.number == copy.base and one.is_live for one in self.copies)

    def _redate(self, copy: Kept, date: datetime | None) -> None:
        if copy.state == "completed" and copy.date and copy.date <= self.now:
            copy.close()
        ahead = copy.date is None or copy.date > self.now
        if ahead and date and (copy.date is None or date < copy.date):
            copy.moved_at = self.now
        copy.date = date
        if date is None or date > self.now:
            self._charge_again(copy)

    def _charge_again(self, copy: Kept) -> None:
        if copy.state == "expired":
            copy.state, copy.expired_at, copy.moved_at = "completed", None, None
        if copy.state == "completed" and not copy.is_open:
            copy.charged.append([self.now, None])

    # ---- what happens

    def plan(self, copy: Kept, base: Kept | None) -> None:
        """Owe a copy; its base comes along when nothing of it is at the destination (any more)."""
        if base and not self._live(base.number):
            self._add(base)
        self._add(copy)

    def _add(self, copy: Kept) -> None:
        copy.date = self._own(copy)
        self.copies.append(copy)
        self.redate()

    def _live(self, number: int) -> Kept | None:
        return next((copy for copy in self.copies if copy.number == number and copy.is_live), None)

    def arrive(self, number: int) -> None:
        copy = self._live(number)
        if copy.date and copy.date <= self.now:
            self.cancel(copy)
            return
        sharing = [one.transfer for one in self.copies if one.file == copy.file and one.is_live and one.transfer]
        self.transfers += not sharing
        copy.transfer = sharing[0] if sharing else self.transfers
        copy.state = "completed"
        copy.charged.append([self.now, None])
        self.redate()

    def cancel(self, copy: Kept) -> None:
        copy.state = "cancelled"
        self.redate()

    def retain(self, days: int) -> None:
        if days != self.days:
            self.former = self.days if days < self.days else None
            self.days = days
            self.redate()
            self.sweep()

    def disable(self) -> None:
        for copy in self.copies:
            if copy.state == "pending":
                self.cancel(copy)
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True
        fulls = [copy for copy in self.copies if copy.state == "expired" and copy.is_full]
        for copy in sorted(fulls, key=lambda copy: copy.finished, reverse=True):
            if self.is_last_good(copy):
                copy.state, copy.expired_at = "completed", None

    def sweep(self) -> None:
        due = [copy for copy in self.copies if copy.state == "completed" and copy.date and copy.date <= self.now]
        for copy in due:
            copy.close()
            if not self.is_last_good(copy) and not self.is_gone:
                copy.state, copy.expired_at = "expired", self.now

    def is_last_good(self, copy: Kept) -> bool:
        fulls = [one for one in self.copies if one.is_full and one.state == "completed"]
        newer = any(one.finished > copy.finished for one in fulls)
        return self.enabled and not self.released and copy.is_full and not newer

    def may_delete(self, copy: Kept) -> bool:
        """What I4, I5 and I6 ask before bytes go; who only shares its file needs it for nothing."""
        return (
            copy.state == "expired"
            and copy.date <= self.now
            and copy.expired_at + GRACE <= self.now
            and not copy.is_held
            and not (copy.pinned_until and copy.pinned_until > self.now)
            and not any(one.state in ("pending", "completed") for one in self._reached(copy, self.needs)[1:])
            and not self.is_last_good(copy)
            and not self.is_gone
            and not (self.back_at and self.back_at + GRACE > self.now)
        )

    def charged_seconds(self) -> dict[int, int]:
        """Return whole seconds per copy (by its place in `copies`) that are charged until now."""
        ends = [[end or min(copy.date or self.now, self.now) for _, end in copy.charged] for copy in self.copies]
        stretches = (zip(copy.charged, end, strict=True) for copy, end in zip(self.copies, ends, strict=True))
        return {
            place: sum(int((end - began[0]).total_seconds()) for began, end in all_)
            for place, all_ in enumerate(stretches)
        }


@dataclass
class Fork:
    """A server's history, and how far it has come: where its last log ended, and where it writes."""

    name: str
    parent: Fork | None = None
    left_at: int = 0
    began_at: datetime | None = None
    logged: int = 0
    place: int = 0

    @property
    def has_logs(self) -> bool:
        """Whether it has ended a log, be it one that nobody saw: only of such a one can another history come."""
        return self.logged > self.left_at

    def facts(self) -> dict[str, Any]:
        """Return what each of its logs knows of it."""
        if self.parent is None:
            return {"fork": self.name}
        left = {"parent_fork": self.parent.name, "fork_position": self.left_at, "forked_at": self.began_at}
        return {"fork": self.name} | left


class RetentionMachine(Machine):
    """Backups arrive, people change their minds, time passes, sweeps come late, stores' clocks are off."""

    STEPS: ClassVar = {
        "back_up": 8,
        "log": 12,
        "promote": 2,
        "linger": 2,
        "late": 1,
        "carry": 4,
        "retain": 4,
        "undo": 2,
        "disable": 1,
        "enable": 2,
        "release": 1,
        "hold": 2,
        "let_go": 2,
        "pin": 1,
        "cancel": 1,
        "lose_source": 1,
        "get_back": 2,
        "wait": 7,
        "sweep": 3,
        "purge": 6,
    }

    def begin(self) -> None:
        self.model = RetentionModel(self.time.at)
        self.sets: list[BackupSet] = []
        self.began_at, self.forks = self.time.at, 1
        self.main = self.alone = Fork("1", logged=100, place=100)
        self.world.store(TARGET)
        self.world.set(self.instance, enabled=True, destination=TARGET, logs_enabled=True)
        self.model.enabled = True

    # ---- backups

    def back_up(self) -> None:
        """A full, a differential of the newest full, or a full appended to the newest set's file."""
        kind = self.pick(["full", "full", "differential", "appended"])
        fulls = [found for found in self.sets if found.kind == "full"]
        base = fulls[-1] if fulls and kind == "differential" else None
        beside = self.sets[-1] if self.sets and kind == "appended" else None
        self._back_up(self.main, base, beside)

    def _back_up(self, fork: Fork, base: BackupSet | None = None, beside: BackupSet | None = None) -> None:
        fork.place += 5
        facts = {"last_position": fork.place, "fork": fork.name}
        self._owe(self.world.finished(self.instance, base=base, beside=beside, **facts), base)

    def log(self) -> None:
        """A log of everything since the last one; now and then one is lost before anybody saw it."""
        self._log(self.main)

    def late(self) -> None:
        """A log whose copy waits a few steps, while others that were owed after it arrive."""
        self._log(self.main, is_late=True)

    def _log(self, fork: Fork, *, is_late: bool = False) -> None:
        fork.place += 10
        if self.pick([True] * 7 + [False]):
            where = {"first_position": fork.logged, "last_position": fork.place, "started_at": self.time.at}
            self._owe(self.world.finished(self.instance, kind="log", **where, **fork.facts()), is_late=is_late)
        fork.logged = fork.place

    def promote(self) -> None:
        """A standby takes over, a little behind the last log; its own first log begins where that ended."""
        old = self.main if self.main.has_logs else self.main.parent
        left_at = self.main.place + 3 if self.main.has_logs else self.main.left_at
        self.forks += 1
        here = {"logged": self.main.logged, "place": self.main.place}
        self.alone, self.main = self.main, Fork(str(self.forks), old, left_at, self.time.at, **here)

    def linger(self) -> None:
        """What was primary before goes on: its logs and backups are of a history that nobody follows."""
        if self.alone is not self.main:
            self.pick([self._log, self._log, self._back_up])(self.alone)

    def _owe(self, found: BackupSet, base: BackupSet | None = None, *, is_late: bool = False) -> None:
        self.sets.append(found)
        planning.weigh_due()
        if self.model.enabled and not self.model.released:
            self.model.plan(self._kept_of(found, base), self._kept_of(base) if base else None)
        if is_late:
            Copy.objects.filter(set=found, state__in=PENDING).update(due_at=self.time.at + LATE)
        elif self.pick([True, True, False]):
            self.carry()

    def _kept_of(self, found: BackupSet, base: BackupSet | None = None) -> Kept:
        where = found.last_position, found.first_position, found.fork, found.parent_fork, found.fork_position
        return Kept(found.pk, found.finished_at, base.pk if base else None, found.files.get().pk, *where)

    def carry(self) -> None:
        while copy := replication.claim(TARGET):
            replication.carry_slice(copy)
            self.model.arrive(copy.set_id)

    def cancel(self) -> None:
        if pending := self._in("pending"):
            copy = self.pick(pending)
            self.model.cancel(copy)
            assert cancelling.cancel(self._row(copy), "by_a_person", self.world.by)

    def _in(self, *states: str) -> list[Kept]:
        return [copy for copy in self.model.copies if copy.state in states]

    def _row(self, copy: Kept) -> Copy:
        return Copy.objects.live().get(set=copy.number)

    # ---- people

    def retain(self) -> None:
        days = self.pick(PERIODS)
        self.model.retain(days)
        self.world.set(self.instance, retention_days=days)

    def undo(self) -> None:
        if self.model.former:
            self.model.retain(self.model.former)
            policies.undo_shortening(self.instance, self.world.by)

    def disable(self) -> None:
        if self.model.enabled and not self.model.released:
            self.model.disable()
            self.world.set(self.instance, enabled=False)

    def enable(self) -> None:
        """Long enough after the last backup that the 24-hour check finds none."""
        if not self.model.enabled and not self.model.released:
            self.model.now = self.time.forward(hours=25)
            self.model.enable()
            self.world.set(self.instance, enabled=True, destination=TARGET, logs_enabled=True)

    def release(self) -> None:
        if len(self.sets) > 3 and not self.model.released:
            self.model.released = True
            policies.release(self.instance, self.world.by)
            self.instance.released_at = None  # the next history's instance lives

    def hold(self) -> None:
        if free := [copy for copy in self._in("completed", "expired") if not copy.is_held]:
            copy = self.pick(free)
            copy.is_held = True
            self.model.redate()
            self.world.hold(self._row(copy))

    def let_go(self) -> None:
        if held := [copy for copy in self.model.copies if copy.is_held and copy.is_live]:
            copy = self.pick(held)
            copy.is_held = False
            self.model.redate()
            self.world.let_go(self._row(copy).holds.get(released_at=None))

    def pin(self) -> None:
        if there := self._in("completed", "expired"):
            copy = self.pick(there)
            copy.pinned_until = self.time.at + 9 * DAY
            Pin.objects.create(copy=self._row(copy), reason="drill", pinned_at=self.time.at, until=copy.pinned_until)

    # ---- the source region

    def lose_source(self) -> None:
        """Its store does not answer: nothing expires or goes, and what is charged ends as it would have."""
        self.model.is_gone = True
        self._source_is(Store.State.UNREACHABLE)

    def get_back(self) -> None:
        if self.model.is_gone:
            self.model.is_gone, self.model.back_at = False, self.time.at
            self._source_is(Store.State.OK)

    def _source_is(self, state: str) -> None:
        Store.objects.filter(region=SOURCE).update(state=state)
        source_gone.note(self.time.at)

    # ---- time

    def wait(self) -> None:
        """Time passes; most often the sweep comes by. That dates are caught up with hourly is not left to chance."""
        self.time.forward(seconds=HOUR.total_seconds())
        retention.catch_up()
        self.model.now = self.time.forward(seconds=(self.pick(JUMPS) - HOUR).total_seconds())
        closing.close_due()
        if self.pick([True, True, False]):
            self.sweep()

    def sweep(self) -> None:
        self.model.sweep()
        expiring.expire_due()
        self._ledgers_agree()

    def _ledgers_agree(self) -> None:
        """The meter's sum is what the copies' stretches come to (I11)."""
        rows = list(Copy.objects.order_by("pk"))
        expected = sum(rows[n].stored_bytes * seconds for n, seconds in self.model.charged_seconds().items())
        spans = StorageSpan.objects.select_related("copy")
        assert metering.byte_seconds(spans, self.began_at, self.time.at, at=self.time.at) == expected

    def purge(self) -> None:
        lag = self.pick(LAGS)
        self.time.stores_lag = lag
        purging.purge_due(TARGET)
        self.time.stores_lag = timedelta(0)
        for copy, row in zip(self.model.copies, Copy.objects.order_by("pk"), strict=True):
            if row.state == CopyState.DELETED and copy.state != "deleted":
                assert self.model.may_delete(copy), f"{copy} was deleted"
                assert abs(lag) <= timedelta(seconds=300), "the clocks differed"
                copy.state = "deleted"
        self._objects_agree()

    def finish(self) -> None:
        """In the end everything goes that may, in a few rounds: nothing is kept for no reason."""
        self.get_back()
        for _ in range(3):
            self.model.now = self.time.forward(hours=49)
            self.sweep()
            self.dice = 0
            self.purge()
            self.agree()
        assert not [copy for copy in self.model.copies if self.model.may_delete(copy)]
        for name in ("I4 no early delete", "I5 chains", "I7 windows", "I11 spans"):
            assert list(audit.CHECKS[name]()) == []
        assert list(ledger.breaches()) == []  # closed before late sweeps, and none of them moved a closed month

    def _objects_agree(self) -> None:
        """The destination holds the objects and manifests of what is there, and nothing else."""
        held = Copy.objects.filter(state__in=(CopyState.COMPLETED, CopyState.EXPIRED))
        wanted = set(held.values_list("manifest_key", flat=True)) | set(_keys_of(held))
        there = {key for storage in self.storages.values() for key in storage.objects if key.startswith("farshore/")}
        assert there - wanted == set() == wanted - there

    # ---- both tell the same story

    def agree(self) -> None:
        rows = list(Copy.objects.order_by("pk").prefetch_related("spans"))
        told, expected = [self._told_by(row) for row in rows], [self._told_of(copy) for copy in self.model.copies]
        if CopyPolicy.objects.filter(dates_behind_since__isnull=False).exists():
            told = [self._caught_up(*pair) for pair in zip(told, expected, strict=True)]
        assert told == expected
        assert list(audit.CHECKS["I7 windows"]()) == []
        self._reaches_agree()

    def _reaches_agree(self) -> None:
        """What a program is told of one set, of which less is read, is what the whole chain comes to."""
        copies = Copy.objects.filter(state=CopyState.COMPLETED).exclude(set__kind=Kind.LOG)
        for copy in copies.select_related("set__instance", "destination_store").order_by("pk"):
            chain = windows.chain_of(copy.set.instance, copy.destination_store, copy.set.database)
            reached = log_chain.reach(copy.pk, chain.data, chain.logs, chain.rules)
            assert reached is None or windows.reach_of(copy) == reached

    def _caught_up(self, told: tuple, expected: tuple) -> tuple:
        """While logs only follow each other, what they need may be dated too early, by so much and no more.

        A last good copy's date that has passed may still be that of logs that are gone: it is past either way.
        """
        (number, state, date, *rest), right = told, expected[2]
        is_near = date and right and right - retention.MAY_LAG <= date < right
        is_past = date and right and right <= date <= self.time.at and state == "completed"
        return number, state, right if is_near or is_past else date, *rest

    def _told_by(self, row: Copy) -> tuple:
        state = "pending" if row.state in PENDING else row.state
        date = row.expires_at if state not in ("cancelled", "deleted") else None
        spans = sorted((span.began_at, span.ended_at) for span in row.spans.all())
        charged = [self._until(began, end, row.expires_at, row.brought_forward_at) for began, end in spans]
        return row.set_id, state, date, row.expired_at if state == "expired" else None, charged

    def _told_of(self, copy: Kept) -> tuple:
        date = copy.date if copy.is_live else None
        charged = [self._until(began, end, copy.date, copy.moved_at) for began, end in copy.charged]
        return copy.number, copy.state, date, copy.expired_at if copy.state == "expired" else None, charged

    def _until(self, began: datetime, end: datetime | None, date: datetime | None, moved: datetime | None) -> tuple:
        """Where a stretch ends, also while the sweep has not come to write it down."""
        if end or date is None or date > self.time.at:
            return began, end
        return began, max(began, date, moved or date)


def _keys_of(copies: Iterable[Copy]) -> list[str]:
    return [key for copy in copies for key in copy.copied_files.values_list("transfer__key", flat=True)]
