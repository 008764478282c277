"""The table every list is made of: django-tables2 columns with render methods, drawn by a template that does little."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any

import django_tables2 as tables
from django.forms.utils import flatatt
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from console.widgets.icons import icon

NUMBER = {"td": {"class": "num"}, "th": {"class": "num"}}
ACTIONS = {"td": {"class": "act"}, "th": {"class": "act"}}
STACKED = {"td": {"class": "act stack"}, "th": {"class": "act"}}  # buttons below each other where there is no room
LONG = {"td": {"class": "long"}}  # a cell that takes the whole width of a card on a phone
PICK = {"td": {"class": "w-check"}, "th": {"class": "w-check"}}


class PickColumn(tables.Column):
    """A tick per row with a name of its own for screen readers, and one for the whole page in the heading."""

    empty_values = ()

    def __init__(self, names: str = "name", **extra: Any) -> None:
        super().__init__(accessor="pk", orderable=False, attrs=PICK, verbose_name=_("Select"), **extra)
        self.names = names

    @property
    def header(self) -> SafeString:
        words = gettext("Select all on this page")
        return format_html('<input type="checkbox" class="check" data-pick-all aria-label="{}">', words)

    def render(self, value: Any, record: Any, table: ConsoleTable) -> SafeString | str:
        if not table.can_pick(record):
            return ""
        words = gettext("Select %(name)s") % {"name": getattr(record, self.names)}
        return format_html('<input type="checkbox" class="check" name="pick" value="{}" aria-label="{}">', value, words)


class ActionsColumn(tables.Column):
    """Buttons at the end of a row."""

    empty_values = ()

    def __init__(self, verbose_name: Any = "", *, attrs: dict[str, Any] = ACTIONS, **extra: Any) -> None:
        words = verbose_name or _("Actions")
        super().__init__(accessor="pk", orderable=False, attrs=attrs, verbose_name=words, **extra)


class ConsoleTable(tables.Table):
    """Rows come ready sorted and cut (keyset.py); the table only draws. `listing` says which headings sort.

    A column's value is read, and its render method's parameters are looked up, by means worked out once: the usual
    way asks the model and the signature anew for every cell, which is most of the time a page of rows takes.
    """

    caption = _("List")

    class Meta:
        template_name = "widgets/table.html"
        attrs = {"class": "grid"}
        orderable = False

    def __init__(self, rows: list[Any], *, listing: Any = None, **extra: Any) -> None:
        super().__init__(rows, **extra)
        self.listing = listing

    def can_pick(self, record: Any) -> bool:
        return True

    def headings(self) -> Iterator[SafeString]:
        for column in self.columns:
            yield self._heading(column)

    def body(self) -> Iterator[SafeString]:
        """Return each row, drawn."""
        cells = [(_cell_attributes(column), _drawer(self, column)) for column in self.columns]
        for record in self.data:
            drawn = (
                f'<td role="cell"{attributes}>{conditional_escape(draw(record))}</td>' for attributes, draw in cells
            )
            yield SafeString(f'<tr role="row">{"".join(drawn)}</tr>')

    def _heading(self, column: Any) -> SafeString:
        attributes = dict(column.column.attrs.get("th", {}), role="columnheader", scope="col")
        if self.listing is None or column.name not in self.listing.orders:
            return format_html("<th{}>{}</th>", flatatt(attributes), column.header)
        attributes["aria-sort"] = self.listing.direction_of(column.name)
        return format_html(
            '<th{}><a id="sort-{name}" href="{url}" hx-get="{url}">{}{}</a></th>',
            flatatt(attributes),
            column.header,
            icon("chevron-down", "sort"),
            name=column.name,  # by which htmx finds the focus again
            url=self.listing.sorted_by(column.name),
        )


def _cell_attributes(column: Any) -> SafeString:
    attributes = dict(column.column.attrs.get("td", {}))
    return flatatt(attributes | {"data-label": column.verbose_name})


def _drawer(table: ConsoleTable, column: Any) -> Callable[[Any], Any]:
    """Return what draws one column of a record: its render method, given no more than it asks for."""
    render, read = column.render, attrgetter(str(column.accessor).replace("__", "."))
    wanted = _wanted(getattr(render, "__func__", render))
    fixed = {"table": table, "column": column.column, "bound_column": column}
    given = {name: fixed[name] for name in wanted if name in fixed}

    def draw(record: Any) -> Any:
        if "record" in wanted:
            given["record"] = record
        if "value" in wanted:
            given["value"] = value = read(record)
            if value in column.column.empty_values:
                return column.default
        return render(**given)

    return draw


@cache
def _wanted(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(function).parameters if name != "self")
