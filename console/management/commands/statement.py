from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import bills
from billing.statements import Statement, statement
from console.management.answers import asked
from console.widgets.statement_files import FORMS, HEADING, cells_of
from regions import clock

SHOWN = (0, 1, 4, 5, 6, 7, 12, 13)


class Command(BaseCommand):
    help = "Print a month's statement: what was stored, copied and downloaded, and what it costs in USD."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("month", nargs="?", type=_month, metavar="YYYY-MM", help="default: this month, so far")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="one JSON object; amounts are strings, null: no price")
        form.add_argument("--csv", action="store_true", help="for a spreadsheet; no cell is taken for a formula")
        form.add_argument("--focus", action="store_true", help="CSV with the columns of FinOps FOCUS, as far as known")

    def handle(self, *args: Any, **options: Any) -> None:
        found = asked(self.stderr, lambda: self._ask(options["month"]))
        form = next((form for name, form in FORMS.items() if options[name]), None)
        for text in form.text(found) if form else (f"{line}\n" for line in _table(found)):
            self.stdout.write(text, ending="")

    def _ask(self, month: datetime | None) -> Statement:
        at = clock.now()
        if month is not None and month > at:
            raise CommandError("That month has not begun.")
        return statement(month or at, at)


def _month(said: str) -> datetime:
    """Return the month's first moment; argparse refuses in these words."""
    try:
        return datetime.strptime(said, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise ArgumentTypeError(f"{said} is no month. Write YYYY-MM, such as 2026-10.") from None


def _table(found: Statement) -> Iterator[str]:
    rows = [tuple(str(cells_of(line)[column]) for column in SHOWN) for line in found.lines]
    heading = tuple(HEADING[column] for column in SHOWN)
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    for row in (heading, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    without = f", {found.unpriced} lines without a price" if found.unpriced else ""
    yield f"{found.begin:%Y-%m} ({_state(found)}): {found.amount} USD{without}"


def _state(found: Statement) -> str:
    if found.closed_at:
        return f"closed at {found.closed_at:%Y-%m-%d %H:%M} UTC"
    is_billed = any(month.begin == found.begin for month in bills.months(found.at))
    return "open, so far" if is_billed else "before the first bill"
