"""Network plans: prepaid gigabytes offset traffic and Internet downloads, oldest first, and nothing else (R-4.4)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, transaction

from backups.events import By
from backups.models import Copy, Event, Instance
from billing import plans
from billing.models import ItemCode, NetworkPlan
from billing.plans import MILLION, Prepaid, Use, offset, settle
from billing.statements import Line, reckon, statement
from regions import clock
from tests.billing.facts import GB, START, backup_of, copy_of, download_of, instance_in, plan_of, policy_of, reprice

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MARCH, APRIL = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 4, 1, tzinfo=UTC)
MAINLAND = "cn-shanghai"


# ---- the reckoning, without a database


def use(number: int, size: int, coefficient: int = MILLION, at: datetime | None = None) -> Use:
    return Use(at or START + number * HOUR, ItemCode.TRAFFIC, number, "a", "b", size, coefficient)


def prepaid(number: int, size: int, begin: datetime = START, days: int = 365) -> Prepaid:
    return Prepaid(number, begin, begin + days * DAY, size * MILLION)


def test_the_oldest_plan_goes_first_and_a_use_may_be_split_between_two() -> None:
    stacked = [prepaid(1, 10), prepaid(2, 10)]
    assert [size for _, size in offset([use(1, 8), use(2, 8), use(3, 8)], stacked)] == [8, 8, 4]
    assert [plan.left for plan in stacked] == [0, 0]


def test_a_plan_covers_from_its_first_moment_to_before_its_last() -> None:
    edges = [START - timedelta(microseconds=1), START, START + DAY - timedelta(microseconds=1), START + DAY]
    uses = [use(number, 1, at=at) for number, at in enumerate(edges)]
    assert [one.instance_id for one, _ in offset(uses, [prepaid(1, 10, days=1)])] == [1, 2]


def test_what_is_too_little_for_one_byte_stays_in_its_plan() -> None:
    small, next_ = Prepaid(1, START, START + DAY, 1_000_000), prepaid(2, 10)
    assert [size for _, size in offset([use(1, 3, 600_000)], [small, next_])] == [3]
    assert (small.left, next_.left) == (400_000, 10 * MILLION - 2 * 600_000)


def test_what_is_settled_at_once_is_what_it_comes_to_one_by_one() -> None:
    """Same uses, same plans, some of them nearly empty: nothing taken while the order decides, else the very same."""
    random, seen = Random(4), set()
    for _ in range(3000):
        stacked = [Prepaid(n, START - n * HOUR, START + DAY, random.choice([0, 1, 7, 40, 10**6])) for n in range(3)]
        uses = [use(0, random.randrange(5), random.choice([0, 3, 8, 20])) for _ in range(random.randrange(4))]
        alike = [replace(plan) for plan in stacked]
        settled = settle([(one.coefficient, one.bytes) for one in uses], alike, START)
        seen.add(settled)
        covered = [size for _, size in offset(uses, stacked)]
        if settled is None:
            assert [plan.left for plan in alike] != [plan.left for plan in stacked] or covered
            continue
        assert alike == stacked
        assert covered == ([one.bytes for one in uses if one.bytes and one.coefficient] if settled else [])
    assert seen == {True, False, None}


# ---- on the statement


@pytest.fixture(autouse=True)
def _database(db: None) -> None:
    pass


def copied(gigabytes: int, at: datetime = START, to: str = MAINLAND) -> None:
    instance = Instance.objects.first() or instance_in()
    copy_of(backup_of(instance, at, gigabytes * GB), policy_of(instance, to), days=1 / 24)


def traffic(begin: datetime = MARCH) -> list[Line]:
    return [line for line in statement(begin, begin + 40 * DAY).lines if line.item == ItemCode.TRAFFIC]


def told(line: Line) -> tuple[int, int, Decimal | None]:
    return line.offset_bytes // GB, line.charged // GB, line.amount


def test_mainland_to_mainland_takes_five_eighths_of_a_prepaid_gigabyte() -> None:
    plan_of(100, MARCH)
    copied(160)
    (line,) = traffic()
    assert told(line) == (160, 0, Decimal("0.00"))
    copied(1, START + HOUR)
    assert told(traffic()[0]) == (160, 1, Decimal("0.08")), "the plan is exhausted; 7.5 cents are charged as usual"


def test_storage_is_never_offset() -> None:
    """R-18.3"""
    plan_of(1_000_000, MARCH)
    instance = instance_in()
    copy_of(backup_of(instance, START, 100 * GB), policy_of(instance), days=1)
    storage, sent = statement(MARCH, APRIL).lines
    assert (storage.item, storage.amount, storage.offset_bytes) == (ItemCode.STORAGE, Decimal("0.48"), 0)
    assert (sent.item, sent.amount, sent.offset_bytes) == (ItemCode.TRAFFIC, Decimal("0.00"), 100 * GB)


def test_each_route_takes_by_its_own_coefficient() -> None:
    plan_of(100, MARCH)
    copied(60, START, "ap-southeast-1")  # 0.19 / 0.12, in six places 1.583333: a little less than 95 prepaid GB
    copied(16, START + HOUR)  # 0.075 / 0.12: 10 prepaid GB, of which a little more than 5 are left
    assert sorted(told(line) for line in traffic()) == [(8, 7, Decimal("0.60")), (60, 0, Decimal("0.00"))]


def test_downloads_are_offset_after_their_free_quota() -> None:
    plan_of(125, MARCH)
    found = backup_of(instance_in(), size=700 * GB)
    download_of(found, START)
    (line,) = statement(MARCH, APRIL).lines
    assert (line.free_bytes, line.item) == (500 * GB, ItemCode.DOWNLOAD)
    assert line.offset_bytes + line.charged == 200 * GB
    assert line.offset_bytes == 125 * GB * MILLION // 1_041_667, "0.125 / 0.12"
    assert line.amount == Decimal("10.00")


def test_traffic_and_downloads_take_from_one_plan_in_the_order_of_time() -> None:
    plan_of(100, MARCH)
    instance = instance_in()
    copied(80, START + 2 * HOUR)
    found = backup_of(instance, size=548 * GB)
    download_of(found, START + HOUR)
    lines = {line.item: line for line in statement(MARCH, APRIL).lines}
    assert lines[ItemCode.DOWNLOAD].offset_bytes == 48 * GB
    left = 100 * GB * MILLION - 48 * GB * 1_041_667
    assert lines[ItemCode.TRAFFIC].offset_bytes == min(80 * GB, left // 625_000)


def test_before_it_was_bought_and_after_its_year_a_plan_covers_nothing() -> None:
    plan_of(1000, START)
    for at in (START - HOUR, START + HOUR):
        copied(8, at)
    assert told(traffic()[0]) == (8, 8, Decimal("0.60"))
    year = START.replace(year=2028)
    for at in (year - HOUR, year):
        copied(8, at)
    assert told(traffic(year)[0]) == (8, 8, Decimal("0.60"))


def test_a_plan_of_29_february_holds_until_1_march_and_any_other_for_its_year() -> None:
    assert plans.a_year_after(datetime(2028, 2, 29, 12, tzinfo=UTC)) == datetime(2029, 3, 1, 12, tzinfo=UTC)
    assert plans.a_year_after(START) == START.replace(year=2028)


def test_months_share_a_plan_in_the_order_of_time_though_none_is_closed() -> None:
    plan_of(100, MARCH)
    copied(96, START)
    copied(96, START + 31 * DAY)
    assert told(traffic(MARCH)[0]) == (96, 0, Decimal("0.00"))
    assert told(traffic(APRIL)[0]) == (64, 32, Decimal("2.40"))


def test_a_plan_that_ran_out_last_month_gave_then_what_it_had_and_not_the_next_one() -> None:
    """The older plan ends with March; what March took from it, it did not take from the younger."""
    plan_of(60, START.replace(year=2026, month=4, day=1))
    plan_of(60, START)
    copied(96, START + HOUR)
    copied(96, START + 31 * DAY)
    assert told(traffic(MARCH)[0]) == (96, 0, Decimal("0.00"))
    assert told(traffic(APRIL)[0]) == (96, 0, Decimal("0.00"))


def test_the_order_in_which_things_were_written_down_decides_nothing() -> None:
    """Same facts, every order, an equal moment among them: one statement."""
    instance = instance_in()
    policies = [policy_of(instance, to) for to in (MAINLAND, "ap-southeast-1")]
    plan_of(20, START)
    plan_of(15, START + DAY)
    facts = [(START + HOUR, 10, 0), (START + HOUR, 10, 1), (START + 2 * DAY, 30, 0), (START + 3 * HOUR, 7, 1)]
    seen = set()
    for order in itertools.islice(itertools.permutations(facts), 0, 24, 3):
        with transaction.atomic():
            for at, gigabytes, route in Random(1).sample(order, len(order)):
                copy_of(backup_of(instance, at, gigabytes * GB), policies[route], days=1)
            seen.add(reckon(MARCH, APRIL).lines)
            transaction.set_rollback(True)
    assert len(seen) == 1


def test_a_plan_that_is_bought_used_up_and_followed_within_an_hour_covers_as_use_by_use() -> None:
    """Many copies in few hours, of two routes: the statement says what going through every single use comes to."""
    random, instance = Random(9), instance_in()
    policies = [policy_of(instance, to) for to in (MAINLAND, "ap-southeast-1")]
    for _ in range(40):
        at = START + timedelta(microseconds=random.randrange(4 * 3600 * 10**6))
        copy_of(backup_of(instance, at, random.randrange(3 * GB)), random.choice(policies), days=1)
    bought = [(5, START + HOUR / 3), (9, START + HOUR / 2), (2, START + 3 * HOUR)]
    stacked = [Prepaid(n, at, at + 365 * DAY, size * GB * MILLION) for n, (size, at) in enumerate(bought)]
    for size, at in bought:
        plan_of(size, at)
    coefficients = {MAINLAND: 625_000, "ap-southeast-1": 1_583_333}
    uses = sorted(
        Use(at, ItemCode.TRAFFIC, 1, "", to, size, coefficients[to])
        for at, to, size in Copy.objects.values_list("completed_at", "policy__destination", "stored_bytes")
    )
    expected = dict.fromkeys(coefficients, 0)
    for one, size in offset(uses, stacked):
        expected[one.destination] += size
    found = reckon(MARCH, APRIL)
    assert {line.destination: line.offset_bytes for line in found.lines if line.item == ItemCode.TRAFFIC} == expected
    left = [size * GB * MILLION - used for (size, _), used in zip(bought, found.plan_uses.values(), strict=True)]
    assert left == [plan.left for plan in stacked]


def test_a_route_without_a_price_takes_nothing() -> None:
    reprice(ItemCode.TRAFFIC, source="cn-beijing", destination=MAINLAND)
    plan_of(100, MARCH)
    copied(10)
    assert told(traffic()[0]) == (0, 10, None)


def test_one_instances_statement_takes_from_the_plan_what_its_share_of_the_whole_is() -> None:
    plan_of(10, MARCH)
    copied(16)
    other = instance_in(name="ledger")
    copy_of(backup_of(other, START + HOUR, 16 * GB), policy_of(other, MAINLAND), days=1)
    (line,) = [
        line
        for line in statement(MARCH, APRIL, Instance.objects.filter(pk=other.pk)).lines
        if line.item == ItemCode.TRAFFIC
    ]
    assert told(line) == (0, 16, Decimal("1.20"))


# ---- buying


def test_a_plan_is_bought_from_now_for_a_year_and_an_event_says_by_whom() -> None:
    admin, before = User.objects.create_superuser("admin"), clock.now()
    plan = plans.buy(500, By(admin, "192.0.2.7"), "PO-17")
    assert before <= plan.bought_at <= clock.now()
    assert plan.valid_until == plans.a_year_after(plan.bought_at)
    event = Event.objects.get(kind="plan.bought")
    assert (event.actor, event.data["gigabytes"], plan.reference) == (admin, 500, "PO-17")


def test_a_plan_is_not_upgraded_and_not_refunded() -> None:
    plan = plan_of(10, START)
    for change in (
        lambda: NetworkPlan.objects.update(gigabytes=20),
        lambda: NetworkPlan.objects.update(valid_until=START + 900 * DAY),
        plan.delete,
    ):
        with pytest.raises(DatabaseError, match="only ever added"), transaction.atomic():
            change()
