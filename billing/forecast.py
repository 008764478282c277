"""What this month will have cost when it ends, and a year at today's settings (R-4): never a second formula.

What was used is the statement's (billing.statements); what lies at the destinations is charged until its date, as the
meter does it; what comes is the pace of the dialog before OK (billing.pace), arriving and expiring as it did. Prices
and network plans take it as they take what happened, and a line of a month is rounded once, as on its statement.

Where backups come at a constant pace and arrive at once, the forecast is the later bill to the cent. It leaves out
what nobody knows (sizes before a first backup, lines without a price, downloads to come) and says so. The dates of
stored copies are today's: a full that later differentials or logs will need is charged longer than is said here, and
is seen to come again like that (a test measures by how much).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from heapq import merge
from itertools import pairwise, takewhile

from backups.models import Copy, CopyPolicy, Instance
from billing import covering, plans, statements
from billing.covering import Place
from billing.metering import month_of
from billing.models import ClosedStatement, ItemCode
from billing.pace import Coming, moment_of, paces_of, second_of
from billing.plans import Prepaid, Use
from billing.prices import Tariff, stretches
from billing.statements import ZERO, Account, Accounts, Line
from billing.stored_ahead import stored_ahead

YEAR = 12  # months after this one


@dataclass(frozen=True)
class Amount:
    """A sum of money. `known` None: nothing of it is; `is_partial`: something in it is not known, it is at least so."""

    known: Decimal | None
    is_partial: bool = False

    @property
    def at_least(self) -> Decimal:
        return self.known or ZERO


@dataclass(frozen=True)
class Foreseen:
    """A statement line of a month that has not ended. `amount` None: there is no price."""

    item: ItemCode
    instance_id: int
    group_id: int
    amount: Decimal | None


@dataclass(frozen=True)
class Unknown:
    """An enabled instance of which no default backup is known: neither what comes nor how much (R-4.6)."""

    instance_id: int
    name: str
    group_id: int


@dataclass(frozen=True)
class Month:
    """A whole month; of this one, what was used so far included."""

    begin: datetime
    lines: tuple[Foreseen, ...]
    unknown: tuple[Unknown, ...]

    def amount(self, item: ItemCode | None = None) -> Amount:
        """Return what an item, or everything, will cost."""
        lines = [line for line in self.lines if item in (None, line.item)]
        is_short = bool(self.unknown) and item != ItemCode.DOWNLOAD
        return _added_up([line.amount for line in lines], is_short)


@dataclass(frozen=True)
class Forecast:
    """As seen `at` that moment: this month so far, this month at its end, and the months after it."""

    at: datetime
    used: tuple[Line, ...]
    months: tuple[Month, ...]  # the first is this month
    unknown: tuple[Unknown, ...] = ()
    without_logs: int = 0  # instances whose logs are copied, and none are known yet
    held: int = 0  # copies without a date: charged as long as the forecast looks

    @property
    def month(self) -> Month:
        return self.months[0]

    @property
    def year(self) -> tuple[Month, ...]:
        """The months after this one."""
        return self.months[1:]

    @property
    def spent(self) -> Amount:
        return _added_up([line.amount for line in self.used])

    @property
    def unpriced(self) -> int:
        """How many lines of this month have no price."""
        return sum(1 for line in self.month.lines if line.amount is None)

    def of_group(self, group_id: int) -> Forecast:
        """Return the part of one resource group; instances without known logs and held copies are not told apart."""
        unknown = tuple(one for one in self.unknown if one.group_id == group_id)
        months = tuple(
            replace(month, lines=tuple(line for line in month.lines if line.group_id == group_id), unknown=unknown)
            for month in self.months
        )
        used = tuple(line for line in self.used if line.group_id == group_id)
        return replace(self, used=used, months=months, unknown=unknown)

    def over_the_year(self, item: ItemCode | None = None) -> Amount:
        """Return what the months after this one cost together."""
        found = [month.amount(item) for month in self.year]
        return _added_up([one.known for one in found], any(one.is_partial for one in found))


def _added_up(amounts: Iterable[Decimal | None], is_short: bool = False) -> Amount:
    amounts = list(amounts)
    known = [amount for amount in amounts if amount is not None]
    is_partial = is_short or len(known) < len(amounts)
    return Amount(None, True) if is_partial and not known else Amount(sum(known, ZERO), is_partial)


def forecast(at: datetime, groups: Collection[int] | None = None, months: int = YEAR) -> Forecast:
    """Look ahead to the end of this month and `months` more, for all instances or those of these resource groups."""
    wanted = None if groups is None else list(Instance.objects.filter(group__in=groups).values_list("pk", flat=True))
    now = statements.reckon(month_of(at)[0], at, wanted)
    prepaid = _left_of_plans(at, now.plan_uses)
    outlook = _outlook(at, None if prepaid else wanted)  # others draw on the same plans
    edges = _edges(at, months)
    found = {month_of(begin)[0]: {} for begin in edges[:-1]}
    found[month_of(at)[0]].update(now.accounts)
    held = _add_stored(found, edges, wanted)
    _add_storage_to_come(found, edges, outlook, wanted)
    _add_traffic_to_come(found, edges, outlook, wanted, prepaid)
    unknown = tuple(one for one in outlook.unknown if groups is None or one.group_id in groups)
    group_of = dict(Instance.objects.filter(pk__in=_instances(found)).values_list("pk", "group"))
    ahead = tuple(Month(begin, _foreseen(accounts, group_of), unknown) for begin, accounts in found.items())
    without_logs = len(outlook.without_logs if wanted is None else outlook.without_logs & set(wanted))
    return Forecast(at, now.lines, ahead, unknown, without_logs, held)


ByMonth = dict[datetime, Accounts]
Wanted = list[int] | None


def _edges(at: datetime, months: int) -> list[datetime]:
    """Return where a month or a price begins, from now on: between two neighbours everything has one price."""
    ends = [month_of(at)[1]]
    for _ in range(months):
        ends.append(month_of(ends[-1])[1])
    for item in (ItemCode.STORAGE, ItemCode.TRAFFIC):
        ends += [begin for begin, _ in stretches(item, at, ends[-1])]
    return sorted({at, *ends})


def _instances(found: ByMonth) -> set[int]:
    return {place.instance_id for accounts in found.values() for place in accounts}


def _foreseen(accounts: Accounts, group_of: dict[int, int]) -> tuple[Foreseen, ...]:
    used = ((place, account) for place, account in accounts.items() if account.quantity)
    return tuple(
        Foreseen(place.item, place.instance_id, group_of[place.instance_id], account.amount(place.item))
        for place, account in used
    )


# ---- what comes


@dataclass(frozen=True)
class Stream:
    """What one instance will send over one route. Within a region (level 2) there is no traffic (R-18.2)."""

    instance_id: int
    source: str
    destination: str
    coming: tuple[Coming, ...]

    @property
    def has_traffic(self) -> bool:
        return self.source != self.destination

    def place(self, item: ItemCode) -> Place:
        return Place(item, self.instance_id, self.source, self.destination)


@dataclass
class Outlook:
    """What today's settings and pace bring."""

    streams: list[Stream] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    without_logs: set[int] = field(default_factory=set)

    def of(self, wanted: Wanted) -> Iterator[Stream]:
        mine = None if wanted is None else set(wanted)
        return (stream for stream in self.streams if mine is None or stream.instance_id in mine)


def _outlook(at: datetime, wanted: Wanted) -> Outlook:
    """Return what the enabled policies bring at today's pace, and what is on its way already."""
    policies = CopyPolicy.objects.live().filter(suspended_at=None).select_related("instance")
    policies = list(policies if wanted is None else policies.filter(instance__in=wanted))
    with_logs = {policy.instance_id for policy in policies if policy.logs_enabled}
    paces = paces_of({policy.instance for policy in policies}, at, with_logs)
    outlook = Outlook(_on_their_way(at, wanted))
    for policy in policies:
        pace, instance = paces.get(policy.instance_id), policy.instance
        if pace is None:
            outlook.unknown.append(Unknown(instance.pk, instance.name, instance.group_id))
            continue
        pace = pace if policy.logs_enabled else replace(pace, logs=None)
        coming = tuple(pace.coming(policy.retention_days, at))
        outlook.streams.append(Stream(instance.pk, policy.source_region_id, policy.destination_id, coming))
        if pace.lacks_logs:
            outlook.without_logs.add(instance.pk)
    return outlook


def _on_their_way(at: datetime, wanted: Wanted) -> list[Stream]:
    """Return the copies that are owed and have not arrived, as if they arrived now; those of no known size bring 0."""
    owed = Copy.objects.pending().filter(policy__hidden_at=None).order_by("pk")
    owed = owed if wanted is None else owed.filter(policy__instance__in=wanted)
    rows = owed.values_list(
        "policy__instance", "policy__source_region", "destination_store__region", "total_bytes", "set__size_bytes",
        "expires_at", "set__finished_at", "policy__retention_days",
    )  # fmt: skip
    now, found = second_of(at), []
    for instance, source, destination, total, size, expires_at, finished_at, days in rows.iterator(2000):
        stay = second_of(expires_at) - now if expires_at else second_of(finished_at) + days * 86_400 - now
        if stay > 0:
            found.append(Stream(instance, source, destination, (Coming(total or size, now, 0, stay),)))
    return found


# ---- storage


def _add_stored(found: ByMonth, edges: list[datetime], wanted: Wanted) -> int:
    """Add what lies there now; return how many of these copies are held."""
    held = 0
    stored = stored_ahead(edges, wanted)
    tariff = Tariff(ItemCode.STORAGE, {(line.source, line.destination) for line in stored})
    for line in stored:
        held += line.held
        place = Place(ItemCode.STORAGE, line.instance_id, line.source, line.destination)
        _charge(found, place, edges, line.between(edges), tariff)
    return held


def _add_storage_to_come(found: ByMonth, edges: list[datetime], outlook: Outlook, wanted: Wanted) -> None:
    streams = list(outlook.of(wanted))
    tariff = Tariff(ItemCode.STORAGE, {(stream.source, stream.destination) for stream in streams})
    seconds = [second_of(edge) for edge in edges]
    for stream in streams:
        until = [sum(each.byte_seconds(second) for each in stream.coming) for second in seconds]
        quantities = (after - before for before, after in pairwise(until))
        _charge(found, stream.place(ItemCode.STORAGE), edges, quantities, tariff)


def _charge(found: ByMonth, place: Place, edges: list[datetime], quantities: Iterable[int], tariff: Tariff) -> None:
    """Add the quantity of each stretch to its month, at the price that holds then."""
    for begin, quantity in zip(edges, quantities, strict=False):
        if quantity:
            account = found[month_of(begin)[0]].setdefault(place, Account())
            account.quantity += quantity
            account.charge(quantity, tariff.at(place.source, place.destination, begin))


# ---- traffic, and what is left of network plans


def _add_traffic_to_come(
    found: ByMonth, edges: list[datetime], outlook: Outlook, wanted: Wanted, prepaid: list[Prepaid]
) -> None:
    all_streams = [stream for stream in outlook.streams if stream.has_traffic]
    tariff = Tariff(ItemCode.TRAFFIC, {(stream.source, stream.destination) for stream in all_streams})
    covered = _covered(edges, all_streams, tariff, prepaid) if prepaid else {}
    seconds = [second_of(edge) for edge in edges]
    mine: dict[Place, list[int]] = {}
    for stream in outlook.of(wanted):
        if stream.has_traffic:
            sums = mine.setdefault(stream.place(ItemCode.TRAFFIC), [0] * (len(edges) - 1))
            for number, (begin, end) in enumerate(pairwise(seconds)):
                sums[number] += sum(each.bytes * (each.count(end) - each.count(begin)) for each in stream.coming)
    for place, sums in mine.items():
        for number, sent in enumerate(sums):
            if sent:
                account = found[month_of(edges[number])[0]].setdefault(place, Account())
                account.quantity += sent
                price = tariff.at(place.source, place.destination, edges[number])
                account.charge(sent - covered.get((place, number), 0), price)


def _covered(
    edges: list[datetime], streams: list[Stream], tariff: Tariff, prepaid: list[Prepaid]
) -> dict[tuple[Place, int], int]:
    """Return what is left of the plans covers, by line and stretch: in time order, the oldest plan first (R-4.4)."""
    covered: dict[tuple[Place, int], int] = {}
    for number, (begin, end) in enumerate(pairwise(edges)):
        uses = merge(*(_uses(stream, begin, end, tariff) for stream in streams))
        for use, size in plans.offset(takewhile(lambda use: _may_take(prepaid, use.at), uses), prepaid):
            place = Place(use.item, use.instance_id, use.source, use.destination)
            covered[place, number] = covered.get((place, number), 0) + size
        if not _may_take(prepaid, end):
            break
    return covered


def _may_take(prepaid: list[Prepaid], at: datetime) -> bool:
    return any(plan.may_take_after(at) for plan in prepaid)


def _uses(stream: Stream, begin: datetime, end: datetime, tariff: Tariff) -> Iterator[Use]:
    """Yield what plans may offset of a stream, in time order; where there is no price there is nothing to offset."""
    price = tariff.at(stream.source, stream.destination, begin)
    if price is None:
        return
    place, coefficient = stream.place(ItemCode.TRAFFIC), covering.coefficient_of(price)
    arrivals = merge(*(_each(coming, second_of(begin), second_of(end)) for coming in stream.coming))
    for second, size in arrivals:
        yield Use(moment_of(second), *place, size, coefficient)


def _each(coming: Coming, begin: int, end: int) -> Iterator[tuple[int, int]]:
    return ((second, coming.bytes) for second in coming.seconds(begin, end))


def _left_of_plans(at: datetime, used_now: dict[int, int]) -> list[Prepaid]:
    """Return the plans that still hold something, after this month's use so far and that of months not closed yet."""
    month = month_of(at)[0]
    prepaid = covering.balances(month, at, ClosedStatement.objects.filter(month__lt=month.date()).first())
    for plan in prepaid:
        plan.left -= used_now.get(plan.plan_id, 0)
    return [plan for plan in prepaid if plan.may_take_after(at)]
