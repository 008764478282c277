"""What carrying sets costs, said before OK (R-4.6)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from backups.models import BackupSet
from billing.amounts import estimated, traffic_cost
from billing.models import ItemCode
from billing.prices import price_of


def traffic_of(sets: Iterable[BackupSet], at: datetime) -> Decimal | None:
    """Return the traffic of sending each set to where its instance's backups go; None when a route has no price.

    The sets come with `policy` and their instance's region.
    """
    sizes: dict[tuple[str, str], int] = {}
    places = {}
    for found in sets:
        source, destination = found.instance.region, found.policy.destination
        route = (source.pk, destination.pk)
        places[route] = (source, destination)
        sizes[route] = sizes.get(route, 0) + found.size_bytes
    prices = {route: price_of(ItemCode.TRAFFIC, *places[route], at=at) for route in sizes}
    if any(price is None for price in prices.values()):
        return None
    return sum((estimated(traffic_cost(size, prices[route].amount)) for route, size in sizes.items()), Decimal("0.00"))
