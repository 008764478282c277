"""What a shorter retention expires at once, of many instances in a few statements (R-14.3).

Every copy of an instance has the same retention, its date is kept up with what needs it (`retention`), and a hold
leaves it without one. So another retention moves all of them by as many days, and no chain has to be read to say which
have passed. A log that has just come may leave what it needs two hours too early (`retention.MAY_LAG`): those dates lie
days ahead under the shortest retention too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import (
    BooleanField,
    Count,
    DateTimeField,
    DurationField,
    ExpressionWrapper,
    F,
    Min,
    Q,
    QuerySet,
    Sum,
    Value,
)
from django.db.models.functions import Greatest

from backups.models import Copy, CopyState, Kind

DAY = timedelta(seconds=86_400)


@dataclass(frozen=True)
class Shortened:
    """How many sets and bytes expire, of how many; nothing before `earliest` is left, None: nothing at all."""

    sets: int = 0
    bytes: int = 0
    all_sets: int = 0
    all_bytes: int = 0
    earliest: datetime | None = None


def of_all(retention_days: Mapping[int, int], at: datetime) -> dict[int, Shortened]:
    """Return by instance what its completed copies would come to, for {instance: days}; those that have none are left
    out."""
    together: dict[int, list[int]] = {}
    for instance, days in retention_days.items():
        together.setdefault(days, []).append(instance)
    found: dict[int, Shortened] = {}
    for days, instances in together.items():
        found |= _under(days, instances, at)
    return found


def _under(days: int, instances: Iterable[int], at: datetime) -> dict[int, Shortened]:
    copies = Copy.objects.cross_region().filter(set__instance__in=instances, state=CopyState.COMPLETED)
    kept = Q(expires_at=None) | Q(date_then__gt=at) | Q(pk__in=_newest_fulls(copies).values("pk"))
    rows = copies.annotate(date_then=_date_under(days), is_kept=ExpressionWrapper(kept, BooleanField())).order_by()
    gone = Q(is_kept=False)
    sums = rows.values("set__instance").annotate(
        sets=Count("pk", filter=gone),
        bytes=Sum("stored_bytes", filter=gone, default=0),
        all_sets=Count("pk"),
        all_bytes=Sum("stored_bytes", default=0),
        earliest=Min("set__finished_at", filter=~gone),
    )
    return {row.pop("set__instance"): Shortened(**row) for row in sums}


def _date_under(days: int) -> Greatest:
    """A store's lock does not move with the retention."""
    fewer = ExpressionWrapper((F("policy__retention_days") - days) * Value(DAY), DurationField())
    return Greatest(ExpressionWrapper(F("expires_at") - fewer, DateTimeField()), F("locked_until"))


def _newest_fulls(copies: QuerySet[Copy]) -> QuerySet[Copy]:
    """Return the newest full of each database at each store: not deleted while the policy is enabled (R-15.6)."""
    fulls = copies.filter(set__kind=Kind.FULL, policy__enabled=True, set__instance__released_at=None)
    chain = ("set__instance_id", "set__database", "destination_store_id")
    return fulls.order_by(*chain, "-set__finished_at", "-pk").distinct(*chain)
