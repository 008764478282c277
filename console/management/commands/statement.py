from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.statements import Line, Statement, statement
from console.management.answers import asked
from console.widgets import export
from regions import clock

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
SHOWN = (0, 1, 4, 5, 6, 7, 12, 13)
NO_PRICE = "no price"


class Command(BaseCommand):
    help = "Print a month's statement: what was stored, copied and downloaded, and what it costs in USD."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("month", nargs="?", type=_month, metavar="YYYY-MM", help="default: this month, so far")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="one JSON object; amounts are strings, null: no price")
        form.add_argument("--csv", action="store_true", help="for a spreadsheet; no cell is taken for a formula")

    def handle(self, *args: Any, **options: Any) -> None:
        found = asked(self.stderr, lambda: self._ask(options["month"]))
        if options["json"]:
            self.stdout.write(json.dumps(_told(found), indent=1))
        elif options["csv"]:
            for line in export.lines(HEADING, (_row(line) for line in found.lines)):
                self.stdout.write(line, ending="")
        else:
            self.stdout.write("\n".join(_table(found)))

    def _ask(self, month: datetime | None) -> Statement:
        at = clock.now()
        if month is not None and month > at:
            raise CommandError("That month has not begun.")
        return statement(month or at, at)


def _month(said: str) -> datetime:
    """Return the month's first moment; argparse turns a ValueError into a refusal."""
    return datetime.strptime(said, "%Y-%m").replace(tzinfo=UTC)


def _row(line: Line) -> tuple[object, ...]:
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


def _told(found: Statement) -> dict[str, Any]:
    return {
        "month": f"{found.begin:%Y-%m}",
        "state": "closed" if found.closed_at else "open",
        "closed_at": found.closed_at and found.closed_at.isoformat(),
        "currency": "USD",
        "amount": str(found.amount),
        "lines_without_price": found.unpriced,
        "lines": [_line(line) for line in found.lines],
    }


def _line(line: Line) -> dict[str, Any]:
    amount = None if line.amount is None else str(line.amount)
    prices = [f"{price:f}" for price in line.prices]
    return dict(zip(HEADING, _row(line), strict=True)) | {"price": prices, "amount": amount}


def _table(found: Statement) -> Iterator[str]:
    rows = [tuple(str(_row(line)[column]) for column in SHOWN) for line in found.lines]
    heading = tuple(HEADING[column] for column in SHOWN)
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    for row in (heading, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    state = f"closed at {found.closed_at:%Y-%m-%d %H:%M} UTC" if found.closed_at else "open, so far"
    without = f", {found.unpriced} lines without a price" if found.unpriced else ""
    yield f"{found.begin:%Y-%m} ({state}): {found.amount} USD{without}"
