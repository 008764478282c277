"""Level-2 backup of one instance: on or off, how long; before OK what that keeps, shows and costs (R-18.2, R-4.6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views import View
from django.views.decorators.http import require_POST

from backups import access, level2
from backups.keeping import retention, shortening
from backups.keeping.shortening import Shortened
from backups.level2 import Terms
from backups.models import CopyPolicy, CopyState, Instance, PolicyKind, Role
from backups.policies import Refusals, Settings
from billing import estimates
from billing.estimates import Estimate
from console.widgets import words
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.days import WholeDays
from console.widgets.dialogs import done, render_dialog
from console.widgets.labels import translated
from regions import clock

ENABLE, DISABLED = "enable", "disabled"
TEMPLATE, EFFECTS = "instances/_level2_dialog.html", "instances/_level2_effects.html"


@dataclass(frozen=True)
class Kept:
    """Copies at the second store: how many, and their bytes."""

    sets: int
    bytes: int


class Level2Form(forms.Form):
    enabled = forms.ChoiceField(
        choices=[(ENABLE, _("Enable")), (DISABLED, _("Disabled"))], widget=forms.RadioSelect, label=_("Level-2 Backup")
    )
    retention_days = WholeDays(label=_("Level-2 Retention Period"), help_text=_("7 to 1825 days."))
    expected = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, instance: Instance, *args: Any, **kwargs: Any) -> None:
        now = level2.terms_of(instance)
        kwargs.setdefault(
            "initial",
            {
                "enabled": ENABLE if now.enabled else DISABLED,
                "retention_days": now.retention_days,
                "expected": now.expected,
            },
        )
        super().__init__(*args, label_suffix="", **kwargs)

    @property
    def wanted(self) -> Terms | None:
        """Return what the form says now, None while its retention cannot be read."""
        said = self.initial if not self.is_bound else self.cleaned_data if self.is_valid() else None
        if said is None:
            return None
        return Terms(said["enabled"] == ENABLE, said["retention_days"], said["expected"])


class Dialog(View):
    def get(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = access.instance_for(request.user, code, Role.OPERATOR)
        return self._show(request, instance, Level2Form(instance))

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = access.instance_for(request.user, code, Role.OPERATOR)
        form = Level2Form(instance, request.POST)
        if not form.is_valid():
            return self._show(request, instance, form)
        try:
            level2.apply(instance, form.wanted, acting(request))
        except Refusals as refused:
            put_beside(form, refused.items)
            return self._show(request, instance, form)
        return done(request, _saved(instance, form.wanted), back=_page_of(code))

    def _show(self, request: HttpRequest, instance: Instance, form: Level2Form) -> HttpResponse:
        return render_dialog(request, TEMPLATE, _context(instance, form), back=_page_of(instance.code))


@require_POST
def preview(request: HttpRequest, code: str) -> HttpResponse:
    """Return what the form would do as it says now."""
    instance = access.instance_for(request.user, code, Role.OPERATOR)
    return render(request, EFFECTS, _context(instance, Level2Form(instance, request.POST)))


def _context(instance: Instance, form: Level2Form) -> dict[str, Any]:
    wanted = form.wanted
    return {"instance": instance, "form": form, "wanted": wanted} | (_effects(instance, wanted) if wanted else {})


def _effects(instance: Instance, wanted: Terms) -> dict[str, Any]:
    at, policy = clock.now(), level2.policy_of(instance)
    is_on = policy is not None and policy.enabled
    effects: dict[str, Any] = {"is_on": is_on, "store": level2.second_store(instance.region)}
    if wanted.enabled:
        effects["storage"] = estimates.monthly_storage(instance, wanted.retention_days, at)
        if not is_on:
            effects["first"] = estimates.first_transfer(instance, instance.region, at)
            effects |= _coming_back(policy, wanted, at)
        elif wanted.retention_days < policy.retention_days:
            effects |= {"expiring": _expiring(instance, wanted, at), "erased_at": retention.erased_at(at)}
    elif is_on:
        effects["hiding"] = _shown(policy)
        effects["saved"] = _costs_now(policy, at)
    elif policy is not None:
        effects["hidden"] = _hidden(policy)
    return effects


def _expiring(instance: Instance, wanted: Terms, at: datetime) -> Shortened:
    """Return what the shorter period expires at once."""
    settings = Settings(wanted.enabled, wanted.retention_days, instance.region_id)
    return shortening.of_all({instance.pk: settings}, at, PolicyKind.INTRA_REGION).get(instance.pk, Shortened())


def _shown(policy: CopyPolicy) -> Kept:
    return _counted(policy.copies.filter(state=CopyState.COMPLETED))


def _hidden(policy: CopyPolicy | None) -> Kept:
    return _counted(level2.hidden_copies(policy)) if policy else Kept(0, 0)


def _coming_back(policy: CopyPolicy | None, wanted: Terms, at: datetime) -> dict[str, Any]:
    """Say what enabling shows again, and how many hidden sets are past the retention and expire by it."""
    if policy is None:
        return {}
    back = level2.coming_back(policy, wanted.retention_days, at)
    hidden = level2.hidden_copies(policy)
    return {"back": _counted(hidden.filter(pk__in=back)), "past": hidden.exclude(pk__in=back).count()}


def _counted(copies: Any) -> Kept:
    found = copies.aggregate(sets=Count("pk"), bytes=Sum("stored_bytes"))
    return Kept(found["sets"], found["bytes"] or 0)


def _costs_now(policy: CopyPolicy, at: datetime) -> Estimate:
    """Return what 30 days of what is charged now would cost: this ends."""
    charged = policy.copies.filter(spans__ended_at=None, spans__isnull=False).aggregate(bytes=Sum("spans__bytes"))
    return estimates.storing(charged["bytes"] or 0, policy.source_region, at)


def _saved(instance: Instance, wanted: Terms) -> str:
    named = {"name": instance.name, "days": wanted.retention_days}
    if not wanted.enabled:
        return gettext("Saved: level-2 backup of %(name)s is off.") % named
    sentence = ngettext(
        "Saved: level-2 backup of %(name)s is on, kept %(days)s day.",
        "Saved: level-2 backup of %(name)s is on, kept %(days)s days.",
        wanted.retention_days,
    )
    return sentence % named


def told(instance: Instance) -> str:
    """Return the line the instance's page has of it, "" where its region has no second store and it never was on."""
    policy = level2.policy_of(instance)
    named = {"region": translated(instance.region.name)}
    if policy is not None and policy.enabled:
        kept = _shown(policy)
        named |= {"n": kept.sets, "size": words.in_words(kept.bytes), "days": policy.retention_days}
        sentence = ngettext(
            "Level-2 backup in %(region)s: on, %(n)s set, %(size)s, kept %(days)s days.",
            "Level-2 backup in %(region)s: on, %(n)s sets, %(size)s, kept %(days)s days.",
            kept.sets,
        )
        return sentence % named
    if policy is not None:
        return gettext("Level-2 backup in %(region)s: off; its sets are kept, hidden and free of charge.") % named
    return gettext("Level-2 backup in %(region)s: off.") % named if level2.second_store(instance.region) else ""


def _page_of(code: str) -> str:
    return reverse("instances:page", args=[code])
