"""What could be brought back of each instance, how old it would be, from where, and how long it takes as measured.

Asks the rows only, never a store: it has to answer when half of the stores do not (R-1.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet

from backups.chains import certificates
from backups.models import Copy, Drill, Instance, Kind, RestorableInterval, Restore
from console.restores.stages import seconds_taken
from console.widgets.restorable import why_engine_not_restored
from regions.models import Region, Store

DRILL, RESTORE = "drill", "restore"


@dataclass
class Reach:
    """How far back and how far forward the copies of one database at one store go."""

    database: str
    oldest: datetime
    newest: datetime


@dataclass(frozen=True)
class Measured:
    """How long bringing an instance back took the last time: in a drill, or in earnest."""

    seconds: float
    at: datetime
    by: str


@dataclass
class Recovery:
    """What can be brought back of one instance. `reaches`: one for each database, at `store`, the worst first."""

    instance: Instance
    why_not: str = ""
    store: Store | None = None
    reaches: list[Reach] = field(default_factory=list)
    measured: Measured | None = None
    source: Store | None = None

    @property
    def newest(self) -> datetime | None:
        """The moment that every one of its databases reaches."""
        return self.reaches[0].newest if self.reaches else None

    @property
    def oldest(self) -> datetime | None:
        return min((one.oldest for one in self.reaches), default=None)

    @property
    def worst_database(self) -> str:
        return self.reaches[0].database if len(self.reaches) > 1 else ""

    @property
    def is_possible(self) -> bool:
        return bool(self.reaches) and not self.why_not


@dataclass(frozen=True)
class SourceRegion:
    """A region whose instances would have to come back, with what its own store said last."""

    region: Region
    store: Store | None
    total: int
    recoverable: int


def recoveries_of(instances: Iterable[Instance]) -> dict[int, Recovery]:
    """Return what can be brought back of each with a fixed number of queries, however many there are."""
    found = {one.pk: Recovery(one, why_engine_not_restored(one)) for one in instances}
    reaches = _reaches(found)
    stores = Store.objects.select_related("region").in_bulk({store for _, store in reaches})
    sources = primary_stores({one.instance.region_id for one in found.values()})
    measured = _measured(found)
    for pk, recovery in found.items():
        recovery.source = sources.get(recovery.instance.region_id)
        recovery.measured = measured.get(pk)
        best = max((key for key in reaches if key[0] == pk), key=lambda key: _worst(reaches[key]).newest, default=None)
        if best:
            recovery.store = stores[best[1]]
            recovery.reaches = sorted(reaches[best].values(), key=lambda reach: reach.newest)
    return found


def primary_stores(regions: Iterable[str]) -> dict[str, Store]:
    found = Store.objects.attached().filter(region__in=list(regions), role=Store.Role.PRIMARY)
    return {store.region_id: store for store in found}


def _worst(reaches: dict[str, Reach]) -> Reach:
    return min(reaches.values(), key=lambda reach: reach.newest)


def _reaches(found: dict[int, Recovery]) -> dict[tuple[int, int], dict[str, Reach]]:
    """Return how far each (instance, store) reaches by database: its intervals, and fulls not yet among them.

    A second store in the source region is lost with it.
    """
    intervals = RestorableInterval.objects.filter(instance__in=found, store__role=Store.Role.PRIMARY).order_by()
    fulls = (
        Copy.objects.restorable()
        .cross_region()
        .filter(set__instance__in=found, set__kind=Kind.FULL)
        .exclude(certificates.sealed_copies())
    )
    rows = [
        *intervals.values_list("instance", "store", "database").annotate(Min("began_at"), Max("ended_at")),
        *fulls.order_by()
        .values_list("set__instance", "destination_store", "set__database")
        .annotate(Min("set__finished_at"), Max("set__finished_at")),
    ]
    reaches: dict[tuple[int, int], dict[str, Reach]] = defaultdict(dict)
    for instance, store, database, oldest, newest in rows:
        known = reaches[instance, store].setdefault(database, Reach(database, oldest, newest))
        known.oldest, known.newest = min(known.oldest, oldest), max(known.newest, newest)
    return reaches


def _measured(found: dict[int, Recovery]) -> dict[int, Measured]:
    """Return the newest measurement of each: its last passed drill or its last restore that came up.

    What a drill does once its server answers (check, count, remove) is not what bringing an instance back takes.
    """
    passed = Drill.objects.filter(instance__in=found, state=Drill.State.PASSED, seconds__has_key="recovery")
    drills = passed.exclude(pick=Drill.Pick.CANARY)
    restores = Restore.objects.filter(instance__in=found, state__in=(*Restore.STANDING, Restore.State.REMOVED))
    known: dict[int, Measured] = {}
    for by, rows in ((DRILL, drills), (RESTORE, restores)):
        ended = rows.exclude(finished_at=None).order_by("instance_id", "-finished_at").distinct("instance_id")
        for row in ended:
            seconds = row.seconds["recovery"] if by == DRILL else seconds_taken(row)
            before = known.get(row.instance_id)
            if seconds is not None and (before is None or before.at < row.finished_at):
                known[row.instance_id] = Measured(seconds, row.finished_at, by)
    return known


def source_regions(instances: QuerySet[Instance]) -> list[SourceRegion]:
    """Return the regions these instances stand in, the unreachable ones first."""
    copies = Copy.objects.restorable().cross_region().filter(set__instance=OuterRef("pk"))
    copies = copies.exclude(certificates.sealed_copies())
    counted = (
        instances.annotate(has_copy=Exists(copies))
        .order_by()
        .values_list("region")
        .annotate(total=Count("pk"), recoverable=Count("pk", filter=Q(has_copy=True)))
    )
    counts = {region: (total, recoverable) for region, total, recoverable in counted}
    stores = primary_stores(counts)
    regions = Region.objects.filter(pk__in=counts)
    found = [SourceRegion(region, stores.get(region.pk), *counts[region.pk]) for region in regions]
    return sorted(found, key=lambda one: one.store is not None and one.store.state == Store.State.OK)
