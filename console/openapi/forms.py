from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backups import access
from console.openapi import keys
from console.openapi.keys import Limits
from console.openapi.models import AccessKey, Reach
from regions.refusals import Refusal

REACHES = [(Reach.LOOKS, _("Looks only")), (Reach.OPERATES, _("Looks and operates, where you are operator"))]


class KeyForm(forms.Form):
    """What a key may of what its owner may."""

    label = forms.CharField(
        max_length=100, label=_("Label"), help_text=_("What uses it, such as the name of a pipeline.")
    )
    reach = forms.ChoiceField(choices=REACHES, widget=forms.RadioSelect, initial=Reach.LOOKS, label=_("May"))
    groups = forms.ModelMultipleChoiceField(
        queryset=None,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label=_("Only these resource groups"),
        help_text=_("None ticked: all of yours, also those still to come."),
    )
    networks = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        label=_("Only from these addresses"),
        help_text=_("One address or network per line, such as 192.0.2.0/24. Left empty: from anywhere."),
    )
    learnt = forms.BooleanField(
        required=False,
        label=_("I have learnt the billing rules for backup file download. Lists may hold download links."),
    )

    def __init__(self, owner: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["groups"].queryset = access.groups_for(owner)

    def clean_networks(self) -> list[str]:
        try:
            return keys.networks_of(self.cleaned_data["networks"].split())
        except Refusal as refusal:
            raise forms.ValidationError(str(refusal)) from refusal

    @property
    def limits(self) -> Limits:
        said = self.cleaned_data
        return Limits(said["label"], said["reach"], list(said["groups"]) or None, said["networks"])


def said_by(key: AccessKey) -> dict[str, Any]:
    """Return what the form shows of a key."""
    return {
        "label": key.label,
        "reach": key.reach,
        "groups": list(key.groups.all()),
        "networks": "\n".join(key.networks),
        "learnt": key.rules_accepted_at is not None,
    }
