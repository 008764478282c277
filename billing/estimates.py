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

from backups import planning, retention
from backups.models import BackupFile, BackupSet, Copy, Instance, Kind, PolicyKind, SetStatus, StorageSpan
from billing import metering
from billing.amounts import MILLIONTH, storage_amount, traffic_amount
from billing.models import ItemCode
from billing.plans import millionths
from billing.prices import Tariff, price_of, stretches
from regions.models import Region

DAY = timedelta(days=1)
PACE_WINDOW = timedelta(days=14)
MONTH = timedelta(days=30)

NO_PRICE = gettext_noop("There is no price for this; it runs all the same and the statement says so.")
NO_LOGS_YET = gettext_noop("Not counted: logs, of which none are known yet.")
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
    pace = _pace(instance, at, logs)
    if pace is None:
        return Estimate(None, None, gettext(NO_BACKUP_YET))
    found = storing(pace.stored_bytes(retention_days), instance.region, at, destination)
    return found if found.sentence else replace(found, sentence=pace.sentence)


def storing(stored_bytes: int, source: Region, at: datetime, destination: Region | None = None) -> Estimate:
    """Return what it costs to store so many bytes of a source region for 30 days; without a destination, anywhere."""
    price = price_of(ItemCode.STORAGE, source, destination, at=at)
    if price is None:
        return Estimate(stored_bytes, None, gettext(NO_PRICE))
    return Estimate(stored_bytes, storage_amount(stored_bytes * _seconds(MONTH), price.amount))


def monthly_traffic(instance: Instance, destination: Region, at: datetime, *, logs: bool = False) -> Estimate:
    """Return what 30 days of default backups cost on their way, at today's sizes and pace."""
    pace = _pace(instance, at, logs)
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


@dataclass(frozen=True)
class Arrived:
    """One finished default backup as the pace sees it. `needs` is the guid of the set it stands on, "" for none."""

    bytes: int
    finished_at: datetime
    guid: str = ""
    needs: str = ""


@dataclass(frozen=True)
class LogPace:
    """How many bytes of logs a day brings. Between two fulls, `turn`, each is kept until the newest expires."""

    day_bytes: int
    turn: timedelta


@dataclass(frozen=True)
class Pace:
    """How much arrives in how much time; `logs` None: they are not copied."""

    arrived: tuple[Arrived, ...]
    observed: timedelta
    logs: LogPace | None = None

    @property
    def sentence(self) -> str:
        said = [self._counted, gettext(NO_LOGS_YET) if self.logs and not self.logs.day_bytes else ""]
        return " ".join(filter(None, said))

    @property
    def _counted(self) -> str:
        days = max(1, round(self.observed / DAY))
        count = len(self.arrived)
        backups = ngettext("%(n)s default backup", "%(n)s default backups", count) % {"n": count}
        if days == 1:
            return gettext("Reckoned from %(backups)s of the last day.") % {"backups": backups}
        return gettext("Reckoned from %(backups)s of the last %(days)s days.") % {"backups": backups, "days": days}

    def bytes_in(self, stretch: timedelta) -> int:
        logs = self.logs.day_bytes * _seconds(stretch) // _seconds(DAY) if self.logs else 0
        return sum(backup.bytes for backup in self.arrived) * _seconds(stretch) // _seconds(self.observed) + logs

    def stored_bytes(self, retention_days: int) -> int:
        """What lies there in the steady state: each arrival times how long it stays, per time observed."""
        newest: dict[str, datetime] = {}
        for backup in sorted(self.arrived, key=lambda backup: backup.finished_at, reverse=True):
            needed = newest.get(backup.guid, backup.finished_at) if backup.guid else backup.finished_at
            newest[backup.needs] = max(needed, newest.get(backup.needs, needed))
        stays = sum(backup.bytes * _seconds(_stay(backup, retention_days, newest)) for backup in self.arrived)
        return stays // _seconds(self.observed) + self._stored_for_logs(retention_days)

    def _stored_for_logs(self, retention_days: int) -> int:
        """The logs themselves, on the average half a turn longer than their own, and the fulls, a whole one."""
        if not self.logs or not self.logs.day_bytes:
            return 0
        stay = retention_days * DAY + self.logs.turn / 2
        fulls = sum(backup.bytes for backup in self.arrived if not backup.needs)
        longer = fulls * _seconds(self.logs.turn) // _seconds(self.observed)
        return self.logs.day_bytes * _seconds(stay) // _seconds(DAY) + longer


def _stay(backup: Arrived, retention_days: int, newest: dict[str, datetime]) -> timedelta:
    """A set stays as long as the newest that needs it, at any depth."""
    last_needed = newest.get(backup.guid, backup.finished_at) if backup.guid else backup.finished_at
    return max(last_needed - backup.finished_at, timedelta(0)) + retention_days * DAY


def _seconds(stretch: timedelta) -> int:
    return stretch // timedelta(seconds=1)


def _pace(instance: Instance, at: datetime, logs: bool = False) -> Pace | None:
    """Look at the last fourteen days, or at as many as there are; one day at least, for a full a day is the rule."""
    sets = BackupSet.objects.filter(instance=instance, status=SetStatus.SUCCEEDED, finished_at__lte=at).data()
    first = sets.order_by("finished_at").values_list("finished_at", flat=True).first()
    if first is None:
        return None
    recent = list(sets.filter(finished_at__gt=at - PACE_WINDOW).annotate(bytes=Sum("files__size")))
    arrived = tuple(_arrived(found) for found in recent)
    observed = min(max(at - first, _turns(recent), DAY), PACE_WINDOW)
    return Pace(arrived, observed, _log_pace(instance, at, arrived, observed) if logs else None) if arrived else None


def _turns(recent: list[BackupSet]) -> timedelta:
    """Return how long so many backups take at their own pace: between fourteen lie thirteen gaps, not fourteen."""
    finished: dict[str, list[datetime]] = {}
    for found in recent:
        finished.setdefault(found.database, []).append(found.finished_at)
    often = max(finished.values(), key=len, default=[])
    return (max(often) - min(often)) / (len(often) - 1) * len(often) if len(often) > 1 else timedelta(0)


def _log_pace(instance: Instance, at: datetime, arrived: tuple[Arrived, ...], observed: timedelta) -> LogPace:
    """Look at the logs of the last day: there may be thousands."""
    recent = BackupFile.objects.filter(sets__instance=instance, sets__kind=Kind.LOG, sets__finished_at__gt=at - DAY)
    databases = len(planning.databases_of(instance, at)) or 1
    fulls = sum(1 for backup in arrived if not backup.needs) or 1
    return LogPace(recent.aggregate(total=Sum("size"))["total"] or 0, observed * databases / fulls)


def _arrived(found: BackupSet) -> Arrived:
    is_differential = found.kind == Kind.DIFFERENTIAL
    needs = found.base_guid if is_differential else ""
    return Arrived(found.bytes or found.size_bytes, found.finished_at, found.set_guid, needs)


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
        finished = copies.values_list("pk", "set__finished_at")
        own = {pk: retention.own_expiry(at, retention_days) for pk, at in finished}
        dates |= retention.effective(own, retention.dependents(copies))
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
