"""What the dialog says before OK is what the meter says afterwards, to the cent, where the pace is steady (R-4.6)."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backups import level2
from backups.copying import planning
from backups.level2 import Terms
from backups.models import Copy, Instance, PolicyKind
from billing import estimates, metering
from billing.amounts import storage_amount, traffic_amount
from billing.forecast import forecast
from billing.metering import month_of
from billing.models import ItemCode
from billing.prices import price_of
from billing.statements import by_item, statement
from regions.models import Region
from tests.backups import world as worlds
from tests.backups.time_machine import TimeMachine
from tests.backups.world import SOURCE, TARGET, World

DAY = timedelta(days=1)
SIZE = 1000  # bytes of one backup
MONTH = 30 * DAY


@pytest.fixture
def world(tmp_path: Path, db: None, settings: Any) -> World:
    settings.GB = 100  # so that a day's backup is "10 GB", and cents tell a difference
    return worlds.make(tmp_path)


@pytest.fixture
def time_machine(monkeypatch: pytest.MonkeyPatch) -> TimeMachine:
    return TimeMachine(monkeypatch)


@pytest.fixture
def orders(world: World, time_machine: TimeMachine) -> Instance:
    """An instance whose job has written one full a day for two weeks."""
    instance = world.instance()
    world.second_store()
    days(world, instance, time_machine, 14)
    return instance


def days(world: World, instance: Instance, time_machine: TimeMachine, count: int) -> None:
    for _ in range(count):
        time_machine.forward(days=1)
        world.finished(instance, size=SIZE)
        planning.weigh_due()
        for region in (SOURCE, TARGET):
            world.carry(region)
        world.sweep()


def billed_storage(begin: datetime, end: datetime, route: tuple[str, str]) -> Decimal:
    lines = metering.stored_between(begin, end, at=end)
    quantity = sum(line.byte_seconds for line in lines if (line.source, line.destination) == route)
    return storage_amount(quantity, price_of(ItemCode.STORAGE, Region.objects.get(pk=SOURCE), at=end).amount)


def billed_traffic(begin: datetime, end: datetime) -> Decimal:
    """Each byte of a completed copy to another region, once (R-4.2)."""
    arrived = Copy.objects.filter(policy__kind=PolicyKind.CROSS_REGION, completed_at__gt=begin, completed_at__lte=end)
    places = Region.objects.in_bulk([SOURCE, TARGET])
    price = price_of(ItemCode.TRAFFIC, places[SOURCE], places[TARGET], at=end)
    return traffic_amount(sum(arrived.values_list("stored_bytes", flat=True)), price.amount)


def test_a_month_of_daily_fulls_costs_what_was_said_before_ok(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    target = Region.objects.get(pk=TARGET)
    world.store(TARGET)
    first = estimates.first_transfer(orders, target, time_machine.at)
    storage, traffic = estimates.running(orders, target, 7, time_machine.at)
    before = time_machine.at - timedelta(seconds=1)
    world.enable(orders)
    world.carry()
    assert first.amount == billed_traffic(before, time_machine.at) > 0

    days(world, orders, time_machine, 7)
    begin = time_machine.at
    days(world, orders, time_machine, 30)
    assert time_machine.at - begin == MONTH
    assert storage.amount == billed_storage(begin, time_machine.at, (SOURCE, TARGET)) == Decimal("10.08")
    assert traffic.amount == billed_traffic(begin, time_machine.at) > 0


@pytest.mark.long
def test_a_month_ends_as_the_forecast_said_on_its_second_day(world: World, time_machine: TimeMachine) -> None:
    """R-4: level 2 beside it, and the whole way of a backup, from its job to its expiry."""
    month = month_of(month_of(time_machine.at + 22 * DAY)[1])[0]
    time_machine.at = month - 21 * DAY + timedelta(hours=5)
    orders = world.instance()
    world.second_store()
    world.store(TARGET)
    days(world, orders, time_machine, 14)
    world.enable(orders)
    level2.apply(orders, Terms(True), world.by)
    days(world, orders, time_machine, 8)
    seen = forecast(time_machine.at + timedelta(seconds=1), months=0)
    end = month_of(month)[1]
    while time_machine.at + DAY < end:
        days(world, orders, time_machine, 1)
    billed = by_item(statement(month, end).lines)
    assert seen.month.begin == month
    assert seen.month.amount(ItemCode.STORAGE).known == billed[ItemCode.STORAGE].amount > 20
    assert seen.month.amount(ItemCode.TRAFFIC).known == billed[ItemCode.TRAFFIC].amount > seen.spent.known > 0


@pytest.mark.long
def test_level_2_costs_what_was_said_while_shown_and_nothing_while_hidden(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-18.2: 70 GB for 30 days at 0.0002; no traffic line."""
    said = estimates.monthly_storage(orders, 7, time_machine.at)
    level2.apply(orders, Terms(True), world.by)
    days(world, orders, time_machine, 7)
    begin = time_machine.at
    days(world, orders, time_machine, 30)
    end = time_machine.at
    assert said.amount == billed_storage(begin, end, (SOURCE, SOURCE)) == Decimal("10.08")
    level2.apply(orders, Terms(False), world.by)
    days(world, orders, time_machine, 30)
    assert billed_storage(end, time_machine.at, (SOURCE, SOURCE)) == 0
    assert billed_traffic(begin, time_machine.at) == 0
    price = price_of(ItemCode.TRAFFIC, orders.region, orders.region, at=end)
    assert price is None


def test_disabling_with_7_days_costs_what_was_said_to_be_left(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-15.3 to R-15.5: and 7 days after the last backup nothing is charged any more."""
    world.enable(orders, days=30)
    days(world, orders, time_machine, 20)
    now = time_machine.at
    at_30, at_7 = (estimates.left_to_pay(orders, now, count) for count in (30, 7))
    world.disable(orders, days=7)
    days(world, orders, time_machine, 9)
    assert at_7.until == now + 7 * DAY
    assert at_7.amount == billed_storage(now, time_machine.at, (SOURCE, TARGET)) < at_30.amount
    assert billed_storage(at_7.until, time_machine.at, (SOURCE, TARGET)) == 0
