"""A month is closed some hours after it ended, once, and never moves again (R-4.5, I11).

The hours let what was under way at midnight commit. What is told later of a closed month is not charged: our own tables
refuse it (migration 0003), and the audit shows where a fact of `backups` is dated into one (a clock that was set back).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Min

from backups import alerts, events
from backups.models import StorageSpan
from billing import statements
from billing.metering import month_of
from billing.models import ClosedStatement, DownloadCharge, PlanUse, StatementLine
from billing.plans import millionths
from billing.prices import Tariff
from billing.statements import Line, Reckoning, Total
from regions import clock

LOCK = 730_011
NO_PRICE = "no_price"
# While a month is being closed nobody adds a price, plan or download to it; who waits is then told that it is closed.
HOLD = "LOCK TABLE billing_price, billing_networkplan, billing_downloadcharge IN SHARE MODE"


def close_due() -> int:
    """Close every month whose hours are over, in order; return how many. Safe to repeat, and from several places."""
    closed = 0
    while _close_next():
        closed += 1
    return closed


def next_month() -> datetime | None:
    """Return the first month that is not closed, beginning with that of the first fact; None without any."""
    last = ClosedStatement.objects.order_by("-month").first()
    if last is not None:
        return last.ends_at
    spans, downloads = StorageSpan.objects.aggregate(at=Min("began_at")), DownloadCharge.objects.aggregate(at=Min("at"))
    first = min(filter(None, (spans["at"], downloads["at"])), default=None)
    return month_of(first)[0] if first else None


def is_due(month: datetime, at: datetime) -> bool:
    return month_of(month)[1] + timedelta(hours=settings.STATEMENT_CLOSES_HOURS) <= at


@transaction.atomic
def _close_next() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            return False
        month = next_month()
        if month is None or not is_due(month, clock.now()):
            return False
        cursor.execute(HOLD)
    _store(month, statements.reckon(month, month_of(month)[1]))
    return True


def _store(month: datetime, found: Reckoning) -> ClosedStatement:
    """Write the lines, and then the row after which none can join them."""
    key = month.date()
    StatementLine.objects.bulk_create((_row(line, key) for line in found.lines), batch_size=2000)
    uses = [PlanUse(statement_id=key, plan_id=plan, prepaid_bytes=_bytes(used)) for plan, used in _uses(found)]
    PlanUse.objects.bulk_create(uses)
    closed = ClosedStatement.objects.create(
        month=key,
        closed_at=clock.now(),
        lines_count=len(found.lines),
        digest=digest(found.lines, found.plan_uses),
    )
    total = Total(found.lines)
    sentence = f"The statement of {key:%Y-%m} was closed: {len(found.lines)} lines, {total.amount} USD."
    events.record("statement.closed", sentence, month=f"{key:%Y-%m}", digest=closed.digest, amount=str(total.amount))
    return closed


def _row(line: Line, month: object) -> StatementLine:
    return StatementLine(
        statement_id=month,
        instance_id=line.instance_id,
        group_id=line.group_id,
        item_code=line.item,
        source=line.source,
        destination=line.destination,
        quantity=line.quantity,
        charged=line.charged,
        free_bytes=line.free_bytes,
        offset_bytes=line.offset_bytes,
        resent_bytes=line.resent_bytes,
        prices=list(line.prices),
        amount=line.amount,
    )


def _uses(found: Reckoning) -> list[tuple[int, int]]:
    return sorted(found.plan_uses.items())


def _bytes(millionths: int) -> Decimal:
    return Decimal(millionths).scaleb(-6)


def digest(lines: Iterable[Line], plan_uses: dict[int, int]) -> str:
    """Return the hash of a month's lines, without the names, which may change, and of what plans gave it."""
    told = [[*charged(line), line.group_id, line.resent_bytes] for line in lines]
    body = json.dumps([told, sorted(plan_uses.items())], separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()


def charged(line: Line) -> tuple[object, ...]:
    """Return what a line charges, and for what: the same from the facts and from the stored row."""
    where = (line.instance_id, str(line.item.value), line.source, line.destination)
    amounts = (line.quantity, line.charged, line.free_bytes, line.offset_bytes)
    amount = None if line.amount is None else f"{line.amount:.2f}"
    return (*where, *amounts, [f"{price:.6f}" for price in line.prices], amount)


def plan_uses_of(closed: ClosedStatement) -> dict[int, int]:
    """Return what a closed month took from each plan, in millionths of a prepaid byte."""
    return {use.plan_id: millionths(use.prepaid_bytes) for use in closed.plan_uses.all()}


# ---- where there is no price


def keep_price_alerts() -> None:
    """Raise an alert for each route that is charged and has no price, until there is one (R-4.5)."""
    at = clock.now()
    months = {month_of(at)[0], month_of(at - timedelta(hours=settings.STATEMENT_CLOSES_HOURS))[0]}
    lines = [line for month in sorted(months) for line in statements.statement(month, at).lines if line.amount is None]
    unpriced = {_subject(line): _words(line) for line in lines if not _has_price(line, at)}
    alerts.keep(NO_PRICE, unpriced)


def _has_price(line: Line, at: datetime) -> bool:
    place = statements.priced_by(line)
    return Tariff(line.item, {place}).at(*place, at) is not None


def _subject(line: Line) -> str:
    return alerts.fitting(f"price:{line.item.value}:{line.source}:{line.destination}")


def _words(line: Line) -> dict[str, str]:
    where = f"from {line.source} to {line.destination}" if line.destination else f"from {line.source}"
    return {
        "sentence": f"There is no price for {line.item.label.lower()} {where}; it runs all the same.",
        "remedy": "Add a price in the support admin; until then its lines say no price.",
    }
