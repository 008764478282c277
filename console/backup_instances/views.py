"""The instances with cross-region backup on, and those whose files are still there (R-16.1, R-12.5)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _

from backups import access
from backups.models import BackupJob, CopyPolicy, Instance
from backups.oversight import lag
from console.backup_instances.tables import BackupTable
from console.widgets import lag_words, protected, proven
from console.widgets.addresses import row_numbers
from console.widgets.glance import Glance
from console.widgets.instance_lists import ORDERS, InstanceFilter, backed_up, instances_here, mark_operated
from console.widgets.listing import ListView
from console.widgets.protected import protection_badge

QUICK, SLOW, MOST_POLLED = 3, 20, 60
STATUSES = [("", _("Any status")), ("enabled", _("Enabled")), ("disabled", _("Disabled")), ("released", _("Released"))]


class BackupFilter(InstanceFilter):
    status = forms.ChoiceField(choices=STATUSES, required=False, label=_("Status"))

    def narrow(self, rows: QuerySet[Instance]) -> QuerySet[Instance]:
        rows = super().narrow(rows)
        enabled = Exists(CopyPolicy.objects.cross_region().enabled().filter(instance=OuterRef("pk")))
        match self.wanted("status"):
            case "enabled":
                return rows.filter(enabled, released_at=None)
            case "disabled":
                return rows.filter(~enabled, released_at=None)
            case "released":
                return rows.filter(released_at__isnull=False)
        return rows


class BackupList(ListView):
    page_template = "backup_instances/page.html"
    fragments = {"panel": "backup_instances/_panel.html", "rows": "backup_instances/_rows.html"}
    table_class = BackupTable
    filter_class = BackupFilter
    orders = ORDERS
    usual_sort = "name"

    def rows(self) -> QuerySet[Instance]:
        return backed_up(instances_here(self.request))

    def dress(self, rows: list[Instance]) -> list[Instance]:
        return mark_operated(self.request, proven.tell(_with_lag(protected.tell(rows))))

    def context(self) -> dict[str, Any]:
        return {"glance": Glance(self.request)} | _poll(self.page.rows)


def progress(request: HttpRequest) -> HttpResponse:
    """Answer the list's one poller with the protection of the rows shown, as out-of-band cells."""
    asked = row_numbers(request.GET.getlist("i"), MOST_POLLED)
    shown = _with_lag(protected.tell(list(access.instances_for(request.user).filter(pk__in=asked))))
    for instance in shown:
        instance.restorable = lag_words.cell(instance.lag, instance.protection.state)
        instance.badge = protection_badge(instance.protection, instance.seen_at)
    return render(request, "backup_instances/_progress.html", {"instances": shown} | _poll(shown))


def _with_lag(instances: list[Instance]) -> list[Instance]:
    policies = {one.pk: one.protection.policy for one in instances if one.protection.policy}
    found = lag.of_many(policies, instances[0].seen_at) if policies else {}
    for instance in instances:
        instance.lag = found.get(instance.pk, lag.Lag())
    return instances


def _poll(shown: list[Instance]) -> dict[str, Any]:
    jobs = BackupJob.objects.filter(instance__in=shown, state__in=BackupJob.ACTIVE)
    moving = any(instance.protection.is_moving for instance in shown) or jobs.exists()
    return {"polled": shown, "wait": QUICK if moving else SLOW}
