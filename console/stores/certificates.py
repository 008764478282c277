"""Certificates at hand in a store's region: whoever runs the installation says which (R-3.5)."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext
from django.views import View

from backups.models import RegisteredCertificate
from backups.servers import certificate_book
from console.stores.forms import CertificateForm
from console.stores.views import attached, require_right
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.dialogs import done, render_dialog
from console.widgets.labels import translated
from regions.models import Store
from regions.refusals import Refusal


class Register(View):
    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        require_right(request)
        return self._show(request, attached(pk), CertificateForm())

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        require_right(request)
        store, form = attached(pk), CertificateForm(request.POST)
        if not form.is_valid():
            return self._show(request, store, form)
        try:
            row = certificate_book.register(store.region, **form.cleaned_data, by=acting(request))
        except Refusal as refusal:
            put_beside(form, [refusal])
            return self._show(request, store, form)
        sentence = gettext("Certificate %(print)s is registered in %(region)s.") % _named(row, store)
        return done(request, sentence, back=_page(store))

    def _show(self, request: HttpRequest, store: Store, form: CertificateForm) -> HttpResponse:
        context = {"store": store, "form": form}
        return render_dialog(request, "stores/_certificate_dialog.html", context, back=_page(store))


class Withdraw(View):
    """It is no longer at hand: what needs it cannot be restored there."""

    def get(self, request: HttpRequest, pk: int, certificate: int) -> HttpResponse:
        require_right(request)
        store = attached(pk)
        context = {"store": store, "certificate": self._registered(store, certificate)}
        return render_dialog(request, "stores/_withdraw_dialog.html", context, back=_page(store))

    def post(self, request: HttpRequest, pk: int, certificate: int) -> HttpResponse:
        require_right(request)
        store = attached(pk)
        row = self._registered(store, certificate)
        certificate_book.withdraw(row, acting(request))
        sentence = gettext("Certificate %(print)s was withdrawn in %(region)s.") % _named(row, store)
        return done(request, sentence, back=_page(store))

    def _registered(self, store: Store, pk: int) -> RegisteredCertificate:
        return get_object_or_404(RegisteredCertificate, pk=pk, region=store.region_id, withdrawn_at=None)


def _named(row: RegisteredCertificate, store: Store) -> dict[str, str]:
    return {"print": row.thumbprint, "region": translated(store.region.name)}


def _page(store: Store) -> str:
    return reverse("stores:page", args=[store.pk])
