"""A statement as files: CSV, JSON and the columns of FOCUS; `manage.py statement` and the Bills tab write the same.

FOCUS is the FinOps Open Cost and Usage Specification 1.x (focus.finops.org). Of its columns stand here those that are
known: there is no contract, list or amortised cost, and no billing account. What it has no column for begins with
`x_`. An amount that is not known, for want of a price, is empty and never 0 (R-4.5).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from django.conf import settings

from billing import bills
from billing.amounts import EXACT, HOUR_SECONDS
from billing.models import ItemCode
from billing.statements import Line, Statement
from console.widgets import export

HEADING = (
    "item_code",
    "instance",
    "name",
    "resource_group",
    "source",
    "destination",
    "quantity",
    "unit",
    "charged",
    "free",
    "offset_by_plans",
    "resent_bytes",
    "price",
    "amount",
    "note",
)
NO_PRICE = "no price"
FOCUS_HEADING = (
    "BilledCost",
    "BillingCurrency",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ChargeFrequency",
    "ChargeDescription",
    "ServiceCategory",
    "ServiceName",
    "SkuId",
    "RegionId",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "SubAccountId",
    "SubAccountName",
    "ConsumedQuantity",
    "ConsumedUnit",
    "PricingQuantity",
    "PricingUnit",
    "ListUnitPrice",
    "Tags",
    "x_SourceRegionId",
    "x_DestinationRegionId",
    "x_FreeBytes",
    "x_OffsetBytes",
    "x_ResentBytes",
    "x_Note",
)
SERVICE = "Farshore cross-region backup"
GIGABYTE = "GiB" if settings.GB == 2**30 else "GB"  # as FOCUS writes units: there a GB is 10^9 bytes
PRICING_DIGITS = Decimal("1e-12")


class Form(NamedTuple):
    """One way to write a statement: how, under which ending and content type."""

    text: Callable[[Statement], Iterator[str]]
    ending: str
    content_type: str


def csv_text(found: Statement) -> Iterator[str]:
    return export.lines(HEADING, (cells_of(line) for line in found.lines))


def json_text(found: Statement) -> Iterator[str]:
    """Yield one object; amounts are strings, null: no price."""
    yield json.dumps(_told(found), indent=1)
    yield "\n"


def focus_text(found: Statement) -> Iterator[str]:
    """Yield CSV with FOCUS's columns; an open month's charges end where they were counted to."""
    return export.lines(FOCUS_HEADING, (_focus_row(found, line) for line in found.lines))


FORMS = {
    "csv": Form(csv_text, ".csv", "text/csv; charset=utf-8"),
    "json": Form(json_text, ".json", "application/json"),
    "focus": Form(focus_text, "-focus.csv", "text/csv; charset=utf-8"),
}


def cells_of(line: Line) -> tuple[object, ...]:
    """Return a line's cells in the order of HEADING."""
    return (
        line.item.value,
        line.instance_code,
        line.instance_name,
        line.group_name,
        line.source,
        line.destination,
        line.quantity,
        line.unit,
        line.charged,
        line.free_bytes,
        line.offset_bytes,
        line.resent_bytes,
        " ".join(f"{price:f}" for price in line.prices),
        NO_PRICE if line.amount is None else line.amount,
        line.sentence,
    )


def _told(found: Statement) -> dict[str, object]:
    return {
        "month": f"{found.begin:%Y-%m}",
        "state": "closed" if found.closed_at else "open",
        "closed_at": found.closed_at and found.closed_at.isoformat(),
        "currency": "USD",
        "amount": str(found.amount),
        "lines_without_price": found.unpriced,
        "lines": [_line(line) for line in found.lines],
    }


def _line(line: Line) -> dict[str, object]:
    amount = None if line.amount is None else str(line.amount)
    prices = [f"{price:f}" for price in line.prices]
    return dict(zip(HEADING, cells_of(line), strict=True)) | {"price": prices, "amount": amount}


def _focus_row(found: Statement, line: Line) -> tuple[object, ...]:
    storage = line.item == ItemCode.STORAGE
    return (
        line.amount,
        "USD",
        _moment(found.begin),
        _moment(found.end),
        _moment(found.begin),
        _moment(bills.counted_until(found)),
        "Usage",
        "Usage-Based",
        _description(line),
        "Storage" if storage else "Networking",
        SERVICE,
        line.item.value,
        line.destination if storage else line.source,  # where the bytes lie, or leave from
        line.instance_code,
        line.instance_name,
        "Database instance",
        line.group_id,
        line.group_name,
        line.quantity,
        "B-Seconds" if storage else "B",
        _in_pricing_unit(line),
        f"{GIGABYTE}-Hours" if storage else GIGABYTE,
        f"{line.prices[0]:f}" if len(line.prices) == 1 else None,
        json.dumps({"resource_group": line.group_name}, ensure_ascii=False),
        line.source,
        line.destination,
        line.free_bytes,
        line.offset_bytes,
        line.resent_bytes,
        line.sentence,
    )


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _description(line: Line) -> str:
    where = f"{line.source} to {line.destination}" if line.destination else f"from {line.source}"
    return f"{line.item.label}, {where}"


def _in_pricing_unit(line: Line) -> str:
    """Return what is charged, after the free quota and network plans, in the unit of the price."""
    worth = settings.GB * (HOUR_SECONDS if line.item == ItemCode.STORAGE else 1)
    exact = EXACT.divide(Decimal(line.charged), Decimal(worth)).quantize(PRICING_DIGITS, context=EXACT)
    return f"{exact.normalize(EXACT):f}"
