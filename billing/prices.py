"""Which price holds for what, where and when. That there is none is an answer, not an error (R-4.5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

from django.db.models import Case, IntegerField, Q, Value, When

from billing.models import ItemCode, Price
from regions.models import Region


def price_of(
    item: ItemCode, source: Region | None = None, destination: Region | None = None, *, at: datetime
) -> Price | None:
    """Return the price in force `at` that moment, the most particular one for these places; None: no price."""
    found = Price.objects.filter(item_code=item).at(at).filter(_priced_from(source), _priced_to(destination))
    return found.order_by(_named("source"), _named("source_scope"), _named("destination")).first()


def _priced_from(source: Region | None) -> Q:
    anywhere = Q(source="", source_scope="")
    if source is None:
        return anywhere
    return anywhere | Q(source=source.pk) | Q(source="", source_scope=source.scope)


def _priced_to(destination: Region | None) -> Q:
    return Q(destination__in=["", destination.pk] if destination else [""])


def _named(column: str) -> Case:
    """Order prices that name something before those that hold for anything."""
    return Case(When(**{column: ""}, then=Value(1)), default=Value(0), output_field=IntegerField())


# ---- for a month: many places, many moments, few questions


class Tariff:
    """The prices of one item code for the places given, most particular first as in `price_of`."""

    def __init__(self, item: ItemCode, places: Iterable[tuple[str, str]]) -> None:
        places = set(places)
        sources, destinations = {source for source, _ in places}, {destination for _, destination in places}
        self._scopes = dict(Region.objects.filter(pk__in=sources).values_list("pk", "scope"))
        self._prices: dict[tuple[str, str, str], list[Price]] = defaultdict(list)
        found = Price.objects.filter(item_code=item, source__in={"", *sources}, destination__in={"", *destinations})
        for price in found if places else ():
            self._prices[price.source, price.source_scope, price.destination].append(price)

    def at(self, source: str, destination: str, moment: datetime) -> Price | None:
        """Return the price in force that moment; None: no price."""
        scope = self._scopes.get(source, "")
        from_places = dict.fromkeys([(source, ""), ("", scope), ("", "")])
        keys = [(*place, to) for place in from_places for to in dict.fromkeys([destination, ""])]
        return next((price for key in keys for price in self._prices.get(key, ()) if _holds(price, moment)), None)


def _holds(price: Price, moment: datetime) -> bool:
    return price.valid_from <= moment and (price.valid_until is None or moment < price.valid_until)


def stretches(item: ItemCode, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Split a stretch of time wherever a price of the item begins or ends: within each, every price is one."""
    edges = {begin, end}
    changing = Q(valid_from__gt=begin, valid_from__lt=end) | Q(valid_until__gt=begin, valid_until__lt=end)
    for changes in Price.objects.filter(changing, item_code=item).order_by().values_list("valid_from", "valid_until"):
        edges.update(edge for edge in changes if edge and begin < edge < end)
    return list(pairwise(sorted(edges))) if begin < end else []
