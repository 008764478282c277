"""The instances themselves: list, add with a connection test, back up now, release."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views import View
from django.views.decorators.http import require_POST

from backups import access, default_backups, fleet, policies
from backups.default_backups import discovery, snapshots
from backups.engines import ENGINES, engine_of
from backups.engines.facts import ServerFacts
from backups.models import Instance, Role
from console.instances import taking
from console.instances.forms import BackupForm, InstanceForm
from console.instances.tables import InstanceTable
from console.widgets import protected, proven
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.dialogs import done, leave, render_dialog
from console.widgets.instance_lists import ORDERS, InstanceFilter, instances_here, mark_operated, with_last_backup
from console.widgets.listing import ListView
from regions.refusals import Refusal


class InstanceList(ListView):
    page_template = "instances/list.html"
    table_class = InstanceTable
    filter_class = InstanceFilter
    orders = ORDERS
    usual_sort = "name"

    def rows(self) -> QuerySet[Instance]:
        return with_last_backup(instances_here(self.request))

    def dress(self, rows: list[Instance]) -> list[Instance]:
        return mark_operated(self.request, proven.tell(protected.tell(rows)))

    def context(self) -> dict[str, Any]:
        return {"may_add": access.groups_for(self.request.user, Role.OPERATOR).exists()}


class Add(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return self._show(request, InstanceForm(request.user))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = InstanceForm(request.user, request.POST)
        if not form.is_valid():
            return self._show(request, form)
        try:
            instance = fleet.add(form.save(commit=False), form.cleaned_data["password"], acting(request))
        except Refusal as refusal:
            put_beside(form, [refusal])
            return self._show(request, form)
        sentence = gettext("%(name)s was added.") % {"name": instance.name}
        return leave(
            request, " ".join([sentence, *_nothing_under(instance)]), to=reverse("instances:page", args=[instance.code])
        )

    def _show(self, request: HttpRequest, form: InstanceForm) -> HttpResponse:
        if not form.fields["group"].queryset.exists():
            raise PermissionDenied("Adding an instance needs the role operator.")
        return render(request, "instances/add.html", {"form": form})


def _nothing_under(instance: Instance) -> list[str]:
    """Say where no file lies yet: it may still come, or the prefix is misspelt."""
    words = gettext("Nothing lies under %(prefix)s in its source store yet; is it spelt so?")
    return [words % {"prefix": prefix} for prefix in discovery.without_objects(instance)]


@require_POST
def test_connection(request: HttpRequest) -> HttpResponse:
    """Try the connection a form describes; nothing is kept."""
    form = InstanceForm(request.user, request.POST)
    found, refusal, empty = None, None, []
    if form.is_valid():
        try:
            instance = form.save(commit=False)
            found = fleet.probe(instance, form.cleaned_data["password"])
            empty = _nothing_under(instance)
        except Refusal as said:
            refusal = said
    shown = {"found": found, "refusal": refusal, "form": form, "script": _login_script(form, found), "empty": empty}
    return render(request, "instances/_test.html", shown)


def _login_script(form: InstanceForm, found: ServerFacts | None) -> str:
    """Return what an administrator runs to make the login, "" where the engine has nothing of the kind."""
    engine = ENGINES.get(form.data.get("engine", ""))
    if engine is None or engine.login_script is None:
        return ""
    databases, major = (found.databases, int(found.version.partition(".")[0])) if found else ([], 0)
    suspends = form.is_valid() and snapshots.are_taken_of(form.save(commit=False))
    login = form.data.get("username") or "farshore"
    return engine.login_script(login, databases, major=major, snapshots=suspends)


class BackupNow(View):
    """Ask for a default backup, whatever the timetable says."""

    def get(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = access.instance_for(request.user, code, Role.OPERATOR)
        return self._show(request, instance, BackupForm(instance))

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = access.instance_for(request.user, code, Role.OPERATOR)
        form = BackupForm(instance, request.POST)
        if not form.is_valid():
            return self._show(request, instance, form)
        try:
            job = default_backups.ask(instance, acting(request), **form.wanted())
        except Refusal as refusal:
            return done(request, str(refusal), back=_page_of(code), tone="bad")
        return done(request, taking.asked_for(job), back=_page_of(code))

    def _show(self, request: HttpRequest, instance: Instance, form: BackupForm) -> HttpResponse:
        able = engine_of(instance.engine).capabilities
        context = {
            "instance": instance,
            "policy": policies.enabled_policy(instance),
            "form": form,
            "copy_only": able.out_of_turn_is_copy_only and not default_backups.is_in_turn(instance),
            "differentials": able.takes_differentials and "kind" in form.fields,
        }
        return render_dialog(request, "instances/_backup_dialog.html", context, back=_page_of(instance.code))


class Release(View):
    """The instance is gone for good; its copies keep their dates (R-2.4)."""

    def get(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = access.instance_for(request.user, code, Role.OPERATOR)
        context = {"instance": instance, "policy": policies.latest_policy(instance)}
        return render_dialog(request, "instances/_release_dialog.html", context, back=_page_of(code))

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = access.instance_for(request.user, code, Role.OPERATOR)
        try:
            policies.release(instance, acting(request))
        except Refusal as refusal:
            return done(request, str(refusal), back=_page_of(code), tone="bad")
        return leave(request, gettext("%(name)s was released.") % {"name": instance.name}, to=_page_of(code))


def _page_of(code: str) -> str:
    return reverse("instances:page", args=[code])
