"""Access keys: a person's own, with what each may; the secret is shown once, when it is made."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.urls import reverse_lazy
from django.utils.translation import gettext

from console.openapi import keys
from console.openapi.forms import KeyForm, said_by
from console.openapi.keys import NewSecret
from console.openapi.models import AccessKey
from console.openapi.tables import KeyTable
from console.widgets.acting import acting
from console.widgets.asking import Dialog
from console.widgets.listing import ListView


class KeyList(ListView):
    page_template = "openapi/page.html"
    table_class = KeyTable
    orders = {"created": ("pk",)}
    usual_sort = "-created"

    def rows(self) -> QuerySet[AccessKey]:
        return keys.keys_for(self.request.user)


class KeyDialog(Dialog):
    """A dialog about one's own keys."""

    back = reverse_lazy("openapi:keys")

    def told(self, made: NewSecret) -> HttpResponse:
        return self.told_once("openapi/_secret_dialog.html", made)


class Create(KeyDialog):
    template = "openapi/_dialog.html"

    def form(self, *said: Any) -> KeyForm:
        return KeyForm(self.request.user, *said)

    def do(self, form: KeyForm) -> HttpResponse:
        by = acting(self.request)
        return self.told(keys.create(by.user, form.limits, by, accepts_rules=form.cleaned_data["learnt"]))


class OfKey(KeyDialog):
    """About one key; its owner's business, unless the dialog says otherwise."""

    is_owners = True

    @cached_property
    def key(self) -> AccessKey:
        found = keys.key_for(self.request.user, self.kwargs["pk"])
        if self.is_owners and found.user != self.request.user:
            raise Http404("No such access key.")
        return found

    def context(self) -> dict[str, Any]:
        return {"key": self.key}

    def form(self, *said: Any) -> forms.Form:
        _ = self.key
        return forms.Form(*said)  # there is nothing to say but OK


class Change(OfKey):
    template = "openapi/_dialog.html"

    def form(self, *said: Any) -> KeyForm:
        form = KeyForm(self.key.user, *said, initial=said_by(self.key))
        if self.key.rules_accepted_at:
            del form.fields["learnt"]
        return form

    def do(self, form: KeyForm) -> HttpResponse:
        by = acting(self.request)
        keys.change(self.key, form.limits, by)
        if form.cleaned_data.get("learnt"):
            keys.accept_rules(self.key, by)
        return self.done(gettext("Saved: the access key %(name)s.") % {"name": form.limits.label})


class Rotate(OfKey):
    template = "openapi/_rotate_dialog.html"

    def do(self, form: forms.Form) -> HttpResponse:
        return self.told(keys.rotate(self.key, acting(self.request)))


class Disable(OfKey):
    template, is_owners = "openapi/_disable_dialog.html", False

    def do(self, form: forms.Form) -> HttpResponse:
        keys.disable(self.key, acting(self.request))
        return self.done(gettext("Disabled: the access key %(name)s.") % {"name": self.key.label or self.key.key_id})


class Enable(OfKey):
    template, is_owners = "openapi/_enable_dialog.html", False

    def do(self, form: forms.Form) -> HttpResponse:
        keys.enable(self.key, acting(self.request))
        return self.done(gettext("Enabled: the access key %(name)s.") % {"name": self.key.label or self.key.key_id})
