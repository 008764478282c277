"""Which price holds for what, where and when. That there is none is an answer, not an error (R-4.5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
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


Places = Mapping[ItemCode, Collection[tuple[str, str]]]  # for each item code (source, destination), "" for none
Edges = dict[ItemCode, list[datetime]]
Key = tuple[str, str, str, str]  # item code, source, source scope, destination


class Tariffs:
    """The prices of the places given, most particular first as in `price_of`; asked for once, however many items."""

    def __init__(self, places: Places) -> None:
        asked = {place for of_item in places.values() for place in of_item}
        self._sources = {source for source, _ in asked}
        self._prices: dict[Key, list[Price]] = defaultdict(list)
        items = [item for item, of_item in places.items() if of_item]
        for price in self._found(items, {"", *(to for _, to in asked)}) if items else ():
            self._prices[price.item_code, price.source, price.source_scope, price.destination].append(price)
        self._for_place: dict[tuple[ItemCode, str, str], list[Price]] = {}
        is_scoped = any(scope for _, _, scope, _ in self._prices)
        regions = Region.objects.filter(pk__in=self._sources).order_by()
        self._scopes = dict(regions.values_list("pk", "scope")) if is_scoped else {}

    def _found(self, items: list[ItemCode], destinations: set[str]) -> Iterable[Price]:
        places = {"source__in": {"", *self._sources}, "destination__in": destinations}
        return Price.objects.filter(item_code__in=items, **places).order_by()

    def at(self, item: ItemCode, source: str, destination: str, moment: datetime) -> Price | None:
        """Return the price in force that moment; None: no price."""
        key = (item, source, destination)
        if key not in self._for_place:
            self._for_place[key] = list(self._most_particular_first(*key))
        return next((price for price in self._for_place[key] if _holds(price, moment)), None)

    def _most_particular_first(self, item: ItemCode, source: str, destination: str) -> Iterator[Price]:
        for place in dict.fromkeys([(source, ""), ("", self._scopes.get(source, "")), ("", "")]):
            for to in dict.fromkeys([destination, ""]):
                yield from self._prices.get((item, *place, to), ())


class Tariff:
    """The prices of one item code."""

    def __init__(self, item: ItemCode, places: Iterable[tuple[str, str]]) -> None:
        self._item, self._tariffs = item, Tariffs({item: set(places)})

    def at(self, source: str, destination: str, moment: datetime) -> Price | None:
        """Return the price in force that moment; None: no price."""
        return self._tariffs.at(self._item, source, destination, moment)


def _holds(price: Price, moment: datetime) -> bool:
    return price.valid_from <= moment and (price.valid_until is None or moment < price.valid_until)


def edges(begin: datetime, end: datetime) -> Edges:
    """Return for each item code the moments at which a price begins or ends, after `begin`, which is the first."""
    found = {item: {begin} for item in ItemCode}
    changing = Q(valid_from__gt=begin, valid_from__lt=end) | Q(valid_until__gt=begin, valid_until__lt=end)
    changes = Price.objects.filter(changing).order_by().values_list("item_code", "valid_from", "valid_until")
    for item, *validity in changes:
        found[ItemCode(item)].update(edge for edge in validity if edge and begin < edge < end)
    return {item: sorted(moments) for item, moments in found.items()}


def stretches(item: ItemCode, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Split a stretch of time wherever a price of the item begins or ends: within each, every price is one."""
    return list(pairwise([*edges(begin, end)[item], end])) if begin < end else []
