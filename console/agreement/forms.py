from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import AbstractBaseUser
from django.utils.translation import gettext_lazy as _

from backups import access
from backups.models import Role
from console.widgets import words
from console.widgets.labels import translated
from regions.models import Region


def region_groups() -> list[tuple[str, str]]:
    """Return what a border runs between (R-10.3), each with the names of its regions outside China."""
    names: dict[str, list[str]] = {}
    for region in Region.objects.shown():
        label = translated(region.name if region.scope == Region.Scope.OUTSIDE else region.get_scope_display())
        names.setdefault(region.group, [])
        if label not in names[region.group]:
            names[region.group].append(label)
    return [(group, words.listed(labels)) for group, labels in names.items()]


class StandingForm(forms.Form):
    """A standing acceptance: every instance of a resource group, for one pair of region groups (R-13.2)."""

    group = forms.ModelChoiceField(queryset=None, label=_("Resource group"), empty_label=None)
    source_group = forms.ChoiceField(label=_("Source"))
    destination_group = forms.ChoiceField(label=_("Destination"))
    agreed = forms.BooleanField(
        label=_("I have read and accept the agreement."),
        error_messages={"required": _("Read the agreement and tick the box.")},
    )

    def __init__(self, user: AbstractBaseUser, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["group"].queryset = access.groups_for(user, Role.OPERATOR, Role.SECURITY)
        self.fields["source_group"].choices = self.fields["destination_group"].choices = region_groups()
