"""What copies cost: a month split as one likes, its lines, and what is behind a line; as files and on paper (R-4)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from operator import attrgetter
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse

from backups import access
from backups.models import BackupSet, ResourceGroup
from billing import bills, downloads, drill_down, statements
from billing.models import DownloadCharge, ItemCode
from billing.statements import ITEMS, Fetched, Line, Total
from console.bills.chart import chart
from console.bills.forms import BillFilter
from console.bills.reading import NoSuchBill, Reading, named
from console.bills.shares import KINDS, Share, route_name, shares, subject
from console.bills.tables import (
    TABLES,
    CopyRow,
    DownloadRow,
    DownloadTable,
    DrillTable,
    LineTable,
    SentTable,
    ShareTable,
    StoredTable,
    quantity,
)
from console.widgets import keyset
from console.widgets.listing import Listing
from console.widgets.statement_files import FORMS

MOST_ON_PAPER = 3_000
FILE_NAMES = {"csv": "CSV", "json": "JSON", "focus": "FOCUS"}


class OfBill(Listing):
    """A list of a bill's tab; cursors are how many rows stand before."""

    filter_class = BillFilter

    @cached_property
    def reading(self) -> Reading:
        return Reading(self.request)

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:
            return super().get(request, **kwargs)
        except NoSuchBill:
            return render(request, "bills/no_bill.html", {"page": reverse("bills:page")}, status=404)

    def context(self) -> dict[str, Any]:
        return around(self.reading)


class Ledger(OfBill):
    """A list of rows that are worked out and lie in memory; `orders` says by what each sort goes."""

    orders: Mapping[str, Callable[[Any], Any]] = {}

    @abstractmethod
    def found(self) -> list[Any]:
        """Return all rows, in any order."""

    def cut(self) -> keyset.Page:
        rows = self.found()
        if self.sort:
            rows.sort(key=self.orders[self.sort.removeprefix("-")], reverse=self.sort.startswith("-"))
        return page_of(rows, self.request)


def page_of(rows: list[Any], request: HttpRequest) -> keyset.Page:
    begin = first_row(request)
    begin = begin if begin < len(rows) else 0
    end = begin + keyset.ROWS
    return keyset.Page(rows[begin:end], str(begin) if begin else "", str(end) if end < len(rows) else "")


def first_row(request: HttpRequest) -> int:
    """Return how many rows stand before the page that is asked for."""
    after, before = (_number(request.GET.get(name, "")) for name in ("after", "before"))
    return after or max(0, before - keyset.ROWS)


def _number(said: str) -> int:
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 10 else 0


class MonthPage(Ledger):
    """A month: what it comes to, and split by instance, route, item code or resource group."""

    page_template = "bills/page.html"
    orders = {"name": attrgetter("order"), "amount": attrgetter("known", "order")}
    usual_sort = "-amount"

    @property
    def kind(self) -> str:
        asked = self.request.GET.get("by", "")
        return asked if asked in KINDS else "instance"

    def table_class(self, rows: list[Share], *, listing: Ledger) -> ShareTable:
        return TABLES[self.kind](rows, reading=self.reading, listing=listing)

    def found(self) -> list[Share]:
        return shares(self.reading, self.kind)

    def context(self) -> dict[str, Any]:
        kinds = [(self.reading.address("page", by=kind), words, kind == self.kind) for kind, words in KINDS.items()]
        return super().context() | figures(self.reading) | {"kinds": kinds, "kind": self.kind} | self._chart()

    def _chart(self) -> dict[str, Any]:
        if self.reading.filter.said:
            return {}
        costs = self.reading.costs()
        opened = {one.begin for one in self.reading.months if not one.closed}
        return {"chart": chart(costs, opened), "items": ITEMS}


class Lines(Ledger):
    """The lines of a month, of one instance or route or whatever the filter says."""

    page_template = "bills/lines.html"
    orders = {
        "instance_name": lambda line: (line.instance_name.casefold(), line.instance_id, ITEMS.index(line.item)),
        "amount": lambda line: (line.amount is not None, line.amount or 0, line.quantity),
    }
    usual_sort = "-amount"

    def found(self) -> list[Line]:
        return list(self.reading.bill.lines)

    def table_class(self, rows: list[Line], *, listing: Ledger) -> DrillTable:
        return DrillTable(rows, reading=self.reading, listing=listing)

    def context(self) -> dict[str, Any]:
        lines = self.reading.bill.lines
        is_seen = self.reading.filter.wanted("instance") and lines and self.reading.sees(lines[0].instance_id)
        instance = lines[0].instance_code if is_seen else ""
        return super().context() | figures(self.reading) | {"instance": instance}


class Behind(OfBill):
    """What stands behind one line of these items."""

    items: Collection[ItemCode] = ()

    @cached_property
    def line(self) -> Line:
        lines = [line for line in self.reading.bill.lines if drill_down.can_be_drilled(line)]
        if len(lines) != 1 or lines[0].item not in self.items:
            raise Http404("There is no such line.")
        return lines[0]

    def seen(self, sets: Iterable[int]) -> set[int]:
        """Return which of the sets this person may look at."""
        return set(access.sets_for(self.request.user).filter(pk__in=sets).values_list("pk", flat=True))

    def context(self) -> dict[str, Any]:
        line = self.line
        return super().context() | {
            "line": line,
            "behind": self.behind,
            "quantity": quantity(line.item, line.quantity),
            "bill": self.reading.bill,
            "route_name": route_name(self.reading, line),
            "back": self.reading.address("lines", item="", route="", instance=line.instance_code),
        }


class Copies(Behind):
    """The copies behind one line of storage or traffic."""

    page_template = "bills/copies.html"
    items = drill_down.FACTS

    def cut(self) -> keyset.Page:
        skip = first_row(self.request)
        until = bills.counted_until(self.reading.bill)
        self.behind = drill_down.copies_behind(self.line, self.reading.bill.begin, until, skip=skip)
        skip = skip if skip < self.behind.copies else 0
        end = skip + drill_down.PARTS
        after = str(end) if end < self.behind.copies else ""
        return keyset.Page(self._dressed(), str(skip) if skip else "", after)

    def _dressed(self) -> list[CopyRow]:
        ids = {part.set_id for part in self.behind.parts}
        found, seen = BackupSet.objects.select_related("instance").in_bulk(ids), self.seen(ids)
        return [CopyRow(part, found[part.set_id], is_linked=part.set_id in seen) for part in self.behind.parts]

    @property
    def table_class(self) -> type:
        return StoredTable if self.line.item == ItemCode.STORAGE else SentTable

    def context(self) -> dict[str, Any]:
        is_storage, adds_up = self.line.item == ItemCode.STORAGE, self.behind.quantity == self.line.quantity
        return super().context() | {"is_storage": is_storage, "adds_up": adds_up}


class Downloads(Behind, Ledger):
    """The downloads behind one line of them, in the order in which the free quota and network plans met them."""

    page_template = "bills/downloads.html"
    items = (ItemCode.DOWNLOAD,)
    table_class = DownloadTable
    orders = {
        "at": attrgetter("at", "charge_id"),
        "amount": lambda one: (one.amount is not None, one.amount or 0),
    }
    usual_sort = "at"

    def found(self) -> list[Fetched]:
        bill = self.reading.bill
        self.behind = drill_down.downloads_behind(self.line, bill.begin, bills.counted_until(bill))
        return list(self.behind.fetched)

    def dress(self, rows: list[Fetched]) -> list[DownloadRow]:
        charges = DownloadCharge.objects.select_related("set__instance", "file").in_bulk(one.charge_id for one in rows)
        meters, seen = downloads.meters_of(charges.values()), self.seen(charge.set_id for charge in charges.values())
        told = ((one, charges[one.charge_id], meters.get(one.charge_id)) for one in rows)
        return [DownloadRow(*row, is_linked=row[1].set_id in seen) for row in told]

    def context(self) -> dict[str, Any]:
        return super().context() | {"adds_up": self.behind.are(self.line)}


def export(request: HttpRequest, form: str) -> StreamingHttpResponse:
    """Answer the bill that the page shows as a file: what `manage.py statement` prints of the same lines."""
    if form not in FORMS:
        raise Http404("There is no such form.")
    written, bill = FORMS[form], Reading(request).bill
    response = StreamingHttpResponse(written.text(bill), content_type=written.content_type)
    name = f"statement-{named(bill.begin)}{written.ending}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def on_paper(request: HttpRequest) -> HttpResponse:
    """The bill for a printer: nothing around it, its sums, its lines, when it was closed and its digest."""
    reading = Reading(request)
    lines = reading.bill.lines
    shown = {
        "filter": reading.filter,
        "group_names": group_names(reading),
        "items": TABLES["item"](sorted(shares(reading, "item"), key=_item_of), reading=reading),
        "lines": LineTable(list(lines[:MOST_ON_PAPER]), reading=reading),
        "more": max(0, len(lines) - MOST_ON_PAPER),
    }
    return render(request, "bills/print.html", around(reading) | figures(reading) | shown)


def _item_of(share: Share) -> int:
    return ITEMS.index(share.total.lines[0].item)


def group_names(reading: Reading) -> str | None:
    """Return whose bill it is; None: all groups'."""
    if reading.groups is None:
        return None
    return ", ".join(ResourceGroup.objects.filter(pk__in=reading.groups).values_list("name", flat=True))


def around(reading: Reading) -> dict[str, Any]:
    """Return what every page of a bill has: what it is narrowed to, and the ways to its month and its files."""
    return {
        "reading": reading,
        "subject": subject(reading),
        "forms": [(name, reading.address("export", form)) for form, name in FILE_NAMES.items()],
        "on_paper": reading.address("print"),
        "all_lines": reading.address("lines"),
        "month_address": f"{reverse('bills:page')}?month={named(reading.month.begin)}",
    }


def figures(reading: Reading) -> dict[str, Any]:
    """Return the figures at the head of a bill: money, and beside it the bytes that cost nothing."""
    bill = reading.bill
    return {
        "bill": bill,
        "free_bytes": sum(line.free_bytes for line in bill.lines),
        "offset_bytes": sum(line.offset_bytes for line in bill.lines),
        "resent_bytes": sum(line.resent_bytes for line in bill.lines),
        "parts": _parts(bill),
    }


def _parts(bill: Total) -> list[tuple[ItemCode, Total]]:
    found = statements.by_item(bill.lines)
    return [(item, found.get(item, Total(()))) for item in ITEMS]
