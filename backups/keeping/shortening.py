"""What other settings expire at once, of many instances in a few statements (R-14.3, R-15.4, R-15.6).

Every copy of an instance has the same retention, its date is kept up with what needs it (`retention`), and a hold
leaves it without one. So another retention moves all of them by as many days, but never before what locks keep
(`Copy.lock_keeps_until`), and no chain has to be read to say which have passed. What is kept past its date is what
`expiring` keeps, under the settings that come: who disables loses the last good copies too, and a change of destination
lets go of none that has no successor there.

A log that has just come may leave what it needs two hours too early (`retention.MAY_LAG`): those dates lie days ahead
under the shortest retention too. Nor is it seen that what disabling cancels on its way keeps its base no longer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import (
    BooleanField,
    Count,
    DateTimeField,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Sum,
    Value,
)
from django.db.models.functions import Greatest, Least

from backups import recoveries
from backups.chains import certificates
from backups.keeping import expiring, source_gone
from backups.keeping.retention import KEPT_PAST, LAST_GOOD
from backups.models import Alert, BackupSet, CancelReason, Copy, CopyState, Kind, PolicyKind
from backups.terms.policy_settings import LONGEST_DAYS, Settings

DAY = timedelta(seconds=86_400)
CHAIN = ("set__instance_id", "set__database", "destination_store_id")
THERE = (CopyState.COMPLETED, CopyState.DAMAGED)


@dataclass(frozen=True)
class Shortened:
    """How many sets and bytes expire, of how many; nothing before `earliest` is left, None: nothing at all."""

    sets: int = 0
    bytes: int = 0
    all_sets: int = 0
    all_bytes: int = 0
    earliest: datetime | None = None


def of_all(wanted: Mapping[int, Settings], at: datetime, kind: str = PolicyKind.CROSS_REGION) -> dict[int, Shortened]:
    """Return by instance what its copies would come to, for {instance: settings}; those that have none are left out."""
    found: dict[int, Shortened] = {}
    for settings, instances in _together(wanted).items():
        rows = under(settings, instances, at, kind).values("set__instance")
        sums = rows.annotate(
            sets=Count("pk", filter=Q(expires_by_it=True)),
            bytes=Sum("stored_bytes", filter=Q(expires_by_it=True), default=0),
            all_sets=Count("pk"),
            all_bytes=Sum("stored_bytes", default=0),
            earliest=Min("set__finished_at", filter=Q(is_kept=True, state=CopyState.COMPLETED)),
        )
        found |= {row.pop("set__instance"): Shortened(**row) for row in sums}
    return found


def keeping_past(instances: Collection[int]) -> set[int]:
    """Return those of which a last good copy is kept past its date: only these can other settings cost anything that
    do not shorten the retention."""
    kept = Copy.objects.filter(set__instance__in=instances, state=CopyState.COMPLETED, kept_for=LAST_GOOD)
    return set(kept.order_by().values_list("set__instance", flat=True))


def _together(wanted: Mapping[int, Settings]) -> dict[Settings, list[int]]:
    """Group the instances by what of their settings decides."""
    together: dict[Settings, list[int]] = {}
    for instance, settings in wanted.items():
        deciding = Settings(settings.enabled, settings.retention_days, settings.destination if settings.enabled else "")
        together.setdefault(deciding, []).append(instance)
    return together


def under(settings: Settings, instances: Collection[int], at: datetime, kind: str) -> QuerySet[Copy]:
    """Return the copies of instances, each with whether it stays (`is_kept`), or goes because of the settings.

    What is past its date anyway, and only waits for the sweep, goes by itself.
    """
    copies = Copy.objects.filter(set__instance__in=instances, policy__kind=kind, state__in=THERE).order_by()
    kept = Q(expires_at=None) | Q(date_then__gt=at) | _kept_past(settings, copies, at)
    by_it = ~kept & (Q(expires_at__gt=at) | Q(kept_for__in=KEPT_PAST))
    return copies.annotate(
        date_then=_date_under(settings.retention_days),
        is_kept=ExpressionWrapper(kept, BooleanField()),
        expires_by_it=ExpressionWrapper(by_it, BooleanField()),
    )


def _date_under(days: int) -> Greatest:
    """Its own date, or that of what needs it; a store's lock does not move with the retention."""
    fewer = ExpressionWrapper((F("policy__retention_days") - days) * Value(DAY), DurationField())
    longest = Value(LONGEST_DAYS * DAY, DurationField())  # what was hidden for years ends there
    stays = Least(ExpressionWrapper(F("hidden_for") + Value(days * DAY), DurationField()), longest)
    return Greatest(
        ExpressionWrapper(F("expires_at") - fewer, DateTimeField()),
        ExpressionWrapper(F("set__finished_at") + stays, DateTimeField()),
        F("lock_keeps_until"),
    )


# ---- what is kept past its date (`expiring`)


def _kept_past(settings: Settings, copies: QuerySet[Copy], at: datetime) -> Q:
    kept = Q(set__instance__region__in=source_gone.regions())
    kept |= Q(destination_store__in=recoveries.waiting_stores())
    return kept | Q(pk__in=_last_good(settings, copies, at).values("pk")) if settings.enabled else kept


def _last_good(settings: Settings, copies: QuerySet[Copy], at: datetime) -> QuerySet[Copy]:
    """Return the newest full of each database at each store, and the newest that can be opened, where they count."""
    fulls = copies.filter(state=CopyState.COMPLETED, set__kind=Kind.FULL)
    newest, opened = (
        some.order_by(*CHAIN, "-set__finished_at", "-pk").distinct(*CHAIN).values("pk")
        for some in (fulls, fulls.exclude(certificates.sealed_copies()))
    )
    left = Q(policy__enabled=True) | Q(policy__end_reason=CancelReason.DESTINATION_CHANGED)
    counts = Q(policy__destination=settings.destination) | left & ~Exists(_successors(settings.destination))
    found = copies.filter(Q(pk__in=newest) | Q(pk__in=opened), counts, set__instance__released_at=None)
    return found.exclude(pk__in=_of_gone_databases(found, settings.retention_days, at))


def _successors(destination: str) -> QuerySet[Copy]:
    """Return the fulls at a destination that take the place of one elsewhere: as new, and they can be opened there."""
    there = Copy.objects.cross_region().filter(state=CopyState.COMPLETED, set__kind=Kind.FULL)
    same = {"set__instance": OuterRef("set__instance"), "set__database": OuterRef("set__database")}
    as_new = there.filter(**same, set__finished_at__gte=OuterRef("set__finished_at"))
    return as_new.filter(destination_store__region=destination).exclude(certificates.sealed(destination))


def _of_gone_databases(fulls: QuerySet[Copy], days: int, at: datetime) -> list[int]:
    """Return those whose database nobody has seen for a whole retention, and that was told a day ago."""
    told = Alert.objects.filter(code="database_not_seen", closed_at=None, opened_at__lte=at - DAY)
    subjects = dict(told.filter(instance__isnull=False).values_list("subject", "instance"))
    if not subjects:
        return []
    last = _last_seen(set(subjects.values()))
    found = fulls.filter(set__instance__in=subjects.values())
    found = found.exclude(set__instance__region__in=source_gone.regions_until(at)).select_related("set")
    return [
        copy.pk
        for copy in found
        if expiring.database_subject(copy) in subjects
        and _is_gone(copy.set.database, last[copy.set.instance_id], at - days * DAY)
    ]


def _last_seen(instances: Iterable[int]) -> dict[int, dict[str, datetime]]:
    sets = BackupSet.objects.filter(instance__in=instances).order_by().values_list("instance", "database")
    last: dict[int, dict[str, datetime]] = {}
    for instance, database, seen_at in sets.annotate(Max("finished_at")):
        last.setdefault(instance, {})[database] = seen_at
    return last


def _is_gone(database: str, last: Mapping[str, datetime], horizon: datetime) -> bool:
    """Whether nothing of it was seen since, while others were."""
    return last[database] < horizon <= max(last.values())
