"""What a month will have cost is what its statement says afterwards, to the cent, where the pace is steady (R-4)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as some

from backups.events import By
from backups.models import Copy, CopyPolicy, Instance, ResourceGroup
from backups.terms import agreements
from billing import estimates, metering, pace
from billing.amounts import storage_amount
from billing.forecast import Amount, Forecast, forecast
from billing.metering import month_of
from billing.models import ItemCode
from billing.pace import Arrived, Coming, LogPace, Pace
from billing.statements import Statement, by_item, statement
from billing.stored_ahead import stored_ahead
from regions.models import Region
from tests.billing.facts import GB, START, backup_of, copy_of, download_of, instance_in, plan_of, policy_of, reprice

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = START + HOUR
MARCH, APRIL, MAY = (datetime(2027, number, 1, tzinfo=UTC) for number in (3, 4, 5))
ITEMS = (ItemCode.STORAGE, ItemCode.TRAFFIC, ItemCode.DOWNLOAD)

# ---- sums without a database

comings = some.builds(
    Coming,
    bytes=some.integers(0, 2**50),
    first=some.integers(0, 3_000),
    every=some.integers(0, 700),
    stay=some.integers(1, 2_000),
)


@given(comings, some.integers(0, 9_000))
def test_the_closed_sums_are_the_arrivals_added_up_one_by_one(coming: Coming, until: int) -> None:
    moments = [coming.first]
    while coming.every and moments[-1] < until:
        moments.append(moments[-1] + coming.every)
    arrived = [moment for moment in moments if moment < until]
    assert list(coming.seconds(0, until)) == arrived
    assert coming.count(until) == len(arrived)
    assert coming.byte_seconds(until) == sum(coming.bytes * min(coming.stay, until - moment) for moment in arrived)


@given(
    some.lists(some.tuples(some.integers(1, 2**40), some.integers(1, 14 * 86_400 - 1)), min_size=1, max_size=20),
    some.integers(7, 1825),
    some.none() | some.builds(LogPace, some.integers(1, 2**40), some.timedeltas(DAY, 14 * DAY)),
)
def test_once_full_what_comes_is_what_the_settings_dialog_says(
    sizes: list[tuple[int, int]], days: int, logs: LogPace | None
) -> None:
    """One formula: over a whole turn of the pace both say the same, but for what each of them rounds down."""
    arrived = tuple(Arrived(size, NOW - timedelta(seconds=age)) for size, age in sizes)
    seen = Pace(arrived, 14 * DAY, logs)
    coming = seen.coming(days, NOW)
    begin = pace.second_of(NOW + 1900 * DAY)
    end = begin + pace.whole_seconds(14 * DAY)
    stored = sum(each.byte_seconds(end) - each.byte_seconds(begin) for each in coming)
    sent = sum(each.bytes * (each.count(end) - each.count(begin)) for each in coming)
    assert sent == seen.bytes_in(14 * DAY)
    rounded_down = 3 * (end - begin) + 14 * 2**40  # bytes for each second, and a second of logs each day
    assert abs(stored - seen.stored_bytes(days) * (end - begin)) <= rounded_down


def test_what_was_seen_comes_again_as_far_apart_as_it_was() -> None:
    seen = Pace((Arrived(GB, NOW - 3 * DAY), Arrived(2 * GB, NOW - HOUR)), 6 * DAY)
    first, second = seen.coming(7, NOW)
    assert (pace.moment_of(first.first), pace.moment_of(second.first)) == (NOW + 3 * DAY, NOW + 6 * DAY - HOUR)


# ---- a steady pace: the forecast is the bill


@pytest.fixture
def by(db: None) -> By:
    return By(User.objects.create_user("mei"))


def enabled(instance: Instance, by: By, days: int = 7, **facts: object) -> CopyPolicy:
    policy = policy_of(instance, retention_days=days)
    acceptance = agreements.accept([instance], Region.objects.get(pk=policy.destination_id), by)
    CopyPolicy.objects.filter(pk=policy.pk).update(enabled=True, acceptance=acceptance, **facts)
    policy.refresh_from_db()
    return policy


def daily(policy: CopyPolicy, first: int, last: int, size: int = 100 * GB) -> None:
    """One full a day, copied at once, on the days after START from `first` up to `last`."""
    for day in range(first, last + 1):
        copy_of(backup_of(policy.instance, START + day * DAY, size), policy)


def is_billed(seen: Forecast, *months: datetime) -> Iterator[tuple[Amount, Amount]]:
    """Yield what was said and what was billed, month by month and item by item."""
    for month, begin in zip(seen.months, months, strict=False):
        assert month.begin == begin
        billed: Statement = statement(begin, month_of(begin)[1])
        for item in ITEMS:
            found = by_item(billed.lines).get(item)
            yield month.amount(item), Amount(found.amount if found else Decimal("0.00"))


def assert_billed(seen: Forecast, *months: datetime) -> None:
    for said, billed in is_billed(seen, *months):
        assert said == billed


@pytest.fixture
def steady(by: By) -> CopyPolicy:
    """Twenty days of one full a day, kept 10 days: not full at the beginning of the month, full now."""
    policy = enabled(instance_in(), by, 10)
    daily(policy, -20, 0)
    return policy


def test_one_full_a_day_costs_this_month_and_the_next_what_was_said(steady: CopyPolicy) -> None:
    seen = forecast(NOW)
    daily(steady, 1, 55)
    assert_billed(seen, MARCH, APRIL)
    assert seen.month.amount().known > seen.spent.known > 0


def test_the_nearer_the_end_the_same_is_said(steady: CopyPolicy) -> None:
    early = forecast(NOW, months=0)
    daily(steady, 1, 20)
    late = forecast(NOW + 20 * DAY, months=0)
    assert early.month.amount() == late.month.amount()
    assert early.spent.known < late.spent.known


def test_a_new_policy_fills_up_as_it_was_said(by: By) -> None:
    """Not the steady state: with 60 days of retention nothing expires in the first two months."""
    policy = enabled(instance_in(), by, 60)
    for day in range(-14, 0):
        backup_of(policy.instance, START + day * DAY, 100 * GB)
    daily(policy, 0, 0)
    seen = forecast(NOW)
    daily(policy, 1, 55)
    assert_billed(seen, MARCH, APRIL)
    storage = [month.amount(ItemCode.STORAGE).known for month in seen.months]
    assert storage[0] < storage[1] < storage[2]


def test_the_later_months_cost_what_the_settings_dialog_says(steady: CopyPolicy) -> None:
    """R-4.6: a month of 30 days, once full."""
    seen = forecast(NOW)
    storage, traffic = estimates.running(
        steady.instance, Region.objects.get(pk=steady.destination_id), steady.retention_days, NOW
    )
    june = next(month for month in seen.months if month.begin.month == 6)
    assert (june.amount(ItemCode.STORAGE).known, june.amount(ItemCode.TRAFFIC).known) == (
        storage.amount,
        traffic.amount,
    )
    assert len(seen.year) == 12


def weeks(policy: CopyPolicy, *numbers: int, until: int = 6) -> None:
    """A full and six differentials a week; the full is charged as long as the last of them needs it (R-12.6)."""
    for week in numbers:
        first, guid = START + (7 * week - 6) * DAY, f"full {week}"
        copy_of(backup_of(policy.instance, first, 70 * GB, set_guid=guid), policy, days=until + policy.retention_days)
        for day in range(1, until + 1):
            made = backup_of(policy.instance, first + day * DAY, GB, kind="differential", base_guid=guid)
            copy_of(made, policy)


def test_weekly_fulls_with_their_differentials_cost_what_was_said(by: By) -> None:
    policy = enabled(instance_in(), by)
    weeks(policy, -3, -2, -1, 0)
    seen = forecast(NOW)
    weeks(policy, 1, 2, 3, 4, 5, 6, 7, 8)
    assert_billed(seen, MARCH, APRIL)


def test_in_the_middle_of_a_week_it_is_short_by_what_the_coming_differentials_need(by: By) -> None:
    """What the docstring owns up to, measured: this full's date is today's, and three differentials are to come.

    It is seen with three, as the settings dialog sees it too, and so comes again with three a fortnight later.
    """
    policy = enabled(instance_in(), by)
    weeks(policy, -3, -2, -1)
    weeks(policy, 0, until=3)
    at = NOW - 3 * DAY
    seen = forecast(at)
    late = Copy.objects.get(set__set_guid="full 0")
    Copy.objects.filter(pk=late.pk).update(expires_at=late.expires_at + 3 * DAY)
    for day in range(-2, 1):
        copy_of(backup_of(policy.instance, START + day * DAY, GB, kind="differential", base_guid="full 0"), policy)
    weeks(policy, 1, 2, 3, 4)
    said, billed = next(is_billed(seen, MARCH))
    short = storage_amount(2 * 70 * GB * 3 * 86_400, Decimal("0.0002"))
    assert abs(billed.known - said.known - short) <= Decimal("0.01")  # each of the three is rounded by itself


def test_a_price_that_is_entered_already_is_reckoned_with(steady: CopyPolicy) -> None:
    change = datetime(2027, 3, 20, 12, tzinfo=UTC)
    early = datetime(2020, 1, 1, tzinfo=UTC)
    reprice(ItemCode.STORAGE, ("0.0002", early, change), ("0.0004", change, None))
    seen = forecast(NOW)
    daily(steady, 1, 55)
    assert_billed(seen, MARCH, APRIL)


def test_network_plans_cover_what_comes_as_long_as_they_last(steady: CopyPolicy) -> None:
    """R-4.4: bought on 5 March; it ends within April, and is as good as used when it does."""
    bare = forecast(NOW)
    plan_of(5_000, datetime(2027, 3, 5, tzinfo=UTC))
    seen = forecast(NOW)
    daily(steady, 1, 55)
    assert_billed(seen, MARCH, APRIL)
    march, april, may = (
        (month.amount(ItemCode.TRAFFIC).known, without.amount(ItemCode.TRAFFIC).known)
        for month, without in zip(seen.months[:3], bare.months, strict=False)
    )
    assert march[0] < march[1] and april[0] < april[1] and may[0] == may[1]


def test_others_draw_on_the_same_plan(steady: CopyPolicy, by: By) -> None:
    """One group's forecast is its part of the fleet's."""
    other = instance_in(name="ledger")
    Instance.objects.filter(pk=other.pk).update(group=ResourceGroup.objects.create(name="Other"))
    other.refresh_from_db()
    daily(enabled(other, by), -20, 0)
    plan_of(3_000, datetime(2027, 3, 5, tzinfo=UTC))
    whole, part = forecast(NOW), forecast(NOW, [other.group_id])
    assert part.months[0].lines == whole.of_group(other.group_id).months[0].lines
    assert part.over_the_year() == whole.of_group(other.group_id).over_the_year()
    assert 0 < part.month.amount().known < whole.month.amount().known


def test_downloads_are_counted_and_not_foreseen(steady: CopyPolicy) -> None:
    download_of(steady.instance.sets.first(), START, size=600 * GB)
    seen = forecast(NOW)
    assert seen.month.amount(ItemCode.DOWNLOAD) == Amount(Decimal("12.50"))
    assert seen.over_the_year(ItemCode.DOWNLOAD) == Amount(Decimal("0.00"))


def test_a_copy_on_its_way_is_reckoned_with_as_if_it_arrived_now(steady: CopyPolicy) -> None:
    before = forecast(NOW).month.amount().known
    Copy.objects.filter(set__finished_at=START).update(state="copying", completed_at=None, total_bytes=100 * GB)
    found = Copy.objects.get(state="copying")
    found.spans.all().delete()
    now = forecast(NOW).month.amount().known
    assert before - now == storage_amount(100 * GB * 3600, Decimal("0.0002"))


# ---- what is stored now


@pytest.mark.django_db
def test_what_is_stored_is_charged_ahead_as_the_meter_charges_it() -> None:
    policy = policy_of(instance_in(), retention_days=60)
    daily(policy, -50, 0, size=2**41 + 12_345)
    held, moved, ended = Copy.objects.order_by("-pk")[:3]
    Copy.objects.filter(pk=held.pk).update(expires_at=None)
    Copy.objects.filter(pk=moved.pk).update(expires_at=START - DAY, brought_forward_at=NOW + DAY)
    ended.spans.update(ended_at=NOW - timedelta(seconds=1))
    edges = [NOW + timedelta(milliseconds=700), START + 9 * DAY + timedelta(milliseconds=300), APRIL, MAY]
    found = stored_ahead(edges, None)
    for number, (begin, end) in enumerate(zip(edges, edges[1:], strict=False)):
        (metered,) = metering.stored_between(begin, end, at=end)
        assert sum(list(line.between(edges))[number] for line in found) == metered.byte_seconds
    assert sum(line.held for line in found) == 1
    assert stored_ahead(edges, []) == []


# ---- what is not known


def test_an_instance_without_a_backup_is_named_and_nothing_is_guessed(by: By) -> None:
    policy = enabled(instance_in(), by)
    seen = forecast(NOW)
    assert [one.name for one in seen.unknown] == [policy.instance.name]
    assert seen.month.amount(ItemCode.STORAGE) == seen.over_the_year(ItemCode.TRAFFIC) == Amount(None, True)
    assert seen.month.amount(ItemCode.DOWNLOAD) == Amount(Decimal("0.00"))
    assert seen.spent == Amount(Decimal("0.00"))


def test_what_is_known_beside_it_is_at_least_so_much(steady: CopyPolicy, by: By) -> None:
    alone = forecast(NOW).month.amount()
    enabled(instance_in(name="new"), by)
    assert forecast(NOW).month.amount() == Amount(alone.known, True)


def test_a_line_without_a_price_is_not_nothing(steady: CopyPolicy) -> None:
    reprice(ItemCode.TRAFFIC, source="cn-beijing", destination="ap-southeast-1")
    seen = forecast(NOW)
    assert seen.month.amount(ItemCode.TRAFFIC) == Amount(None, True)
    assert seen.unpriced == 1
    assert seen.month.amount(ItemCode.STORAGE).is_partial is False


def test_logs_that_are_not_known_yet_are_told(by: By) -> None:
    policy = enabled(instance_in(), by, logs_enabled=True)
    daily(policy, -14, 0)
    assert forecast(NOW).without_logs == 1


def test_disabled_suspended_and_released_bring_nothing_new(steady: CopyPolicy) -> None:
    """What lies there is paid for until it expires, and nothing comes (R-15.5, R-3.4, R-2.4)."""
    CopyPolicy.objects.filter(pk=steady.pk).update(suspended_at=NOW)
    suspended = forecast(NOW)
    CopyPolicy.objects.filter(pk=steady.pk).update(suspended_at=None, enabled=False)
    disabled = forecast(NOW)
    CopyPolicy.objects.filter(pk=steady.pk).update(enabled=True)
    Instance.objects.filter(pk=steady.instance_id).update(released_at=NOW)
    released = forecast(NOW)
    left = estimates.left_to_pay(steady.instance, NOW)
    for seen in (suspended, disabled, released):
        told = [line.amount for line in seen.used if line.item == ItemCode.STORAGE]
        assert abs(seen.month.amount(ItemCode.STORAGE).known - told[0] - left.amount) <= Decimal("0.01")
        assert seen.over_the_year() == Amount(Decimal("0.00"))


def test_a_fleet_costs_no_more_questions_than_a_few(steady: CopyPolicy, by: By) -> None:
    def questions(more: str) -> int:
        for number in range(4):
            daily(enabled(instance_in(name=f"{more}-{number}"), by, logs_enabled=True), -3, 0)
        with CaptureQueriesContext(connection) as seen:
            forecast(NOW)
        return len(seen)

    assert questions("few") == questions("more")
