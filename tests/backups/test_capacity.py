"""What lies in a store, the space left, and the day it fills at today's rate: nothing invented where unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backups import level2
from backups.copying import planning
from backups.level2 import Terms
from backups.models import Event, Instance
from backups.oversight import capacity
from backups.oversight.capacity import FORESEEN, Growth, fills_at
from regions import stores
from regions.models import Store
from regions.refusals import Refusal
from tests.backups.time_machine import TimeMachine
from tests.backups.world import TARGET, World

DAY = timedelta(days=1)
NOW = datetime(2027, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "pace", "expected"),
    [
        (100, Growth(140, 14 * DAY), NOW + 10 * DAY),
        (100, Growth(10, DAY), NOW + 10 * DAY),
        (0, Growth(140, 14 * DAY), NOW),
        (None, Growth(140, 14 * DAY), None),
        (100, Growth(0, 14 * DAY), None),
        (100, Growth(-140, 14 * DAY), None),
        (100, None, None),
        (10 * (FORESEEN // DAY) - 1, Growth(10, DAY), NOW + FORESEEN - DAY / 10),
        (10 * (FORESEEN // DAY), Growth(10, DAY), None),
        (10**30, Growth(1, DAY), None),
    ],
)
def test_the_day_it_fills(left: int | None, pace: Growth | None, expected: datetime | None) -> None:
    assert fills_at(left, pace, NOW) == expected


def test_what_lies_there_is_told_by_instance(world: World, orders: Instance) -> None:
    other = world.instance("stock")
    for instance, size in ((orders, 100), (other, 900), (other, 150)):
        world.enable(instance)
        world.arrived(instance, size=size)
    shanghai = world.store(TARGET)
    found = capacity.stored_by_instance(shanghai, Instance.objects.all())
    assert [(row.name, row.stored_bytes, row.sets_there) for row in found] == [("stock", 1050, 2), ("orders", 100, 1)]
    assert capacity.stored_bytes(shanghai) == 1150
    assert not capacity.stored_by_instance(world.store("ap-southeast-1"), Instance.objects.all()).exists()


def test_a_steady_destination_grows_until_its_retention_is_full_and_then_no_more(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders)
    shanghai = world.store(TARGET)
    assert capacity.growth(shanghai, time_machine.at) is None
    for _ in range(5):
        world.arrived(orders, size=100)
        time_machine.forward(days=1)
    assert capacity.growth(shanghai, time_machine.at).day_bytes == 80  # four more than the first day's, in five days
    for _ in range(30):
        world.arrived(orders, size=100)
        world.sweep()
        time_machine.forward(days=1)
    assert capacity.growth(shanghai, time_machine.at).day_bytes == 0


def test_hidden_sets_are_free_and_take_their_room_all_the_same(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-18.2."""
    second = world.second_store()
    level2.apply(orders, Terms(True), world.by)
    world.finished(orders, size=100)
    planning.weigh_due()
    world.carry(orders.region_id)
    time_machine.forward(days=2)
    level2.apply(orders, Terms(False), world.by)
    assert capacity.stored_bytes(second) == 0
    assert capacity.occupied(second) == 100
    assert capacity.growth(second, time_machine.at).bytes == 0


def test_a_folder_says_how_much_room_it_has_each_time_it_is_looked_at(world: World) -> None:
    store = world.store(TARGET)
    assert capacity.space_left(store) > 0
    store.capabilities["space_left"] = 1
    assert capacity.space_left(store) == 1
    stores.look(store)
    assert capacity.space_left(Store.objects.get(pk=store.pk)) > 1


def test_where_the_store_cannot_say_a_quota_does_and_else_nothing(world: World, orders: Instance) -> None:
    world.enable(orders)
    world.arrived(orders, size=100)
    store = world.store(TARGET)
    Store.objects.filter(pk=store.pk).update(capabilities={"space_left": None})
    assert capacity.space_left(now(store)) is None
    capacity.set_quota(store, 1000, world.by)
    assert capacity.space_left(now(store)) == 900
    capacity.set_quota(store, 50, world.by)
    assert capacity.space_left(now(store)) == 0
    with pytest.raises(Refusal):
        capacity.set_quota(store, 0, world.by)
    capacity.set_quota(store, None, world.by)
    assert capacity.space_left(now(store)) is None
    assert Event.objects.filter(kind="store.quota").count() == 3


def now(store: Store) -> Store:
    store.refresh_from_db()
    return store
