"""The settings dialog: one instance or many, the effects before OK, the outcome of each after it (R-11, R-14)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import get_language, gettext
from django.views import View
from django.views.decorators.http import require_POST

from backups import access, policies
from backups.models import Instance, Role
from backups.policies import Outcome, Refusals, Settings
from backups.terms import agreements
from console.backup_settings import saved as saving
from console.backup_settings.forms import SettingsForm, versions_in
from console.widgets import effects
from console.widgets.acting import acting
from console.widgets.dialogs import announce, done, render_dialog
from console.widgets.instance_lists import PENDING, chosen, left_out
from console.widgets.listing import MOST_MATCHING
from regions import clock
from regions.refusals import Refusal

TEMPLATE, OUTCOMES = "backup_settings/_dialog.html", "backup_settings/_outcomes.html"


class SettingsDialog(View):
    """GET shows the settings of the ticked instances, POST saves them."""

    def get(self, request: HttpRequest) -> HttpResponse:
        instances = _operated(request, chosen(request, request.GET))
        if not instances:
            return done(request, gettext("Tick at least one instance."), back=_back(), tone="bad")
        form = SettingsForm(instances, comes_to_enable=request.GET.get("list") == PENDING)
        form.left_out = left_out(request, request.GET) if len(instances) >= MOST_MATCHING else 0
        return _show(request, form)

    def post(self, request: HttpRequest) -> HttpResponse:
        instances = _named(request)
        if not instances:
            return done(request, gettext("Tick at least one instance."), back=_back(), tone="bad")
        form = SettingsForm(instances, request.POST)
        if not form.is_valid():
            return _show(request, form)
        if _asks_for_agreement(form):
            form.refuse([agreements.missing()])
            return _show(request, form)
        return _save_one(request, form) if len(instances) == 1 else _save_many(request, form)


@require_POST
def preview(request: HttpRequest) -> HttpResponse:
    """Return the effects of what the form says now, as it is typed."""
    form = SettingsForm(_named(request), request.POST)
    return render(request, "backup_settings/_effects.html", _context(form, complain=False))


@require_POST
def again(request: HttpRequest) -> HttpResponse:
    """Show the form of a bulk change again, filled in, for those that were refused; the tick is to be set anew."""
    said = request.POST.copy()
    said.pop("agreed", None)
    said.pop("left_out", None)  # the outcome has told it
    return _show(request, SettingsForm(_named(request), said))


@require_POST
def seven(request: HttpRequest) -> HttpResponse:
    """Show the form as it is filled in, but with 7 days: disabling then costs least (R-15.3, R-15.5).

    What that expires at once is said again; OK does both, the retention first.
    """
    said = request.POST.copy()
    said["retention_days"] = str(policies.SHORTEST_DAYS)
    return _show(request, SettingsForm(_named(request), said))


@require_POST
def undo(request: HttpRequest, code: str) -> HttpResponse:
    """Bring back the retention a shortening replaced, while its files are in their grace (R-14.3)."""
    instance = access.instance_for(request.user, code, Role.OPERATOR)
    back = reverse("instances:page", args=[code])
    try:
        policies.undo_shortening(instance, acting(request))
    except Refusal as refusal:
        return done(request, str(refusal), back=back, tone="bad")
    except Refusals as refused:
        return done(request, " ".join(map(str, refused.items)), back=back, tone="bad")
    return done(request, gettext("The former retention period is back."), back=back)


def _save_one(request: HttpRequest, form: SettingsForm) -> HttpResponse:
    [(instance, wanted)] = form.changes()
    sentence = _sentence_of(form, [(instance, wanted)])
    try:
        policies.apply(instance, replace(wanted, expected=form.expected().get(instance.pk, "")), acting(request))
    except Refusals as refused:
        form.refuse(refused.items)
        return _show(request, form)
    return done(request, sentence, back=_back())


def _save_many(request: HttpRequest, form: SettingsForm) -> HttpResponse:
    outcomes: list[Outcome] = []
    saved: list[tuple[Instance, Settings]] = []
    expired = 0
    for instance, wanted in form.changes():
        expires = effects.expiring([(instance, wanted)], clock.now())
        outcomes += policies.apply_many([instance], wanted, acting(request), form.expected())
        if outcomes[-1].saved:
            saved.append((instance, wanted))
            expired += expires
    refused = [outcome.instance for outcome in outcomes if not outcome.saved]
    if not saved and _is_about_one_field(outcomes):
        form.refuse([refusal for outcome in outcomes for refusal in outcome.refusals])
        return _show(request, form)
    sentence = saving.saved_sentence(saved, form.own, expired, clock.now()) if saved else ""
    sentence = " ".join(filter(None, [sentence, saving.left_out_sentence(form.left_out)]))
    return _tell(request, form, outcomes, refused, sentence) if refused else done(request, sentence, back=_back())


def _sentence_of(form: SettingsForm, changes: list[tuple[Instance, Settings]]) -> str:
    """Return what the toast will say; what expires can be counted only before it has."""
    at = clock.now()
    return saving.saved_sentence(changes, form.own, effects.expiring(changes, at), at)


def _is_about_one_field(outcomes: list[Outcome]) -> bool:
    fields = {refusal.field for outcome in outcomes for refusal in outcome.refusals}
    return len(fields) == 1 and fields <= set(SettingsForm.base_fields)


def _tell(
    request: HttpRequest, form: SettingsForm, outcomes: list[Outcome], refused: list[Instance], sentence: str
) -> HttpResponse:
    """Show what came of each; Retry opens the form again, filled in, for those refused as they are now."""
    shown = {
        "outcomes": outcomes,
        "refused": refused,
        "form": form,
        "saved": len(outcomes) - len(refused),
        "versions": SettingsForm.versions_now(refused),
        "left_out": saving.left_out_sentence(form.left_out),
    }
    response = render_dialog(request, OUTCOMES, shown, back=_back())
    if len(refused) < len(outcomes):
        announce(response, sentence)
    return response


# ---- what the dialog shows


def _show(request: HttpRequest, form: SettingsForm) -> HttpResponse:
    return render_dialog(request, TEMPLATE, _context(form), back=_back())


def _context(form: SettingsForm, *, complain: bool = True) -> dict[str, Any]:
    changes = form.changes_so_far()
    found = effects.of(changes, clock.now()) if changes else None
    policy = policies.latest_policy(form.instances[0]) if len(form.instances) == 1 else None
    return {
        "form": form,
        "instances": form.instances,
        "effects": found,
        "policy": policy,
        "versions": form.versions_to_carry(),
        "text": agreements.current_text(get_language()),
        "total_bytes": sum(instance.data_bytes for instance in form.instances),
        "complain": complain,
        "border_note": found.border if found else "",
        "left_out": saving.left_out_sentence(form.left_out),
    }


def _asks_for_agreement(form: SettingsForm) -> bool:
    return any(_needs_agreement(instance, wanted) for instance, wanted in form.changes())


def _needs_agreement(instance: Instance, wanted: Settings) -> bool:
    if wanted.agreed or not wanted.enabled:
        return False
    missing = agreements.missing().code
    return any(refusal.code == missing for refusal in policies.check(instance, wanted))


# ---- small change


def _named(request: HttpRequest) -> list[Instance]:
    """Return exactly the instances the dialog was opened for."""
    wanted = versions_in(request.POST.get("versions", ""))
    found = access.instances_for(request.user).filter(pk__in=wanted).order_by("name", "pk")
    return _operated(request, list(found))


def _operated(request: HttpRequest, instances: list[Instance]) -> list[Instance]:
    groups = set(access.groups_for(request.user, Role.OPERATOR).values_list("pk", flat=True))
    if any(instance.group_id not in groups for instance in instances):
        raise PermissionDenied("Settings need the role operator.")
    return instances


def _back() -> str:
    return reverse("backup_instances:list")
