"""The published prices, as data: loaded once for every installation, and never over a team's own (R-4.1 to R-4.4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from regions.catalog import FINANCE, HONG_KONG, MAINLAND, OUTSIDE

RATES = Path(__file__).parent / "data" / "network_rates.json"
PUBLISHED_FROM = datetime(2020, 1, 1, tzinfo=UTC)

STORAGE_PRICE = Decimal("0.0002")
DOWNLOAD_PRICES = {
    MAINLAND: Decimal("0.125"),
    FINANCE: Decimal("0.125"),
    HONG_KONG: Decimal("0.15"),
    OUTSIDE: Decimal("0.15"),
}
PLAN_PRICE = Decimal("0.12")  # what one prepaid gigabyte stands for
KEY = ("item_code", "source", "source_scope", "destination")
COEFFICIENT_PLACES = Decimal("0.000001")


def traffic_rates() -> Iterator[tuple[str, str, Decimal]]:
    """Yield (source, destination, USD per GB) of every published pair."""
    book = json.loads(RATES.read_text(), parse_float=Decimal)
    for source, row in book["rates"].items():
        for destination, amount in row.items():
            yield source, destination, Decimal(amount)


def coefficient_of(amount: Decimal) -> Decimal:
    """Return how many prepaid gigabytes a gigabyte at this price takes from a network plan (R-4.4)."""
    return (amount / PLAN_PRICE).quantize(COEFFICIENT_PLACES)


def load(using: str = "default") -> None:
    """Add what is missing; where there is a price of the same key, it stays. Safe to repeat.

    Once months are closed, a price that is new in the book holds from the end of the last of them on.
    """
    from billing.models import ClosedStatement, Price

    prices = Price.objects.using(using)
    known = set(prices.values_list(*KEY))
    missing = [price for price in _published() if tuple(getattr(price, name) for name in KEY) not in known]
    last = ClosedStatement.objects.using(using).order_by("-month").first()
    for price in missing if last else ():
        price.valid_from = last.ends_at
    prices.bulk_create(missing, ignore_conflicts=True)


def load_after_migrate(using: str = "default", **_: Any) -> None:
    """Load after every migrate: a new installation has prices at once, and a test's flush does not lose them."""
    from django.db import connections

    from billing.models import ClosedStatement, Price

    tables = connections[using].introspection.table_names()
    if {Price._meta.db_table, ClosedStatement._meta.db_table} <= set(tables):
        load(using)


def _published() -> list[Any]:
    from billing.models import ItemCode

    storage = _price(ItemCode.STORAGE, STORAGE_PRICE)
    downloads = [_price(ItemCode.DOWNLOAD, amount, source_scope=scope) for scope, amount in DOWNLOAD_PRICES.items()]
    routes = [
        _price(ItemCode.TRAFFIC, amount, source=source, destination=destination, coefficient=coefficient_of(amount))
        for source, destination, amount in traffic_rates()
    ]
    return [storage, *downloads, *routes]


def _price(item: Any, amount: Decimal, **key: Any) -> Any:
    from billing.models import UNITS, Price

    return Price(item_code=item, amount=amount, unit=UNITS[item], valid_from=PUBLISHED_FROM, **key)
