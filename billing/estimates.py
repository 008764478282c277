"""What a dialog says before OK (R-4.6): sums over facts. What is not known is None, with a sentence.

An estimate rounds once, at its end, and never to nothing; the statement rounds each line. What a month will cost is
said at today's prices; what is stored already (`left_to_pay`) at those that the price table has for its route, whenever
they hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils.translation import gettext, gettext_noop, ngettext, pgettext

from backups.copying import planning
from backups.models import Copy, Instance, SetFile
from billing import until_expiry
from billing.amounts import estimated, storage_cost, traffic_cost
from billing.models import ItemCode, Price
from billing.pace import Pace, paces_of, whole_seconds
from billing.prices import Tariffs, price_of
from regions.models import Region

MOST_KEYS = 10_000  # in one question
MONTH = timedelta(days=30)

NO_PRICE = gettext_noop("There is no price for this; it runs all the same and the statement says so.")
NO_BACKUP_YET = gettext_noop("No default backup is known yet, so its size and pace are not either.")


@dataclass(frozen=True)
class Estimate:
    """`bytes` or `amount` None: not known, and `sentence` says why. `sentence` also names what the sum leaves out."""

    bytes: int | None
    amount: Decimal | None
    sentence: str = ""

    @property
    def size(self) -> Decimal | None:
        """The amount without its sign: how large a change is."""
        return None if self.amount is None else abs(self.amount)


@dataclass(frozen=True)
class LeftToPay:
    """What stored copies still cost until the last of them expires, at `until` (None: nothing is charged)."""

    amount: Decimal | None
    until: datetime | None
    sentence: str = ""


Targets = Mapping[Instance, Region]  # where the copies of each would go


def first_transfer(instance: Instance, destination: Region, at: datetime) -> Estimate:
    """Return what the 24-hour check would bring to the destination at once (R-6.1, R-6.3), and its traffic."""
    return first_transfers({instance: destination}, planning.examine_all([instance], at), at)[instance.pk]


def first_transfers(
    targets: Targets, found: Mapping[int, list[planning.DatabaseCheck]], at: datetime
) -> dict[int, Estimate]:
    """Return the same of many, by the instance's key, for what `planning.examine_all` found."""
    chosen = {pk: {one.pk for check in found[pk] for one in (*check.bases, check.chosen) if one} for pk in found}
    brought = _brought(chosen, targets, at)
    return {instance.pk: _first(found[instance.pk], brought[instance.pk]) for instance in targets}


def _first(checks: list[planning.DatabaseCheck], brought: Estimate) -> Estimate:
    if not checks:
        return Estimate(None, None, gettext(NO_BACKUP_YET))
    waiting = [check.database or gettext("the server") for check in checks if check.chosen is None]
    return replace(brought, sentence=" ".join(filter(None, [_not_counted(waiting), brought.sentence])))


def first_logs(targets: Targets, found: Mapping[int, list[planning.LogBeginning]], at: datetime) -> dict[int, Estimate]:
    """Return what the logs that `planning.examine_logs_all` found would bring at once (R-8.2), and its traffic."""
    return _brought({pk: {log for one in found[pk] for log in one.logs} for pk in found}, targets, at)


def _brought(chosen: Mapping[int, set[int]], targets: Targets, at: datetime) -> dict[int, Estimate]:
    prices = Tariffs({ItemCode.TRAFFIC: {(one.region_id, to.pk) for one, to in targets.items()}})
    sizes = _bytes_to_bring(chosen, {instance.pk: to for instance, to in targets.items()})
    return {
        instance.pk: Estimate(sizes[instance.pk], *_traffic(sizes[instance.pk], instance, to, at, prices))
        for instance, to in targets.items()
    }


def _bytes_to_bring(chosen: Mapping[int, set[int]], targets: Mapping[int, Region]) -> dict[int, int]:
    """Sum each file once: appended sets share one, and what lies at the destination already is not sent again."""
    regions = {region.pk for region in targets.values()}
    copies = Copy.objects.live().filter(destination_store__region__in=regions)
    there, files = set(), defaultdict(dict)
    for some in _batches([found for sets in chosen.values() for found in sets]):
        there |= set(copies.filter(set__in=some).values_list("set", "destination_store__region"))
        for found, file, size in SetFile.objects.filter(set__in=some).values_list("set", "file", "file__size"):
            files[found][file] = size
    totals = {}
    for pk, region in targets.items():
        missing = [found for found in chosen[pk] if (found, region.pk) not in there]
        totals[pk] = sum({file: size for found in missing for file, size in files[found].items()}.values())
    return totals


def _batches(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    return (keys[start : start + MOST_KEYS] for start in range(0, len(keys), MOST_KEYS))


def _not_counted(databases: list[str]) -> str:
    if not databases:
        return ""
    more = gettext(" and %(n)s more") % {"n": len(databases) - 3} if len(databases) > 3 else ""
    sentence = gettext("Not counted: the next full backup of %(names)s, whose size is not known yet.")
    return sentence % {"names": pgettext("in a list", ", ").join(databases[:3]) + more}


@dataclass(frozen=True)
class Terms:
    """Where to (None: anywhere), for how many days, and whether logs are copied too."""

    destination: Region | None
    retention_days: int
    logs: bool = False


class Months:
    """What 30 days cost under any of the terms given, once full: read at once for all the instances."""

    def __init__(self, terms: Iterable[tuple[Instance, Terms]], at: datetime) -> None:
        terms, self._at = list(terms), at
        instances = {instance.pk: instance for instance, _ in terms}
        with_logs = {instance.pk for instance, one in terms if one.logs}
        self._paces = paces_of(list(instances.values()), at, with_logs)
        places = {(instance.region_id, one.destination.pk if one.destination else "") for instance, one in terms}
        self._prices = Tariffs({ItemCode.STORAGE: places, ItemCode.TRAFFIC: places})

    def storage(self, instance: Instance, terms: Terms) -> Estimate:
        """Return what lies at the destination once the first backups expire, at today's sizes and pace, for 30 days.

        The stored amount is the pace times the time each backup stays, bases of differentials, and what logs need as
        long as the newest of them, included (R-12.6).
        """
        pace = self._pace(instance, terms)
        if pace is None:
            return Estimate(None, None, gettext(NO_BACKUP_YET))
        stored_bytes = pace.stored_bytes(terms.retention_days)
        place = (instance.region_id, terms.destination.pk if terms.destination else "")
        found = _stored(stored_bytes, self._prices.at(ItemCode.STORAGE, *place, self._at))
        return found if found.sentence else replace(found, sentence=pace.sentence)

    def traffic(self, instance: Instance, terms: Terms) -> Estimate:
        """Return what 30 days of default backups cost on their way, at today's sizes and pace."""
        pace = self._pace(instance, terms)
        if pace is None:
            return Estimate(None, None, gettext(NO_BACKUP_YET))
        total = pace.bytes_in(MONTH)
        amount, sentence = _traffic(total, instance, terms.destination, self._at, self._prices)
        return Estimate(total, amount, " ".join(filter(None, [pace.sentence, sentence])))

    def change(self, instance: Instance, old: Terms | None, new: Terms | None) -> Estimate:
        """Return by how much a month costs more under the new terms than under the old; None: it is off.

        What is stored already is paid for under both, until it expires; `left_to_pay` says how much that is.
        """
        before, after = (self._whole(instance, terms) for terms in (old, new))
        if before.amount is None or after.amount is None:
            return Estimate(None, None, after.sentence or before.sentence)
        return Estimate(None, after.amount - before.amount)

    def _whole(self, instance: Instance, terms: Terms | None) -> Estimate:
        if terms is None:
            return Estimate(0, Decimal("0.00"))
        parts = self.storage(instance, terms), self.traffic(instance, terms)
        if any(part.amount is None for part in parts):
            return Estimate(None, None, next(part.sentence for part in parts if part.amount is None))
        return Estimate(None, sum((part.amount for part in parts), Decimal(0)))

    def _pace(self, instance: Instance, terms: Terms) -> Pace | None:
        pace = self._paces.get(instance.pk)
        return pace if pace is None or terms.logs else pace.without_logs()


def monthly_storage(
    instance: Instance, retention_days: int, at: datetime, *, logs: bool = False, destination: Region | None = None
) -> Estimate:
    """Return what storing the backups of one instance costs (`Months.storage`)."""
    terms = Terms(destination, retention_days, logs)
    return Months([(instance, terms)], at).storage(instance, terms)


def storing(stored_bytes: int, source: Region, at: datetime, destination: Region | None = None) -> Estimate:
    """Return what it costs to store so many bytes of a source region for 30 days; without a destination, anywhere."""
    return _stored(stored_bytes, price_of(ItemCode.STORAGE, source, destination, at=at))


def _stored(stored_bytes: int, price: Price | None) -> Estimate:
    if price is None:
        return Estimate(stored_bytes, None, gettext(NO_PRICE))
    return Estimate(stored_bytes, estimated(storage_cost(stored_bytes * whole_seconds(MONTH), price.amount)))


def monthly_traffic(instance: Instance, destination: Region, at: datetime, *, logs: bool = False) -> Estimate:
    """Return what carrying the backups of one instance costs (`Months.traffic`)."""
    terms = Terms(destination, 0, logs)
    return Months([(instance, terms)], at).traffic(instance, terms)


def running(
    instance: Instance, destination: Region, retention_days: int, at: datetime, *, logs: bool = False
) -> tuple[Estimate, Estimate]:
    """Return what 30 days of one instance cost, once full: storage and traffic."""
    terms = Terms(destination, retention_days, logs)
    months = Months([(instance, terms)], at)
    return months.storage(instance, terms), months.traffic(instance, terms)


def _traffic(
    total: int, instance: Instance, destination: Region, at: datetime, prices: Tariffs
) -> tuple[Decimal | None, str]:
    price = prices.at(ItemCode.TRAFFIC, instance.region_id, destination.pk, at)
    return (estimated(traffic_cost(total, price.amount)), "") if price else (None, gettext(NO_PRICE))


def left_to_pay(instance: Instance, at: datetime, retention_days: int | None = None) -> LeftToPay:
    """Return what the copies stored now cost until they expire (R-15.5): at their dates, or under another retention."""
    days = {} if retention_days is None else {instance.pk: retention_days}
    return left_to_pay_of_all([instance.pk], at, days)[instance.pk]


def left_to_pay_of_all(
    instances: Collection[int], at: datetime, retention_days: Mapping[int, int] | None = None
) -> dict[int, LeftToPay]:
    """Return the same of many, by the instance's key; at their dates where no other retention is given."""
    found = until_expiry.of_all(instances, at, retention_days)
    return {pk: _said_of(left) for pk, left in found.items()}


def _said_of(left: until_expiry.Left) -> LeftToPay:
    return LeftToPay(left.amount, left.until, gettext(NO_PRICE) if left.amount is None else _held(left.held))


def _held(count: int) -> str:
    if not count:
        return ""
    sentence = ngettext(
        "Not counted: %(n)s copy is held and charged until the hold is released.",
        "Not counted: %(n)s copies are held and charged until the hold is released.",
        count,
    )
    return sentence % {"n": count}
