from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backups.models import Download


class DownloadForm(forms.Form):
    """`costs`: what each address that is offered costs, in words."""

    address = forms.ChoiceField(widget=forms.RadioSelect, label=_("Address"), initial=Download.Address.INTERNET)
    learnt = forms.BooleanField(
        label=_("I have learnt the billing rules for backup file download."),
        error_messages={"required": _("Tick the box to confirm the billing rules.")},
    )

    def __init__(self, costs: dict[str, str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["address"].choices = list(costs.items())
