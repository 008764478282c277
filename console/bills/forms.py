"""What a bill can be narrowed by. A value nobody has leaves no line: a bill never shows more than was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django import forms
from django.utils.translation import gettext_lazy as _

from billing.statements import Line
from console.widgets.listing import Filter

LONGEST = 200


class BillFilter(Filter):
    """`instance`: its code. `route`: "source:destination", the latter empty for the Internet. `group`: its id."""

    q = forms.CharField(required=False, max_length=LONGEST, label=_("Search by ID, name or resource group"))
    instance = forms.CharField(required=False, max_length=LONGEST)
    route = forms.CharField(required=False, max_length=LONGEST)
    item = forms.CharField(required=False, max_length=LONGEST)
    group = forms.CharField(required=False, max_length=LONGEST)

    @property
    def said(self) -> dict[str, str]:
        """What is asked for, as an address says it."""
        return {name: said for name in self.fields if (said := self.wanted(name).strip())}

    def kept(self, lines: Iterable[Line]) -> Iterator[Line]:
        if not self.is_valid():
            return
        asked = self.said
        words = asked.pop("q", "").casefold()
        for line in lines:
            known = told(line)
            if all(known[name] == said for name, said in asked.items()) and words in _searched(line):
                yield line


def told(line: Line) -> dict[str, str]:
    """Return what a line is, in the words that a filter asks for."""
    return {
        "instance": line.instance_code,
        "route": route(line),
        "item": line.item.value,
        "group": str(line.group_id),
    }


def route(line: Line) -> str:
    return f"{line.source}:{line.destination}"


def _searched(line: Line) -> str:
    return f"{line.instance_code}\n{line.instance_name}\n{line.group_name}".casefold()
