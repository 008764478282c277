"""Byte-seconds: the edges of a stretch, and that the SQL sum and the Python sum are one."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backups.models import Copy, Instance, StorageSpan
from billing import metering, statements
from billing.models import ItemCode, Price
from tests.billing.facts import GB, START, backup_of, copy_of, instance_in, policy_of

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
MARCH, APRIL = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 4, 1, tzinfo=UTC)
TO = "ap-southeast-1"


def stored(copy: Copy, begin: datetime = MARCH, end: datetime = APRIL, at: datetime = APRIL) -> int:
    return metering.byte_seconds(copy.spans.select_related("copy"), begin, end, at=at)


def test_an_open_span_counts_until_its_copy_expires_and_not_a_second_longer() -> None:
    copy = copy_of(backup_of(instance_in()), policy_of(Instance.objects.get()), days=7)
    assert stored(copy) == GB * 7 * 86_400
    assert stored(copy, at=START + DAY) == GB * 86_400
    assert stored(copy, at=START) == 0


def test_a_held_copy_has_no_date_and_is_charged_on_and_on() -> None:
    copy = copy_of(backup_of(instance_in()), policy_of(Instance.objects.get()), days=7)
    Copy.objects.update(expires_at=None)
    assert stored(copy, at=START + 20 * DAY) == GB * 20 * 86_400
    assert metering.stored_between(MARCH, APRIL, at=START + 20 * DAY)[0].byte_seconds == GB * 20 * 86_400


def test_a_month_and_the_next_add_up_to_the_whole() -> None:
    instance = instance_in()
    copy = copy_of(backup_of(instance, at=datetime(2027, 3, 30, 23, 59, 59, 750_000, tzinfo=UTC)), policy_of(instance))
    june = datetime(2027, 6, 1, tzinfo=UTC)
    whole = stored(copy, MARCH, june, at=june)
    assert whole == stored(copy, MARCH, APRIL, at=june) + stored(copy, APRIL, june, at=june) == GB * 7 * 86_400


def test_a_months_edges_are_those_of_utc() -> None:
    assert metering.month_of(datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC)) == (
        datetime(2027, 12, 1, tzinfo=UTC),
        datetime(2028, 1, 1, tzinfo=UTC),
    )


def test_no_byte_second_is_lost_in_a_sum_beyond_what_a_float_or_a_bigint_holds() -> None:
    instance, size = instance_in(), 5 * 2**40 - 1
    for _ in range(3):
        copy_of(backup_of(instance, MARCH, size), policy_of(instance), days=400)
    (line,) = metering.stored_between(MARCH, APRIL, at=APRIL)
    assert line.byte_seconds == 3 * size * 31 * 86_400 > 2**63


def test_each_instance_and_route_has_its_line() -> None:
    one, other = instance_in(), instance_in("eu-west-1", "ledger")
    copy_of(backup_of(one), policy_of(one))
    copy_of(backup_of(one, START + DAY, 2 * GB), policy_of(one, "cn-shanghai"))
    copy_of(backup_of(other), policy_of(other))
    lines = metering.stored_between(MARCH, APRIL, at=APRIL)
    assert [(line.instance_id, line.source, line.destination, line.byte_seconds) for line in lines] == [
        (one.pk, "cn-beijing", TO, GB * 7 * 86_400),
        (one.pk, "cn-beijing", "cn-shanghai", 2 * GB * 7 * 86_400),
        (other.pk, "eu-west-1", TO, GB * 7 * 86_400),
    ]
    only = metering.stored_between(MARCH, APRIL, at=APRIL, instances=Instance.objects.filter(pk=other.pk))
    assert only == lines[2:]


def test_this_months_storage_is_the_sum_of_its_rounded_lines() -> None:
    for name in ("orders", "ledger", "stock"):
        instance = instance_in(name=name)
        copy_of(backup_of(instance, size=25 * GB), policy_of(instance))
    an_hour_later = START + timedelta(hours=1)
    cost = statements.storage_this_month(an_hour_later)
    assert cost.byte_seconds == 75 * GB * 3600
    assert cost.amount == Decimal("0.03")  # three lines of half a cent, each rounded up


def test_nobody_elses_storage_is_counted() -> None:
    instance = instance_in()
    copy_of(backup_of(instance), policy_of(instance))
    cost = statements.storage_this_month(START + DAY, Instance.objects.none())
    assert (cost.byte_seconds, cost.amount) == (0, Decimal("0.00"))


def reprice(*prices: tuple[str, datetime, datetime | None]) -> None:
    """Prices of storage as if they had always stood so; the tests own the tables."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_price DISABLE TRIGGER billing_prices_only_end")
        Price.objects.filter(item_code=ItemCode.STORAGE).delete()
        cursor.execute("ALTER TABLE billing_price ENABLE TRIGGER billing_prices_only_end")
    for amount, since, until in prices:
        Price.objects.create(
            item_code=ItemCode.STORAGE, amount=amount, unit="USD/GB-hour", valid_from=since, valid_until=until
        )


def test_a_price_that_changes_within_the_month_charges_each_part_by_its_own() -> None:
    instance = instance_in()
    copy_of(backup_of(instance, size=100 * GB), policy_of(instance))
    reprice(("0.0002", MARCH, START + DAY), ("0.0004", START + DAY, None))
    assert statements.storage_this_month(START + 2 * DAY).amount == Decimal("0.48") + Decimal("0.96")


def test_where_there_was_no_price_the_amount_is_unknown_and_the_bytes_are_not() -> None:
    instance = instance_in()
    copy_of(backup_of(instance), policy_of(instance))
    reprice(("0.0002", MARCH, START))
    cost = statements.storage_this_month(START + DAY)
    assert cost.amount is None
    assert cost.byte_seconds == GB * 86_400


moments = st.integers(min_value=-40 * 86_400_000_000, max_value=60 * 86_400_000_000).map(
    lambda microseconds: MARCH + timedelta(microseconds=microseconds)
)
stretches = st.lists(moments, min_size=2, max_size=8, unique=True).map(sorted)
copies = st.fixed_dictionaries(
    {
        "instance": st.integers(0, 1),
        "destination": st.sampled_from([TO, "cn-shanghai"]),
        "edges": stretches,
        "is_open": st.booleans(),
        "bytes": st.integers(0, 5 * 2**40),
        "expires_at": st.none() | moments,
    }
)


def lay_down(instances: list[Instance], drawn: dict) -> Copy:
    """Store one copy with its spans; the last of them is open when the draw says so."""
    instance = instances[drawn["instance"]]
    copy = copy_of(backup_of(instance), policy_of(instance, drawn["destination"]))
    StorageSpan.objects.filter(copy=copy).delete()
    Copy.objects.filter(pk=copy.pk).update(expires_at=drawn["expires_at"])
    pairs = list(zip(drawn["edges"][::2], drawn["edges"][1::2], strict=False))
    for number, (began_at, ended_at) in enumerate(pairs, start=1):
        is_open = drawn["is_open"] and number == len(pairs)
        StorageSpan.objects.create(
            copy=copy, bytes=drawn["bytes"], began_at=began_at, ended_at=None if is_open else ended_at
        )
    return copy


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(copies, max_size=5), at=moments)
def test_the_sum_in_sql_is_the_sum_in_python(db: None, drawn: list[dict], at: datetime) -> None:
    with transaction.atomic():
        instances = [instance_in(), instance_in("eu-west-1", "ledger")]
        expected: dict[tuple[int, str], int] = defaultdict(int)
        for one in drawn:
            copy = lay_down(instances, one)
            spans = copy.spans.select_related("copy")
            key = copy.set.instance_id, one["destination"]
            expected[key] += metering.byte_seconds(spans, MARCH, APRIL, at=at)
        lines = metering.stored_between(MARCH, APRIL, at=at)
        found = {(line.instance_id, line.destination): line.byte_seconds for line in lines}
        transaction.set_rollback(True)
    assert {key: total for key, total in found.items() if total} == {k: total for k, total in expected.items() if total}
