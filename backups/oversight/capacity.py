"""How full a store is: what lies there, the space left where anybody knows it, and the day it fills at today's pace.

Copies only: what the jobs of a region write into its own store comes and goes without Farshore. Nothing is guessed:
where the store cannot say how much room it has, and no quota was entered, the answer is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min, Q, QuerySet, Sum

from backups import events
from backups.events import By
from backups.models import Copy, CopyState, Instance, Transfer
from regions.models import Store
from regions.refusals import Refusal

DAY = timedelta(days=1)
PACE_WINDOW = timedelta(days=14)
FORESEEN = timedelta(days=3650)  # beyond that a pace of two weeks says nothing
LYING = (Transfer.State.UPLOADED, Transfer.State.VERIFIED, Transfer.State.DELETING, Transfer.State.DAMAGED)


@dataclass(frozen=True)
class Growth:
    """By how many bytes more lies there now than at the beginning of the time observed; negative when less does."""

    bytes: int
    observed: timedelta

    @property
    def days(self) -> int:
        return max(1, round(self.observed / DAY))

    @property
    def day_bytes(self) -> int:
        return self.bytes * (DAY // timedelta(seconds=1)) // (self.observed // timedelta(seconds=1))


def stored_by_instance(store: Store, instances: QuerySet[Instance]) -> QuerySet[Instance]:
    """Return those of the instances that have completed copies there, with `stored_bytes` and `sets`, most first."""
    there = Q(sets__copies__destination_store=store, sets__copies__state=CopyState.COMPLETED)
    found = instances.annotate(
        stored_bytes=Sum("sets__copies__stored_bytes", filter=there), sets_there=Count("sets__copies", filter=there)
    )
    return found.filter(sets_there__gt=0).order_by("-stored_bytes", "name")


def stored_bytes(store: Store) -> int:
    """Return the bytes of the completed copies there, whoever's they are."""
    return Copy.objects.restorable().filter(destination_store=store).aggregate(n=Sum("stored_bytes"))["n"] or 0


def space_left(store: Store) -> int | None:
    """Return free bytes: as the store said at its last look, or what is left of the quota a team entered."""
    said = store.capabilities.get("space_left")
    if isinstance(said, int):
        return said
    return None if store.quota_bytes is None else max(0, store.quota_bytes - occupied(store))


def occupied(store: Store) -> int:
    """Return what Farshore's objects take there, also of expired and hidden copies and those that are on their way."""
    return Transfer.objects.filter(store=store, state__in=LYING).aggregate(n=Sum("size"))["n"] or 0


def growth(store: Store, at: datetime) -> Growth | None:
    """Compare what lies there now with two weeks ago, or as far back as there is; None: under a day, or never.

    Asked of arrivals and deletions, not of what is charged: last good, expired and hidden copies are free and
    lie there.
    """
    copies = Copy.objects.filter(destination_store=store, completed_at__isnull=False)
    first = copies.aggregate(first=Min("completed_at"))["first"]
    if first is None or at - first < DAY:
        return None
    since = max(at - PACE_WINDOW, first)
    return Growth(_lying(copies, at) - _lying(copies, since), at - since)


def _lying(copies: QuerySet[Copy], at: datetime) -> int:
    there = copies.filter(Q(deleted_at=None) | Q(deleted_at__gt=at), completed_at__lte=at)
    return there.aggregate(n=Sum("stored_bytes"))["n"] or 0


def fills_at(left: int | None, pace: Growth | None, at: datetime) -> datetime | None:
    """Return the moment the space left is used up at this pace; None: not known, not growing, or beyond foresight."""
    if left is None or pace is None or pace.day_bytes <= 0:
        return None
    lasts = DAY * (left / pace.day_bytes) if left / pace.day_bytes < FORESEEN / DAY else FORESEEN
    return at + lasts if lasts < FORESEEN else None


def set_quota(store: Store, quota_bytes: int | None, by: By) -> None:
    """Write down how much a store may hold, None for not known: asked of people where the store cannot say."""
    if quota_bytes is not None and quota_bytes <= 0:
        raise Refusal("InvalidParameters.Format", "A quota is more than nothing.", "Leave it empty instead.", "quota")
    Store.objects.filter(pk=store.pk).update(quota_bytes=quota_bytes)
    said = "no quota" if quota_bytes is None else f"a quota of {quota_bytes} bytes"
    events.record("store.quota", f"The store of {store.region} has {said}.", by=by, store=store.pk, bytes=quota_bytes)
