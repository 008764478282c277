"""What a change of settings says that it erases is what it does erase: the preview beside the real thing (R-14.3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from django.db.models import Q

from backups import level2, policies, recoveries
from backups.copying import damage, planning, replication
from backups.keeping import expiring, purging, retention, shortening, source_gone
from backups.models import BackupSet, Copy, CopyState, Instance, PolicyKind
from backups.policies import Settings
from backups.servers import certificate_book
from billing import estimates
from regions.models import Store
from tests.backups import shortcut
from tests.backups.shortcut import MemoryStorage
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, SOURCE, TARGET, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CERTIFICATE = "ab" * 20
Storages = dict[int, MemoryStorage]


@pytest.fixture
def storages(monkeypatch: pytest.MonkeyPatch) -> Storages:
    return shortcut.take(monkeypatch)


def told(instance: Instance, wanted: Settings, at: Any, kind: str = PolicyKind.CROSS_REGION) -> set[int]:
    """Return which copies the preview says go, and see that its sums are theirs."""
    rows = shortening.under(wanted, [instance.pk], at, kind)
    found = set(rows.filter(expires_by_it=True).values_list("pk", flat=True))
    sums = shortening.of_all({instance.pk: wanted}, at, kind).get(instance.pk, shortening.Shortened())
    stored = sum(Copy.objects.filter(pk__in=found).values_list("stored_bytes", flat=True))
    assert (sums.sets, sums.bytes) == (len(found), stored)
    assert (sums.all_sets, sums.all_bytes) == (rows.count(), sum(rows.values_list("stored_bytes", flat=True)))
    left = rows.exclude(pk__in=found).filter(state=CopyState.COMPLETED).order_by("set__finished_at")
    assert sums.earliest == left.values_list("set__finished_at", flat=True).first()
    return found


def there(kind: str = PolicyKind.CROSS_REGION) -> set[int]:
    states = (CopyState.COMPLETED, CopyState.DAMAGED)
    return set(Copy.objects.filter(state__in=states, policy__kind=kind).values_list("pk", flat=True))


def erased(before: set[int], time: TimeMachine) -> set[int]:
    """Return what of these is deleted a day and a moment later, when sweep and purge have come by as they do."""
    expiring.expire_due()
    time.forward(hours=23, minutes=50)
    _purge()
    gone = Copy.objects.filter(pk__in=before, state=CopyState.DELETED)
    assert not gone.exists(), "that could be undone still"
    for _ in range(3):  # what waits for another one's deletion is looked at again
        time.forward(minutes=11)
        _purge()
    return set(gone.values_list("pk", flat=True))


def _purge() -> None:
    for region in (TARGET, OTHER, SOURCE):
        purging.purge_due(region)


# ---- histories


class History:
    """Two databases, backed up in every way there is to two destinations, while people and places do what they do."""

    STEPS = (
        ["full"] * 5
        + ["differential"] * 5
        + ["appended"] * 2
        + ["log"] * 6
        + ["wait"] * 9
        + ["retain"] * 3
        + ["move"] * 2
        + ["lock"] * 5
        + ["hold", "hold", "let_go", "spoil", "entrust", "turn_off_and_on"]
    )

    def __init__(self, seed: int, world: World, instance: Instance, time: TimeMachine, storages: Storages) -> None:
        self.dice, self.world, self.instance, self.time, self.storages = Random(seed), world, instance, time, storages
        self.logged: dict[str, int] = {}
        self.place = 100
        Store.objects.filter(region__in=(TARGET, OTHER)).update(capabilities={"object_lock": True})
        world.set(instance, enabled=True, retention_days=30, destination=TARGET, logs_enabled=True)

    def play(self, length: int = 36) -> None:
        for _ in range(length):
            self.time.forward(seconds=self.dice.randrange(1, 7200))
            getattr(self, self.dice.choice(self.STEPS))()
        self._arrive()
        retention.catch_up(Q(pk__isnull=False))  # hourly, or what logs need may be dated two hours too early
        expiring.expire_due()

    # ---- backups

    def full(self) -> None:
        encrypted = self.dice.random() < 0.25
        self._back_up(certificate_thumbprint=CERTIFICATE if encrypted else "")

    def differential(self) -> None:
        database = self._database()
        fulls = self.instance.sets.filter(kind="full", database=database).order_by("-finished_at")
        if base := fulls.first():
            self._back_up(database, base=base, certificate_thumbprint=base.certificate_thumbprint)

    def appended(self) -> None:
        database = self._database()
        if beside := self.instance.sets.filter(database=database).exclude(kind="log").order_by("-finished_at").first():
            self._back_up(database, beside=beside)

    def _back_up(self, database: str = "", **more: Any) -> None:
        self.place += 5
        made = self.world.finished(
            self.instance, database=database or self._database(), last_position=self.place, **more
        )
        self._owe(made)

    def log(self) -> None:
        database = self._database()
        self.place += 10
        first = self.logged.get(database, 100)
        where = {"first_position": first, "last_position": self.place, "started_at": self.time.at}
        self.logged[database] = self.place
        self._owe(self.world.finished(self.instance, kind="log", database=database, **where))

    def _database(self) -> str:
        return self.dice.choice(["Sales", "Sales", "Stock"])

    def _owe(self, made: BackupSet) -> None:
        planning.weigh_due()
        if self.dice.random() < 0.8:
            self._arrive()

    def _arrive(self) -> None:
        for region in (TARGET, OTHER):
            while copy := replication.claim(region):
                replication.carry_slice(copy)

    # ---- people

    def retain(self) -> None:
        self.world.set(self.instance, retention_days=self.dice.choice([10, 14, 30, 30, 45]))

    def move(self) -> None:
        """Most often what lies at the source is gone by then, or it would be taken along."""
        now = policies.current_settings(self.instance)
        if now.enabled:
            if self.dice.random() < 0.8:
                self.instance.files.update(state="gone")
            self.world.set(self.instance, destination=OTHER if now.destination == TARGET else TARGET)

    def turn_off_and_on(self) -> None:
        self.world.set(self.instance, enabled=False)
        self.time.forward(hours=self.dice.randrange(48))
        self.world.set(self.instance, enabled=True, destination=self.dice.choice([TARGET, OTHER]), logs_enabled=True)

    def hold(self) -> None:
        if free := list(Copy.objects.filter(state=CopyState.COMPLETED, holds=None).order_by("pk")):
            self.world.hold(self.dice.choice(free))

    def let_go(self) -> None:
        for held in Copy.objects.filter(holds__released_at=None, holds__isnull=False).order_by("pk")[:1]:
            self.world.let_go(held.holds.get(released_at=None))

    def spoil(self) -> None:
        if good := list(Copy.objects.filter(state=CopyState.COMPLETED).order_by("pk")):
            damage.mark(self.dice.choice(good), None)

    def entrust(self) -> None:
        region = self.world.region(self.dice.choice([TARGET, OTHER]))
        if not certificate_book.RegisteredCertificate.objects.filter(region=region).exists():
            certificate_book.register(region, CERTIFICATE, "", self.world.by)

    # ---- places and time

    def lock(self) -> None:
        """What arrives from now on is locked for so long, or no longer."""
        kept = self.dice.choice([None, None, 3 * DAY, 9 * DAY, 16 * DAY, 40 * DAY])
        for storage in self.storages.values():
            storage.lock_for = kept

    def wait(self) -> None:
        for _ in range(2):
            self.time.forward(hours=self.dice.choice([2, 12, 24, 60]))
            retention.catch_up()
            expiring.expire_due()
            for region in (TARGET, OTHER):
                purging.purge_due(region)

    # ---- the change

    def wanted(self) -> Settings:
        now = replace(policies.current_settings(self.instance), agreed=True, expected="")
        change = self.dice.choice(["shorter"] * 4 + ["off", "off and shorter", "moved", "moved and shorter"])
        if "shorter" in change:
            now = replace(now, retention_days=self.dice.choice([7, 8, 9]))
        if "moved" in change:
            return replace(now, enabled=True, destination=OTHER if now.destination == TARGET else TARGET)
        return replace(now, enabled=now.enabled and "off" not in change)


@pytest.mark.parametrize("seed", range(24))
def test_what_a_change_says_that_it_erases_is_what_sweep_and_purge_erase(
    world: World, orders: Instance, time_machine: TimeMachine, storages: Storages, seed: int
) -> None:
    """R-14.3, R-15.4, R-15.6: no more and no less, whatever holds, locks, chains and last good copies keep."""
    history = History(seed, world, orders, time_machine, storages)
    history.play()
    wanted, before = history.wanted(), there()
    expected = told(orders, wanted, time_machine.at)
    policies.apply(orders, wanted, world.by)
    assert erased(before, time_machine) == expected


# ---- what they do in small


@pytest.fixture
def kept(world: World, orders: Instance) -> Instance:
    """Kept for thirty days; its destination says how long it locks what comes."""
    Store.objects.filter(region=TARGET).update(capabilities={"object_lock": True})
    world.set(orders, enabled=True, retention_days=30, destination=TARGET, logs_enabled=True)
    return orders


def go(world: World, instance: Instance, time: TimeMachine, **changes: Any) -> tuple[set[int], set[int]]:
    """Return what is said to go, and what does."""
    wanted, before = replace(policies.current_settings(instance), agreed=True, expected="", **changes), there()
    expected = told(instance, wanted, time.at)
    policies.apply(instance, wanted, world.by)
    return expected, erased(before, time)


def lock(storages: Storages, lasting: timedelta | None) -> None:
    for storage in storages.values():
        storage.lock_for = lasting


def log_after(world: World, full: Copy, time: TimeMachine, **later: float) -> Copy:
    began = time.at
    time.forward(**later)
    where = {"first_position": full.set.last_position, "last_position": full.set.last_position + 10}
    return world.arrived(full.set.instance, kind="log", started_at=began, **where)


def test_what_a_locked_log_needs_stays_as_long_as_its_lock(
    world: World, kept: Instance, time_machine: TimeMachine, storages: Storages
) -> None:
    """Whichever of the two lasts longer today: the lock, or the retention."""
    full = world.arrived(kept, last_position=100)
    newer = {"database": "Sales", "last_position": 200}
    lock(storages, 14 * DAY)
    log = log_after(world, full, time_machine, hours=6)
    lock(storages, None)
    time_machine.forward(days=10)
    world.arrived(kept, **newer)
    full.refresh_from_db()
    assert (full.expires_at, full.lock_keeps_until) == (log.set.finished_at + 30 * DAY, log.locked_until)
    assert go(world, kept, time_machine, retention_days=7) == (set(), set())
    full.refresh_from_db()
    assert full.expires_at == log.locked_until
    left = estimates.left_to_pay(kept, time_machine.at, 7)
    assert left.until == max(Copy.objects.values_list("expires_at", flat=True))


def test_a_log_that_follows_a_locked_full_goes_by_its_own_date(
    world: World, kept: Instance, time_machine: TimeMachine, storages: Storages
) -> None:
    lock(storages, 40 * DAY)
    full = world.arrived(kept, last_position=100)
    lock(storages, None)
    log = log_after(world, full, time_machine, hours=6)
    time_machine.forward(days=10)
    assert go(world, kept, time_machine, retention_days=7) == ({log.pk}, {log.pk})


@pytest.fixture
def moved(world: World, kept: Instance, time_machine: TimeMachine, storages: Storages) -> Copy:
    """The only copy there is, at a former destination: nothing has arrived at the new one."""
    copy = world.arrived(kept)
    kept.files.update(state="gone")  # or the change would take it along
    world.set(kept, destination=OTHER)
    time_machine.forward(days=10)
    return copy


@pytest.mark.parametrize("changes", [{}, {"destination": TARGET}], ids=["as it is", "and back"])
def test_the_last_good_copy_at_a_former_destination_is_not_said_to_go(
    world: World, kept: Instance, time_machine: TimeMachine, moved: Copy, changes: dict[str, str]
) -> None:
    """R-15.6, decision 0085: it waits for its successor, also where the destination is changed once more."""
    assert go(world, kept, time_machine, retention_days=7, **changes) == (set(), set())


def test_once_it_has_its_successor_it_is_said_to_go(
    world: World, kept: Instance, time_machine: TimeMachine, moved: Copy
) -> None:
    world.arrived(kept)
    assert go(world, kept, time_machine, retention_days=7) == ({moved.pk}, {moved.pk})


def test_a_successor_that_cannot_be_opened_there_is_none(
    world: World, kept: Instance, time_machine: TimeMachine, moved: Copy
) -> None:
    world.arrived(kept, certificate_thumbprint=CERTIFICATE)
    assert go(world, kept, time_machine, retention_days=7) == (set(), set())


def test_who_disables_is_told_of_the_last_good_copies_that_go_with_it(
    world: World, kept: Instance, time_machine: TimeMachine, moved: Copy
) -> None:
    """R-15.4, R-15.6: with a shorter retention, and without where it is past its date already."""
    time_machine.forward(days=25)
    expiring.expire_due()
    assert go(world, kept, time_machine, enabled=False) == ({moved.pk}, {moved.pk})


def test_a_shorter_retention_in_the_same_ok_takes_the_last_good_copy_too(
    world: World, kept: Instance, time_machine: TimeMachine, storages: Storages
) -> None:
    """R-15.3."""
    copy = world.arrived(kept)
    time_machine.forward(days=10)
    assert told(kept, Settings(True, 7, TARGET), time_machine.at) == set()
    assert go(world, kept, time_machine, enabled=False, retention_days=7) == ({copy.pk}, {copy.pk})


def test_a_damaged_copy_goes_with_the_others(
    world: World, kept: Instance, time_machine: TimeMachine, storages: Storages
) -> None:
    copies = [world.arrived(kept) for _ in range(2)]
    damage.mark(copies[0], None)
    time_machine.forward(days=10)
    world.arrived(kept)
    both = {copy.pk for copy in copies}
    assert go(world, kept, time_machine, retention_days=7) == (both, both)


def test_nothing_is_said_to_go_while_nothing_expires(
    world: World, kept: Instance, time_machine: TimeMachine, storages: Storages
) -> None:
    """I19: the source region is gone, or what was brought back is not confirmed."""
    copy = world.arrived(kept)
    time_machine.forward(days=10)
    world.arrived(kept)
    recovery = recoveries.begin(copy.destination_store, "catalog", world.by, lost=None)
    assert told(kept, Settings(True, 7, TARGET), time_machine.at) == set()
    recoveries.confirm(recovery, world.by)
    assert told(kept, Settings(True, 7, TARGET), time_machine.at) == {copy.pk}
    Store.objects.filter(region=SOURCE).update(state=Store.State.UNREACHABLE)
    source_gone.note(time_machine.at)
    assert go(world, kept, time_machine, retention_days=7) == (set(), set())


def test_the_last_good_copy_of_a_database_that_is_gone_is_said_to_go(
    world: World, kept: Instance, time_machine: TimeMachine, storages: Storages
) -> None:
    """I6: a day after that was told."""
    gone = world.arrived(kept, database="Stock")
    time_machine.forward(days=31)
    world.arrived(kept)
    expiring.expire_due()
    assert told(kept, Settings(True, 7, TARGET), time_machine.at) == set()
    time_machine.forward(days=1)
    assert go(world, kept, time_machine, retention_days=7) == ({gone.pk}, {gone.pk})


def test_level_2_is_told_by_the_same_rule(
    world: World, orders: Instance, time_machine: TimeMachine, storages: Storages
) -> None:
    """R-18.2: what was hidden is so much younger; the newest full stays."""
    world.second_store()
    level2.apply(orders, level2.Terms(True, 30), world.by)
    planning.weigh(world.finished(orders).pk)
    world.carry(SOURCE)
    time_machine.forward(days=4)
    level2.apply(orders, level2.Terms(False, 30), world.by)
    time_machine.forward(days=30)
    level2.apply(orders, level2.Terms(True, 30), world.by)
    planning.weigh(world.finished(orders).pk)
    world.carry(SOURCE)
    time_machine.forward(days=4)
    old, _ = Copy.objects.order_by("set__finished_at")
    said = [told(orders, Settings(True, days, SOURCE), time_machine.at, PolicyKind.INTRA_REGION) for days in (9, 7)]
    assert said == [set(), {old.pk}]
    before = there(PolicyKind.INTRA_REGION)
    level2.apply(orders, level2.Terms(True, 7), world.by)
    assert erased(before, time_machine) == {old.pk}
