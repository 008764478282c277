"""Policies: what the settings dialog asks, asked here too, and decided by the same verbs (R-12 to R-15, I12)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from backups import policies
from backups.models import CopyPolicy, Instance, PolicyKind
from backups.terms import agreements
from billing import estimates
from console.support.asking import WholeDays
from console.support.nouns import Noun, shown_fields
from console.widgets import effects, words
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.effects import Effects
from console.widgets.words import in_words
from regions import clock
from regions.models import Region

ENABLE, DISABLED = "enable", "disabled"


class PolicyForm(forms.ModelForm):
    """The settings of one instance. `clean` asks the verb what speaks against them; saving is the verb's."""

    status = forms.ChoiceField(
        label="Cross-region Backup Status", choices=[(ENABLE, "Enable"), (DISABLED, "Disabled")], initial=ENABLE
    )
    destination = forms.ModelChoiceField(Region.objects.shown(), label="Backup Region", required=False)
    retention_days = WholeDays(
        label="Cross-region Retention Period",
        min_value=policies.SHORTEST_DAYS,
        max_value=policies.LONGEST_DAYS,
        initial=policies.SHORTEST_DAYS,
        help_text="Whole days, 7 to 1825.",
    )
    logs_enabled = forms.ChoiceField(
        label="Cross-region Log Backup Status",
        choices=[(DISABLED, "Disabled"), (ENABLE, "Enable")],
        required=False,
        help_text="Only while the status is Enable.",
    )
    agreed = forms.BooleanField(label="Cross-border compliance agreement", required=False)
    understood = forms.BooleanField(
        label="I know what a shorter retention deletes",
        required=False,
        help_text="Asked for when files would expire at once; nothing is erased for 24 hours after.",
    )
    expected = forms.CharField(widget=forms.HiddenInput, required=False)
    confirmed = forms.CharField(required=False)  # in no fieldset: the step that says what it costs fills it in

    class Meta:
        model = CopyPolicy
        fields = ["instance"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["agreed"].help_text = _where_the_text_is()
        if self.instance.pk:
            self._fill_in(policies.current_settings(self.instance.instance))

    def _fill_in(self, now: policies.Settings) -> None:
        self.initial |= {
            "status": ENABLE if now.enabled else DISABLED,
            "destination": now.destination,
            "retention_days": now.retention_days,
            "logs_enabled": ENABLE if now.logs_enabled else DISABLED,
            "expected": now.expected,
        }

    def _post_clean(self) -> None:
        """Nothing: the row is not ours to build or to check, `policies.apply` does both."""

    @property
    def subject(self) -> Instance | None:
        return self.instance.instance if self.instance.pk else self.cleaned_data.get("instance")

    @property
    def wanted(self) -> policies.Settings:
        data, now = self.cleaned_data, policies.current_settings(self.subject)
        enabled, destination = data["status"] == ENABLE, data.get("destination")
        return replace(
            now,
            enabled=enabled,
            retention_days=data["retention_days"],
            agreed=data["agreed"],
            destination=destination.pk if destination else "",
            logs_enabled=enabled and self._wants_logs(now),
            expected=data["expected"],
        )

    def _wants_logs(self, now: policies.Settings) -> bool:
        said = self.cleaned_data.get("logs_enabled")
        return said == ENABLE if said else now.logs_enabled

    @property
    def token(self) -> str:
        """What a confirmation is of: these settings, of this instance, as they follow on those it has now."""
        return hashlib.sha256(repr((self.subject.pk, replace(self.wanted, language=""))).encode()).hexdigest()

    @property
    def asks_to_confirm(self) -> bool:
        return set(self.errors) == {"confirmed"}

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if self.subject is None or "retention_days" not in data or "status" not in data:
            return data
        wanted, now = self.wanted, policies.current_settings(self.subject)
        put_beside(self, policies.check(self.subject, wanted), {"enabled": "status"})
        if not wanted.enabled and data.get("logs_enabled") == ENABLE and not now.logs_enabled:
            self.add_error("logs_enabled", "Log backup can be on only while the status is Enable.")
        if not wanted.enabled and policies.latest_policy(self.subject) is None:
            self.add_error("status", "Cross-region backup of this instance is off already.")
        if not self.errors and not data["understood"]:
            self._warn_of_what_expires(self.subject, wanted)
        if not self.errors and data["confirmed"] != self.token:
            self.add_error("confirmed", "Read what it costs, and confirm.")
        return data

    def _warn_of_what_expires(self, instance: Instance, wanted: policies.Settings) -> None:
        effect = effects.shortened(instance, wanted, clock.now())
        if effect.sets:
            lost = f"{effect.sets} of {effect.all_sets} backup sets ({in_words(effect.bytes)}) would expire at once."
            self.add_error("understood", f"{lost} Tick this box to go on.")


def _where_the_text_is() -> str:
    text = agreements.current_text()
    address = reverse("admin:backups_agreementtext_change", args=[text.pk])
    return format_html('Needed to enable and to change the region. <a href="{}">Read the text, {}.</a>', address, text)


@admin.register(CopyPolicy)
class CopyPolicies(Noun):
    form = PolicyForm
    list_display = ["instance", "source_region", "destination", "enabled", "retention_days", "suspended_at", "ended_at"]
    list_filter = ["enabled", ("suspended_at", admin.EmptyFieldListFilter), "kind", "destination"]
    list_select_related = ["instance", "source_region", "destination"]
    search_fields = ["instance__code", "instance__name", "destination__name", "destination__id"]
    autocomplete_fields = ["instance"]
    ASKED = [
        "instance",
        "status",
        "destination",
        "retention_days",
        "logs_enabled",
        "understood",
        "agreed",
        "expected",
    ]

    def get_fieldsets(self, request: HttpRequest, obj: CopyPolicy | None = None) -> list[Any]:
        facts = [name for name in shown_fields(CopyPolicy) if name not in self.ASKED]
        if not self._is_asking(request, obj):
            return [(None, {"fields": shown_fields(CopyPolicy)})]
        asked = (None, {"fields": self.ASKED})
        return [asked, ("What it costs", {"fields": ["costs"]}), ("The row", {"fields": facts})] if obj else [asked]

    def get_readonly_fields(self, request: HttpRequest, obj: CopyPolicy | None = None) -> list[str]:
        if not self._is_asking(request, obj):
            return shown_fields(CopyPolicy)
        facts = [name for name in shown_fields(CopyPolicy) if name not in self.ASKED]
        return ["instance", "costs", *facts] if obj else []

    def _is_asking(self, request: HttpRequest, obj: CopyPolicy | None) -> bool:
        return obj is None or self.has_change_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: CopyPolicy | None = None) -> bool:
        """The settings are those of the instance's current policy; former ones, and other kinds, are history."""
        if obj is not None and (obj.kind != PolicyKind.CROSS_REGION or policies.latest_policy(obj.instance) != obj):
            return False
        return super().has_change_permission(request, obj)

    @admin.display(description="at today's prices")
    def costs(self, policy: CopyPolicy) -> str:
        """Say what the settings cost and what disabling would leave to pay (R-4.6, R-15.5)."""
        instance, at = policy.instance, clock.now()
        month = estimates.monthly_storage(instance, policy.retention_days, at)
        left = estimates.left_to_pay(instance, at)
        shortest = estimates.left_to_pay(instance, at, policies.SHORTEST_DAYS)
        return (
            f"Storage, 30 days at this retention: {_usd(month.amount)}. {month.sentence}"
            f" Disabling now leaves {_usd(left.amount)} to pay, {_usd(shortest.amount)} with 7 days. {left.sentence}"
        )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False, **more: Any
    ) -> HttpResponse:
        """Once nothing else speaks against the settings, say what they cost and do, and ask once more (R-4.6)."""
        form = context["adminform"].form
        if not (form.is_bound and form.asks_to_confirm):
            return super().render_change_form(request, context, add=add, change=change, **more)
        found = effects.of([(form.subject, form.wanted)], clock.now())
        context |= {
            "title": "What it will cost",
            "opts": self.opts,
            "subtitle": None,
            "subject": form.subject,
            "wanted": form.wanted,
            "destination": form.cleaned_data.get("destination"),
            "costs": list(_costs(found)),
            "effects": found,
            "token": form.token,
            "said": [(name, value) for name, values in request.POST.lists() for value in values if name not in OURS],
        }
        return TemplateResponse(request, "support/confirm_policy.html", context)

    def save_model(self, request: HttpRequest, obj: CopyPolicy, form: PolicyForm, change: bool) -> None:
        instance = form.subject
        policies.apply(instance, form.wanted, by=acting(request))
        obj.pk = policies.latest_policy(instance).pk
        obj.refresh_from_db()

    def audit(self, request: HttpRequest, obj: CopyPolicy, what: str, names: Any = ()) -> None:
        """Nothing to add: the verb has recorded what changed."""

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except policies.Refusals as refused:  # somebody saved between our check and our save
            for refusal in refused.items:
                messages.error(request, str(refusal))
            return HttpResponseRedirect(request.get_full_path())


OURS = {"csrfmiddlewaretoken", "confirmed"}  # fields of the step itself


def _costs(found: Effects) -> Iterator[tuple[str, str]]:
    """Yield each sum with its name, at today's size, pace and prices."""
    estimated = {
        "Storage, 30 days once full": found.storage,
        "Traffic, 30 days": found.traffic,
        "First copy, traffic": found.first,
        "Storage left to pay": found.left,
        "Storage left to pay with 7 days": found.left_with_7,
    }
    for name, estimate in estimated.items():
        if estimate is not None:
            yield name, _usd(estimate.amount)
    if found.change is not None:
        yield "A month against today's settings", _difference(found.change.amount)


def _difference(amount: Decimal | None) -> str:
    return _usd(amount, "+" if amount and amount > 0 else "-" if amount else "")


def _usd(amount: Decimal | None, sign: str = "") -> str:
    if amount is None:
        return "an unknown amount"
    if 0 < abs(amount) < words.LEAST_TOLD:
        return f"under {sign}0.01 USD"
    return f"{sign}{abs(amount):.2f} USD"
