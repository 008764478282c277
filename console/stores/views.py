"""The object stores of the regions: attach with a round trip, probe again, let go (an installation-level right)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext
from django.views import View
from django.views.decorators.http import require_POST

from backups import access, fleet
from backups.models import Copy, Instance, RegisteredCertificate
from backups.oversight import capacity
from backups.self_recovery import escrow
from console.stores.forms import QuotaForm, StoreForm
from console.stores.tables import StoreTable
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.badges import badge
from console.widgets.dialogs import announce, done, leave, render_dialog
from console.widgets.fragments import render_page
from console.widgets.labels import place_of
from console.widgets.listing import ListView
from console.widgets.shell import chosen_region
from console.widgets.states import STORE, UNKNOWN
from regions import clock, stores
from regions.models import Store
from regions.refusals import Refusal

MOST_LISTED = 200


class StoreList(ListView):
    page_template = "stores/list.html"
    table_class = StoreTable
    orders = {"region": ("region__position", "pk")}
    usual_sort = "region"

    def rows(self) -> QuerySet[Store]:
        region = chosen_region(self.request)
        found = _with_figures(Store.objects.attached().select_related("region"))
        return found.filter(region=region) if region else found

    def context(self) -> dict[str, Any]:
        self.table.seen_at = clock.now()
        self.table.may_attach = access.may_run_installation(self.request.user)
        asks = self.table.may_attach and bool(escrow.missing())
        return {"may_attach": self.table.may_attach, "asks_for_escrow": asks}


@require_POST
def escrowed(request: HttpRequest) -> HttpResponse:
    """A person says that a copy of the key ring is kept elsewhere."""
    require_right(request)
    try:
        escrow.confirm(acting(request))
    except Refusal as refusal:
        return done(request, str(refusal), back=reverse("stores:list"), tone="bad")
    sentence = gettext("Recorded: you keep a copy of the key ring elsewhere.")
    return done(request, sentence, back=reverse("stores:list"))


class Attach(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        require_right(request)
        return render(request, "stores/attach.html", {"form": StoreForm()})

    def post(self, request: HttpRequest) -> HttpResponse:
        require_right(request)
        form = StoreForm(request.POST)
        if form.is_valid():
            try:
                store = fleet.attach(
                    form.cleaned_data["place"],
                    form.cleaned_data["url"],
                    form.options(),
                    form.credentials(),
                    acting(request),
                    form.cleaned_data["role"],
                )
            except Refusal as refusal:
                put_beside(form, [refusal])
            else:
                sentence = gettext("The store of %(region)s is attached: what was written came back the same.")
                return leave(request, sentence % _named(store), to=reverse("stores:list"))
        return render(request, "stores/attach.html", {"form": form})


@require_POST
def test_connection(request: HttpRequest) -> HttpResponse:
    """Do the round trip of an attachment; nothing is kept."""
    require_right(request)
    form, found, refusal = StoreForm(request.POST), None, None
    if form.is_valid():
        try:
            found = stores.test(form.cleaned_data["url"], form.options(), form.credentials())
        except Refusal as said:
            refusal = said
    return render(request, "stores/_test.html", {"form": form, "found": found, "refusal": refusal})


@require_POST
def probe(request: HttpRequest, pk: int) -> HttpResponse:
    require_right(request)
    store = fleet.reprobe(attached(pk), acting(request))
    is_well = store.state == Store.State.OK
    sentence = gettext("The store of %(region)s answers.") if is_well else "%(error)s"
    said = sentence % (_named(store) | {"error": store.last_error})
    if request.htmx:
        return announce(HttpResponse(status=204), said, tone="" if is_well else "bad")
    return done(request, said, back=reverse("stores:list"), tone="" if is_well else "bad")


def page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what lies in a store, the space left, and the day it fills at today's pace."""
    return _show_page(request, attached(pk))


@require_POST
def quota(request: HttpRequest, pk: int) -> HttpResponse:
    """Write down how much a store may hold that cannot say so itself."""
    require_right(request)
    store, form = attached(pk), QuotaForm(request.POST)
    if not form.is_valid():
        return _show_page(request, store, form)
    capacity.set_quota(store, form.bytes, acting(request))
    sentence = gettext("Saved: the quota of the store of %(region)s.") % _named(store)
    return leave(request, sentence, to=reverse("stores:page", args=[pk]))


def _show_page(request: HttpRequest, store: Store, form: QuotaForm | None = None) -> HttpResponse:
    at = clock.now()
    seen = capacity.stored_by_instance(store, access.instances_for(request.user))
    rows, total = list(seen[:MOST_LISTED]), capacity.stored_bytes(store)
    can_say = isinstance(store.capabilities.get("space_left"), int)
    left, pace = capacity.space_left(store), capacity.growth(store, at)
    quota = None if store.quota_bytes is None else store.quota_bytes // settings.GB
    context = {
        "store": store,
        "look": badge(STORE.get(store.state, UNKNOWN), store.last_error),
        "rows": rows,
        "total": total,
        "not_listed": total - sum(row.stored_bytes for row in rows),
        "left": left,
        "can_say": can_say,
        "pace": pace,
        "fills_at": capacity.fills_at(left, pace, at),
        "form": form or QuotaForm(initial={"quota": quota}),
        "may_change": access.may_run_installation(request.user),
        "is_source": _is_source(store),
        "certificates": RegisteredCertificate.objects.filter(region=store.region_id, withdrawn_at=None).order_by("pk"),
    }
    return render_page(request, "stores/page.html", {"certificates": "stores/_certificates.html"}, context)


class Detach(View):
    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        require_right(request)
        store = attached(pk)
        context = {"store": store, "refusal": fleet.why_not_detach(store)}
        return render_dialog(request, "stores/_detach_dialog.html", context, back=reverse("stores:list"))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        require_right(request)
        store = attached(pk)
        try:
            fleet.detach(store, acting(request))
        except Refusal as refusal:
            return done(request, str(refusal), back=reverse("stores:list"), tone="bad")
        sentence = gettext("The store of %(region)s was detached.") % _named(store)
        return done(request, sentence, back=reverse("stores:list"))


def _with_figures(found: QuerySet[Store]) -> QuerySet[Store]:
    living = Instance.objects.living().filter(region=OuterRef("region")).order_by().values("region")
    stored = Copy.objects.restorable().filter(destination_store=OuterRef("pk")).order_by().values("destination_store")
    return found.annotate(
        instance_count=Coalesce(Subquery(living.annotate(n=Count("pk")).values("n")), 0),
        stored_bytes=Subquery(stored.annotate(bytes=Sum("stored_bytes")).values("bytes")),
    )


def _is_source(store: Store) -> bool:
    """Whether default backups lie in it too."""
    is_own = store.role == Store.Role.PRIMARY
    return is_own and Instance.objects.living().filter(region=store.region_id).exists()


def require_right(request: HttpRequest) -> None:
    if not access.may_run_installation(request.user):
        raise PermissionDenied("Stores are attached by who runs the installation.")


def attached(pk: int) -> Store:
    return get_object_or_404(Store.objects.attached().select_related("region"), pk=pk)


def _named(store: Store) -> dict[str, str]:
    return {"region": place_of(store)}
