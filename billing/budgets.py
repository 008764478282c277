"""Budgets: what a month may cost, and alerts before it is spent. One for the whole fleet, one for each resource group.

An alert opens once for each budget, month and threshold, stays open while it holds, and closes with the month; the
money is the statement's and the forecast's, of which what has no price or is not known is no part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext

from backups import access, alerts, events
from backups.events import By
from backups.models import Alert, ResourceGroup, Role
from billing.forecast import Amount, Forecast, forecast
from billing.models import Budget
from regions import clock
from regions.refusals import Refusal

SPENT, PASSING = "budget_spent", "budget_forecast"
MOST_PERCENT, MOST_THRESHOLDS = 200, 5
MOST_AMOUNT = Decimal("9999999999.99")
STEADY_PERCENT = 5  # how far the forecast falls below the budget before its alert closes: it moves a little every day


@dataclass(frozen=True)
class Wish:
    """What a budget says, apart from its scope. `percents` of what was spent; none: only the forecast alerts."""

    amount: Decimal
    percents: tuple[int, ...] = (80, 100)
    on_forecast: bool = True
    is_enabled: bool = True


@dataclass(frozen=True)
class Standing:
    """How a budget stands in this month."""

    budget: Budget
    spent: Amount
    foreseen: Amount

    @property
    def percent(self) -> int:
        """How much of it is spent, in whole percent, floored."""
        return int(self.spent.at_least * 100 / self.budget.amount)

    @property
    def reached(self) -> list[int]:
        """The thresholds that have been reached."""
        return [one for one in self.budget.percents if self.spent.at_least * 100 >= self.budget.amount * one]

    @property
    def will_pass(self) -> bool:
        return self.foreseen.at_least > self.budget.amount

    @property
    def state(self) -> str:
        """Return off, spent, will_pass, near or within: the first that applies."""
        if not self.budget.is_enabled:
            return "off"
        if self.spent.at_least >= self.budget.amount:
            return "spent"
        if self.will_pass:
            return "will_pass"
        return "near" if self.reached else "within"


def standing(budget: Budget, seen: Forecast) -> Standing:
    """Return how a budget stands, out of a forecast that looks at its scope or further."""
    mine = seen if budget.group_id is None else seen.of_group(budget.group_id)
    return Standing(budget, mine.spent, mine.month.amount())


# ---- whose they are


def budgets_for(user: Any) -> QuerySet[Budget]:
    """Return the budgets of the groups whose costs are this person's; the fleet's where all of them are."""
    mine = Budget.objects.filter(group__in=access.groups_for(user, Role.BILLING))
    found = mine | Budget.objects.filter(group=None) if access.bills_everywhere(user) else mine
    return found.select_related("group")


def budget_for(user: Any, pk: int) -> Budget:
    """Return the budget; Http404 when it is not there for this person."""
    found = budgets_for(user).filter(pk=pk).first()
    if found is None:
        raise Http404("No such budget.")
    return found


# ---- made, changed, removed


def create(group: ResourceGroup | None, wish: Wish, by: By) -> Budget:
    """Make the budget of a group, or (None) of the whole fleet; raises Refusal."""
    percents = _checked(wish)
    if Budget.objects.filter(group=group).exists():
        raise _two_of(group)
    try:
        with transaction.atomic():
            made = Budget.objects.create(
                group=group,
                amount=wish.amount,
                percents=percents,
                on_forecast=wish.on_forecast,
                is_enabled=wish.is_enabled,
                created_at=clock.now(),
                created_by=by.user,
            )
            _record("budget.created", f"{_named(made)} was made: {_words(wish)}.", made, by)
    except IntegrityError as error:  # somebody made it between the look and the insert
        raise _two_of(group) from error
    return made


def change(budget: Budget, wish: Wish, by: By) -> None:
    """Change what a budget says; its scope stays. Raises Refusal."""
    percents = _checked(wish)
    with transaction.atomic():
        budget.amount, budget.percents = wish.amount, percents
        budget.on_forecast, budget.is_enabled = wish.on_forecast, wish.is_enabled
        budget.save(update_fields=["amount", "percents", "on_forecast", "is_enabled"])
        _record("budget.changed", f"{_named(budget)} was changed: {_words(wish)}.", budget, by)


def remove(budget: Budget, by: By) -> None:
    """Remove a budget; its alerts close."""
    with transaction.atomic():
        _record("budget.removed", f"{_named(budget)} was removed.", budget, by)
        open_ones = Alert.objects.filter(closed_at=None, subject__startswith=f"budget:{budget.pk}:")
        open_ones.update(closed_at=clock.now())
        budget.delete()


def _checked(wish: Wish) -> list[int]:
    """Return the thresholds in order; raises Refusal where an amount or a threshold makes no sense."""
    if not 0 < wish.amount <= MOST_AMOUNT:
        sentence = gettext("A budget is more than nothing.")
        raise Refusal("BadAmount", sentence, gettext("Enter an amount in USD, from 0.01 on."), "amount")
    percents = sorted(set(wish.percents))
    if len(percents) > MOST_THRESHOLDS or any(not 1 <= percent <= MOST_PERCENT for percent in percents):
        sentence = gettext("A threshold is a whole number of percent, from 1 to %(most)s; there are %(n)s at most.")
        said = sentence % {"most": MOST_PERCENT, "n": MOST_THRESHOLDS}
        raise Refusal("BadThreshold", said, gettext("Enter numbers such as 80, 100."), "percents")
    if not percents and not wish.on_forecast:
        sentence = gettext("Without a threshold and without the forecast nobody would ever be told.")
        raise Refusal("NoThreshold", sentence, gettext("Enter a threshold, or tick the forecast."), "percents")
    return percents


def _two_of(group: ResourceGroup | None) -> Refusal:
    sentence = gettext("The whole fleet has a budget already.")
    if group:
        sentence = gettext("%(group)s has a budget already.") % {"group": group}
    return Refusal("BudgetExists", sentence, gettext("Change that one instead."), "group")


def _record(kind: str, sentence: str, budget: Budget, by: By) -> None:
    told = {"budget": budget.pk, "amount": str(budget.amount), "percents": budget.percents}
    flags = {"on_forecast": budget.on_forecast, "is_enabled": budget.is_enabled}
    events.record(kind, sentence, by=by, group=budget.group, **told, **flags)


def _named(budget: Budget) -> str:
    return f"The budget of {scope_of(budget)}"


def scope_of(budget: Budget) -> str:
    """Return whose it is, in English, for what is written down."""
    return budget.group.name if budget.group else "the whole fleet"


def _words(wish: Wish) -> str:
    told = [f"{percent} %" for percent in sorted(set(wish.percents))]
    told += ["the forecast passing it"] if wish.on_forecast else []
    off = "" if wish.is_enabled else "; it is switched off"
    return f"{wish.amount} USD a month, an alert at {', '.join(told)}{off}"


# ---- alerts


def keep_alerts() -> None:
    """Open what holds and close what no longer does; what belongs to a month that ended closes with it."""
    at = clock.now()
    budgets = list(Budget.objects.filter(is_enabled=True).select_related("group"))
    standings = [standing(budget, seen) for seen in _seen(budgets, at) for budget in budgets]
    alerts.keep(SPENT, dict(_spent(standings, at)))
    alerts.keep(PASSING, dict(_passing(standings, at)))


def _seen(budgets: Collection[Budget], at: datetime) -> Iterable[Forecast]:
    """Look ahead once for all of them, no further than they ask."""
    if not budgets:
        return []
    groups = {budget.group_id for budget in budgets}
    return [forecast(at, None if None in groups else groups, months=0)]


def _spent(standings: Iterable[Standing], at: datetime) -> Iterable[tuple[str, dict[str, Any]]]:
    for one in standings:
        for percent in one.reached:
            words = f"{percent} % of the budget of {scope_of(one.budget)} for {at:%B %Y} is spent"
            yield f"{_subject(one, at)}:{percent}", _alert(one, f"{words}: its {one.budget.amount} USD a month.")


def _passing(standings: Iterable[Standing], at: datetime) -> Iterable[tuple[str, dict[str, Any]]]:
    told = set(Alert.objects.filter(code=PASSING, closed_at=None).values_list("subject", flat=True))
    for one in standings:
        subject = _subject(one, at)
        slack = 100 - STEADY_PERCENT if subject in told else 100
        if one.budget.on_forecast and one.foreseen.at_least * 100 > one.budget.amount * slack:
            words = f"{_named(one.budget)} will not last until {at:%B %Y} ends, as things stand"
            yield subject, _alert(one, f"{words}: its {one.budget.amount} USD a month.")


def _subject(one: Standing, at: datetime) -> str:
    return f"budget:{one.budget.pk}:{at:%Y-%m}"


def _alert(one: Standing, sentence: str) -> dict[str, Any]:
    remedy = "Look at Budgets and forecast: shorten retention, copy less, or raise the budget."
    return {"sentence": sentence, "remedy": remedy, "group": one.budget.group}
