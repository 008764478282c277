"""Regions and their stores. A store's credentials go in and never come out (I18)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from backups import events, fleet
from backups.events import By
from backups.keeping import purging
from console.support.asking import Operated, ask_for_each
from console.support.nouns import Facts, Noun, shown_fields
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from regions import stores
from regions.models import Installation, Region, Store
from regions.refusals import Refusal


@admin.register(Installation)
class Installations(Facts):
    list_display = ["uuid", "created_at"]
    list_filter = ["created_at"]
    search_fields = ["uuid"]


@admin.register(Region)
class Regions(Noun):
    """A team adds its own regions and hides the rest; of the shipped ones only that can change (R-10.1)."""

    list_display = ["name", "id", "scope", "country", "position", "hidden", "is_custom"]
    list_filter = ["scope", "hidden", "is_custom"]
    search_fields = ["name", "id", "country"]
    FOR_LIFE = ["id", "scope", "country", "is_custom"]  # routes and acceptances rest on them

    def get_readonly_fields(self, request: HttpRequest, obj: Region | None = None) -> list[str]:
        if obj is None:
            return ["is_custom"]
        return self.FOR_LIFE if obj.is_custom else [name for name in shown_fields(Region) if name != "hidden"]

    def save_model(self, request: HttpRequest, obj: Region, form: forms.ModelForm, change: bool) -> None:
        obj.is_custom = obj.is_custom or not change
        super().save_model(request, obj, form, change)


def secret(label: str) -> forms.CharField:
    """A field that is written to and never read from."""
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
    return forms.CharField(label=label, required=False, strip=True, widget=widget)


class StoreForm(forms.ModelForm):
    """Where the store is, and credentials for it; on one that is attached, empty ones keep those it has.

    The last check is the verb itself, a whole round trip with the store: it attaches (or reconnects) all or nothing,
    and what it refuses stands beside the field it is about.
    """

    SECRETS = ("access_key_id", "secret_access_key", "session_token")
    BESIDE = {"endpoint": "options", "verify": "options"}
    by: By  # get_form says who

    access_key_id = secret("Access key ID")
    secret_access_key = secret("Secret access key")
    session_token = secret("Session token")

    @property
    def credentials(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in self.SECRETS if self.cleaned_data.get(name)}

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if bool(data.get("access_key_id")) != bool(data.get("secret_access_key")):
            missing = "secret_access_key" if data.get("access_key_id") else "access_key_id"
            self.add_error(missing, "An access key has two halves. Enter both, or neither.")
        return data

    def _post_clean(self) -> None:
        super()._post_clean()
        if self.errors or not self.has_changed():
            return
        try:
            self.instance = self._reconnected() if self.instance.pk else self._attached()
        except Refusal as refused:
            put_beside(self, [refused], self.BESIDE)

    def _attached(self) -> Store:
        return fleet.attach(self.instance.region, self.instance.url, self.instance.options, self.credentials, self.by)

    def _reconnected(self) -> Store:
        store = Store.objects.select_related("region").get(pk=self.instance.pk)
        return stores.reconnect(store, self.cleaned_data["options"], self.credentials or store.credentials())


@admin.register(Store)
class Stores(Operated, Noun):
    form = StoreForm
    list_display = ["region", "role", "url", "state", "probed_at", "last_error", "detached_at"]
    list_filter = ["state", "role", ("detached_at", admin.EmptyFieldListFilter), "region"]
    list_select_related = ["region"]
    search_fields = ["url", "region__name", "region__id", "uuid"]
    autocomplete_fields = ["region"]
    actions = ["probe", "approve", "detach"]

    ENTERED = ["region", "url", "options"]

    def get_form(self, request: HttpRequest, obj: Store | None = None, **kwargs: Any) -> type[forms.ModelForm]:
        form = super().get_form(request, obj, **kwargs)
        form.by = acting(request)
        return form

    def get_fields(self, request: HttpRequest, obj: Store | None = None) -> list[str]:
        if obj is None:
            return [*self.ENTERED, *StoreForm.SECRETS]
        asked = StoreForm.SECRETS if self.has_change_permission(request, obj) else ()
        return [*shown_fields(Store), *asked]

    def get_readonly_fields(self, request: HttpRequest, obj: Store | None = None) -> list[str]:
        return [name for name in shown_fields(Store) if name != "options"] if obj else []

    def has_change_permission(self, request: HttpRequest, obj: Store | None = None) -> bool:
        return not (obj and obj.detached_at) and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Store, form: StoreForm, change: bool) -> None:
        """Nothing is left to save: the form's verb has."""

    def audit(self, request: HttpRequest, obj: Store, what: str, names: Any = ()) -> None:
        if what == "changed":
            sentence = f"How the store of {obj.region} is reached was changed in the admin: {', '.join(names)}."
            events.record("store.changed", sentence, by=acting(request), store=obj.pk)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Without the transaction that Django would open: none is held while a store is waited for."""
        return self._changeform_view(request, object_id, form_url, extra_context)

    @admin.action(description="Probe the selected stores again", permissions=["operate"])
    def probe(self, request: HttpRequest, chosen: QuerySet[Store]) -> None:
        by = acting(request)
        ask_for_each(request, chosen.select_related("region"), lambda store: fleet.reprobe(store, by), "Probed")

    @admin.action(description="Agree to erase what somebody brought forward", permissions=["operate"])
    def approve(self, request: HttpRequest, chosen: QuerySet[Store]) -> None:
        by = acting(request)
        ask_for_each(request, chosen.select_related("region"), lambda store: purging.approve(store, by), "Agreed")

    @admin.action(description="Detach the selected stores", permissions=["operate"])
    def detach(self, request: HttpRequest, chosen: QuerySet[Store]) -> None:
        by = acting(request)
        ask_for_each(request, chosen.select_related("region"), lambda store: fleet.detach(store, by), "Detached")
