from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib.auth.models import AbstractBaseUser
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups import access
from backups.models import Role
from billing.budgets import Wish
from billing.models import Budget


class BudgetForm(forms.Form):
    """What a budget says; whether it makes sense is said by billing.budgets."""

    amount = forms.DecimalField(max_digits=12, decimal_places=2, label=_("Amount a month (USD)"))
    percents = forms.CharField(
        max_length=60,
        required=False,
        label=_("Alert when so much is spent (%)"),
        help_text=_("Whole numbers, such as 80, 100."),
    )
    on_forecast = forms.BooleanField(required=False, label=_("Alert when the month is going to cost more"))
    is_enabled = forms.BooleanField(required=False, label=_("Enabled"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)

    def clean_percents(self) -> tuple[int, ...]:
        parts = [part for part in re.split(r"[\s,;%]+", self.cleaned_data["percents"]) if part]
        if not all(re.fullmatch(r"[0-9]{1,4}", part) for part in parts):
            raise forms.ValidationError(gettext("Enter whole numbers such as 80, 100."))
        return tuple(int(part) for part in parts)

    @property
    def wish(self) -> Wish:
        names = ("amount", "percents", "on_forecast", "is_enabled")
        return Wish(**{name: self.cleaned_data[name] for name in names})


class AddForm(BudgetForm):
    """A new budget, for a scope whose costs are this person's."""

    group = forms.ModelChoiceField(queryset=None, label=_("For"), required=False)
    field_order = ["group"]

    def __init__(self, user: AbstractBaseUser, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        group = self.fields["group"]
        group.queryset = access.groups_for(user, Role.BILLING)
        if access.bills_everywhere(user):
            group.empty_label = _("The whole fleet")
        else:
            group.empty_label, group.required = None, True


def said_by(budget: Budget) -> dict[str, Any]:
    """Return what the form begins with."""
    return {
        "amount": budget.amount,
        "percents": ", ".join(str(percent) for percent in budget.percents),
        "on_forecast": budget.on_forecast,
        "is_enabled": budget.is_enabled,
    }
