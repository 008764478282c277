"""What servers say of themselves: their databases, the backups they remember; and certificates at hand in a region."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from backups.events import By
from backups.models import RegisteredCertificate, RememberedSet, ServerDatabase, ServerLook, StorageSnapshot
from backups.servers import certificate_book
from console.support.asking import Operated, ask_for_each
from console.support.nouns import Facts, Noun, shown_fields
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from regions.refusals import Refusal

ITS_INSTANCE = ["instance__code", "instance__name"]


@admin.register(ServerDatabase)
class ServerDatabases(Facts):
    list_display = ["instance", "name", "state", "recovery_model", "last_full_at", "seen_at", "gone_at"]
    list_filter = ["recovery_model", "is_online", ("gone_at", admin.EmptyFieldListFilter)]
    list_select_related = ["instance"]
    search_fields = [*ITS_INSTANCE, "name"]
    ordering = ["-pk"]


@admin.register(ServerLook)
class ServerLooks(Facts):
    list_display = ["instance", "side", "answered_at", "read_until", "failures", "error", "due_at"]
    list_filter = ["side", ("failing_since", admin.EmptyFieldListFilter)]
    list_select_related = ["instance"]
    search_fields = [*ITS_INSTANCE, "error"]
    ordering = ["-pk"]


@admin.register(StorageSnapshot)
class StorageSnapshots(Facts):
    list_display = ["handle", "job", "database", "began_at", "thawed_at", "released_at", "given_up_at", "error"]
    list_filter = [("thawed_at", admin.EmptyFieldListFilter), ("released_at", admin.EmptyFieldListFilter)]
    list_select_related = ["job__instance"]
    search_fields = ["handle", "database", "job__instance__code", "job__instance__name"]
    ordering = ["-pk"]


@admin.register(RememberedSet)
class RememberedSets(Facts):
    list_display = ["instance", "database", "kind", "finished_at", "called", "taken_by", "is_foreign"]
    list_filter = ["kind", "is_foreign", "is_encrypted"]
    list_select_related = ["instance"]
    search_fields = [*ITS_INSTANCE, "database", "set_guid", "called", "taken_by"]
    ordering = ["-pk"]


class CertificateForm(forms.ModelForm):
    """The last check is the verb itself, which works out anew what can be restored."""

    by: By  # get_form says who

    def clean_thumbprint(self) -> str:
        try:
            return certificate_book.plain(self.cleaned_data["thumbprint"])
        except Refusal as refused:
            raise forms.ValidationError(str(refused)) from refused

    def _post_clean(self) -> None:
        super()._post_clean()
        if self.errors:
            return
        said = self.cleaned_data
        try:
            self.instance = certificate_book.register(said["region"], said["thumbprint"], said["note"], self.by)
        except Refusal as refused:
            put_beside(self, [refused])


@admin.register(RegisteredCertificate)
class RegisteredCertificates(Operated, Noun):
    form = CertificateForm
    list_display = ["thumbprint", "region", "note", "registered_by", "registered_at", "withdrawn_at"]
    list_filter = ["region", ("withdrawn_at", admin.EmptyFieldListFilter)]
    list_select_related = ["region", "registered_by"]
    search_fields = ["thumbprint", "note", "region__id", "region__name"]
    autocomplete_fields = ["region"]
    actions = ["withdraw"]

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[forms.ModelForm]:
        form = super().get_form(request, obj, **kwargs)
        form.by = acting(request)
        return form

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return shown_fields(RegisteredCertificate) if obj else ["region", "thumbprint", "note"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return shown_fields(RegisteredCertificate) if obj else []

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: CertificateForm, change: bool) -> None:
        """Nothing is left to save: the form's verb has."""

    def audit(self, request: HttpRequest, obj: Any, what: str, names: Any = ()) -> None:
        """The verb leaves its own event."""

    @admin.action(description="Withdraw: no longer at hand there", permissions=["operate"])
    def withdraw(self, request: HttpRequest, chosen: QuerySet[RegisteredCertificate]) -> None:
        by = acting(request)
        rows = chosen.filter(withdrawn_at=None).select_related("region")
        ask_for_each(request, rows, lambda row: certificate_book.withdraw(row, by), "Withdrawn")
