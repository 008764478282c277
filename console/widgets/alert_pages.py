"""Where something can be done about an alert: the page of what it is about."""

from __future__ import annotations

from typing import NamedTuple

from django.urls import reverse
from django.utils.translation import gettext

from backups.access import BUDGET
from backups.models import Alert

WEBHOOK = "webhook_"  # how the codes of alerts about webhooks begin
OF_THE_INSTALLATION = (
    "keys_not_escrowed",
    "self_backup_old",
)  # seen to beside its stores


class Way(NamedTuple):
    address: str
    name: str


def way_of(alert: Alert) -> Way | None:
    """Return the way there; its instance comes along."""
    if alert.instance_id:
        return Way(reverse("instances:page", args=[alert.instance.code]), alert.instance.name)
    if alert.code.startswith(BUDGET):
        return Way(reverse("budgets:page"), gettext("Budgets and forecast"))
    if alert.code.startswith(WEBHOOK):
        return Way(reverse("webhooks:list"), gettext("Webhooks"))
    if alert.subject.startswith("landing:"):
        return Way(reverse("stores:landing_list"), gettext("Landing servers"))
    if alert.subject.startswith("store:") or alert.code in OF_THE_INSTALLATION:
        return Way(reverse("stores:list"), gettext("Stores"))
    return None
