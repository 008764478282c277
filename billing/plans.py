"""Network plans: prepaid gigabytes that traffic and Internet downloads take from, the oldest first (R-4.4).

Everything is an integer of millionths of a prepaid byte: bytes times their route's coefficient, which has six places.
What a plan covers is reckoned from the facts in time order, whatever order they were recorded in; a closed month's use
is stored with it, and the months after it begin with what was left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from backups import events
from backups.events import FARSHORE, By
from billing.models import ItemCode, NetworkPlan, PlanUse
from regions import clock

MILLION = 1_000_000


@dataclass
class Prepaid:
    """A plan as the reckoning goes along: what is left of it, in millionths of a prepaid byte."""

    plan_id: int
    begin: datetime
    end: datetime
    left: int

    def takes(self, at: datetime) -> bool:
        return self.begin <= at < self.end and self.left > 0

    def may_take_after(self, at: datetime) -> bool:
        return self.left > 0 and at < self.end


@dataclass(frozen=True, order=True)
class Use:
    """Bytes that a plan may offset. Ordered by time, then by what they are, never by when a row was written."""

    at: datetime
    item: ItemCode
    instance_id: int
    source: str
    destination: str
    bytes: int
    coefficient: int  # millionths of a prepaid byte for each


def offset(uses: Iterable[Use], plans: Sequence[Prepaid]) -> Iterator[tuple[Use, int]]:
    """Yield each use, in time order, with how many of its bytes are covered; takes them from the plans, oldest first.

    A use may be split between plans. What is left of a plan and too little for one byte stays in it.
    """
    for use in uses:
        missing = use.bytes
        for plan in plans:
            if missing and use.coefficient and plan.takes(use.at):
                taken = min(missing, plan.left // use.coefficient)
                plan.left -= taken * use.coefficient
                missing -= taken
        if covered := use.bytes - missing:
            yield use, covered


def settle(needs: Iterable[tuple[int, int]], plans: Sequence[Prepaid], at: datetime) -> bool | None:
    """Take (coefficient, bytes), in any order, at once, if it can be: as `offset` would one by one.

    They are used from `at` on, before any plan begins or ends. True: all are covered; False: none is, for no plan has
    enough for one byte; None: it takes the order of the uses to tell, and nothing was taken.
    """
    wanted = [(coefficient, size) for coefficient, size in needs if coefficient and size]
    least = min((coefficient for coefficient, _ in wanted), default=0)
    able = [plan for plan in plans if plan.takes(at) and plan.left >= least]
    if not able or not wanted:
        return False
    total = sum(coefficient * size for coefficient, size in wanted)
    if able[0].left < total:
        return None
    able[0].left -= total
    return True


def balances(since: datetime, until: datetime) -> list[Prepaid]:
    """Return the plans that hold between the two, with what the closed months before `since` left of them."""
    plans = list(NetworkPlan.objects.filter(bought_at__lt=until, valid_until__gt=since).order_by("bought_at", "pk"))
    if not plans:
        return []
    used = PlanUse.objects.filter(plan__in=plans, statement__lt=since.date()).order_by().values_list("plan")
    taken = {plan: millionths(total) for plan, total in used.annotate(total=Sum("prepaid_bytes"))}
    return [Prepaid(plan.pk, plan.bought_at, plan.valid_until, size_of(plan) - taken.get(plan.pk, 0)) for plan in plans]


def size_of(plan: NetworkPlan) -> int:
    return plan.gigabytes * settings.GB * MILLION


def millionths(prepaid_bytes: Decimal) -> int:
    """Return what is stored, six places of a prepaid byte, as it is reckoned with."""
    return int(prepaid_bytes.scaleb(6))


def used_of(before: Mapping[int, int], plans: Iterable[Prepaid]) -> dict[int, int]:
    """Return what was taken from each plan since `before` (plan → what was left), in millionths."""
    return {plan.plan_id: before[plan.plan_id] - plan.left for plan in plans if plan.left != before[plan.plan_id]}


def buy(gigabytes: int, by: By = FARSHORE, reference: str = "") -> NetworkPlan:
    """Buy a plan that holds from now on for a year; plans stack, and none is changed or refunded."""
    with transaction.atomic():
        at = clock.now()
        plan = NetworkPlan.objects.create(
            gigabytes=gigabytes, reference=reference, bought_at=at, valid_until=a_year_after(at), bought_by=by.user
        )
        sentence = f"A network plan of {gigabytes} GB was bought; it holds until {plan.valid_until:%Y-%m-%d %H:%M} UTC."
        events.record("plan.bought", sentence, by=by, plan=plan.pk, gigabytes=gigabytes)
        return plan


def a_year_after(moment: datetime) -> datetime:
    """Return the same moment of the next year; after 29 February that is 1 March, not a day less than a year."""
    try:
        return moment.replace(year=moment.year + 1)
    except ValueError:
        return moment.replace(year=moment.year + 1, month=3, day=1)
