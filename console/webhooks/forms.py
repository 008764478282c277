from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from backups import access
from console.webhooks.audience import MAKERS
from console.webhooks.endpoints import Wish
from console.webhooks.models import Delivery, Endpoint, Kind
from console.widgets.listing import Filter

KINDS = {
    Kind.COPY_COMPLETED: _("A copy was completed"),
    Kind.COPY_FAILED: _("A copy fails"),
    Kind.COPY_LATE: _("A copy is late"),
    Kind.GAP_FOUND: _("A gap in the logs was found"),
    Kind.GAP_HEALED: _("A gap in the logs was healed"),
    Kind.RESTORE_DONE: _("A restore is done"),
    Kind.DRILL_FAILED: _("A drill failed"),
    Kind.BUDGET_REACHED: _("A threshold of a budget was reached"),
    Kind.PING: _("A test"),
}
USUAL = [kind for kind in KINDS if kind not in (Kind.PING, Kind.COPY_COMPLETED)]  # each copy's arrival is a lot
STATES = {
    Delivery.State.WAITING: _("Waiting"),
    Delivery.State.DELIVERED: _("Delivered"),
    Delivery.State.FAILED: _("Failed"),
    Delivery.State.DROPPED: _("Dropped"),
}


class EndpointForm(forms.Form):
    """Where it goes and what it hears of."""

    name = forms.CharField(max_length=100, label=_("Name"), help_text=_("What listens there, such as the pager."))
    url = forms.CharField(
        max_length=500,
        label=_("URL"),
        help_text=_("https://… Every message is a signed POST there."),
        widget=forms.TextInput(attrs={"type": "url", "autocomplete": "off", "spellcheck": "false"}),
    )
    kinds = forms.MultipleChoiceField(
        choices=[(kind, words) for kind, words in KINDS.items() if kind != Kind.PING],
        widget=forms.CheckboxSelectMultiple,
        initial=USUAL,
        label=_("Tells when"),
    )
    groups = forms.ModelMultipleChoiceField(
        queryset=None,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label=_("Only of these resource groups"),
        help_text=_("None ticked: of all that you may see, also those still to come."),
    )

    def __init__(self, owner: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["groups"].queryset = access.groups_for(owner, *MAKERS)

    @property
    def wish(self) -> Wish:
        said = self.cleaned_data
        return Wish(said["name"], said["url"], said["kinds"], list(said["groups"]) or None)


def said_by(endpoint: Endpoint) -> dict[str, Any]:
    """Return what the form shows of an endpoint."""
    shown = {"name": endpoint.name, "url": endpoint.url, "kinds": endpoint.kinds}
    return shown | {"groups": list(endpoint.groups.all())}


class DeliveryFilter(Filter):
    q = forms.CharField(required=False, max_length=200, label=_("Search instances, message IDs"))
    kind = forms.ChoiceField(choices=[("", _("Everything")), *KINDS.items()], required=False, label=_("Kind"))
    state = forms.ChoiceField(choices=[("", _("Any state")), *STATES.items()], required=False, label=_("State"))

    def narrow(self, rows: QuerySet) -> QuerySet:
        if words := self.wanted("q"):
            rows = rows.filter(
                Q(message_id=words) | Q(instance__name__icontains=words) | Q(instance__code__icontains=words)
            )
        if kind := self.wanted("kind"):
            rows = rows.filter(kind=kind)
        if state := self.wanted("state"):
            rows = rows.filter(state=state)
        return rows
