"""Budgets and forecast: what this month and a year will cost, and budgets that alert before they are spent (R-4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse_lazy
from django.utils.formats import date_format
from django.utils.translation import gettext, ngettext, pgettext

from backups import access
from backups.models import ResourceGroup, Role
from billing import budgets
from billing.forecast import Amount, Forecast, Month, forecast
from billing.models import Budget, ItemCode
from console.budgets.forms import AddForm, BudgetForm, said_by
from console.budgets.money import bar, said
from console.budgets.tables import BudgetTable, MonthTable, Row, scope_of
from console.widgets import words
from console.widgets.acting import acting
from console.widgets.asking import Dialog
from console.widgets.listing import ListView
from regions import clock

NAMES_SHOWN = 3
USUAL = {"percents": "80, 100", "on_forecast": True, "is_enabled": True}


class BudgetList(ListView):
    """The page of those who answer for costs: of one resource group, of some, or (with all of them) of the fleet."""

    page_template = "budgets/page.html"
    fragments = {"rows": "widgets/_rows.html", "panel": "budgets/_panel.html"}
    table_class = BudgetTable
    orders = {"amount": ("amount", "pk")}
    usual_sort = "-amount"

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        _require_right(request)
        return super().get(request, **kwargs)

    def rows(self) -> QuerySet:
        return budgets.budgets_for(self.request.user)

    def dress(self, rows: list[Any]) -> list[Any]:
        return [budgets.standing(budget, self.seen) for budget in rows]

    def context(self) -> dict[str, Any]:
        seen = self.seen.of_group(self.chosen.pk) if self.chosen else self.seen
        limit = self.rows().filter(group=self.chosen).first() if self.chosen or self.is_everywhere else None
        foreseen, year = seen.month.amount(), seen.over_the_year()
        return {
            "groups": self.groups,
            "chosen": self.chosen,
            "everything": gettext("The whole fleet") if self.is_everywhere else gettext("All my resource groups"),
            "spent": said(seen.spent),
            "foreseen": said(foreseen),
            "year": said(year),
            "limit": limit,
            "over": limit is not None and seen.spent.at_least > limit.amount,
            "passes": limit is not None and foreseen.at_least > limit.amount,
            "bar": bar(seen.spent, foreseen, limit and limit.amount),
            "months": MonthTable(_months(seen)),
            "notes": _notes(seen),
        }

    @cached_property
    def is_everywhere(self) -> bool:
        return access.bills_everywhere(self.request.user)

    @cached_property
    def groups(self) -> list[ResourceGroup]:
        return list(access.groups_for(self.request.user, Role.BILLING))

    @cached_property
    def seen(self) -> Forecast:
        return forecast(clock.now(), None if self.is_everywhere else [group.pk for group in self.groups])

    @cached_property
    def chosen(self) -> ResourceGroup | None:
        """The group chosen in the address; anything else is all of mine."""
        asked = self.request.GET.get("group", "")
        return next((group for group in self.groups if str(group.pk) == asked), None)


def _months(seen: Forecast) -> list[Row]:
    first, *later = [_row(_named(month), month.amount) for month in seen.months]
    year = _row(gettext("The twelve months after this one"), seen.over_the_year)
    now = replace(first, name=gettext("%(month)s, at its end") % {"month": first.name})
    return [now, *(replace(row, downloads=None) for row in (*later, year))]


def _row(name: str, amount_of: Callable[[ItemCode | None], Amount]) -> Row:
    return Row(name, *(amount_of(item) for item in (ItemCode.STORAGE, ItemCode.TRAFFIC, ItemCode.DOWNLOAD, None)))


def _named(month: Month) -> str:
    # Translators: the letters are those of Django's date format.
    return date_format(month.begin, pgettext("a month", "F Y"))


def _notes(seen: Forecast) -> list[str]:
    """Return what the figures leave out, in sentences."""
    counted = [
        (
            seen.unpriced,
            ngettext(
                "Not counted: %(n)s line of this month has no price.",
                "Not counted: %(n)s lines of this month have no price.",
                seen.unpriced,
            ),
        ),
        (
            seen.without_logs,
            ngettext(
                "Not counted: the logs of %(n)s instance, of which none are known yet.",
                "Not counted: the logs of %(n)s instances, of which none are known yet.",
                seen.without_logs,
            ),
        ),
        (
            seen.held,
            ngettext(
                "%(n)s copy is held: it is counted as if the hold were never released.",
                "%(n)s copies are held: they are counted as if the holds were never released.",
                seen.held,
            ),
        ),
    ]
    return [*_unknown(seen), *(sentence % {"n": n} for n, sentence in counted if n)]


def _unknown(seen: Forecast) -> list[str]:
    if not seen.unknown:
        return []
    names = [one.name for one in seen.unknown]
    more = len(names) - NAMES_SHOWN
    listed = words.listed(names[:NAMES_SHOWN]) + (gettext(" and %(n)s more") % {"n": more} if more > 0 else "")
    return [
        gettext("Not counted: new backups of %(names)s, whose size and pace are not known yet.") % {"names": listed}
    ]


# ---- dialogs


class BudgetDialog(Dialog):
    """A budget's dialog; who does not answer for its costs is refused."""

    template = "budgets/_dialog.html"
    back = reverse_lazy("budgets:page")

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        _require_right(request)


class Add(BudgetDialog):
    def form(self, *said: Any) -> BudgetForm:
        return AddForm(self.request.user, *said, initial=USUAL)

    def do(self, form: BudgetForm) -> HttpResponse:
        made = budgets.create(form.cleaned_data["group"], form.wish, acting(self.request))
        return self.done(gettext("Added: the budget of %(name)s.") % {"name": scope_of(made)})


class OfBudget(BudgetDialog):
    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.budget: Budget = budgets.budget_for(request.user, kwargs["pk"])

    def context(self) -> dict[str, Any]:
        return super().context() | {"budget": self.budget, "scope": scope_of(self.budget)}


class Change(OfBudget):
    def form(self, *said: Any) -> BudgetForm:
        return BudgetForm(*said, initial=said_by(self.budget))

    def do(self, form: BudgetForm) -> HttpResponse:
        budgets.change(self.budget, form.wish, acting(self.request))
        return self.done(gettext("Saved: the budget of %(name)s.") % {"name": scope_of(self.budget)})


class Remove(OfBudget):
    template = "budgets/_remove_dialog.html"

    def do(self, form: forms.Form) -> HttpResponse:
        named = {"name": scope_of(self.budget)}
        budgets.remove(self.budget, acting(self.request))
        return self.done(gettext("Removed: the budget of %(name)s.") % named)


def _require_right(request: HttpRequest) -> None:
    if not access.groups_for(request.user, Role.BILLING).exists() and not access.sees_all(request.user):
        raise PermissionDenied("This needs the role billing in a resource group.")
