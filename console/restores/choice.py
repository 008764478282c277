"""What can be chosen for a restore of one instance: from where, which moments, which sets, and why others cannot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from django.db.models import F, QuerySet
from django.utils.translation import gettext

from backups import policies, restoring
from backups.chains import certificates, windows
from backups.models import BackupSet, Copy, Instance, LogGap, RestorableInterval
from console.widgets.labels import place_of, translated
from regions.models import Region, Store

DEFAULT = "default"
SETS_SHOWN = 15
STRETCHES_SHOWN = 8


@dataclass(frozen=True)
class Place:
    """Where a restore can read from, and so where the new instance stands: a store of copies, or (None) the source."""

    region: Region
    store: Store | None = None

    @property
    def key(self) -> str:
        return str(self.store.pk) if self.store else DEFAULT

    @property
    def label(self) -> str:
        if self.store is None:
            named = {"region": translated(self.region.name)}
            return gettext("Default backups in %(region)s, the source region") % named
        return gettext("Copies in %(region)s") % {"region": place_of(self.store)}


@dataclass(frozen=True)
class SetChoice:
    """A set to restore as it was taken; `why_not` "" when it can be chosen."""

    set: BackupSet
    size_bytes: int
    why_not: str = ""


@dataclass(frozen=True)
class Stretch:
    """Any second from `first` to `last` can be had; `behind` says why those between it and the next newer cannot."""

    first: datetime
    last: datetime
    behind: str = ""


def places_of(instance: Instance) -> list[Place]:
    """Return where an instance can be restored from: where its copies go today first, the source region last."""
    policy = policies.latest_policy(instance)
    today = policy.destination_id if policy else ""
    stores = sorted(windows.stores_with_copies(instance), key=lambda store: store.region_id != today)
    places = [Place(store.region, store) for store in stores]
    return [*places, Place(instance.region)] if default_sets(instance).exists() else places


def default_sets(instance: Instance) -> QuerySet[BackupSet]:
    return BackupSet.objects.filter(instance=instance).valid().data()


def copies_at(instance: Instance, store: Store) -> QuerySet[Copy]:
    return Copy.objects.restorable().filter(set__instance=instance, destination_store=store).exclude(set__kind="log")


def databases_of(instance: Instance, place: Place) -> list[str]:
    if place.store:
        return windows.databases_at(instance, place.store)
    names = default_sets(instance).order_by("database").values_list("database", flat=True)
    return list(names.distinct())


def sets_of(instance: Instance, place: Place, database: str, wanted: int | None) -> list[SetChoice]:
    """Return the newest sets there, and the one that was asked for, newest first."""
    if place.store is None:
        sets = default_sets(instance).filter(database=database)
        return [SetChoice(found, found.size_bytes) for found in _newest(sets, "", wanted)]
    copies = (
        copies_at(instance, place.store)
        .filter(set__database=database)
        .select_related("set__instance", "destination_store")
    )
    able = windows.restorable_sets(instance, place.store, database)
    return [
        SetChoice(copy.set, copy.stored_bytes or copy.set.size_bytes, _why_not(copy, able))
        for copy in _newest(copies, "set__", wanted)
    ]


def _newest(rows: QuerySet, path: str, wanted: int | None) -> list:
    ordered = rows.order_by(f"-{path}finished_at", "-pk")
    shown = list(ordered[:SETS_SHOWN])
    asked = {f"{path}pk": wanted}
    return shown + [one for one in ordered.filter(**asked)[:1] if one not in shown]


def _why_not(copy: Copy, able: set[int]) -> str:
    if certificates.is_sealed(copy):
        return gettext("its certificate is not at the destination")
    return "" if copy.set_id in able else gettext("what it builds on is not there")


# ---- moments


class Span(NamedTuple):
    """From when to when: every moment that can be had, or a log that is missing."""

    began_at: datetime
    ended_at: datetime


def stretches_of(instance: Instance, place: Place, database: str) -> list[Stretch]:
    """Return the stretches of time of which every second can be had, newest first."""
    spans, gaps = _at_store(instance, place.store, database) if place.store else _at_source(instance, database)
    newest_first = sorted(spans, key=lambda span: (span.ended_at, span.began_at), reverse=True)
    newer = [None, *newest_first]
    return [
        Stretch(_second(one.began_at), _second(one.ended_at), _between(one, after, gaps))
        for one, after in zip(newest_first, newer, strict=False)
    ]


def _at_store(instance: Instance, store: Store, database: str) -> tuple[list[Span], list[Span]]:
    found = intervals_of(instance, store, database).filter(ended_at__gt=F("began_at"))
    gaps = LogGap.objects.filter(instance=instance, store=store, database=database)
    spans = [Span(*ends) for ends in found.values_list("began_at", "ended_at")]
    return spans, [Span(*ends) for ends in gaps.values_list("from_time", "until_time")]


def _at_source(instance: Instance, database: str) -> tuple[list[Span], list[Span]]:
    """Nobody writes down what the default backups come to: it is worked out as it is asked for."""
    chain = restoring.chain_at_source(instance, database)
    spans = [Span(one.start, one.end) for one in chain.window() if one.start < one.end]
    return spans, [Span(gap.from_time, gap.until_time) for gap in chain.gaps()]


def intervals_of(instance: Instance, store: Store, database: str) -> QuerySet[RestorableInterval]:
    return RestorableInterval.objects.filter(instance=instance, store=store, database=database)


def newest_moment(instance: Instance, place: Place, database: str) -> datetime | None:
    """Return how far the copies, or the default backups, there reach."""
    if place.store is None:
        window = restoring.chain_at_source(instance, database).window()
        return max((one.end for one in window), default=None)
    return _newest_copied(instance, place.store, database)


def _newest_copied(instance: Instance, store: Store, database: str) -> datetime | None:
    ends = intervals_of(instance, store, database).order_by("-ended_at").values_list("ended_at", flat=True)
    if newest := ends.first():
        return newest
    copies = copies_at(instance, store).filter(set__database=database)
    copies = copies.exclude(certificates.sealed(store.region_id))
    return copies.order_by("-set__finished_at").values_list("set__finished_at", flat=True).first()


def _second(moment: datetime) -> datetime:
    """Return the second that tells a moment, here as on every page: it is never shown later than it is.

    Where a stretch begins within it, asking for it means that beginning (`restoring.meant_by`).
    """
    return moment.replace(microsecond=0)


def _between(interval: Span, newer: Span | None, gaps: list[Span]) -> str:
    if newer is None or newer.began_at <= interval.ended_at:
        return ""
    missing = [gap for gap in gaps if gap.began_at <= newer.began_at and gap.ended_at >= interval.ended_at]
    if missing:
        named = {"since": said(missing[-1].began_at), "until": said(missing[-1].ended_at)}
        return gettext("cannot be had: the log from %(since)s to %(until)s is missing") % named
    return gettext("cannot be had: no log that is there leads on")


def said(moment: datetime) -> str:
    """Return a moment for the middle of a sentence."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def nearest(stretches: list[Stretch], moment: datetime) -> list[datetime]:
    """Return the moments next to one that cannot be had."""
    before = max((one.last for one in stretches if one.last < moment), default=None)
    after = min((one.first for one in stretches if one.first > moment), default=None)
    return [one for one in (before, after) if one]
