"""Every worked example of R-4.1 and R-4.2, and where the rounding falls."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing.amounts import estimated, storage_amount, storage_cost, to_cents, traffic_amount
from billing.price_book import coefficient_of

GB = 2**30
HOUR = 3600


def test_a_hundred_gigabytes_for_a_day_cost_48_cents() -> None:
    assert storage_amount(100 * GB * 24 * HOUR, Decimal("0.0002")) == Decimal("0.48")


@pytest.mark.parametrize(
    ("gigabytes", "hours", "amount"),
    [
        (0, 24, "0.00"),
        (1, 1, "0.00"),
        (1, 24, "0.00"),
        (25, 1, "0.01"),  # half a cent is rounded up
        (24, 1, "0.00"),
        (1, 720, "0.14"),
        (1024, 720, "147.46"),
        (500_000, 744, "74400.00"),
    ],
)
def test_storage_is_rounded_half_up_once(gigabytes: int, hours: int, amount: str) -> None:
    assert storage_amount(gigabytes * GB * hours * HOUR, Decimal("0.0002")) == Decimal(amount)


def test_an_estimate_of_less_than_half_a_cent_is_not_nothing() -> None:
    assert estimated(Decimal("0.005")) == Decimal("0.01") and estimated(Decimal("0.0049")) == Decimal("0.0049")
    assert 0 < estimated(Decimal("1e-12")) < Decimal("0.005") and estimated(Decimal(0)) == 0


def test_half_a_cent_rounds_up_and_one_byte_second_less_rounds_down() -> None:
    half_a_cent = 25 * GB * HOUR
    assert storage_amount(half_a_cent, Decimal("0.0002")) == Decimal("0.01")
    assert storage_amount(half_a_cent - 1, Decimal("0.0002")) == Decimal("0.00")


def test_a_fleets_month_loses_no_digit_before_the_rounding() -> None:
    gigabyte_hours = 10**15 + 1
    assert storage_cost(gigabyte_hours * GB * HOUR, Decimal("0.000001")) == Decimal("1000000000.000001")
    assert to_cents(Decimal("12345678901234567890123456.785")) == Decimal("12345678901234567890123456.79")


@pytest.mark.parametrize(
    ("traffic_bytes", "price", "amount"),
    [
        (100 * GB, "0.075", "7.50"),
        (100 * GB, "0.19", "19.00"),
        (100 * GB, "0.1805", "18.05"),
        (10 * GB, "1.53", "15.30"),
        (GB, "0.075", "0.08"),
        (GB - 10**7, "0.075", "0.07"),
        (0, "1.53", "0.00"),
    ],
)
def test_traffic_costs_its_bytes_by_the_routes_price(traffic_bytes: int, price: str, amount: str) -> None:
    assert traffic_amount(traffic_bytes, Decimal(price)) == Decimal(amount)


def test_a_gigabyte_is_a_setting(settings: object) -> None:
    settings.GB = 10**9
    assert traffic_amount(10**9, Decimal("0.31")) == Decimal("0.31")


def test_mainland_to_mainland_takes_five_eighths_of_a_plans_gigabyte() -> None:
    assert coefficient_of(Decimal("0.075")) == Decimal("0.625")
    assert coefficient_of(Decimal("0.12")) == 1
