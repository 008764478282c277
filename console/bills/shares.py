"""A bill split by instance, route, item code or resource group: each line in one share, so that they add up to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from billing import statements
from billing.models import ItemCode
from billing.statements import Line, Total
from console.bills.forms import route
from console.bills.reading import Reading
from console.widgets.labels import translated

KINDS = {
    "instance": _("By instance"),
    "route": _("By route"),
    "item": _("By item code"),
    "group": _("By resource group"),
}


@dataclass(frozen=True)
class Share:
    """One row of a split bill: its name, what stands beneath it, what narrows the bill to it, what it comes to."""

    name: str
    under: str
    said: str
    total: Total

    @property
    def known(self) -> Decimal:
        return self.total.amount

    @property
    def order(self) -> tuple[str, str]:
        return self.name.casefold(), self.said

    def of(self, item: ItemCode) -> Total:
        return Total(tuple(line for line in self.total.lines if line.item == item))


def shares(reading: Reading, kind: str) -> list[Share]:
    lines = reading.bill.lines
    if kind == "route":
        return [_by_route(reading, total) for total in statements.by_route(lines).values()]
    if kind == "item":
        return [_by_item(total) for total in statements.by_item(lines).values()]
    if kind == "group":
        return [_by_group(total) for total in statements.by_resource_group(lines).values()]
    return [_by_instance(total) for total in statements.by_instance(lines).values()]


def _by_instance(total: Total) -> Share:
    line = total.lines[0]
    return Share(line.instance_name, line.instance_code, line.instance_code, total)


def _by_route(reading: Reading, total: Total) -> Share:
    line = total.lines[0]
    ids = f"{line.source} → {line.destination}" if line.destination else line.source
    return Share(route_name(reading, line), ids, route(line), total)


def _by_item(total: Total) -> Share:
    item = total.lines[0].item
    return Share(translated(item.label), item.value, item.value, total)


def _by_group(total: Total) -> Share:
    line = total.lines[0]
    return Share(line.group_name, "", str(line.group_id), total)


def route_name(reading: Reading, line: Line) -> str:
    """Return a route by the regions' names; of a region that is gone its id."""
    names = reading.region_names
    source = names.get(line.source, line.source)
    if not line.destination:
        return gettext("%(region)s → Internet") % {"region": source}
    return f"{source} → {names.get(line.destination, line.destination)}"


NAMES: dict[str, Callable[[Reading, Line], str]] = {
    "instance": lambda reading, line: line.instance_name,
    "route": route_name,
    "item": lambda reading, line: translated(line.item.label),
    "group": lambda reading, line: line.group_name,
}


def subject(reading: Reading) -> str:
    """Return what the bill is narrowed to, by its names where a line tells them."""
    line = next(iter(reading.bill.lines), None)
    asked = {name: said for name, said in reading.filter.said.items() if name in NAMES}
    return " · ".join(NAMES[name](reading, line) if line else said for name, said in asked.items())
