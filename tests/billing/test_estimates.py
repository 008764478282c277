"""What a dialog says before OK, from the facts (R-4.6, R-14.3, R-15.5)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from backups.keeping import retention
from backups.models import Copy, Instance
from billing import estimates
from billing.models import ItemCode
from billing.pace import DAY, Arrived, Pace
from billing.statements import statement
from regions.models import Region
from tests.billing.facts import GB, START, backup_of, copy_of, instance_in, policy_of, reprice

HOUR = timedelta(hours=1)
NOW = START + HOUR


def singapore() -> Region:
    return Region.objects.get(pk="ap-southeast-1")


# ---- the pace, without a database


def test_one_full_a_day_stays_retention_times_its_size() -> None:
    pace = Pace(tuple(Arrived(GB, START + number * DAY) for number in range(14)), 14 * DAY)
    assert pace.stored_bytes(7) == 7 * GB
    assert pace.stored_bytes(1825) == 1825 * GB
    assert pace.bytes_in(30 * DAY) == 30 * GB


def test_a_weekly_full_stays_as_long_as_the_differentials_that_need_it() -> None:
    fulls = [Arrived(70 * GB, START + week * 7 * DAY, guid=f"full {week}") for week in range(2)]
    differentials = [
        Arrived(GB, START + (week * 7 + day) * DAY, needs=f"full {week}") for week in range(2) for day in range(1, 7)
    ]
    alone = Pace(tuple(fulls), 14 * DAY)
    together = Pace((*fulls, *differentials), 14 * DAY)
    assert alone.stored_bytes(7) == 70 * GB
    assert together.stored_bytes(7) == (2 * 70 * GB * 13 + 12 * GB * 7) // 14


def test_incrementals_on_each_other_stay_as_long_as_the_last_of_them() -> None:
    """R-12.6: to restore the last one takes every link of the chain."""
    full = Arrived(70 * GB, START, guid="0")
    links = [Arrived(GB, START + day * DAY, guid=str(day), needs=str(day - 1)) for day in range(1, 7)]
    pace = Pace((*reversed(links), full), 7 * DAY)
    assert pace.stored_bytes(7) == (70 * GB * 13 + sum(GB * (6 - day + 7) for day in range(1, 7))) // 7


def test_terabytes_a_day_do_not_overflow() -> None:
    pace = Pace((Arrived(5 * 2**40, START),), DAY)
    assert pace.stored_bytes(1825) == 1825 * 5 * 2**40


# ---- before enabling


@pytest.mark.django_db
def test_the_first_transfer_is_the_newest_valid_full_of_each_database() -> None:
    instance = instance_in()
    backup_of(instance, START - 5 * HOUR, 3 * GB)
    backup_of(instance, START, 10 * GB)
    backup_of(instance, START, 20 * GB, database="ledger")
    first = estimates.first_transfer(instance, singapore(), NOW)
    assert (first.bytes, first.amount, first.sentence) == (30 * GB, Decimal("5.70"), "")


@pytest.mark.django_db
def test_a_differential_brings_its_full_however_old() -> None:
    instance = instance_in()
    backup_of(instance, START - 6 * DAY, 50 * GB, set_guid="base")
    backup_of(instance, START, 5 * GB, kind="differential", base_guid="base")
    assert estimates.first_transfer(instance, singapore(), NOW).bytes == 55 * GB


@pytest.mark.django_db
def test_what_lies_at_the_destination_already_is_not_sent_again() -> None:
    instance = instance_in()
    copy_of(backup_of(instance, START, 10 * GB), policy_of(instance))
    assert estimates.first_transfer(instance, singapore(), NOW).bytes == 0


@pytest.mark.django_db
def test_a_database_without_a_valid_backup_is_named_and_not_counted() -> None:
    instance = instance_in()
    backup_of(instance, START, 10 * GB)
    backup_of(instance, START - 3 * DAY, 20 * GB, database="ledger")
    first = estimates.first_transfer(instance, singapore(), NOW)
    assert first.bytes == 10 * GB
    assert "ledger" in first.sentence and "orders" not in first.sentence


@pytest.mark.django_db
def test_nothing_is_said_of_an_instance_without_backups() -> None:
    instance = instance_in()
    for said in (
        estimates.first_transfer(instance, singapore(), NOW),
        estimates.monthly_storage(instance, 7, NOW),
        estimates.monthly_traffic(instance, singapore(), NOW),
    ):
        assert (said.bytes, said.amount, said.sentence) == (None, None, estimates.NO_BACKUP_YET)


@pytest.mark.django_db
def test_a_route_without_a_price_says_so_and_still_knows_its_bytes() -> None:
    instance = instance_in("cn-hangzhou-finance")
    backup_of(instance, START, GB)
    first = estimates.first_transfer(instance, Region.objects.get(pk="cn-shanghai-finance-1"), NOW)
    assert (first.bytes, first.amount, first.sentence) == (GB, None, estimates.NO_PRICE)


@pytest.mark.django_db
def test_a_month_of_storage_at_todays_sizes_and_pace() -> None:
    instance = instance_in()
    for day in range(20):
        backup_of(instance, START - day * DAY, 100 * GB)
    month = estimates.monthly_storage(instance, 7, NOW)
    assert month.bytes == 700 * GB
    assert month.amount == Decimal("100.80")  # 700 GB, 720 hours, 0.0002
    assert month.sentence == "Reckoned from 14 default backups of the last 14 days."
    assert estimates.monthly_traffic(instance, singapore(), NOW).amount == Decimal("570.00")


@pytest.mark.django_db
def test_a_backup_just_found_counts_as_one_a_day() -> None:
    instance = instance_in()
    backup_of(instance, START, GB)
    month = estimates.monthly_storage(instance, 10, NOW)
    assert month.bytes == 10 * GB
    assert month.sentence == "Reckoned from 1 default backup of the last day."


# ---- before disabling


@pytest.fixture
def kept_thirty_days(db: None) -> Instance:
    """Ten fulls of 100 GB, the last of them an hour ago, kept 30 days each."""
    instance = instance_in()
    policy = policy_of(instance, retention_days=30)
    for day in range(10):
        copy_of(backup_of(instance, START - day * DAY, 100 * GB), policy)
    return instance


def test_disabling_leaves_to_pay_until_the_last_copy_expires(kept_thirty_days: Instance) -> None:
    left = estimates.left_to_pay(kept_thirty_days, START)
    copy_days = sum(range(21, 31))
    assert left.amount == copy_days * Decimal("0.48")
    assert left.until == START + 30 * DAY


def test_with_seven_days_it_is_less_and_ends_seven_days_after_the_last_backup(kept_thirty_days: Instance) -> None:
    left = estimates.left_to_pay(kept_thirty_days, START, retention_days=7)
    assert left.amount == sum(range(1, 8)) * Decimal("0.48")
    assert left.until == START + 7 * DAY
    assert Copy.objects.filter(expires_at=START + 30 * DAY).count() == 1  # an estimate changes nothing


def test_a_full_is_paid_until_the_differential_that_needs_it_expires(db: None) -> None:
    instance = instance_in()
    policy = policy_of(instance, retention_days=30)
    copy_of(backup_of(instance, START - 6 * DAY, 100 * GB, set_guid="base"), policy)
    needing = backup_of(instance, START, 100 * GB, kind="differential", base_guid="base")
    at_store = copy_of(needing, policy).destination_store_id
    retention.reschedule(instance.pk, at_store)
    assert estimates.left_to_pay(instance, START, 7).amount == 2 * 7 * Decimal("0.48")


def test_a_held_copy_is_named_because_nobody_knows_its_end(kept_thirty_days: Instance) -> None:
    Copy.objects.filter(set__finished_at=START).update(expires_at=None)
    left = estimates.left_to_pay(kept_thirty_days, START)
    assert left.amount == sum(range(21, 30)) * Decimal("0.48")
    assert left.sentence == "Not counted: 1 copy is held and charged until the hold is released."


@pytest.mark.django_db
def test_nothing_stored_leaves_nothing_to_pay() -> None:
    left = estimates.left_to_pay(instance_in(), NOW)
    assert (left.amount, left.until, left.sentence) == (Decimal("0.00"), None, "")


def storage_bill(instance: Instance) -> Decimal:
    only = Instance.objects.filter(pk=instance.pk)
    lines = statement(START, START + 40 * DAY, only).lines
    return sum((line.amount for line in lines if line.item == ItemCode.STORAGE), Decimal(0))


def test_what_is_left_to_pay_is_the_bill_that_follows_by_the_prices_of_each_route(db: None) -> None:
    """R-15.5: one route has prices of its own, of which the second holds from the fifth day on."""
    fifth_day, long_ago = START + 5 * DAY + timedelta(microseconds=1), START - 400 * DAY
    own = {"source": "cn-beijing", "destination": "ap-southeast-1"}
    reprice(ItemCode.STORAGE, ("0.0004", long_ago, fifth_day), ("0.0001", fifth_day, None), **own)
    dear, general = instance_in(name="dear"), instance_in(name="general")
    for instance, destination in ((dear, "ap-southeast-1"), (general, "cn-shanghai")):
        for size in (100 * GB, 33 * GB + 1):
            database = f"db {size}"
            copy_of(backup_of(instance, START, size, database=database), policy_of(instance, destination), days=12.3456)
    for instance, hundred in ((dear, Decimal("6.57")), (general, Decimal("5.93"))):
        left = estimates.left_to_pay(instance, START)
        assert left.amount == storage_bill(instance) > hundred
    assert estimates.left_to_pay(dear, START).amount != estimates.left_to_pay(general, START).amount


def test_a_route_without_a_price_leaves_an_amount_that_is_not_known(kept_thirty_days: Instance) -> None:
    reprice(ItemCode.STORAGE, source="", source_scope="", destination="")
    left = estimates.left_to_pay(kept_thirty_days, START)
    assert (left.amount, left.sentence) == (None, estimates.NO_PRICE)
    reprice(ItemCode.STORAGE, ("0.0002", START - DAY, START + 3 * DAY), destination="ap-southeast-1")
    assert estimates.left_to_pay(kept_thirty_days, START).amount is None, "the price ends before the copies do"


def test_a_month_of_storage_is_priced_by_its_route(db: None) -> None:
    instance = instance_in()
    for day in range(14):
        backup_of(instance, START - day * DAY, 100 * GB)
    reprice(ItemCode.STORAGE, ("0.0004", START - DAY, None), destination="ap-southeast-1")
    storage, _ = estimates.running(instance, singapore(), 7, NOW)
    assert storage.amount == 2 * estimates.monthly_storage(instance, 7, NOW).amount == Decimal("201.60")
