"""Asking for what a verb does; what it refuses is told in its own words, beside the field it is about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.views import View
from django_htmx.http import trigger_client_event

from console.widgets.dialogs import done, render_dialog
from regions.refusals import Refusal


def put_beside(form: forms.BaseForm, refusals: Iterable[Refusal], names: Mapping[str, str] | None = None) -> None:
    """Add each refusal to the form, beside the field it is about, or above the form when there is no such field."""
    for refusal in refusals:
        name = (names or {}).get(refusal.field, refusal.field)
        form.add_error(name if name in form.fields else None, str(refusal))


class Dialog(View, ABC):
    """A dialog that shows a form, and does what was said in it. `back`: the page that it belongs to."""

    template = ""
    back = ""
    request: HttpRequest

    def form(self, *said: Any) -> forms.Form:
        """Return what is asked, filled in with what was said."""
        return forms.Form(*said)  # there is nothing to say but OK

    @abstractmethod
    def do(self, form: Any) -> HttpResponse:
        """Do what the form says; raises Refusal."""

    def context(self) -> dict[str, Any]:
        return {}

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return self._show(self.form())

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        form = self.form(request.POST)
        if not form.is_valid():
            return self._show(form)
        try:
            return self.do(form)
        except Refusal as refusal:
            put_beside(form, [refusal])
            return self._show(form)

    def _show(self, form: forms.Form) -> HttpResponse:
        shown = {"form": form, "address": self.request.path} | self.context()
        return render_dialog(self.request, self.template, shown, back=self.back)

    def done(self, sentence: str) -> HttpResponse:
        return done(self.request, sentence, back=self.back)

    def told_once(self, template: str, made: Any) -> HttpResponse:
        """Show a secret, once: it is kept nowhere (I18). The list behind it learns of what was made."""
        response = render_dialog(self.request, template, {"made": made}, back=self.back)
        response.headers["Cache-Control"] = "no-store"
        return trigger_client_event(response, "list:changed", {})
