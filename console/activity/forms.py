"""What the activity list can be narrowed by."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from console.widgets.listing import Filter

KINDS = [
    ("", _("Everything")),
    ("policy", _("Settings")),
    ("copy", _("Copies")),
    ("set", _("Default backups found")),
    ("backup", _("Default backups taken")),
    ("file", _("Files")),
    ("instance", _("Instances")),
    ("store", _("Stores")),
    ("agreement", _("Agreement")),
    ("purge", _("Deletions")),
    ("hold", _("Holds")),
    ("download", _("Downloads")),
    ("restore", _("Restores")),
    ("drill", _("Drills")),
    ("log_gap", _("Log gaps")),
    ("landing", _("Landing servers")),
    ("access_key", _("Access keys")),
    ("webhook", _("Webhooks")),
    ("support", _("Support")),
]

DELETIONS = ("copy.expired", "copy.deleted", "copy.undone", "backup.deletion_asked", "backup.retired")
BESIDE = {"purge": DELETIONS}  # what an auditor looks for under a kind, whatever it is called


class EventFilter(Filter):
    q = forms.CharField(required=False, max_length=200, label=_("Search events, people, IDs"))
    kind = forms.ChoiceField(choices=KINDS, required=False, label=_("Kind"))
    since = forms.DateField(
        required=False, label=_("From this day (UTC)"), widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        required=False, label=_("Up to this day (UTC)"), widget=forms.DateInput(attrs={"type": "date"})
    )

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        since, until = said.get("since"), said.get("until")
        if since and until and since > until:
            raise forms.ValidationError(gettext("The first day lies after the last day."))
        return said

    def narrow(self, rows: QuerySet) -> QuerySet:
        if self.non_field_errors():
            return rows.none()
        if not self.is_valid():
            return rows
        wanted = self.cleaned_data
        if wanted["q"]:
            rows = rows.filter(
                Q(sentence__icontains=wanted["q"]) | Q(actor_name__iexact=wanted["q"]) | Q(instance__code=wanted["q"])
            )
        if wanted["kind"]:
            beside = BESIDE.get(wanted["kind"], ())
            rows = rows.filter(Q(kind__startswith=f"{wanted['kind']}.") | Q(kind__in=beside))
        if wanted["since"]:
            rows = rows.filter(at__gte=datetime.combine(wanted["since"], time.min, UTC))
        if wanted["until"]:
            rows = rows.filter(at__lte=datetime.combine(wanted["until"], time.max, UTC))
        return rows
