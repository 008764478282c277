"""Instances: added and described here, released by the verb; what a change means for their policy is the verb's too."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from backups import default_backups, events, fleet, policies
from backups.default_backups import discovery, shares
from backups.drilling.drills import MOST_DAYS
from backups.engines import ENGINES, engine_of
from backups.events import By
from backups.models import Arrival, Instance
from backups.models.instance import LOG_MINUTES
from backups.servers import certificate_book, reaching
from backups.terms import default_settings, eligibility
from console.support.asking import Operated, WholeDays, ask_for_each
from console.support.nouns import Noun, among, kept_by_farshore, shown_fields
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from regions.refusals import Refusal

TLS = [
    ("prefer", "if the server offers it"),
    ("require", "always"),
    ("verify-full", "always, with its name checked"),
    ("disable", "never"),
]


class InstanceForm(forms.ModelForm):
    """An instance's description. Its password goes in and never comes out.

    The last check is to reach what is described: a new instance is added by the verb that tries it, all or nothing.
    """

    REACHED_BY = {
        "host",
        "port",
        "secondary_host",
        "secondary_port",
        "username",
        "dbname",
        "tls",
        "new_password",
        "arrival",
        "share_called",
        "share_folder",
    }
    by: By  # get_form says who

    engine = forms.ChoiceField(choices=[(name, engine.capabilities.label) for name, engine in ENGINES.items()])
    tls = forms.ChoiceField(choices=TLS, initial="prefer", label="Encrypted connection (TLS)")
    default_retention_days = WholeDays(min_value=7, max_value=730, initial=7, help_text="Whole days, 7 to 730.")
    full_every_days = WholeDays(
        min_value=1,
        max_value=31,
        initial=1,
        label="Days from one full to the next",
        help_text="1: every backup is a full. More: incrementals between them, where they can be taken.",
    )
    log_every_minutes = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=0,
        choices=[(0, "never"), *((minutes, f"every {minutes} minutes") for minutes in LOG_MINUTES)],
        label="Log backups that Farshore takes",
    )
    drill_every_days = WholeDays(
        min_value=0, max_value=MOST_DAYS, initial=7, help_text="Whole days between two drills, 0: never."
    )
    new_password = forms.CharField(
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Kept encrypted and never shown. Leave it empty to keep the one there is.",
    )

    def clean_timetable_days(self) -> list[int]:
        days = self.cleaned_data["timetable_days"]
        if not set(days) <= set(range(7)):
            raise forms.ValidationError("Days are 0 (Monday) to 6 (Sunday).")
        return sorted(set(days))

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if not self.errors:
            put_beside(self, filter(None, self._refusals(data)))
        return data

    def _refusals(self, data: dict[str, Any]) -> list[Refusal | None]:
        return [self._arrival_refused(data), self._logs_refused(data), self._method_refused(data)]

    def _arrival_refused(self, data: dict[str, Any]) -> Refusal | None:
        engine = engine_of(data.get("engine") or self.instance.engine).capabilities
        if data["arrival"] == Arrival.TAKEN and not engine.takes_backups:
            return Refusal(
                "BackupNotTaken",
                f"Farshore does not take backups of {engine.label}.",
                "Choose backups found in the source store.",
                "arrival",
            )
        if refusal := self._share_refused(data):
            return refusal
        if data["arrival"] == Arrival.TAKEN and not data["host"]:
            return Refusal("HostMissing", "Nothing says how to reach the server.", "Enter its name or address.", "host")
        if data["arrival"] == Arrival.FOUND and not engine.discovers_files:
            return Refusal(
                "BackupNotFound",
                f"Farshore does not find backup files of {engine.label}.",
                "Choose backups taken by Farshore.",
                "arrival",
            )
        if data["arrival"] == Arrival.FOUND and not data["prefixes"]:
            return Refusal("PrefixMissing", "Nothing says where its files lie.", "Enter a prefix.", "prefixes")
        return None

    def _share_refused(self, data: dict[str, Any]) -> Refusal | None:
        engine = engine_of(data.get("engine") or self.instance.engine).capabilities
        named = [data["share_called"], data["share_folder"]]
        if not engine.writes_to_a_share:
            unused = Refusal("ShareNotUsed", "Its backups come over the connection.", "Leave it empty.", "share_called")
            return unused if any(named) else None
        is_needed = any(named) or data["arrival"] == Arrival.TAKEN
        if is_needed and not all(named):
            field = "share_folder" if data["share_called"] else "share_called"
            return Refusal("ShareMissing", "A share has two names.", "Enter the server's and this worker's.", field)
        if is_needed and not data["host"]:
            return Refusal("HostMissing", "Nothing says how to reach the server.", "Enter its name or address.", "host")
        return None

    def _logs_refused(self, data: dict[str, Any]) -> Refusal | None:
        engine = data.get("engine") or self.instance.engine
        return default_settings.logs_refused(self.instance, data["log_every_minutes"], engine, data["arrival"])

    def _method_refused(self, data: dict[str, Any]) -> Refusal | None:
        return eligibility.refuse_method(self.instance, data["backup_method"]) if self.instance.pk else None

    def _post_clean(self) -> None:
        super()._post_clean()
        if self.errors:
            return
        try:
            if self.instance.pk:
                self._reach()
            else:
                fleet.add(self.instance, self.cleaned_data["new_password"], self.by)
        except Refusal as refused:
            put_beside(self, [refused], {"password": "new_password"})

    def _reach(self) -> None:
        """Try a changed connection with the new password, or with the one there is."""
        row, password = self.instance, self.cleaned_data["new_password"]
        if password:
            reaching.keep_password(row, password)
        if row.arrival == Arrival.FOUND and (refusal := discovery.check_prefixes(row)):
            raise refusal
        is_reached = row.arrival == Arrival.TAKEN or shares.is_known(row)
        if is_reached and self.REACHED_BY & set(self.changed_data):
            fleet.reach(row)
            shares.mark(row)


@admin.register(Instance)
class Instances(Operated, Noun):
    form = InstanceForm
    list_display = ["name", "code", "region", "group", "engine", "edition", "family", "arrival", "released_at"]
    list_filter = [
        among("engine", *ENGINES),
        "family",
        "billing_method",
        "edition",
        "backup_method",
        "arrival",
        ("released_at", admin.EmptyFieldListFilter),
        "is_simulation",
        "region",
        "group",
    ]
    list_select_related = ["region", "group"]
    search_fields = ["name", "code", "host", "dbname", "group__name", "region__name"]
    autocomplete_fields = ["region", "group"]
    actions = ["run_backup", "release"]

    WORKED_OUT = ["is_simulation", "data_bytes", "released_at", "looked_at", *kept_by_farshore(Instance)]
    FOR_LIFE = ["code", "region", "group", "engine"]  # the password is bound to the code, acceptances to the group

    def get_form(self, request: HttpRequest, obj: Instance | None = None, **kwargs: Any) -> type[forms.ModelForm]:
        form = super().get_form(request, obj, **kwargs)
        form.by = acting(request)
        return form

    def get_fields(self, request: HttpRequest, obj: Instance | None = None) -> list[str]:
        described = [name for name in shown_fields(Instance) if name not in ("id", *self.WORKED_OUT)]
        if obj and not self.has_change_permission(request, obj):
            return [*described, *self.WORKED_OUT]
        described.insert(described.index("username") + 1, "new_password")
        return [*described, *self.WORKED_OUT] if obj else described

    def get_readonly_fields(self, request: HttpRequest, obj: Instance | None = None) -> list[str]:
        return [*self.FOR_LIFE, *self.WORKED_OUT] if obj else []

    def has_change_permission(self, request: HttpRequest, obj: Instance | None = None) -> bool:
        return not (obj and obj.released) and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Instance, form: InstanceForm, change: bool) -> None:
        """A new row has been saved by the form's verb; of a changed one the policy may have to be suspended (R-3.4)."""
        if change:
            super().save_model(request, obj, form, change)
            policies.requalify(obj, by=acting(request))
            if "certificate_thumbprint" in form.changed_data:
                certificate_book.settle_instance(obj)

    def audit(self, request: HttpRequest, obj: Instance, what: str, names: Any = ()) -> None:
        if what == "changed":
            sentence = f"{obj.name} was changed in the admin: {', '.join(names)}."
            events.record("instance.changed", sentence, by=acting(request), instance=obj)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Without the transaction that Django would open: none is held while a server is waited for."""
        return self._changeform_view(request, object_id, form_url, extra_context)

    @admin.action(description="Run a full backup now", permissions=["operate"])
    def run_backup(self, request: HttpRequest, instances: QuerySet[Instance]) -> None:
        by = acting(request)
        ask_for_each(request, instances, lambda instance: default_backups.ask(instance, by=by), "Backups asked for")

    @admin.action(description="Release the selected instances…", permissions=["operate"])
    def release(self, request: HttpRequest, instances: QuerySet[Instance]) -> HttpResponse | None:
        """There is no way back, so it asks once more."""
        if "confirmed" not in request.POST:
            context = {"title": "Release", "opts": self.opts, "instances": instances, "box": ACTION_CHECKBOX_NAME}
            return TemplateResponse(
                request, "support/release.html", {**self.admin_site.each_context(request), **context}
            )
        by = acting(request)
        ask_for_each(request, instances, lambda instance: policies.release(instance, by=by), "Released")
        return None
