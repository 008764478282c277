"""Landing servers: registered after a proof, looked at, granted to groups, retired (an installation-level right)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views import View
from django.views.decorators.http import require_POST

from backups import access
from backups.models import LandingServer, Restore
from backups.servers import landing_servers
from console.stores.landing_forms import GroupsForm, LandingForm
from console.stores.landing_looks import look_of
from console.stores.landing_tables import LandingTable
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.dialogs import announce, done, leave, render_dialog
from console.widgets.listing import ListView
from console.widgets.shell import chosen_region
from regions import clock
from regions.refusals import Refusal

MOST_LISTED = 200


class LandingList(ListView):
    page_template = "stores/landing_list.html"
    table_class = LandingTable
    orders = {"name": ("name", "pk"), "region": ("region__position", "pk")}
    usual_sort = "name"

    def rows(self) -> QuerySet[LandingServer]:
        region = chosen_region(self.request)
        standing = Count("restores", filter=Q(restores__state=Restore.State.READY), distinct=True)
        found = access.landing_servers_for(self.request.user).living().annotate(standing=standing)
        return found.filter(region=region) if region else found

    def context(self) -> dict[str, Any]:
        self.table.seen_at = clock.now()
        self.table.may_register = access.may_run_installation(self.request.user)
        return {"may_register": self.table.may_register}


class Register(View):
    """POST registers it after a look that proves it; whatever is refused stands beside its field."""

    def get(self, request: HttpRequest) -> HttpResponse:
        _require_right(request)
        return self._show(request, LandingForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        _require_right(request)
        form = LandingForm(request.POST)
        if form.is_valid():
            try:
                row = landing_servers.register(form.wanted(), acting(request))
            except Refusal as refusal:
                put_beside(form, [refusal])
            else:
                said = gettext("%(name)s is registered: it sees what the worker lays into the share.")
                return leave(request, said % {"name": row.name}, to=reverse("stores:landing_page", args=[row.code]))
        return self._show(request, form)

    def _show(self, request: HttpRequest, form: LandingForm) -> HttpResponse:
        return render(request, "stores/landing_register.html", {"form": form, "scripts": _scripts()})


@require_POST
def test(request: HttpRequest) -> HttpResponse:
    """Look at the server as it is described; nothing is kept."""
    _require_right(request)
    form, found, refusal = LandingForm(request.POST), None, None
    if form.is_valid():
        try:
            found = landing_servers.test(form.wanted())
        except Refusal as said:
            refusal = said
    return render(request, "stores/_landing_test.html", {"form": form, "found": found, "refusal": refusal})


class Page(View):
    """What the last look told of it, what stands on it, and who may use it; POST says who."""

    def get(self, request: HttpRequest, code: str) -> HttpResponse:
        return self._show(request, access.landing_server_for(request.user, code))

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        _require_right(request)
        row, form = access.landing_server_for(request.user, code), GroupsForm(request.POST)
        if not form.is_valid():
            return self._show(request, row, form)
        landing_servers.grant(row, form.cleaned_data["groups"], acting(request))
        sentence = gettext("Saved: who may restore onto %(name)s.") % {"name": row.name}
        return leave(request, sentence, to=reverse("stores:landing_page", args=[code]))

    def _show(self, request: HttpRequest, row: LandingServer, form: GroupsForm | None = None) -> HttpResponse:
        seen = access.restores_for(request.user).filter(landing=row, state__in=Restore.HELD)
        context = {
            "landing": row,
            "look": look_of(row, clock.now()),
            "engine": landing_servers.label_of(row),
            "restores": seen[:MOST_LISTED],
            "groups": row.groups.order_by("name"),
            "form": form or GroupsForm(initial={"groups": row.groups.all()}),
            "script": landing_servers.script_for(row.engine, row.username, row.version),
            "may_change": access.may_run_installation(request.user) and not row.retired_at,
        }
        return render(request, "stores/landing_page.html", context)


@require_POST
def retry(request: HttpRequest, code: str) -> HttpResponse:
    _require_right(request)
    row = access.landing_server_for(request.user, code)
    refusal = landing_servers.retry(row, acting(request))
    said = str(refusal) if refusal else gettext("%(name)s answers, and sees the share.") % {"name": row.name}
    tone = "bad" if refusal else ""
    if request.htmx:
        return announce(HttpResponse(status=204), said, tone=tone)
    return done(request, said, back=reverse("stores:landing_page", args=[code]), tone=tone)


class Retire(View):
    def get(self, request: HttpRequest, code: str) -> HttpResponse:
        _require_right(request)
        row = access.landing_server_for(request.user, code)
        context = {"landing": row, "refusal": landing_servers.why_not_retire(row)}
        return render_dialog(
            request, "stores/_landing_retire_dialog.html", context, back=reverse("stores:landing_list")
        )

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        _require_right(request)
        row, back = access.landing_server_for(request.user, code), reverse("stores:landing_list")
        try:
            landing_servers.retire(row, acting(request))
        except Refusal as refusal:
            return done(request, str(refusal), back=back, tone="bad")
        return done(request, gettext("%(name)s was retired.") % {"name": row.name}, back=back)


def _scripts() -> list[tuple[str, str]]:
    """Return for each engine what an administrator runs first."""
    offering = landing_servers.offering().items()
    return [(engine.capabilities.label, landing_servers.script_for(name)) for name, engine in offering]


def _require_right(request: HttpRequest) -> None:
    if not access.may_run_installation(request.user):
        raise PermissionDenied("Landing servers are registered by who runs the installation.")
