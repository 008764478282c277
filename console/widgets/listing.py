"""The view every list page is: narrowed by a filter, sorted, cut by a cursor, drawn by a ConsoleTable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.views import View
from django_htmx.http import trigger_client_event

from console.widgets import keyset
from console.widgets.fragments import render_page
from console.widgets.tables import ConsoleTable

MOST_MATCHING = 500  # what "all matching" means at most: a change of settings for more wants a program


class Filter(forms.Form):
    """The search box and the selects of a list. Anything invalid narrows nothing."""

    q = forms.CharField(required=False, max_length=200)

    def narrow(self, rows: QuerySet) -> QuerySet:
        return rows

    def wanted(self, name: str) -> str:
        return self.cleaned_data.get(name, "") if self.is_valid() else ""


class Listing(View, ABC):
    """A list, wherever its rows come from; `fragments` maps the id of an element to the template that fills it.

    `orders` names the sorts.
    """

    page_template = ""
    fragments: Mapping[str, str] = {"rows": "widgets/_rows.html"}
    table_class: type[ConsoleTable]
    filter_class: type[Filter] = Filter
    orders: Mapping[str, Any] = {}
    usual_sort = ""

    request: HttpRequest

    @abstractmethod
    def cut(self) -> keyset.Page:
        """Return the page of rows that is asked for."""

    def dress(self, rows: list[Any]) -> list[Any]:
        """Add to the rows of one page what it takes further queries to say."""
        return rows

    def context(self) -> dict[str, Any]:
        return {}

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        self.filter = self.filter_class(request.GET)
        if request.GET.get("matching") == "count":
            return self.matching()
        self.page = self.cut()
        self.table = self.table_class(self.dress(self.page.rows), listing=self)
        shown = {"listing": self, "table": self.table, "page": self.page, "filter": self.filter}
        return render_page(request, self.page_template, self.fragments, shown | self.context())

    def matching(self) -> HttpResponse:
        raise Http404("These rows are not selected.")

    # ---- sorting and paging, as links that also work without script

    @property
    def sort(self) -> str:
        asked = self.request.GET.get("sort", "")
        return asked if asked.removeprefix("-") in self.orders else self.usual_sort

    def direction_of(self, column: str) -> str:
        if self.sort.removeprefix("-") != column:
            return "none"
        return "descending" if self.sort.startswith("-") else "ascending"

    def sorted_by(self, column: str) -> str:
        return self._here(sort=f"-{column}" if self.sort == column else column)

    @property
    def newer(self) -> str:
        return self._here(before=self.page.before) if self.page.before else ""

    @property
    def older(self) -> str:
        return self._here(after=self.page.after) if self.page.after else ""

    @property
    def here(self) -> str:
        return self.request.get_full_path()

    @property
    def is_narrowed(self) -> bool:
        return bool(self.filter.errors) or any(self.filter.wanted(name) for name in self.filter.fields)

    def _here(self, **change: str) -> str:
        query: QueryDict = self.request.GET.copy()
        for name in ("after", "before", "region"):
            query.pop(name, None)
        for name, value in change.items():
            query[name] = value
        kept = QueryDict(mutable=True)
        for name, values in query.lists():
            kept.setlist(name, [value for value in values if value])
        return f"{self.request.path}?{kept.urlencode()}"


class ListView(Listing):
    """A list of rows of the database: subclasses say which, in which templates.

    `orders`: columns that end in a unique one and are never NULL (keyset.Order).
    """

    orders: Mapping[str, tuple[str, ...]] = {}

    @abstractmethod
    def rows(self) -> QuerySet:
        """Return all that this person may see."""

    def cut(self) -> keyset.Page:
        asked = self.request.GET
        rows = self.filter.narrow(self.rows())
        return keyset.page(rows, self.order, after=asked.get("after", ""), before=asked.get("before", ""))

    @property
    def order(self) -> keyset.Order:
        ascending = keyset.Order(self.orders[self.sort.removeprefix("-")])
        return ascending.reversed() if self.sort.startswith("-") else ascending

    def matching(self) -> HttpResponse:
        """Answer how many rows match the filter, and the filter itself: a selection of all of them sends it back."""
        n = self.filter.narrow(self.rows())[:MOST_MATCHING].count()
        query = self.request.GET.copy()
        for name in ("matching", "after", "before", "sort", "pick"):
            query.pop(name, None)
        return trigger_client_event(
            HttpResponse(status=204), "selection:matching", {"n": n, "query": query.urlencode()}
        )
