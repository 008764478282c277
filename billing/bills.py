"""Bills: of each month's statement what those see who read the bills of some resource groups (design.md §8).

A closed month's lines belong to the group that their instance had at the closing, an open month's to today's: moving an
instance moves no bill that was closed (R-4.5).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.db.models import Count, Q, QuerySet, Sum

from backups.models import Instance
from billing import closing, statements
from billing.metering import month_of
from billing.models import ClosedStatement, ItemCode, StatementLine
from billing.statements import ZERO, Line, Statement

Groups = Collection[int] | None  # ids of resource groups; None: all of them


@dataclass(frozen=True)
class Month:
    """A month that has a bill; `closed` None: it is open, and moves."""

    begin: datetime
    closed: ClosedStatement | None = None


@dataclass(frozen=True)
class Cost:
    """What some lines come to: the amounts that are known, in USD, and how many lines have no price."""

    amount: Decimal = ZERO
    unpriced: int = 0


def months(at: datetime) -> list[Month]:
    """Return the months there are bills for, the newest first: every closed one and those from there up to `at`."""
    closed = [Month(one.begins_at, one) for one in ClosedStatement.objects.order_by("month")]
    current = month_of(at)[0]
    month = closing.next_month() or current
    opened = []
    while month <= current:
        opened.append(Month(month))
        month = month_of(month)[1]
    return [*closed, *opened][::-1]


def bill(month: Month, at: datetime, groups: Groups, instance_id: int | None = None) -> Statement:
    """Return the month's statement as far as these groups' lines go, of one instance where it is named."""
    if groups is None and instance_id is None:
        return statements.statement(month.begin, at)
    if month.closed is None:
        return statements.statement(month.begin, at, _instances(groups, instance_id))
    return _closed(month.closed, at, groups, instance_id)


def _instances(groups: Groups, instance_id: int | None) -> QuerySet[Instance]:
    wanted = Instance.objects.filter(_of(groups))
    return wanted if instance_id is None else wanted.filter(pk=instance_id)


def _closed(closed: ClosedStatement, at: datetime, groups: Groups, instance_id: int | None) -> Statement:
    """Ask for the instances that have such lines, and then keep those lines: the group stands in the line."""
    rows = StatementLine.objects.filter(_of(groups), statement=closed)
    rows = rows if instance_id is None else rows.filter(instance=instance_id)
    found = statements.statement(closed.month, at, Instance.objects.filter(pk__in=rows.values("instance")))
    return found if groups is None else narrowed(found, (line for line in found.lines if line.group_id in groups))


def _of(groups: Groups) -> Q:
    return Q() if groups is None else Q(group__in=groups)


def narrowed(found: Statement, lines: Iterable[Line]) -> Statement:
    """Return the same month with fewer lines."""
    return replace(found, lines=tuple(lines))


def counted_until(found: Statement) -> datetime:
    """Return up to which moment the month's facts count: all of a closed one's, an open one's as known `at`."""
    return found.end if found.closed_at else min(found.end, found.at)


def costs(found: Statement) -> dict[ItemCode, Cost]:
    return {item: Cost(total.amount, total.unpriced) for item, total in statements.by_item(found.lines).items()}


def closed_costs(asked: Iterable[Month], groups: Groups, region: str = "") -> dict[datetime, dict[ItemCode, Cost]]:
    """Return what closed months came to by item code, in one question; `region`: of the instances that lie there."""
    months = {one.closed.pk: one.begin for one in asked if one.closed}
    rows = StatementLine.objects.filter(_of(groups), statement__in=months)
    rows = rows.filter(instance__region=region) if region else rows
    added_up = rows.order_by().values("statement", "item_code")
    found: dict[datetime, dict[ItemCode, Cost]] = {begin: {} for begin in months.values()}
    for row in added_up.annotate(known=Sum("amount"), unpriced=Count("pk", filter=Q(amount=None))):
        cost = Cost(row["known"] or ZERO, row["unpriced"])
        found[months[row["statement"]]][ItemCode(row["item_code"])] = cost
    return found
