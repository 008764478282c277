"""What network plans cover, of the whole fleet and in the order of time (R-4.4): one instance's share hangs on all.

Months are gone through hour by hour. An hour whose uses all fit into one plan is covered, and one for which no plan has
enough for a single byte is not; only what lies between, where a plan begins, ends or runs out, is gone through use by
use. The outcome is that of `plans.offset` over every single use, which tests hold it against.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from billing import plans, price_book, prices, traffic
from billing.download_fees import free_left
from billing.metering import month_of
from billing.models import ClosedStatement, DownloadCharge, ItemCode, Price
from billing.plans import Prepaid, Use
from billing.prices import Edges, Tariffs

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TRAFFIC, DOWNLOAD = ItemCode.TRAFFIC, ItemCode.DOWNLOAD


class Place(NamedTuple):
    """What a line stands for, besides its month."""

    item: ItemCode
    instance_id: int
    source: str
    destination: str


class Downloaded(NamedTuple):
    """One download over the Internet and what of it the free quota takes."""

    charge_id: int
    at: datetime
    instance_id: int
    priced_from: str  # the instance's region decides the price
    source: str
    bytes: int
    free_bytes: int

    @property
    def place(self) -> Place:
        return Place(ItemCode.DOWNLOAD, self.instance_id, self.source, "")

    @property
    def payable(self) -> int:
        return self.bytes - self.free_bytes


def downloads_between(begin: datetime, until: datetime, instances: list[int] | None = None) -> Iterator[Downloaded]:
    """Yield a month's downloads, each instance's in time order, with what the free quota leaves of them."""
    mine = DownloadCharge.objects.filter(address=DownloadCharge.Address.INTERNET, at__gte=begin, at__lt=until)
    wanted = mine if instances is None else mine.filter(instance__in=instances)
    used: dict[int, int] = defaultdict(int)
    rows = wanted.order_by("instance", "at", "region", "bytes", "pk")
    for *facts, size in rows.values_list("pk", "at", "instance", "instance__region", "region", "bytes"):
        instance = facts[2]
        free = min(size, free_left(used[instance]))
        used[instance] += size
        yield Downloaded(*facts, size, free)


class Stretch(NamedTuple):
    """A part of a month. `is_whole`: all of its traffic that a plan may offset is covered; else what `Cover` says."""

    begin: datetime
    end: datetime
    is_whole: bool = False


Covered = dict[tuple[Place, datetime], int]  # bytes, by line and by where their stretch begins; downloads': by moment


@dataclass
class Cover:
    """What plans cover of a month: of traffic stretches of it whole, and the bytes of the others; of each download."""

    stretches: list[Stretch]
    bytes: Covered = field(default_factory=lambda: defaultdict(int))
    plan_uses: dict[int, int] = field(default_factory=dict)  # in millionths of a prepaid byte

    def of(self, stretch: Stretch, place: Place, size: int, price: Price | None) -> int:
        """Return how many of a line's bytes in the stretch are covered."""
        if stretch.is_whole:
            return size if coefficient_of(price) else 0
        return self.bytes.get((place, stretch.begin), 0)

    def take(self, one: Downloaded) -> int:
        """Take what is covered of a download; of several of one moment, which bears it is all one."""
        taken = min(one.payable, self.bytes.get((one.place, one.at), 0))
        if taken:
            self.bytes[one.place, one.at] -= taken
        return taken


def coefficient_of(price: Price | None) -> int:
    """Return millionths of a prepaid byte for each byte: the price's column, or its price / 0.12; 0 without a price."""
    if price is None:
        return 0
    return plans.millionths(price_book.coefficient_of(price.amount) if price.coefficient is None else price.coefficient)


def covered(begin: datetime, until: datetime, edges: Edges, last_closed: ClosedStatement | None) -> Cover:
    """Return what plans cover in the month. Months before it that are not closed have taken theirs first.

    `edges`: where prices change in it; `last_closed`: the newest closed month before it.
    """
    prepaid = balances(begin, until, last_closed)
    before = {plan.plan_id: plan.left for plan in prepaid}
    parts = list(_parts(begin, until, prepaid))
    cover = Cover(list(_stretches(begin, until, edges[TRAFFIC], parts)))
    begins = [stretch.begin for stretch in cover.stretches]
    for use, size in (pair for part in parts for pair in part.covered):
        place = Place(use.item, use.instance_id, use.source, use.destination)
        cover.bytes[place, use.at if use.item == DOWNLOAD else start_of(begins, use.at)] += size
    cover.plan_uses = plans.used_of(before, prepaid)
    return cover


def of_one_more(instance_id: int, source: str, size: int, price: Price, at: datetime) -> int:
    """Return how many bytes plans would cover of a download that came whole now, free quota apart; nothing is taken."""
    begin = month_of(at)[0]
    prepaid = balances(begin, at, ClosedStatement.objects.filter(month__lt=begin.date()).first())
    for _ in _parts(begin, at, prepaid):
        pass
    use = Use(at, DOWNLOAD, instance_id, source, "", size, coefficient_of(price))
    return sum(covered for _, covered in plans.offset([use], prepaid))


def balances(begin: datetime, until: datetime, last_closed: ClosedStatement | None) -> list[Prepaid]:
    """Return the plans of the month that starts with `begin`, with what all months before it left of them."""
    since = last_closed.ends_at if last_closed else None
    prepaid = plans.balances(since or BEGINNING, until)
    if not any(plan.may_take_after(begin) for plan in prepaid):
        return []
    month = since or month_of(min(plan.begin for plan in prepaid))[0]
    while month < begin:
        month_end = month_of(month)[1]
        for _ in _parts(month, month_end, prepaid):
            pass
        month = month_end
    return prepaid


def start_of(begins: list[datetime], moment: datetime) -> datetime:
    """Return which of the sorted moments starts the stretch that `moment` lies in."""
    return begins[bisect_right(begins, moment) - 1]


def _stretches(begin: datetime, until: datetime, edges: list[datetime], parts: list[Part]) -> Iterator[Stretch]:
    changes, is_whole = {begin: False}, False
    for part in parts:
        if part.is_whole != is_whole:
            changes[part.begin] = is_whole = part.is_whole
    is_whole = False
    for since, end in pairwise([*sorted({*changes, *edges}), until]):
        is_whole = changes.get(since, is_whole)
        if since < end:
            yield Stretch(since, end, is_whole)


# ---- going through a month


class Part(NamedTuple):
    """An hour, or less: all that may be offset of it, or else, use by use, what was."""

    begin: datetime
    is_whole: bool
    covered: list[tuple[Use, int]]


def _parts(begin: datetime, until: datetime, prepaid: list[Prepaid]) -> Iterator[Part]:
    """Go through the hours in which something was sent while a plan held, and take from the plans."""
    holding = [plan for plan in prepaid if plan.left and plan.begin < until and begin < plan.end]
    if not holding:
        return
    since, end = max(begin, min(plan.begin for plan in holding)), min(until, max(plan.end for plan in holding))
    hours = Hours(begin, since, end)
    cuts = {*prices.edges(since, end)[TRAFFIC], *(edge for plan in holding for edge in (plan.begin, plan.end))}
    for hour in hours:
        first, last = max(hour, since), min(hour + HOUR, end)
        is_even = not any(first < cut < last for cut in cuts)
        is_whole = plans.settle(hours.needs(hour, first), holding, first) if is_even else None
        if is_whole is None:
            yield Part(first, False, list(plans.offset(hours.uses(hour, first, last), holding)))
        else:
            yield Part(first, is_whole, [(use, use.bytes) for use in hours.downloads[hour] if is_whole])
    yield Part(end, False, [])


class Hours:
    """What plans may offset between two moments of a month, by the hour; `begin` is the month's, for its free quota."""

    def __init__(self, begin: datetime, since: datetime, end: datetime) -> None:
        self._sums: dict[datetime, list[tuple[str, str, int]]] = defaultdict(list)
        for hour, *route_and_bytes in traffic.by_hour(since, end):
            self._sums[hour].append(tuple(route_and_bytes))
        routes = {(source, to) for sums in self._sums.values() for source, to, _ in sums}
        downloads = [one for one in downloads_between(begin, end) if one.at >= since and one.payable]
        self._tariffs = Tariffs({TRAFFIC: routes, DOWNLOAD: {(one.priced_from, "") for one in downloads}})
        self.downloads: dict[datetime, list[Use]] = defaultdict(list)
        for one in downloads:
            price = self._tariffs.at(DOWNLOAD, one.priced_from, "", one.at)
            if coefficient := coefficient_of(price):
                self.downloads[hour_of(one.at)].append(use_of(one, coefficient))

    def __iter__(self) -> Iterator[datetime]:
        return iter(sorted({*self._sums, *self.downloads}))

    def needs(self, hour: datetime, at: datetime) -> list[tuple[int, int]]:
        """Return (coefficient, bytes) of all that was used in an hour, at the prices of that moment."""
        sent = [(self._coefficient(source, to, at), size) for source, to, size in self._sums[hour]]
        return sent + [(use.coefficient, use.bytes) for use in self.downloads[hour]]

    def uses(self, hour: datetime, begin: datetime, end: datetime) -> list[Use]:
        """Return each use of an hour, in the order in which plans cover them."""
        found = list(self.downloads[hour])
        for at, sent in traffic.each_between(begin, end):
            where = (sent.instance_id, sent.source, sent.destination, sent.bytes)
            found.append(Use(at, TRAFFIC, *where, self._coefficient(sent.source, sent.destination, at)))
        return sorted(found)

    def _coefficient(self, source: str, destination: str, at: datetime) -> int:
        return coefficient_of(self._tariffs.at(TRAFFIC, source, destination, at))


def use_of(one: Downloaded, coefficient: int) -> Use:
    return Use(one.at, DOWNLOAD, one.instance_id, one.source, "", one.payable, coefficient)


def hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
