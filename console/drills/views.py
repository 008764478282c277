"""Drills of an instance: one drill with its evidence, Drill now, the timetable, the team's own queries.

The list stands on the instance's page.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views import View

from backups import access
from backups.drilling import drills
from backups.models import Instance, Role
from console.drills.forms import NowForm, QueryForm, TimetableForm
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.dialogs import done, render_dialog
from console.widgets.labels import translated
from console.widgets.proven import drill_badge, stages_of
from regions.refusals import Refusal

TABLES_SHOWN = 200


def page(request: HttpRequest, pk: int) -> HttpResponse:
    drill = access.drill_for(request.user, pk)
    largest = sorted(drill.rows.items(), key=lambda table: (-table[1], table[0]))
    shown = {
        "drill": drill,
        "instance": drill.instance,
        "badge": drill_badge(drill),
        "stages": stages_of(drill),
        "tables": largest[:TABLES_SHOWN],
        "more_tables": max(0, drill.evidence.get("tables", len(largest)) - TABLES_SHOWN),
        "is_live": drill.state in drill.ACTIVE,
    }
    return render(request, "drills/page.html", shown)


class OfInstance(View, ABC):
    """A dialog about an instance; who may not operate it is refused."""

    template = ""
    form_class: type[forms.Form]

    def instance(self, request: HttpRequest, code: str) -> Instance:
        return access.instance_for(request.user, code, Role.OPERATOR)

    def initial(self, instance: Instance) -> dict[str, Any]:
        return {}

    def context(self, instance: Instance) -> dict[str, Any]:
        return {}

    @abstractmethod
    def do(self, request: HttpRequest, instance: Instance, said: dict[str, Any]) -> str:
        """Do what the form says; returns the sentence to show. Raises Refusal."""

    def get(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = self.instance(request, code)
        return self._show(request, instance, self.form_class(initial=self.initial(instance)))

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = self.instance(request, code)
        form = self.form_class(request.POST)
        if not form.is_valid():
            return self._show(request, instance, form)
        try:
            sentence = self.do(request, instance, form.cleaned_data)
        except Refusal as refusal:
            put_beside(form, [refusal])
            return self._show(request, instance, form)
        return done(request, sentence, back=_tab_of(instance))

    def _show(self, request: HttpRequest, instance: Instance, form: forms.Form) -> HttpResponse:
        context = {"instance": instance, "form": form} | self.context(instance)
        return render_dialog(request, self.template, context, back=_tab_of(instance))


class DrillNow(OfInstance):
    """Restore from the copies now, whatever the timetable says."""

    template = "drills/_now_dialog.html"
    form_class = NowForm

    def context(self, instance: Instance) -> dict[str, Any]:
        store = drills.store_to_drill(instance)
        return {"store": store, "why_not": drills.why_not(instance, store)}

    def do(self, request: HttpRequest, instance: Instance, said: dict[str, Any]) -> str:
        drill = drills.ask(instance, acting(request), pick=said["pick"])
        named = {"name": instance.name, "state": translated(drill.get_state_display()).lower()}
        return gettext("The drill of %(name)s is %(state)s.") % named


class Timetable(OfInstance):
    """How often an instance is drilled."""

    template = "drills/_timetable_dialog.html"
    form_class = TimetableForm

    def initial(self, instance: Instance) -> dict[str, Any]:
        return {"days": instance.drill_every_days}

    def do(self, request: HttpRequest, instance: Instance, said: dict[str, Any]) -> str:
        drills.set_days(instance, said["days"], acting(request))
        return gettext("The timetable of drills was changed.")


class AddQuery(OfInstance):
    """One more question that every drill asks the restored server."""

    template = "drills/_query_dialog.html"
    form_class = QueryForm

    def initial(self, instance: Instance) -> dict[str, Any]:
        return {"database": instance.dbname}

    def do(self, request: HttpRequest, instance: Instance, said: dict[str, Any]) -> str:
        drills.add_query(instance, said["database"], said["sql"], said["expected"], acting(request))
        return gettext("The next drill asks it.")


class RemoveQuery(View):
    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        query = access.drill_query_for(request.user, pk, Role.OPERATOR)
        back = _tab_of(query.instance)
        return render_dialog(request, "drills/_remove_query_dialog.html", {"query": query}, back=back)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        query = access.drill_query_for(request.user, pk, Role.OPERATOR)
        drills.remove_query(query, acting(request))
        return done(request, gettext("Drills no longer ask it."), back=_tab_of(query.instance))


def _tab_of(instance: Instance) -> str:
    return reverse("instances:drills", args=[instance.code])
