"""Which price holds for what, where and when."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import DatabaseError, transaction

from billing import price_book
from billing.models import ItemCode, Price
from billing.prices import price_of
from regions import clock, routes
from regions.models import Region

pytestmark = pytest.mark.django_db

AT = datetime(2027, 3, 10, tzinfo=UTC)
PUBLISHED = json.loads(Path(price_book.RATES).read_text(), parse_float=str)["rates"]


def region(name: str) -> Region:
    return Region.objects.get(pk=name)


def test_every_published_pair_has_its_rate_and_coefficient() -> None:
    loaded = {
        (price.source, price.destination): price for price in Price.objects.filter(item_code=ItemCode.TRAFFIC).at(AT)
    }
    assert len(loaded) == sum(len(row) for row in PUBLISHED.values()) == 552
    for source, row in PUBLISHED.items():
        for destination, amount in row.items():
            price = loaded[source, destination]
            assert price.amount == Decimal(amount)
            assert price.coefficient == (Decimal(amount) / Decimal("0.12")).quantize(Decimal("0.000001"))


def test_every_allowed_route_has_a_price_except_those_inside_finance_cloud() -> None:
    places = list(Region.objects.filter(is_custom=False))
    allowed = [(one, other) for one in places for other in places if routes.why_not(one, other) is None]
    unpriced = {(one.pk, other.pk) for one, other in allowed if not price_of(ItemCode.TRAFFIC, one, other, at=AT)}
    assert len(allowed) == 512
    assert len(unpriced) == 6
    assert all("finance" in one and "finance" in other for one, other in unpriced)


@pytest.mark.parametrize(
    ("source", "destination", "amount"),
    [
        ("cn-beijing", "cn-shanghai", "0.075"),
        ("cn-beijing", "ap-southeast-1", "0.19"),
        ("cn-beijing", "ap-northeast-2", "0.1805"),
        ("cn-shanghai", "us-east-1", "0.31"),
    ],
)
def test_a_route_costs_what_is_published(source: str, destination: str, amount: str) -> None:
    assert price_of(ItemCode.TRAFFIC, region(source), region(destination), at=AT).amount == Decimal(amount)


def test_storage_costs_the_same_everywhere() -> None:
    price = price_of(ItemCode.STORAGE, region("cn-hangzhou-finance"), region("cn-shanghai-finance-1"), at=AT)
    assert (price.amount, price.unit) == (Decimal("0.0002"), "USD/GB-hour")


@pytest.mark.parametrize(
    ("name", "amount"),
    [("cn-beijing", "0.125"), ("cn-shenzhen-finance-1", "0.125"), ("cn-hongkong", "0.15"), ("eu-west-1", "0.15")],
)
def test_a_download_costs_by_the_instances_region(name: str, amount: str) -> None:
    assert price_of(ItemCode.DOWNLOAD, region(name), at=AT).amount == Decimal(amount)


def test_before_the_book_begins_there_is_no_price() -> None:
    before = price_book.PUBLISHED_FROM - timedelta(seconds=1)
    assert price_of(ItemCode.STORAGE, at=before) is None
    assert price_of(ItemCode.STORAGE, at=price_book.PUBLISHED_FROM) is not None


def test_a_price_for_one_region_goes_before_that_of_its_scope() -> None:
    Price.objects.create(
        item_code=ItemCode.DOWNLOAD, source="cn-beijing", amount=Decimal("0.09"), unit="USD/GB", valid_from=AT
    )
    assert price_of(ItemCode.DOWNLOAD, region("cn-beijing"), at=AT).amount == Decimal("0.09")
    assert price_of(ItemCode.DOWNLOAD, region("cn-shanghai"), at=AT).amount == Decimal("0.125")


def test_a_new_price_takes_over_where_the_old_one_ends() -> None:
    change = clock.now() + timedelta(days=1)
    assert Price.objects.filter(item_code=ItemCode.STORAGE).update(valid_until=change) == 1
    Price.objects.create(item_code=ItemCode.STORAGE, amount=Decimal("0.0003"), unit="USD/GB-hour", valid_from=change)
    assert price_of(ItemCode.STORAGE, at=change - timedelta(microseconds=1)).amount == Decimal("0.0002")
    assert price_of(ItemCode.STORAGE, at=change).amount == Decimal("0.0003")


def test_loading_again_changes_nothing_and_keeps_a_teams_own_price() -> None:
    Price.objects.filter(item_code=ItemCode.STORAGE).update(valid_until=clock.now() + timedelta(days=1))
    before = list(Price.objects.order_by("pk").values())
    price_book.load()
    assert list(Price.objects.order_by("pk").values()) == before


def refused(act: object) -> str:
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        act()
    return caught.value.__cause__.diag.constraint_name


def test_two_prices_of_one_key_never_overlap() -> None:
    again = Price(item_code=ItemCode.STORAGE, amount=Decimal("0.0003"), unit="USD/GB-hour", valid_from=AT)
    assert refused(again.save) == "one_price_at_a_time"


def test_a_price_is_never_edited_deleted_or_ended_in_the_past() -> None:
    storage = Price.objects.filter(item_code=ItemCode.STORAGE)
    assert refused(lambda: storage.update(amount=Decimal("9"))) == "prices_only_end"
    assert refused(storage.delete) == "prices_only_end"
    assert refused(lambda: storage.update(valid_until=clock.now() - timedelta(days=1))) == "prices_only_end"
    assert storage.get().amount == Decimal("0.0002")
