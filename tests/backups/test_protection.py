"""Who is protected, and who only seems so: what R-19 says of copies, of its states in their order, of timetables."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backups.copying import damage, planning, replication
from backups.models import Arrival, BackupSet, Copy, CopyState, Instance, ServerDatabase
from backups.oversight import protection, status
from backups.oversight.protection import Protection
from regions import clock
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, TARGET, World

HOURS = timedelta(hours=1)


def now(instance: Instance) -> Protection:
    return protection.of(instance, clock.now())


def strange(world: World, instance: Instance, base: BackupSet, **more: Any) -> Copy:
    """A differential that arrives, and that was made from a full nobody ever saw."""
    found = world.finished(instance, base=base, **more)
    BackupSet.objects.filter(pk=found.pk).update(base_guid="never-seen")
    planning.weigh(found.pk)
    world.carry()
    return found.copies.get(state=CopyState.COMPLETED)


# ---- only what can be restored counts


def test_a_differential_counts_with_the_full_it_was_made_from(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders, days=30)
    full = world.arrived(orders)
    time_machine.forward(hours=30)
    differential = world.arrived(orders, base=full.set)
    assert (now(orders).state, now(orders).newest_copy_at) == ("in_step", differential.set.finished_at)


def test_a_differential_counts_for_nothing_where_its_full_never_was(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders, days=30)
    full = world.arrived(orders)
    time_machine.forward(hours=30)
    strange(world, orders, full.set)
    found = now(orders)
    assert (found.state, found.why) == ("behind", {"Sales": "late"})
    assert found.newest_copy_at == full.set.finished_at


def test_an_older_one_that_is_whole_counts_behind_a_newer_one_that_is_not(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders, days=30)
    full = world.arrived(orders)
    time_machine.forward(hours=30)
    whole = world.arrived(orders, base=full.set)
    time_machine.forward(hours=1)
    strange(world, orders, full.set)
    assert (now(orders).state, now(orders).newest_copy_at) == ("in_step", whole.set.finished_at)


def test_a_differential_counts_no_longer_when_its_full_is_damaged(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders, days=30)
    world.arrived(orders)
    full = world.arrived(orders)
    time_machine.forward(hours=30)
    world.arrived(orders, base=full.set)
    assert now(orders).state == "in_step"
    damage.mark(full, None)
    assert (now(orders).state, now(orders).unprotected) == ("behind", ["Sales"])


def test_a_full_at_the_former_destination_is_no_base_at_the_new_one(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders, days=30)
    full = world.arrived(orders)
    full.set.files.update(state="gone")
    world.set(orders, destination=OTHER)
    time_machine.forward(hours=30)
    world.arrived(orders, database="Stock")
    lonely = world.arrived(orders, base=full.set)
    assert lonely.destination_store.region_id == OTHER
    assert (now(orders).state, now(orders).unprotected) == ("partial", ["Sales"])


def test_an_incremental_counts_with_all_it_stands_on(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    site = world.instance("site", engine="postgresql")
    world.enable(site, days=30)
    chain = [world.arrived(site, database="")]
    for _ in range(3):
        time_machine.forward(hours=20)
        chain.append(world.arrived(site, database="", base=chain[-1].set))
    assert (now(site).state, now(site).newest_copy_at) == ("in_step", chain[-1].set.finished_at)
    damage.mark(chain[1], None)
    assert (now(site).state, now(site).newest_copy_at) == ("behind", chain[0].set.finished_at)


def test_however_many_are_asked_for_it_takes_the_same_queries(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    instances = [orders, *(world.instance(f"orders-{n}") for n in range(4))]
    for instance in instances:
        world.enable(instance, days=30)
        full = world.arrived(instance)
        time_machine.forward(hours=1)
        world.arrived(instance, base=full.set)
        world.arrived(instance, base=full.set, database="Stock")
        strange(world, instance, full.set, at=time_machine.at + timedelta(seconds=1))
    assert _queries(instances) == _queries(instances[:1])


def _queries(instances: list[Instance]) -> int:
    with CaptureQueriesContext(connection) as seen:
        protection.of_many(instances, clock.now())
    return len(seen)


# ---- the first state that applies


@pytest.fixture
def daily(world: World, orders: Instance, time_machine: TimeMachine) -> Instance:
    """Enabled for long; Sales and Stock are copied and young."""
    world.enable(orders, days=30)
    time_machine.forward(days=2)
    for name in ("Sales", "Stock"):
        world.arrived(orders, database=name)
    return orders


def owe(world: World, instance: Instance, **more: Any) -> Copy:
    found = world.finished(instance, **more)
    planning.weigh(found.pk)
    return found.copies.get()


def test_one_database_without_a_recent_copy_is_partial_whatever_is_on_its_way(
    world: World, daily: Instance, time_machine: TimeMachine
) -> None:
    time_machine.forward(hours=27)
    world.arrived(daily, database="Stock")
    owe(world, daily, database="Sales")
    found = now(daily)
    assert (found.state, found.unprotected, found.pending) == ("partial", ["Sales"], 1)
    assert not found.is_protected and found.is_moving
    assert status.exit_code(status.summary() | {"alerts": []}) == 1
    world.carry()
    assert now(daily).state == "in_step" and now(daily).is_protected
    assert status.exit_code(status.summary() | {"alerts": []}) == 0


def test_all_of_them_without_one_is_behind_though_one_is_on_its_way(
    world: World, daily: Instance, time_machine: TimeMachine
) -> None:
    time_machine.forward(hours=27)
    owe(world, daily, database="Sales")
    assert now(daily).state == "behind"


def test_a_backup_that_waits_for_more_than_two_hours_is_behind_though_all_have_a_recent_copy(
    world: World, daily: Instance, time_machine: TimeMachine
) -> None:
    owe(world, daily, database="Sales")
    time_machine.forward(hours=2)
    assert (now(daily).state, now(daily).unprotected) == ("copying", [])
    assert now(daily).is_protected
    time_machine.forward(seconds=1)
    assert (now(daily).state, now(daily).unprotected) == ("behind", [])


def test_behind_comes_before_partial(world: World, daily: Instance, time_machine: TimeMachine) -> None:
    time_machine.forward(hours=24)
    world.arrived(daily, database="Stock")
    owe(world, daily, database="Sales")
    time_machine.forward(hours=2)
    assert (now(daily).state, now(daily).unprotected) == ("copying", [])
    time_machine.forward(seconds=1)
    assert (now(daily).state, now(daily).unprotected) == ("behind", ["Sales"])


def test_who_has_just_enabled_it_is_copying_and_not_yet_protected(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    for name in ("Sales", "Stock"):
        world.finished(orders, database=name)
    world.enable(orders)
    found = now(orders)
    assert (found.state, found.unprotected, found.is_protected) == ("copying", ["Sales", "Stock"], False)
    assert status.exit_code(status.summary()) == 0
    replication.carry_slice(replication.claim(TARGET))
    time_machine.forward(hours=2)
    time_machine.forward(seconds=-1)
    found = now(orders)
    assert (found.state, found.unprotected, found.is_protected) == ("copying", ["Stock"], False)
    time_machine.forward(seconds=1)
    assert now(orders).state == "partial"
    time_machine.forward(seconds=1)
    assert now(orders).state == "behind"
    world.carry()
    assert now(orders).state == "in_step" and now(orders).is_protected


def test_the_first_full_after_a_long_wait_is_copying_until_it_is_late(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders)
    time_machine.forward(days=3)
    assert now(orders).state == "waiting_for_full"
    owe(world, orders)
    time_machine.forward(hours=2)
    assert (now(orders).state, now(orders).is_protected) == ("copying", False)
    time_machine.forward(seconds=1)
    assert now(orders).state == "behind"


def test_a_database_that_no_arrival_helps_is_told_at_once(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.finished(orders)
    world.enable(orders)
    orders.databases_seen_at = time_machine.at
    orders.save()
    seen = {"first_seen_at": time_machine.at, "seen_at": time_machine.at}
    ServerDatabase.objects.create(instance=orders, name="Sales", state="ONLINE", last_full_at=time_machine.at, **seen)
    assert now(orders).state == "copying"
    away = ServerDatabase.objects.create(instance=orders, name="Away", state="OFFLINE", is_online=False, **seen)
    assert now(orders).state == "behind"
    world.carry()
    assert (now(orders).state, now(orders).unprotected) == ("partial", [away.name])


# ---- timetables

SUNDAY, EVERY_DAY = [6], [0, 1, 2, 3, 4, 5, 6]
TUESDAY_NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
SUNDAY_AT = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arrival", "days", "hour", "at", "since"),
    [
        (Arrival.FOUND, EVERY_DAY, None, TUESDAY_NOON, TUESDAY_NOON - 26 * HOURS),
        (Arrival.FOUND, SUNDAY, None, TUESDAY_NOON, SUNDAY_AT),
        (Arrival.FOUND, SUNDAY, None, SUNDAY_AT + 4 * HOURS, SUNDAY_AT),
        (Arrival.FOUND, SUNDAY, None, SUNDAY_AT + 4 * HOURS - timedelta(seconds=1), SUNDAY_AT - timedelta(days=7)),
        (Arrival.FOUND, SUNDAY, time(22), TUESDAY_NOON, SUNDAY_AT + 22 * HOURS),
        (Arrival.FOUND, [], None, TUESDAY_NOON, TUESDAY_NOON - timedelta(days=8)),
        (Arrival.TAKEN, SUNDAY, None, TUESDAY_NOON, SUNDAY_AT + 2 * HOURS),
        (Arrival.TAKEN, EVERY_DAY, time(22), TUESDAY_NOON, TUESDAY_NOON - 14 * HOURS),
    ],
)
def test_since_when_a_backup_is_due(
    arrival: str, days: list[int], hour: time | None, at: datetime, since: datetime
) -> None:
    """R-19 Timetable: one full a day only where nothing was entered."""
    instance = Instance(arrival=arrival, timetable_days=days, timetable_time=hour)
    assert protection.due_since(instance, at) == since
