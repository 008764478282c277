"""What a dialog says before OK (R-4.6): sums over facts. What is not known is None, with a sentence.

An estimate rounds once, at its end; the statement rounds each line. What a month will cost is said at today's prices;
what is stored already (`left_to_pay`) at those that the price table has for its route, whenever they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Sum
from django.utils.translation import gettext, gettext_noop, ngettext

from backups import dependents, planning, retention
from backups.models import BackupFile, BackupSet, Copy, Instance, PolicyKind, StorageSpan
from billing import metering
from billing.amounts import MILLIONTH, storage_amount, traffic_amount
from billing.models import ItemCode
from billing.pace import pace_of, whole_seconds
from billing.plans import millionths
from billing.prices import Tariff, price_of, stretches
from regions.models import Region

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


@dataclass(frozen=True)
class Shortening:
    """What another retention frees at once, of how much, and how much less is paid for what is stored now."""

    sets: int
    bytes: int
    all_sets: int
    all_bytes: int
    saved: Decimal | None
    sentence: str = ""


def first_transfer(instance: Instance, destination: Region, at: datetime) -> Estimate:
    """Return what the 24-hour check would bring to the destination at once (R-6.1, R-6.3), and its traffic."""
    checks = planning.examine(instance, at)
    if not checks:
        return Estimate(None, None, gettext(NO_BACKUP_YET))
    chosen = {found.pk for check in checks for found in (*check.bases, check.chosen) if found}
    total = _bytes_to_bring(chosen, destination)
    amount, sentence = _traffic(total, instance, destination, at)
    waiting = [check.database or gettext("the server") for check in checks if check.chosen is None]
    return Estimate(total, amount, " ".join(filter(None, [_not_counted(waiting), sentence])))


def first_logs(instance: Instance, destination: Region, at: datetime) -> Estimate:
    """Return what the logs that are there already would bring to the destination at once (R-8.2), and its traffic."""
    logs = [log for found in planning.examine_logs(instance, at) for log in found.logs]
    total = _bytes_to_bring(set(logs), destination)
    return Estimate(total, *_traffic(total, instance, destination, at))


def _bytes_to_bring(sets: set[int], destination: Region) -> int:
    """Sum each file once: appended sets share one, and what lies at the destination already is not sent again."""
    there = Copy.objects.live().filter(destination_store__region=destination, set__in=sets).values("set")
    missing = BackupSet.objects.filter(pk__in=sets).exclude(pk__in=there)
    files = BackupFile.objects.filter(pk__in=missing.values("files"))
    return files.aggregate(total=Sum("size"))["total"] or 0


def _not_counted(databases: list[str]) -> str:
    if not databases:
        return ""
    more = gettext(" and %(n)s more") % {"n": len(databases) - 3} if len(databases) > 3 else ""
    sentence = gettext("Not counted: the next full backup of %(names)s, whose size is not known yet.")
    return sentence % {"names": ", ".join(databases[:3]) + more}


def monthly_storage(
    instance: Instance, retention_days: int, at: datetime, *, logs: bool = False, destination: Region | None = None
) -> Estimate:
    """Return what lies at the destination once the first backups expire, at today's sizes and pace, for 30 days.

    The stored amount is the pace times the time each backup stays, bases of differentials, and what logs need as long
    as the newest of them, included (R-12.6).
    """
    pace = pace_of(instance, at, logs)
    if pace is None:
        return Estimate(None, None, gettext(NO_BACKUP_YET))
    found = storing(pace.stored_bytes(retention_days), instance.region, at, destination)
    return found if found.sentence else replace(found, sentence=pace.sentence)


def storing(stored_bytes: int, source: Region, at: datetime, destination: Region | None = None) -> Estimate:
    """Return what it costs to store so many bytes of a source region for 30 days; without a destination, anywhere."""
    price = price_of(ItemCode.STORAGE, source, destination, at=at)
    if price is None:
        return Estimate(stored_bytes, None, gettext(NO_PRICE))
    return Estimate(stored_bytes, storage_amount(stored_bytes * whole_seconds(MONTH), price.amount))


def monthly_traffic(instance: Instance, destination: Region, at: datetime, *, logs: bool = False) -> Estimate:
    """Return what 30 days of default backups cost on their way, at today's sizes and pace."""
    pace = pace_of(instance, at, logs)
    if pace is None:
        return Estimate(None, None, gettext(NO_BACKUP_YET))
    total = pace.bytes_in(MONTH)
    amount, sentence = _traffic(total, instance, destination, at)
    return Estimate(total, amount, " ".join(filter(None, [pace.sentence, sentence])))


Terms = tuple[Region, int, bool]  # where to, retention in days, whether logs are copied too


def running(
    instance: Instance, destination: Region, retention_days: int, at: datetime, *, logs: bool = False
) -> tuple[Estimate, Estimate]:
    """Return what 30 days cost, once full: storage and traffic."""
    storage = monthly_storage(instance, retention_days, at, logs=logs, destination=destination)
    return storage, monthly_traffic(instance, destination, at, logs=logs)


def change(instance: Instance, old: Terms | None, new: Terms | None, at: datetime) -> Estimate:
    """Return by how much a month, once full, costs more under the new terms than under the old; None: it is off.

    What is stored already is paid for under both, until it expires; `left_to_pay` says how much that is.
    """
    before, after = (_a_month(instance, terms, at) for terms in (old, new))
    if before.amount is None or after.amount is None:
        return Estimate(None, None, after.sentence or before.sentence)
    return Estimate(None, after.amount - before.amount)


def _a_month(instance: Instance, terms: Terms | None, at: datetime) -> Estimate:
    if terms is None:
        return Estimate(0, Decimal("0.00"))
    destination, retention_days, logs = terms
    parts = running(instance, destination, retention_days, at, logs=logs)
    if any(part.amount is None for part in parts):
        return Estimate(None, None, next(part.sentence for part in parts if part.amount is None))
    return Estimate(None, sum((part.amount for part in parts), Decimal(0)))


def _traffic(total: int, instance: Instance, destination: Region, at: datetime) -> tuple[Decimal | None, str]:
    price = price_of(ItemCode.TRAFFIC, instance.region, destination, at=at)
    return (traffic_amount(total, price.amount), "") if price else (None, gettext(NO_PRICE))


def left_to_pay(instance: Instance, at: datetime, retention_days: int | None = None) -> LeftToPay:
    """Return what the copies stored now cost until they expire (R-15.5): at their dates, or under another retention."""
    spans = _charged_now(instance)
    if retention_days is None:
        return _until(spans, lambda copy: copy.expires_at, at)
    dates = _dates_under(retention_days, [span.copy for span in spans], instance)
    return _until(spans, lambda copy: copy.expires_at and dates[copy.pk], at)


def shortening(instance: Instance, retention_days: int, at: datetime) -> Shortening:
    """Return what a shorter retention frees at the OK (R-14.3) and how much less is paid for what is stored now."""
    effect = retention.shortening(instance, retention_days, at)
    now, then = left_to_pay(instance, at), left_to_pay(instance, at, retention_days)
    saved = None if now.amount is None or then.amount is None else now.amount - then.amount
    counted = (effect[name] for name in ("sets", "bytes", "all_sets", "all_bytes"))
    return Shortening(*counted, saved=saved, sentence=now.sentence)


CHARGED = ("copy__set", "copy__policy", "copy__destination_store")


def _charged_now(instance: Instance) -> list[StorageSpan]:
    spans = StorageSpan.objects.filter(ended_at=None, copy__set__instance=instance)
    return list(spans.filter(copy__policy__kind=PolicyKind.CROSS_REGION).select_related(*CHARGED))


def _dates_under(retention_days: int, charged: list[Copy], instance: Instance) -> dict[int, datetime]:
    """Work out every copy's date under the retention, store by store, as retention itself does (R-12.6)."""
    dates: dict[int, datetime] = {}
    for store in {copy.destination_store_id for copy in charged}:
        copies = Copy.objects.filter(set__instance=instance, destination_store=store, state__in=retention.DATED)
        rows = copies.values_list("pk", "set__finished_at", "locked_until")
        own = {pk: retention.not_before(retention.own_expiry(at, retention_days), lock) for pk, at, lock in rows}
        dates |= dependents.effective(own, dependents.all_of(copies))
    return dates


def _until(spans: Iterable[StorageSpan], date_of: Callable[[Copy], datetime | None], at: datetime) -> LeftToPay:
    dated = [(span, date_of(span.copy)) for span in spans]
    held = sum(1 for _, date in dated if date is None)
    ahead = [(span, date) for span, date in dated if date and date > at]
    until = max((date for _, date in ahead), default=None)
    amount = _storage_of(ahead, at, until) if until else Decimal("0.00")
    return LeftToPay(amount, until, _held(held) if amount is not None else gettext(NO_PRICE))


def _storage_of(ahead: Sequence[tuple[StorageSpan, datetime]], at: datetime, until: datetime) -> Decimal | None:
    """Charge what is stored until its date as the statement will: by the prices of its route, each while it holds."""
    routes = {span.pk: (span.copy.policy.source_region_id, span.copy.destination_store.region_id) for span, _ in ahead}
    tariff, worth = Tariff(ItemCode.STORAGE, routes.values()), 0
    for begin, end in stretches(ItemCode.STORAGE, at, until):
        for span, date in ahead:
            quantity = span.bytes * metering.seconds_between(begin, min(date, end))
            price = tariff.at(*routes[span.pk], begin) if quantity else None
            if quantity and price is None:
                return None
            worth += quantity * millionths(price.amount) if price else 0
    return storage_amount(worth, MILLIONTH)


def _held(count: int) -> str:
    if not count:
        return ""
    sentence = ngettext(
        "Not counted: %(n)s copy is held and charged until the hold is released.",
        "Not counted: %(n)s copies are held and charged until the hold is released.",
        count,
    )
    return sentence % {"n": count}
