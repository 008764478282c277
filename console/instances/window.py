"""What the picture of an instance's restorable window is drawn from: rows, in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, F, FloatField, Max, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Cast, Extract, Floor
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from backups.models import BackupSet, Copy, CopyState, Instance, Kind, LogGap, RestorableInterval
from console.instances import timeline
from console.instances.timeline import Band, Known, Solid, Timeline
from console.widgets.addresses import restoring
from regions.models import Region

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
RANGES = {"day": (_("24 hours"), DAY), "week": (_("7 days"), 7 * DAY), "all": (_("All"), None)}
USUAL = "week"
BUCKETS = 600  # stretches of time that are told apart: about as many as there are pixels to show them
LONGEST = timedelta(days=1825)
MOST_LINKS = 6  # databases offered as links; more than that are a list to choose from
MOST_LISTED = 30


@dataclass(frozen=True)
class Line:
    """One line of the list that says what the picture shows. `address`: where it is restored, "" for a gap."""

    begins: datetime
    ends: datetime
    is_gap: bool
    address: str = ""

    @property
    def is_point(self) -> bool:
        return self.begins == self.ends


@dataclass
class Window:
    """The restorable window of one database at one destination, within the range that was asked for."""

    request: HttpRequest
    instance: Instance
    destination: Region | None
    at: datetime

    # ---- what can be chosen

    @cached_property
    def databases(self) -> list[str]:
        """Return the databases of which anything is at the source or at a destination."""
        copies = Copy.objects.restorable().filter(set=OuterRef("pk"))
        sets = BackupSet.objects.data().filter(Q(deleted_at=None) | Exists(copies), instance=self.instance)
        return sorted(sets.order_by().values_list("database", flat=True).distinct())

    @cached_property
    def database(self) -> str:
        asked = self.request.GET.get("database", "")
        return asked if asked in self.databases else next(iter(self.databases), "")

    @property
    def range(self) -> str:
        asked = self.request.GET.get("range", "")
        return asked if asked in RANGES else USUAL

    @property
    def ranges(self) -> list[tuple[str, str, bool]]:
        """Return (words, address, whether it is shown) of each range."""
        return [(words, self._here(range=name), name == self.range) for name, (words, _) in RANGES.items()]

    @property
    def choices(self) -> list[tuple[str, str, bool]]:
        """Return (database, address, whether it is shown), where an engine backs up each by itself."""
        return [(name, self._here(database=name), name == self.database) for name in self.databases if name]

    @property
    def has_many(self) -> bool:
        return len(self.databases) > MOST_LINKS

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Return what a form that chooses the database takes along of the address."""
        query = self._query()
        query.pop("database", None)
        return [(name, value) for name, values in query.lists() for value in values]

    def _query(self):
        query = self.request.GET.copy()
        for name in ("after", "before"):
            query.pop(name, None)
        return query

    def _here(self, **change: str) -> str:
        query = self._query()
        for name, value in change.items():
            query[name] = value
        return f"?{query.urlencode()}"

    # ---- the picture

    @cached_property
    def timeline(self) -> Timeline:
        return timeline.draw(self.known, self._begins, self.at)

    @property
    def solid(self) -> list[tuple[Band, str, bool]]:
        """Return the restorable stretches as drawn: where the newest moment of each is restored, and whether any
        second of it can be (those that only touch in the picture have holes between them)."""
        return [
            (band, self._address(band.last), band.joined == 1 and _whole_second(band.last) is not None)
            for band in self.timeline.restorable
        ]

    @cached_property
    def lines(self) -> list[Line]:
        """Return stretches, moments and gaps in one order, the newest first: what a screen reader has of it."""
        solid = [Line(one.begins, one.ends, False, self._address(one)) for one in self.known.restorable]
        gaps = [Line(begins, ends, True) for begins, ends in self.known.gaps]
        return sorted([*solid, *gaps], key=lambda line: (line.ends, line.begins), reverse=True)

    @property
    def listed(self) -> list[Line]:
        return self.lines[:MOST_LISTED]

    @property
    def more_lines(self) -> int:
        return max(0, len(self.lines) - MOST_LISTED)

    def _address(self, solid: Solid) -> str:
        """Return where its newest moment is restored; one without a whole second is restored as the set it is."""
        until = _whole_second(solid)
        named = {"database": self.database, "store": solid.store}
        if until is None:
            return restoring(self.instance.code, set=solid.set, **named)
        return restoring(self.instance.code, until=until, **named)

    # ---- the rows behind it

    @cached_property
    def _begins(self) -> datetime:
        length = RANGES[self.range][1]
        if length:
            return self.at - length
        oldest = [
            self._sets.aggregate(first=Min("finished_at"))["first"],
            self._copies.aggregate(first=Min("set__finished_at"))["first"],
        ]
        first = min([one for one in oldest if one], default=self.at)
        return max(min(first, self.at - DAY), self.at - LONGEST)

    @cached_property
    def known(self) -> Known:
        begins = self._begins
        sets, copies = self._sets.filter(finished_at__gte=begins), self._copies.filter(set__finished_at__gte=begins)
        place = {"instance": self.instance, "database": self.database, "store__region": self.destination}
        windows = RestorableInterval.objects.filter(**place, ended_at__gte=begins).order_by("began_at", "ended_at")
        solid = [Solid(*row) for row in windows.values_list("began_at", "ended_at", "store", "anchor__set")]
        gaps = LogGap.objects.filter(**place, until_time__gte=begins).order_by("from_time")
        return Known(
            source=self._moments(sets.exclude(kind=Kind.LOG), "", begins),
            source_logs=self._stretches(sets.filter(kind=Kind.LOG), "", begins),
            copies=self._moments(copies.exclude(set__kind=Kind.LOG), "set__", begins),
            copied_logs=self._stretches(copies.filter(set__kind=Kind.LOG), "set__", begins),
            restorable=solid,
            gaps=[gap for gap in gaps.values_list("from_time", "until_time") if not is_covered(gap, solid)],
        )

    @property
    def _sets(self) -> QuerySet[BackupSet]:
        return BackupSet.objects.filter(instance=self.instance, database=self.database, deleted_at=None)

    @property
    def _copies(self) -> QuerySet[Copy]:
        here = {"set__instance": self.instance, "set__database": self.database, "state": CopyState.COMPLETED}
        return Copy.objects.filter(**here, destination_store__region=self.destination)

    def _moments(self, rows: QuerySet, path: str, begins: datetime) -> list[tuple[datetime, bool]]:
        """Return backups, of those that no pixel tells apart the newest; the database thins them out."""
        found = self._in_buckets(rows, path, begins).values("bucket", f"{path}kind")
        found = found.annotate(at=Max(f"{path}finished_at")).order_by("at")
        return [(row["at"], row[f"{path}kind"] == Kind.FULL) for row in found]

    def _stretches(self, rows: QuerySet, path: str, begins: datetime) -> list[tuple[datetime, datetime]]:
        """Return the logs as at most so many stretches as the picture can show; the database adds them up."""
        found = self._in_buckets(rows, path, begins).values("bucket")
        found = found.annotate(begin=Min(F(f"{path}started_at")), end=Max(F(f"{path}finished_at")))
        return [(row["begin"] or row["end"], row["end"]) for row in found.order_by("bucket")]

    def _in_buckets(self, rows: QuerySet, path: str, begins: datetime) -> QuerySet:
        step = max(1.0, (self.at - begins).total_seconds() / BUCKETS)
        seconds = Cast(Extract(f"{path}finished_at", "epoch"), FloatField())
        return rows.order_by().annotate(bucket=Floor(seconds / step))


def is_covered(gap: tuple[datetime, datetime], solid: Sequence[tuple]) -> bool:
    """Say whether a gap was filled after all: what was missing has come, and every moment of it can be restored."""
    return any(one[0] <= gap[0] and gap[1] <= one[1] for one in solid)


def _whole_second(solid: Solid) -> datetime | None:
    """Return the last whole second inside: what a restore can be asked for; None where there is none."""
    last = solid.ends.replace(microsecond=0)
    return last if last >= solid.begins and solid.begins < solid.ends else None
