"""How much an instance's default backups bring in how much time, and what they will bring if that goes on.

One pace serves the dialog before OK (billing.estimates) and the forecast (billing.forecast).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Min, QuerySet, Sum
from django.utils.translation import gettext, gettext_noop, ngettext

from backups.copying import planning
from backups.engines import engine_of
from backups.models import BackupFile, BackupSet, Instance, Kind, SetStatus

DAY = timedelta(days=1)
PACE_WINDOW = timedelta(days=14)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NO_LOGS_YET = gettext_noop("Not counted: logs, of which none are known yet.")


def whole_seconds(stretch: timedelta) -> int:
    return stretch // timedelta(seconds=1)


def second_of(moment: datetime) -> int:
    """Return a moment's whole second, floored, as the meter counts it."""
    return whole_seconds(moment - EPOCH)


def moment_of(second: int) -> datetime:
    return EPOCH + timedelta(seconds=second)


@dataclass(frozen=True)
class Coming:
    """Arrivals that lie ahead: the first at the second `first`, the next every so many (0: there is only one).

    Each brings `bytes` and is charged for `stay` seconds. Sums are closed, for a year of a fleet has many arrivals.
    """

    bytes: int
    first: int
    every: int
    stay: int

    def count(self, until: int) -> int:
        """Return how many arrive before the second `until`."""
        return self._reached(until - self.first - 1)

    def byte_seconds(self, until: int) -> int:
        """Return what all of them have stored by the second `until`."""
        age, count = until - self.first, self.count(until)
        whole = min(count, self._reached(age - self.stay))  # these have stayed to their end
        growing = count - whole
        ages = growing * age - self.every * (whole + count - 1) * growing // 2
        return self.bytes * (whole * self.stay + ages)

    def seconds(self, begin: int, until: int) -> Iterator[int]:
        """Yield when each arrives, in order, from the second `begin` on and before `until`."""
        return (self.first + number * self.every for number in range(self.count(begin), self.count(until)))

    def _reached(self, age: int) -> int:
        """Return how many there are whose age is not below nothing when the first's is `age`."""
        if age < 0:
            return 0
        return age // self.every + 1 if self.every else 1


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

    def stay(self, retention_days: int) -> timedelta:
        """Return how long a log stays on the average: half a turn longer than its own days."""
        return retention_days * DAY + self.turn / 2


@dataclass(frozen=True)
class Pace:
    """How much arrives in how much time; `logs` None: they are not copied."""

    arrived: tuple[Arrived, ...]
    observed: timedelta
    logs: LogPace | None = None

    @property
    def lacks_logs(self) -> bool:
        """Whether logs are copied, and none are known yet."""
        return self.logs is not None and not self.logs.day_bytes

    @property
    def sentence(self) -> str:
        said = [self._counted, gettext(NO_LOGS_YET) if self.lacks_logs else ""]
        return " ".join(filter(None, said))

    @property
    def _counted(self) -> str:
        days = max(1, round(self.observed / DAY))
        count = len(self.arrived)
        backups = ngettext("%(n)s default backup", "%(n)s default backups", count) % {"n": count}
        if days == 1:
            return gettext("Reckoned from %(backups)s of the last day.") % {"backups": backups}
        return gettext("Reckoned from %(backups)s of the last %(days)s days.") % {"backups": backups, "days": days}

    def without_logs(self) -> Pace:
        return replace(self, logs=None)

    def bytes_in(self, stretch: timedelta) -> int:
        logs = self.logs.day_bytes * whole_seconds(stretch) // whole_seconds(DAY) if self.logs else 0
        arrived = sum(backup.bytes for backup in self.arrived)
        return arrived * whole_seconds(stretch) // whole_seconds(self.observed) + logs

    def stored_bytes(self, retention_days: int) -> int:
        """What lies there in the steady state: each arrival times how long it stays, per time observed."""
        stays = sum(backup.bytes * whole_seconds(stay) for backup, stay in self._stays(retention_days))
        return stays // whole_seconds(self.observed) + self._stored_for_logs(retention_days)

    def coming(self, retention_days: int, at: datetime) -> list[Coming]:
        """Return what arrives from `at` on if all that was observed comes again and again, as far apart as it was.

        A day of logs arrives at its noon, so to say, which over whole days is the same as little by little.
        """
        every, turn = whole_seconds(self.observed), timedelta(0)
        found = []
        if self.logs and self.logs.day_bytes:
            turn, stay = self.logs.turn, whole_seconds(self.logs.stay(retention_days))
            day = whole_seconds(DAY)
            found.append(Coming(self.logs.day_bytes, second_of(at) + day // 2, day, stay))
        for backup, stay in self._stays(retention_days):
            longer = turn if not backup.needs else timedelta(0)
            first = _next(second_of(backup.finished_at), every, second_of(at))
            found.append(Coming(backup.bytes, first, every, whole_seconds(stay + longer)))
        return found

    def _stays(self, retention_days: int) -> Iterator[tuple[Arrived, timedelta]]:
        """Yield each arrival and how long it stays: as long as the newest that needs it, at any depth."""
        newest: dict[str, datetime] = {}
        for backup in sorted(self.arrived, key=lambda backup: backup.finished_at, reverse=True):
            needed = newest.get(backup.guid, backup.finished_at) if backup.guid else backup.finished_at
            newest[backup.needs] = max(needed, newest.get(backup.needs, needed))
        for backup in self.arrived:
            last_needed = newest.get(backup.guid, backup.finished_at) if backup.guid else backup.finished_at
            yield backup, max(last_needed - backup.finished_at, timedelta(0)) + retention_days * DAY

    def _stored_for_logs(self, retention_days: int) -> int:
        """The logs themselves, and the fulls a whole turn longer."""
        if not self.logs or not self.logs.day_bytes:
            return 0
        fulls = sum(backup.bytes for backup in self.arrived if not backup.needs)
        longer = fulls * whole_seconds(self.logs.turn) // whole_seconds(self.observed)
        stay = whole_seconds(self.logs.stay(retention_days))
        return self.logs.day_bytes * stay // whole_seconds(DAY) + longer


def _next(seen: int, every: int, at: int) -> int:
    """Return the second in which what was seen comes again for the first time, not before `at`."""
    return seen + every * max(1, -((seen - at) // every))


# ---- from the facts, few questions for many instances


def pace_of(instance: Instance, at: datetime, logs: bool = False) -> Pace | None:
    """Return the instance's pace; None: no default backup of the last fourteen days is known."""
    return paces_of([instance], at, {instance.pk} if logs else ()).get(instance.pk)


def paces_of(instances: Collection[Instance], at: datetime, with_logs: Collection[int] = ()) -> dict[int, Pace]:
    """Look at the last fourteen days, or at as many as there are; one day at least, for a full a day is the rule.

    Returns instance id → pace, for those that have one; the logs of those in `with_logs`.
    """
    sets = BackupSet.objects.filter(instance__in=instances, status=SetStatus.SUCCEEDED, finished_at__lte=at).data()
    first = dict(sets.order_by().values_list("instance").annotate(Min("finished_at")))
    recent = _recent(sets, at)
    logs = _log_bytes(with_logs, at)
    databases = _databases([found for found in instances if found.pk in with_logs], at)
    paces = {}
    for pk, found in recent.items():
        arrived = tuple(_arrived(each) for each in found)
        observed = min(max(at - first[pk], _turns(found), DAY), PACE_WINDOW)
        log_pace = _log_pace(logs.get(pk, 0), databases.get(pk, 1), arrived, observed) if pk in with_logs else None
        paces[pk] = Pace(arrived, observed, log_pace)
    return paces


def _recent(sets: QuerySet[BackupSet], at: datetime) -> dict[int, list[BackupSet]]:
    named = ("instance_id", "database", "kind", "base_guid", "set_guid", "size_bytes", "finished_at")
    rows = sets.filter(finished_at__gt=at - PACE_WINDOW).annotate(bytes=Sum("files__size")).order_by("pk").only(*named)
    recent: dict[int, list[BackupSet]] = defaultdict(list)
    for row in rows:
        recent[row.instance_id].append(row)
    return recent


def _turns(recent: list[BackupSet]) -> timedelta:
    """Return how long so many backups take at their own pace: between fourteen lie thirteen gaps, not fourteen."""
    finished: dict[str, list[datetime]] = {}
    for found in recent:
        finished.setdefault(found.database, []).append(found.finished_at)
    often = max(finished.values(), key=len, default=[])
    return (max(often) - min(often)) / (len(often) - 1) * len(often) if len(often) > 1 else timedelta(0)


def _log_bytes(instances: Collection[int], at: datetime) -> dict[int, int]:
    """Look at the logs of the last day: there may be thousands."""
    if not instances:
        return {}
    files = BackupFile.objects.filter(sets__instance__in=instances, sets__kind=Kind.LOG, sets__finished_at__gt=at - DAY)
    return dict(files.order_by().values_list("sets__instance").annotate(Sum("size")))


def _databases(instances: Collection[Instance], at: datetime) -> dict[int, int]:
    """Return how many databases are backed up one by one, as planning sees them."""
    one_by_one = [found.pk for found in instances if not engine_of(found.engine).capabilities.whole_server]
    if not one_by_one:
        return {}
    seen = BackupSet.objects.filter(instance__in=one_by_one, finished_at__gte=at - planning.STILL_ONLINE).data()
    return dict(seen.order_by().values_list("instance").annotate(Count("database", distinct=True)))


def _log_pace(day_bytes: int, databases: int, arrived: tuple[Arrived, ...], observed: timedelta) -> LogPace:
    fulls = sum(1 for backup in arrived if not backup.needs) or 1
    return LogPace(day_bytes, observed * databases / fulls)


def _arrived(found: BackupSet) -> Arrived:
    is_differential = found.kind == Kind.DIFFERENTIAL
    needs = found.base_guid if is_differential else ""
    return Arrived(found.bytes or found.size_bytes, found.finished_at, found.set_guid, needs)
