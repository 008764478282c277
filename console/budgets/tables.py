from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import django_tables2 as tables
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from billing.budgets import Standing
from billing.forecast import Amount
from billing.models import Budget
from console.budgets.money import bar, said
from console.widgets import cells, words
from console.widgets.badges import BAD, OFF, OK, WARN, Look, badge
from console.widgets.tables import LONG, NUMBER, ActionsColumn, ConsoleTable

STATES = {
    "within": Look(OK, "check", _("Within it")),
    "near": Look(WARN, "triangle-alert", _("Nearly spent")),
    "will_pass": Look(WARN, "triangle-alert", _("Will not last")),
    "spent": Look(BAD, "circle-x", _("Spent")),
    "off": Look(OFF, "circle-off", _("Switched off")),
}


def scope_of(budget: Budget) -> str:
    """Return whose budget it is, in the reader's language."""
    return budget.group.name if budget.group else gettext("The whole fleet")


class BudgetTable(ConsoleTable):
    caption = _("Budgets")

    scope = tables.Column(verbose_name=_("For"), accessor="budget", attrs=LONG)
    amount = tables.Column(verbose_name=_("A month"), accessor="budget__amount", attrs=NUMBER)
    spent = tables.Column(verbose_name=_("Spent"), attrs=NUMBER)
    foreseen = tables.Column(verbose_name=_("At month end"), attrs=NUMBER)
    share = tables.Column(verbose_name=pgettext_lazy("of the whole", "Share"), accessor="percent", attrs=LONG)
    state = tables.Column(verbose_name=_("State"), attrs=LONG)
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _("No budget yet. Add one, and an alert comes before it is spent.")

    def render_scope(self, value: Budget) -> SafeString:
        return format_html("<b><bdi>{}</bdi></b>", scope_of(value))

    def render_amount(self, value: Decimal) -> SafeString:
        return words.money(value)

    def render_spent(self, value: Amount) -> SafeString:
        return said(value)

    def render_foreseen(self, value: Amount) -> SafeString:
        return said(value)

    def render_share(self, value: int, record: Standing) -> SafeString:
        drawn = bar(record.spent, record.foreseen, record.budget.amount)
        return format_html('<span class="share">{}<small>{}</small></span>', drawn, _percent(value))

    def render_state(self, value: str, record: Standing) -> SafeString:
        return badge(STATES[value], _alerts_at(record.budget))

    def render_actions(self, record: Standing) -> SafeString:
        budget, named = record.budget, {"name": scope_of(record.budget)}
        return cells.buttons(
            cells.button(
                gettext("Change"),
                reverse("budgets:change", args=[budget.pk]),
                gettext("Change the budget of %(name)s") % named,
                name=f"change-{budget.pk}",
            ),
            cells.button(
                gettext("Remove"),
                reverse("budgets:remove", args=[budget.pk]),
                gettext("Remove the budget of %(name)s") % named,
            ),
        )


def _percent(value: int) -> str:
    return gettext("%(n)s %% spent") % {"n": value}


def _alerts_at(budget: Budget) -> str:
    told = [gettext("%(n)s %%") % {"n": percent} for percent in budget.percents]
    told += [gettext("forecast")] if budget.on_forecast else []
    return gettext("alerts at: %(list)s") % {"list": words.listed(told)}


@dataclass(frozen=True)
class Row:
    """A month, or all of them, by item."""

    name: SafeString | str
    storage: Amount
    traffic: Amount
    downloads: Amount | None  # None: of months to come nothing is foreseen
    total: Amount


class MonthTable(ConsoleTable):
    caption = _("Month by month")

    name = tables.Column(verbose_name=_("Month"))
    storage = tables.Column(verbose_name=_("Storage"), attrs=NUMBER)
    traffic = tables.Column(verbose_name=_("Traffic"), attrs=NUMBER)
    downloads = tables.Column(verbose_name=_("Downloads"), attrs=NUMBER, default=_("not foreseen"))
    total = tables.Column(verbose_name=_("Together"), attrs=NUMBER)

    class Meta(ConsoleTable.Meta):
        empty_text = _("Nothing is foreseen.")

    def render_storage(self, value: Amount) -> SafeString:
        return said(value)

    def render_traffic(self, value: Amount) -> SafeString:
        return said(value)

    def render_downloads(self, value: Amount) -> SafeString:
        return said(value)

    def render_total(self, value: Amount) -> SafeString:
        return format_html("<b>{}</b>", said(value))
