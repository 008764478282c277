"""A month's statement: one line for each instance, route and item code, rounded there, once (R-4.1).

An open month is reckoned from the facts when it is asked for; a closed one is read as it was stored. Whatever else is
shown (an instance's, a group's, a route's share) adds lines and never rounds again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter
from typing import Any, TypeVar

from django.db.models import QuerySet
from django.utils.translation import gettext

from backups.models import Instance
from billing import metering, plans, prices, traffic
from billing.amounts import MILLIONTH, storage_amount, traffic_amount
from billing.covering import Cover, Downloaded, Place, Stretch, covered, downloads_between
from billing.metering import Stored, month_of
from billing.models import ClosedStatement, ItemCode, Price, StatementLine
from billing.prices import Edges, Tariffs
from billing.traffic import Sent

ITEMS = (ItemCode.STORAGE, ItemCode.TRAFFIC, ItemCode.DOWNLOAD)
ZERO = Decimal("0.00")
Key = TypeVar("Key", bound=Hashable)
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
    closed = ClosedStatement.objects.filter(month__lte=begin.date()).first()  # the newest
    if closed is not None and closed.begins_at == begin:
        return Statement(stored(closed, wanted), begin, end, at, closed.closed_at)
    return Statement(_reckon(begin, min(end, at), wanted, closed).lines, begin, end, at)


def moment_of(day: date) -> datetime:
    """Return a date's first moment, UTC; a moment is left as it is."""
    return day if isinstance(day, datetime) else datetime(day.year, day.month, day.day, tzinfo=UTC)


WRITTEN = (
    *("item_code", "instance", "instance__code", "instance__name", "instance__region", "group", "group__name"),
    *("source", "destination", "quantity", "charged", "free_bytes", "offset_bytes", "resent_bytes", "prices", "amount"),
)


def stored(closed: ClosedStatement, instances: list[int] | None = None) -> tuple[Line, ...]:
    """Return a closed month's lines as they were written, of all instances or of these ids."""
    rows = StatementLine.objects.filter(statement=closed)
    wanted = rows if instances is None else rows.filter(instance__in=instances)
    return tuple(sorted((_line_of(*row) for row in wanted.order_by().values_list(*WRITTEN)), key=_order))


def _line_of(item: str, *facts: Any) -> Line:
    *where, quantity, charged, free, offset, resent, prices, amount = facts
    return Line(ItemCode(item), *where, int(quantity), int(charged), free, offset, resent, tuple(prices), amount)


def _order(line: Line) -> tuple[int, int, str, str]:
    return line.instance_id, ITEMS.index(line.item), line.source, line.destination


# ---- reckoning an open month


@dataclass
class Account:
    """A line while it is being added up. `worth` is exact: quantities times prices in millionths of a USD."""

    quantity: int = 0
    charged: int = 0
    free_bytes: int = 0
    offset_bytes: int = 0
    resent_bytes: int = 0
    worth: int = 0
    is_unpriced: bool = False
    prices: list[Decimal] = field(default_factory=list)

    def charge(self, quantity: int, price: Price | None) -> None:
        self.charged += quantity
        if quantity and price is None:
            self.is_unpriced = True
        elif price is not None:
            self.worth += quantity * plans.millionths(price.amount)
            if price.amount not in self.prices:
                self.prices.append(price.amount)

    def fetch(self, one: Fetched) -> None:
        self.quantity += one.bytes
        self.free_bytes += one.free_bytes
        self.offset_bytes += one.offset_bytes
        self.charge(one.charged, one.price)

    def amount(self, item: ItemCode) -> Decimal | None:
        """In cents, rounded once; None: charged, and there is no price."""
        return None if self.is_unpriced else self.known_amount(item)

    def known_amount(self, item: ItemCode) -> Decimal:
        """In cents, rounded once; of what has a price."""
        return (storage_amount if item == ItemCode.STORAGE else traffic_amount)(self.worth, MILLIONTH)


@dataclass(frozen=True)
class Fetched:
    """One download over the Internet as its line charges it: the free quota first, then network plans, then money.

    `amount`: by how much its line, which is rounded, grew with it; None: charged, and there is no price.
    """

    charge_id: int
    at: datetime
    place: Place
    bytes: int
    free_bytes: int
    offset_bytes: int
    price: Price | None
    amount: Decimal | None = None

    @property
    def charged(self) -> int:
        return self.bytes - self.free_bytes - self.offset_bytes


Accounts = dict[Place, Account]
StoredFrom = list[tuple[datetime, Stored]]  # each with the moment from which its price holds


@dataclass(frozen=True)
class Reckoning:
    """A month's lines from the facts, and what it takes from each network plan, in millionths of a prepaid byte.

    `accounts`: the same before anything is rounded, for who goes on from there.
    """

    lines: tuple[Line, ...]
    plan_uses: dict[int, int]
    accounts: Accounts = field(default_factory=dict)


def reckon(begin: datetime, until: datetime, instances: list[int] | None = None) -> Reckoning:
    """Work the month that starts with `begin` out from the facts up to `until`, whether it has been closed or not."""
    return _reckon(begin, until, instances, ClosedStatement.objects.filter(month__lt=begin.date()).first())


def _reckon(
    begin: datetime, until: datetime, instances: list[int] | None, last_closed: ClosedStatement | None
) -> Reckoning:
    """Ask for the facts first, and then once for all their prices. `last_closed`: the newest before this month."""
    edges = prices.edges(begin, until)
    cover = covered(begin, until, edges, last_closed)
    stored = _stored_from(edges, until, instances)
    sent = [(part, line) for part in cover.stretches for line in traffic.sent_between(part.begin, part.end, instances)]
    downloads = list(downloads_between(begin, until, instances))
    tariffs = Tariffs(
        {
            ItemCode.STORAGE: {(line.source, line.destination) for _, line in stored},
            ItemCode.TRAFFIC: {(line.source, line.destination) for _, line in sent},
            ItemCode.DOWNLOAD: {(one.priced_from, "") for one in downloads},
        }
    )
    accounts: Accounts = defaultdict(Account)
    _add_storage(accounts, stored, tariffs)
    _add_traffic(accounts, sent, tariffs, cover)
    _add_resent(accounts, traffic.resent_between(begin, until, instances))
    for one in _fetched(downloads, tariffs, cover):
        accounts[one.place].fetch(one)
    return Reckoning(_lines(accounts, instances), cover.plan_uses, accounts)


def _stored_from(edges: Edges, until: datetime, instances: list[int] | None) -> StoredFrom:
    ends = pairwise([*edges[ItemCode.STORAGE], until])
    return [(since, line) for since, end in ends for line in metering.stored_of(since, end, instances)]


def _add_storage(accounts: Accounts, stored: StoredFrom, tariffs: Tariffs) -> None:
    for since, line in stored:
        account = accounts[Place(ItemCode.STORAGE, line.instance_id, line.source, line.destination)]
        account.quantity += line.byte_seconds
        account.charge(line.byte_seconds, tariffs.at(ItemCode.STORAGE, line.source, line.destination, since))


def _add_traffic(accounts: Accounts, sent: list[tuple[Stretch, Sent]], tariffs: Tariffs, cover: Cover) -> None:
    for stretch, line in sent:
        place = Place(ItemCode.TRAFFIC, line.instance_id, line.source, line.destination)
        price = tariffs.at(ItemCode.TRAFFIC, line.source, line.destination, stretch.begin)
        account, offset = accounts[place], cover.of(stretch, place, line.bytes, price)
        account.quantity += line.bytes
        account.offset_bytes += offset
        account.resent_bytes += line.again
        if line.bytes:
            account.charge(line.bytes - offset, price)


def _add_resent(accounts: Accounts, resent: list[Sent]) -> None:
    for line in resent:
        accounts[Place(ItemCode.TRAFFIC, line.instance_id, line.source, line.destination)].resent_bytes += line.bytes


def _fetched(downloads: Iterable[Downloaded], tariffs: Tariffs, cover: Cover) -> Iterator[Fetched]:
    for one in downloads:
        price = tariffs.at(ItemCode.DOWNLOAD, one.priced_from, "", one.at)
        yield Fetched(one.charge_id, one.at, one.place, one.bytes, one.free_bytes, cover.take(one), price)


NAMED = ("pk", "code", "name", "region", "group", "group__name")


def _lines(accounts: Accounts, instances: list[int] | None) -> tuple[Line, ...]:
    used = {place: account for place, account in accounts.items() if account.quantity or account.resent_bytes}
    named = Instance.objects.all() if instances is None else Instance.objects.filter(pk__in=instances)
    found = {row[0]: row for row in named.order_by().values_list(*NAMED)} if used else {}
    lines = (_line(place, account, found[place.instance_id]) for place, account in used.items())
    return tuple(sorted(lines, key=_order))


def _line(place: Place, account: Account, named: tuple[int, str, str, str, int, str]) -> Line:
    return Line(
        place.item,
        *named,
        place.source,
        place.destination,
        account.quantity,
        account.charged,
        account.free_bytes,
        account.offset_bytes,
        account.resent_bytes,
        tuple(account.prices),
        account.amount(place.item),
    )


# ---- the single downloads behind lines


def fetched_between(begin: datetime, until: datetime, instance_id: int) -> list[Fetched]:
    """Return an instance's downloads of the month that starts with `begin`, in time order, as `reckon` adds them up.

    What a closed month charged can no longer move, so that they are the same before and after the closing.
    """
    downloads = list(downloads_between(begin, until, [instance_id]))
    cover = _cover_of(downloads, begin, until)
    tariffs = Tariffs({ItemCode.DOWNLOAD: {(one.priced_from, "") for one in downloads}})
    accounts: dict[Place, Account] = defaultdict(Account)
    return [_grown(accounts[one.place], one) for one in _fetched(downloads, tariffs, cover)]


def _cover_of(downloads: list[Downloaded], begin: datetime, until: datetime) -> Cover:
    """Go through the fleet's month only where plans have something to cover."""
    if not any(one.payable for one in downloads):
        return Cover([])
    last_closed = ClosedStatement.objects.filter(month__lt=begin.date()).first()
    return covered(begin, until, prices.edges(begin, until), last_closed)


def _grown(line: Account, one: Fetched) -> Fetched:
    """Add a download to its line, and say what that came to."""
    before = line.known_amount(ItemCode.DOWNLOAD)
    line.fetch(one)
    is_known = one.price is not None or not one.charged
    return replace(one, amount=line.known_amount(ItemCode.DOWNLOAD) - before if is_known else None)


# ---- the month so far, for the head of the overview


@dataclass(frozen=True)
class StorageCost:
    """What storage costs in a stretch of time. `amount` None: somewhere in it there was no price."""

    byte_seconds: int
    amount: Decimal | None


def storage_this_month(at: datetime, instances: QuerySet[Instance] | None = None) -> StorageCost:
    """Return what storage has cost from the first of the month until `at`: the sum of its lines, each rounded once."""
    wanted = None if instances is None else list(instances.order_by().values_list("pk", flat=True))
    begin = month_of(at)[0]
    stored = _stored_from(prices.edges(begin, at), at, wanted)
    accounts: Accounts = defaultdict(Account)
    places = {(line.source, line.destination) for _, line in stored}
    _add_storage(accounts, stored, Tariffs({ItemCode.STORAGE: places}))
    amounts = [account.amount(ItemCode.STORAGE) for account in accounts.values()]
    quantity = sum(account.quantity for account in accounts.values())
    return StorageCost(quantity, None if None in amounts else sum(amounts, ZERO))
