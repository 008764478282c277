"""A month's statement: one line for each instance, route and item code, rounded there, once (R-4.1).

An open month is reckoned from the facts when it is asked for; a closed one is read as it was stored. Whatever else is
shown (an instance's, a group's, a route's share) adds lines and never rounds again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from heapq import merge
from operator import attrgetter
from typing import NamedTuple, TypeVar

from django.db.models import QuerySet
from django.utils.translation import gettext

from backups.models import CopyPolicy, Instance
from billing import metering, plans, traffic
from billing.amounts import storage_cost, to_cents, traffic_cost
from billing.download_fees import free_left
from billing.metering import month_of
from billing.models import ClosedStatement, DownloadCharge, ItemCode, Price, StatementLine
from billing.plans import MILLION, Use
from billing.price_book import coefficient_of
from billing.prices import Tariff, stretches

ITEMS = (ItemCode.STORAGE, ItemCode.TRAFFIC, ItemCode.DOWNLOAD)
ZERO = Decimal("0.00")
Key = TypeVar("Key", bound=Hashable)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
BYTE_SECONDS, BYTES = "byte-seconds", "bytes"


@dataclass(frozen=True)
class Line:
    """One line. Quantities are whole byte-seconds (storage) or bytes; `amount` None: charged, and there is no price.

    `quantity` is all that was used; `charged` what is left of it after the free quota (`free_bytes`) and network plans
    (`offset_bytes`). `resent_bytes` are not part of it: shown, never charged. `prices` in the order they held.
    `group_id` is the instance's resource group, in a closed month the one it had at the closing.
    """

    item: ItemCode
    instance_id: int
    instance_code: str
    instance_name: str
    instance_region: str
    group_id: int
    group_name: str
    source: str
    destination: str  # "" for a download: the Internet
    quantity: int
    charged: int
    free_bytes: int = 0
    offset_bytes: int = 0
    resent_bytes: int = 0
    prices: tuple[Decimal, ...] = ()
    amount: Decimal | None = ZERO

    @property
    def unit(self) -> str:
        return BYTE_SECONDS if self.item == ItemCode.STORAGE else BYTES

    @property
    def route(self) -> tuple[str, str]:
        return self.source, self.destination

    @property
    def sentence(self) -> str:
        """What is odd about the line, in the reader's language; "" mostly."""
        said = [
            gettext("No price: for this, or for some of it, no price was in force.") if self.amount is None else "",
            gettext("Several prices held; each part was charged by its own.") if len(self.prices) > 1 else "",
            gettext("Some of it was sent again after a fault, which is not charged.") if self.resent_bytes else "",
        ]
        return " ".join(filter(None, said))


@dataclass(frozen=True)
class Total:
    """Lines added up: the amounts that are known, and how many lines have no price."""

    lines: tuple[Line, ...]

    @property
    def amount(self) -> Decimal:
        return sum((line.amount for line in self.lines if line.amount is not None), ZERO)

    @property
    def unpriced(self) -> int:
        return sum(1 for line in self.lines if line.amount is None)

    def quantity(self, item: ItemCode) -> int:
        return sum(line.quantity for line in self.lines if line.item == item)


@dataclass(frozen=True)
class Statement(Total):
    """A month's lines as known `at` that moment, ordered by instance, item code and route."""

    begin: datetime
    end: datetime
    at: datetime
    closed_at: datetime | None = None  # None: still open, and moves


def priced_by(line: Line) -> tuple[str, str]:
    """Return the places whose price it is: a download's is its instance's region's, wherever the bytes lay (R-4.3)."""
    return (line.instance_region, "") if line.item == ItemCode.DOWNLOAD else line.route


def by_instance(lines: Iterable[Line]) -> dict[int, Total]:
    return _grouped(lines, attrgetter("instance_id"))


def by_route(lines: Iterable[Line]) -> dict[tuple[str, str], Total]:
    """Group by (source, destination); the destination of downloads is ""."""
    return _grouped(lines, attrgetter("route"))


def by_item(lines: Iterable[Line]) -> dict[ItemCode, Total]:
    return _grouped(lines, attrgetter("item"))


def by_resource_group(lines: Iterable[Line]) -> dict[int, Total]:
    return _grouped(lines, attrgetter("group_id"))


def _grouped(lines: Iterable[Line], key_of: Callable[[Line], Key]) -> dict[Key, Total]:
    found: dict[Key, list[Line]] = {}
    for line in lines:
        found.setdefault(key_of(line), []).append(line)
    return {key: Total(tuple(members)) for key, members in found.items()}


def statement(month_begin: date, at: datetime, instances: QuerySet[Instance] | None = None) -> Statement:
    """Return the month that holds `month_begin` (a UTC date or moment), of all instances or of those given.

    A closed month is as it was closed, whatever `at` says; an open one counts what was known `at` that moment.
    """
    begin, end = month_of(moment_of(month_begin))
    wanted = None if instances is None else list(instances.order_by().values_list("pk", flat=True))
    closed = ClosedStatement.objects.filter(pk=begin.date()).first()
    if closed is None:
        return Statement(reckon(begin, min(end, at), wanted).lines, begin, end, at)
    return Statement(stored(closed, wanted), begin, end, at, closed.closed_at)


def moment_of(day: date) -> datetime:
    """Return a date's first moment, UTC; a moment is left as it is."""
    return day if isinstance(day, datetime) else datetime(day.year, day.month, day.day, tzinfo=UTC)


def stored(closed: ClosedStatement, instances: list[int] | None = None) -> tuple[Line, ...]:
    """Return a closed month's lines as they were written, of all instances or of these ids."""
    rows = StatementLine.objects.filter(statement=closed).select_related("instance", "group")
    wanted = rows if instances is None else rows.filter(instance__in=instances)
    return tuple(sorted((_line_of(row) for row in wanted), key=_order))


def _line_of(row: StatementLine) -> Line:
    return Line(
        ItemCode(row.item_code),
        row.instance_id,
        row.instance.code,
        row.instance.name,
        row.instance.region_id,
        row.group_id,
        row.group.name,
        row.source,
        row.destination,
        int(row.quantity),
        int(row.charged),
        row.free_bytes,
        row.offset_bytes,
        row.resent_bytes,
        tuple(row.prices),
        row.amount,
    )


def _order(line: Line) -> tuple[int, int, str, str]:
    return line.instance_id, ITEMS.index(line.item), line.source, line.destination


# ---- reckoning an open month


class Place(NamedTuple):
    """What a line stands for, besides its month."""

    item: ItemCode
    instance_id: int
    source: str
    destination: str


@dataclass
class Account:
    """A line while it is being added up; its cost stays exact until the end."""

    quantity: int = 0
    charged: int = 0
    free_bytes: int = 0
    offset_bytes: int = 0
    resent_bytes: int = 0
    cost: Decimal = Decimal(0)
    is_unpriced: bool = False
    prices: list[Decimal] = field(default_factory=list)

    def charge(self, place: Place, quantity: int, price: Price | None) -> None:
        self.charged += quantity
        if quantity and price is None:
            self.is_unpriced = True
        elif price is not None:
            self.cost += (storage_cost if place.item == ItemCode.STORAGE else traffic_cost)(quantity, price.amount)
            if price.amount not in self.prices:
                self.prices.append(price.amount)

    @property
    def amount(self) -> Decimal | None:
        """In cents, rounded once; None: charged, and there is no price."""
        return None if self.is_unpriced else to_cents(self.cost)


Accounts = dict[Place, Account]
Covered = dict[tuple[Place, datetime], int]  # bytes that plans cover, by line and by the moment of their price


@dataclass(frozen=True)
class Reckoning:
    """A month's lines from the facts, and what it takes from each network plan, in millionths of a prepaid byte."""

    lines: tuple[Line, ...]
    plan_uses: dict[int, int]


def reckon(begin: datetime, until: datetime, instances: list[int] | None = None) -> Reckoning:
    """Work the month that starts with `begin` out from the facts up to `until`, whether it has been closed or not."""
    accounts: Accounts = {}
    _add_storage(accounts, begin, until, instances)
    covered, plan_uses = _covered(begin, until)
    _add_traffic(accounts, begin, until, instances, covered)
    _add_downloads(accounts, begin, until, instances, covered)
    return Reckoning(_lines(accounts), plan_uses)


def _account(accounts: Accounts, place: Place) -> Account:
    return accounts.setdefault(place, Account())


def _add_storage(accounts: Accounts, begin: datetime, until: datetime, instances: list[int] | None) -> None:
    for since, end in stretches(ItemCode.STORAGE, begin, until):
        stored = metering.stored_of(since, end, instances)
        tariff = Tariff(ItemCode.STORAGE, {(line.source, line.destination) for line in stored})
        for line in stored:
            place = Place(ItemCode.STORAGE, line.instance_id, line.source, line.destination)
            account = _account(accounts, place)
            account.quantity += line.byte_seconds
            account.charge(place, line.byte_seconds, tariff.at(line.source, line.destination, since))


def _add_traffic(
    accounts: Accounts, begin: datetime, until: datetime, instances: list[int] | None, covered: Covered
) -> None:
    for since, end in stretches(ItemCode.TRAFFIC, begin, until):
        sent = traffic.sent_between(since, end, instances)
        tariff = Tariff(ItemCode.TRAFFIC, {(line.source, line.destination) for line in sent})
        for line in sent:
            place = Place(ItemCode.TRAFFIC, line.instance_id, line.source, line.destination)
            account, offset = _account(accounts, place), covered.get((place, since), 0)
            account.quantity += line.bytes
            account.offset_bytes += offset
            account.charge(place, line.bytes - offset, tariff.at(line.source, line.destination, since))
    for line in traffic.resent_between(begin, until, instances):
        place = Place(ItemCode.TRAFFIC, line.instance_id, line.source, line.destination)
        _account(accounts, place).resent_bytes += line.bytes


class Downloaded(NamedTuple):
    """One download over the Internet and what of it the free quota takes."""

    at: datetime
    instance_id: int
    priced_from: str  # the instance's region decides the price
    source: str
    bytes: int
    free_bytes: int


def _add_downloads(
    accounts: Accounts, begin: datetime, until: datetime, instances: list[int] | None, covered: Covered
) -> None:
    edges = [since for since, _ in stretches(ItemCode.DOWNLOAD, begin, until)]
    downloads = list(_downloads(begin, until, instances))
    tariff = Tariff(ItemCode.DOWNLOAD, {(one.priced_from, "") for one in downloads})
    for one in downloads:
        place = Place(ItemCode.DOWNLOAD, one.instance_id, one.source, "")
        account = _account(accounts, place)
        offset = _take(covered, (place, _stretch(edges, one.at)), one.bytes - one.free_bytes)
        account.quantity += one.bytes
        account.free_bytes += one.free_bytes
        account.offset_bytes += offset
        account.charge(place, one.bytes - one.free_bytes - offset, tariff.at(one.priced_from, "", one.at))


def _take(covered: Covered, key: tuple[Place, datetime], most: int) -> int:
    """Take what is covered of a line and price off its downloads one by one; which of them bears it is all one."""
    taken = min(most, covered.get(key, 0))
    covered[key] = covered.get(key, 0) - taken
    return taken


def _downloads(begin: datetime, until: datetime, instances: list[int] | None = None) -> Iterator[Downloaded]:
    """Yield a month's downloads, each instance's in time order, with what the free quota leaves of them."""
    mine = DownloadCharge.objects.filter(address=DownloadCharge.Address.INTERNET, at__gte=begin, at__lt=until)
    wanted = mine if instances is None else mine.filter(instance__in=instances)
    used: dict[int, int] = {}
    rows = wanted.order_by("instance", "at", "region", "bytes")
    for at, instance, home, region, size in rows.values_list(
        "at", "instance", "instance__region", "region", "bytes"
    ).iterator(2000):
        free = min(size, free_left(used.get(instance, 0)))
        used[instance] = used.get(instance, 0) + size
        yield Downloaded(at, instance, home, region, size, free)


def _stretch(edges: list[datetime], moment: datetime) -> datetime:
    return edges[bisect_right(edges, moment) - 1]


def _lines(accounts: Accounts) -> tuple[Line, ...]:
    used = {place: account for place, account in accounts.items() if account.quantity or account.resent_bytes}
    found = Instance.objects.select_related("group").in_bulk({place.instance_id for place in used})
    lines = (_line(place, account, found[place.instance_id]) for place, account in used.items())
    return tuple(sorted(lines, key=_order))


def _line(place: Place, account: Account, instance: Instance) -> Line:
    return Line(
        place.item,
        instance.pk,
        instance.code,
        instance.name,
        instance.region_id,
        instance.group_id,
        instance.group.name,
        place.source,
        place.destination,
        account.quantity,
        account.charged,
        account.free_bytes,
        account.offset_bytes,
        account.resent_bytes,
        tuple(account.prices),
        account.amount,
    )


# ---- what network plans cover of it


def _covered(begin: datetime, until: datetime) -> tuple[Covered, dict[int, int]]:
    """Return what plans cover in the month, of the whole fleet: one instance's share hangs on everybody's use.

    Months before it that are not closed yet have taken theirs first.
    """
    covered: Covered = {}
    since = _first_unclosed(begin)
    prepaid = plans.balances(since or BEGINNING, until)
    if not any(plan.may_take_after(begin) for plan in prepaid):
        return covered, {}
    month = since or month_of(min(plan.begin for plan in prepaid))[0]
    while month < begin:
        for _ in plans.offset(_uses(month, month_of(month)[1], prepaid), prepaid):
            pass
        month = month_of(month)[1]
    before = {plan.plan_id: plan.left for plan in prepaid}
    edges = {item: [since for since, _ in stretches(item, begin, until)] for item in ITEMS}
    for use, size in plans.offset(_uses(begin, until, prepaid), prepaid):
        place = Place(use.item, use.instance_id, use.source, use.destination)
        key = place, _stretch(edges[use.item], use.at)
        covered[key] = covered.get(key, 0) + size
    return covered, plans.used_of(before, prepaid)


def _first_unclosed(begin: datetime) -> datetime | None:
    """Return the month after the last closed one before `begin`; what plans had left then is stored."""
    last = ClosedStatement.objects.filter(month__lt=begin.date()).order_by("-month").first()
    return last.ends_at if last else None


def _uses(month: datetime, until: datetime, prepaid: list[plans.Prepaid]) -> Iterator[Use]:
    """Yield what plans may offset, in time order, as long as any of them has something left."""
    routes = CopyPolicy.objects.cross_region().order_by().values_list("source_region", "destination").distinct()
    tariff = Tariff(ItemCode.TRAFFIC, set(routes))
    for use in merge(_traffic_uses(month, until, tariff), sorted(_download_uses(month, until))):
        if not any(plan.may_take_after(use.at) for plan in prepaid):
            return
        yield use


def _traffic_uses(month: datetime, until: datetime, tariff: Tariff) -> Iterator[Use]:
    for at, sent in traffic.each_between(month, until):
        price = tariff.at(sent.source, sent.destination, at)
        if price is not None:
            yield Use(
                at, ItemCode.TRAFFIC, sent.instance_id, sent.source, sent.destination, sent.bytes, _coefficient(price)
            )


def _download_uses(month: datetime, until: datetime) -> Iterator[Use]:
    downloads = [one for one in _downloads(month, until) if one.bytes > one.free_bytes]
    tariff = Tariff(ItemCode.DOWNLOAD, {(one.priced_from, "") for one in downloads})
    for one in downloads:
        price = tariff.at(one.priced_from, "", one.at)
        if price is not None:
            charged = one.bytes - one.free_bytes
            yield Use(one.at, ItemCode.DOWNLOAD, one.instance_id, one.source, "", charged, _coefficient(price))


def _coefficient(price: Price) -> int:
    """Return millionths of a prepaid byte for each byte: the price's column, or its price / 0.12."""
    return int((coefficient_of(price.amount) if price.coefficient is None else price.coefficient) * MILLION)


# ---- the month so far, for the head of the overview


@dataclass(frozen=True)
class StorageCost:
    """What storage costs in a stretch of time. `amount` None: somewhere in it there was no price."""

    byte_seconds: int
    amount: Decimal | None


def storage_this_month(at: datetime, instances: QuerySet[Instance] | None = None) -> StorageCost:
    """Return what storage has cost from the first of the month until `at`: the sum of its lines, each rounded once."""
    wanted = None if instances is None else list(instances.order_by().values_list("pk", flat=True))
    accounts: Accounts = {}
    _add_storage(accounts, month_of(at)[0], at, wanted)
    amounts = [account.amount for account in accounts.values()]
    quantity = sum(account.quantity for account in accounts.values())
    return StorageCost(quantity, None if None in amounts else sum(amounts, ZERO))
