"""The last months as bars, stacked by item code: where everything stands, in the units of the picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.bills import Cost
from billing.models import ItemCode
from billing.statements import ITEMS, ZERO

WIDTH, LEFT, RIGHT = 1000, 76, 988
TOP, FOOT = 26, 186
WIDEST = 44
STEPS = tuple(map(Decimal, ("1", "1.5", "2", "2.5", "3", "4", "5", "6", "8", "10")))

Costs = Mapping[ItemCode, Cost]


@dataclass(frozen=True)
class Segment:
    """What one item code came to in a month; `y` is its upper edge."""

    item: ItemCode
    amount: Decimal
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    """One month: its segments from the foot up, and what it came to by item code and in all."""

    month: datetime
    is_open: bool
    x: float
    width: float
    segments: tuple[Segment, ...]
    costs: tuple[tuple[ItemCode, Cost], ...]
    total: Cost

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)

    @property
    def top(self) -> float:
        return min((segment.y for segment in self.segments), default=FOOT)

    @property
    def height(self) -> float:
        return round(FOOT - self.top, 1)


@dataclass(frozen=True)
class Tick:
    amount: Decimal
    y: float


@dataclass(frozen=True)
class Chart:
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]

    @property
    def is_empty(self) -> bool:
        return not any(bar.total.amount or bar.total.unpriced for bar in self.bars)


def chart(months: Mapping[datetime, Costs], opened: set[datetime]) -> Chart:
    """Return the picture of these months, the oldest first; those in `opened` are still open."""
    totals = {month: _together(costs) for month, costs in months.items()}
    reach = ceiling(max((total.amount for total in totals.values()), default=ZERO))
    slot = (RIGHT - LEFT) / max(1, len(months))
    width = min(WIDEST, slot * 0.62)
    bars = [
        Bar(
            month,
            month in opened,
            round(LEFT + slot * at + (slot - width) / 2, 1),
            round(width, 1),
            _stacked(costs, reach),
            tuple((item, costs.get(item, Cost())) for item in ITEMS),
            totals[month],
        )
        for at, (month, costs) in enumerate(months.items())
    ]
    ticks = [Tick(reach * share / 2, _y(reach * share / 2, reach)) for share in range(3)]
    return Chart(tuple(bars), tuple(ticks))


def ceiling(amount: Decimal) -> Decimal:
    """Return a round amount in dollars that is not less; at least one dollar."""
    power = Decimal(1)
    while power * 10 < amount:
        power *= 10
    return next(power * step for step in STEPS if power * step >= amount)


def _together(costs: Costs) -> Cost:
    return Cost(sum((cost.amount for cost in costs.values()), ZERO), sum(cost.unpriced for cost in costs.values()))


def _stacked(costs: Costs, reach: Decimal) -> tuple[Segment, ...]:
    found, below = [], ZERO
    for item in ITEMS:
        amount = costs[item].amount if item in costs else ZERO
        if amount:
            upper, lower = _y(below + amount, reach), _y(below, reach)
            found.append(Segment(item, amount, upper, round(lower - upper, 1)))
            below += amount
    return tuple(found)


def _y(amount: Decimal, reach: Decimal) -> float:
    return round(FOOT - float(amount / reach) * (FOOT - TOP), 1)
