"""The cross-border compliance agreement: its versions, who accepted it, who has not yet (R-13)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import get_language, gettext
from django.views import View

from backups import access
from backups.models import AgreementText
from backups.terms import agreements
from console.agreement.forms import StandingForm
from console.agreement.tables import AcceptanceTable
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.dialogs import done, render_dialog
from console.widgets.listing import ListView
from regions.refusals import Refusal


class AcceptanceList(ListView):
    page_template = "agreement/page.html"
    table_class = AcceptanceTable
    orders = {"at": ("pk",)}
    usual_sort = "-at"

    def rows(self) -> QuerySet:
        return access.acceptances_for(self.request.user).prefetch_related("accepted__instance")

    def context(self) -> dict[str, Any]:
        return {
            "text": agreements.current_text(get_language()),
            "versions": AgreementText.objects.order_by("-version", "language"),
            "waiting": agreements.who_has_not_accepted(_colleagues(self.request)).order_by("username"),
            "may_accept": access.groups_for(self.request.user, "operator", "security").exists(),
        }


class Standing(View):
    template = "agreement/_standing_dialog.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._show(request, StandingForm(request.user))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = StandingForm(request.user, request.POST)
        if not form.is_valid():
            return self._show(request, form)
        wanted = form.cleaned_data
        try:
            read = agreements.text_read(request.POST.get("text_read", ""), get_language())
        except Refusal as refusal:
            put_beside(form, [refusal])
            return self._show(request, form)
        between = wanted["source_group"], wanted["destination_group"]
        agreements.accept_standing(wanted["group"], *between, acting(request), read.language)
        sentence = gettext("Accepted for every instance of %(group)s.") % {"group": wanted["group"]}
        return done(request, sentence, back=reverse("agreement:page"))

    def _show(self, request: HttpRequest, form: StandingForm) -> HttpResponse:
        text = agreements.current_text(get_language())
        return render_dialog(request, self.template, {"form": form, "text": text}, back=reverse("agreement:page"))


def version(request: HttpRequest, version: int) -> HttpResponse:
    texts = list(AgreementText.objects.filter(version=version))
    if not texts:
        raise Http404("No such version.")
    return render(request, "agreement/version.html", {"texts": texts, "version": version})


def _colleagues(request: HttpRequest) -> QuerySet:
    """Return the people this person may read about: those who share a resource group with them."""
    people = get_user_model().objects.filter(is_active=True)
    if access.sees_all(request.user):
        return people
    return people.filter(memberships__group__in=access.groups_for(request.user)).distinct()
