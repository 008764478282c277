"""The restorable window as an SVG's plain numbers: source above, destination below. Pure; the template only prints.

However many logs there are, a bounded number of marks is drawn, and none is left out for it: those that would touch
become one. Nothing is ever joined over a hole wider than a pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

WIDTH, PAD = 1000.0, 12.0
NARROWEST, GAP_NARROWEST = 3.0, 5.0
MOST_MARKS = 200  # more than these, and those that touch become one
BESIDE = 5.0  # how far apart backups are drawn when they are many
STEPS = tuple(
    timedelta(hours=hours) for hours in (0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 720, 1440, 2880, 8640)
)
MOST_TICKS = 9

Backup = tuple[datetime, bool]  # its moment, and whether it is a full
Stretch = tuple[datetime, datetime]


class Solid(NamedTuple):
    """A restorable interval: its moments, the store whose copies hold it, the set that it begins with."""

    begins: datetime
    ends: datetime
    store: int = 0
    set: int = 0


@dataclass(frozen=True)
class Mark:
    """A full or differential backup."""

    x: float
    at: datetime
    is_full: bool


@dataclass(frozen=True)
class Band:
    """A stretch of time: restorable moments, logs, or a gap. `begins` and `ends` are its own, drawn or not.

    `last` is the newest of the `joined` stretches that are drawn as this one.
    """

    x: float
    width: float
    begins: datetime
    ends: datetime
    last: Stretch | Solid
    joined: int = 1

    @property
    def is_point(self) -> bool:
        return self.begins == self.ends


@dataclass(frozen=True)
class Tick:
    x: float
    at: datetime
    is_hour: bool


@dataclass(frozen=True)
class Known:
    """What the rows say within a range, in order."""

    source: Sequence[Backup] = ()
    source_logs: Sequence[Stretch] = ()
    copies: Sequence[Backup] = ()
    copied_logs: Sequence[Stretch] = ()
    restorable: Sequence[Solid] = ()
    gaps: Sequence[Stretch] = ()


@dataclass(frozen=True)
class Timeline:
    """Everything the picture shows, in its own units; lists are in order of time."""

    begins: datetime
    ends: datetime
    source: list[Mark] = field(default_factory=list)
    source_logs: list[Band] = field(default_factory=list)
    copies: list[Mark] = field(default_factory=list)
    copied_logs: list[Band] = field(default_factory=list)
    restorable: list[Band] = field(default_factory=list)
    gaps: list[Band] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    earliest: datetime | None = None  # the first and the last restorable moment
    newest: datetime | None = None
    newest_x: float = 0.0

    @property
    def width(self) -> float:
        return WIDTH

    @property
    def has_stretch(self) -> bool:
        """Whether more than single points can be restored."""
        return any(not band.is_point for band in self.restorable)


def draw(known: Known, begins: datetime, ends: datetime) -> Timeline:
    """Lay out what is known between two moments."""
    scale = _Scale(begins, ends)
    newest = max((solid[1] for solid in known.restorable), default=None)
    return Timeline(
        begins,
        ends,
        source=scale.marks(known.source),
        source_logs=scale.bands(known.source_logs, join=True),
        copies=scale.marks(known.copies),
        copied_logs=scale.bands(known.copied_logs, join=True),
        restorable=scale.bands(known.restorable, NARROWEST, join=len(known.restorable) > MOST_MARKS),
        gaps=scale.bands(known.gaps, GAP_NARROWEST, join=len(known.gaps) > MOST_MARKS),
        ticks=scale.ticks(),
        earliest=min((solid[0] for solid in known.restorable), default=None),
        newest=newest,
        newest_x=scale.x(newest) if newest else 0.0,
    )


@dataclass(frozen=True)
class _Scale:
    begins: datetime
    ends: datetime

    def x(self, moment: datetime) -> float:
        share = (moment - self.begins) / max(self.ends - self.begins, timedelta(seconds=1))
        return round(PAD + (WIDTH - 2 * PAD) * min(1.0, max(0.0, share)), 1)

    def marks(self, moments: Sequence[Backup]) -> list[Mark]:
        """Return one mark a pixel, of many one every few; of those that would cover each other the newest."""
        apart = BESIDE if len(moments) > MOST_MARKS else 1.0
        drawn: dict[tuple[int, bool], Mark] = {}
        for at, is_full in moments:
            if self.begins <= at <= self.ends:
                drawn[round(self.x(at) / apart), is_full] = Mark(self.x(at), at, is_full)
        return sorted(drawn.values(), key=lambda mark: mark.at)

    def bands(self, stretches: Iterable[Stretch | Solid], least: float = 1.0, join: bool = False) -> list[Band]:
        """Return the stretches that reach into the range; with `join` those that touch, to the pixel, are one."""
        found: list[Band] = []
        for stretch in sorted(stretches):
            if stretch[1] < self.begins or stretch[0] > self.ends:
                continue
            band = self._band(stretch, least)
            if join and found and band.x - (found[-1].x + found[-1].width) < 1.0:
                found[-1] = _joined(found[-1], band)
            else:
                found.append(band)
        return found

    def _band(self, stretch: Stretch | Solid, least: float) -> Band:
        """Return a stretch as wide as it is; one too narrow to be seen is widened to both sides."""
        left, right = self.x(stretch[0]), self.x(stretch[1])
        width = max(least, round(right - left, 1))
        left = min(max(PAD, left - (width - (right - left)) / 2), WIDTH - PAD - width)
        return Band(round(left, 1), width, stretch[0], stretch[1], stretch)

    def ticks(self) -> list[Tick]:
        length = self.ends - self.begins
        step = next((step for step in STEPS if length / step <= MOST_TICKS), STEPS[-1])
        moment = _midnight(self.ends) + timedelta(days=1)
        while moment - step > self.ends:
            moment -= step
        found = []
        while (moment := moment - step) > self.begins:
            x = self.x(moment)
            if 40 < x < WIDTH - 50:
                found.append(Tick(x, moment, step < timedelta(days=1)))
        return found[::-1]


def _joined(band: Band, after: Band) -> Band:
    right = max(band.x + band.width, after.x + after.width)
    last = max(band.last, after.last, key=lambda stretch: stretch[1])
    return Band(band.x, round(right - band.x, 1), band.begins, max(band.ends, after.ends), last, band.joined + 1)


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
