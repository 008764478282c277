"""Every restore: what it brings back, where, how far it is, how long it took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django_htmx.http import trigger_client_event

from backups import access
from backups.models import Kind, Restore, RestoreSource, Role
from console.restores.looks import state_of
from console.restores.tables import RestoreTable
from console.widgets.addresses import row_numbers
from console.widgets.labels import choices_of
from console.widgets.listing import Filter, ListView
from console.widgets.polling import MOST_POLLED, QUICK, SLOW, Poll
from console.widgets.shell import chosen_region
from regions import clock

STATES = [("", _("Any state")), *choices_of(Restore.State)]


class RestoreFilter(Filter):
    q = forms.CharField(required=False, max_length=200, label=_("Search by ID or name"))
    state = forms.ChoiceField(choices=STATES, required=False, label=_("State"))

    def narrow(self, rows: QuerySet[Restore]) -> QuerySet[Restore]:
        if asked := self.wanted("q").strip():
            own = Q(name__icontains=asked) | Q(landed_as__icontains=asked) | Q(code__iexact=asked)
            rows = rows.filter(own | Q(instance__name__icontains=asked) | Q(instance__code__iexact=asked))
        if state := self.wanted("state"):
            rows = rows.filter(state=state)
        return rows


class RestoreList(ListView):
    page_template = "restores/list.html"
    fragments = {"rows": "widgets/_live_rows.html"}
    table_class = RestoreTable
    filter_class = RestoreFilter
    orders = {"asked_at": ("asked_at", "pk")}
    usual_sort = "-asked_at"

    def rows(self) -> QuerySet[Restore]:
        logs = RestoreSource.objects.filter(restore=OuterRef("pk"), set__kind=Kind.LOG)
        return _restores_here(self.request).select_related("asked_by").annotate(has_logs=Exists(logs))

    def context(self) -> dict[str, Any]:
        self.table.seen_at = clock.now()
        may = access.groups_for(self.request.user, Role.OPERATOR).exists()
        return {"may_restore": may, "poll": _poll(self.request, self.page.rows)}


def progress(request: HttpRequest) -> HttpResponse:
    """Answer the list's one poller with the states of the restores shown, as out-of-band cells."""
    asked, at = row_numbers(request.GET.getlist("c"), MOST_POLLED), clock.now()
    shown = list(access.restores_for(request.user).filter(pk__in=asked))
    for restore in shown:
        restore.badge = state_of(restore, at)
    poll = _poll(request, shown)
    response = render(request, "restores/_cells.html", {"restores": shown, "poll": poll})
    ended = any(restore.state not in Restore.ACTIVE for restore in shown)
    if ended or request.GET.get("newest") != poll.newest:
        trigger_client_event(response, "rows:stale", {})
    return response


def _poll(request: HttpRequest, shown: Iterable[Restore]) -> Poll:
    """Return the poller for those under way; `newest` changes when one has been added."""
    live = tuple(restore.pk for restore in shown if restore.state in Restore.ACTIVE)[:MOST_POLLED]
    newest = _restores_here(request).order_by("-pk").values_list("pk", flat=True).first()
    return Poll(reverse("restores:progress"), live, str(newest or 0), QUICK if live else SLOW)


def _restores_here(request: HttpRequest) -> QuerySet[Restore]:
    """Return the restores of instances of the region chosen in the top bar."""
    region = chosen_region(request)
    restores = access.restores_for(request.user)
    return restores.filter(instance__region=region) if region else restores
