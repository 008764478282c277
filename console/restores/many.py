"""Several instances to one moment in one go: what would come of each before OK, what came of each after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views import View
from django.views.decorators.http import require_POST

from backups import access, restoring
from backups.models import Instance, Role
from backups.restoring import Preview
from console.restores.forms import IN_A_FIELD, MOMENT, NEWEST, UtcMoment
from console.restores.once import is_first, new_token
from console.restores.plan import bytes_read, several_in_words
from console.widgets import words
from console.widgets.acting import acting
from console.widgets.addresses import row_numbers
from console.widgets.dialogs import announce, done, render_dialog
from console.widgets.instance_lists import chosen
from regions import clock

MOST_AT_ONCE = 50
TEMPLATE, EFFECTS, OUTCOMES = (f"restores/_many_{name}.html" for name in ("dialog", "effects", "outcomes"))


class MomentForm(forms.Form):
    by = forms.ChoiceField(
        label=_("What to bring back"),
        choices=[(NEWEST, _("The newest moment of each")), (MOMENT, _("One moment for all"))],
        widget=forms.RadioSelect,
        initial=NEWEST,
    )
    until = UtcMoment(
        label=_("Moment (UTC)"),
        required=False,
        help_text=_("To the second. An instance that does not reach it is refused, the others are restored."),
    )
    token = forms.CharField(widget=forms.HiddenInput, required=False, max_length=36)

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        if said.get("by") == MOMENT and said.get("until") is None and "until" not in self.errors:
            self.add_error("until", gettext("Enter a date and a time in UTC, to the second."))
        return said

    @property
    def moment(self) -> datetime | None:
        return self.cleaned_data["until"] if self.cleaned_data["by"] == MOMENT else None


@dataclass
class Effects:
    """What OK would do: a sentence or the refusals for each instance, and what it is together."""

    lines: list[tuple[Instance, Preview, str]] = field(default_factory=list)

    @property
    def possible(self) -> int:
        return sum(not preview.refusals for _, preview, _ in self.lines)

    @property
    def bytes_needed(self) -> int:
        return sum(preview.bytes_needed for _, preview, _ in self.lines if not preview.refusals)

    @property
    def bytes_read(self) -> int:
        return sum(bytes_read(preview) for _, preview, _ in self.lines if not preview.refusals)

    @property
    def why_too_much(self) -> str:
        """Each alone has room enough; all together may not."""
        free = [preview.bytes_free for _, preview, _ in self.lines if preview.bytes_free is not None]
        if not free or self.bytes_needed <= min(free):
            return ""
        known = {"needed": words.in_words(self.bytes_needed), "free": words.in_words(min(free))}
        return gettext("Together they need %(needed)s, and %(free)s are free: the last of them may fail.") % known


class Many(View):
    """GET shows the ticked instances and what would come of each, POST asks for their restores."""

    def get(self, request: HttpRequest) -> HttpResponse:
        instances = _operated(request, chosen(request, request.GET))
        if refused := _why_not_these(instances):
            return done(request, refused, back=_back(), tone="bad")
        return _show(request, instances, _form({}))

    def post(self, request: HttpRequest) -> HttpResponse:
        instances, form = _named(request), _form(request.POST)
        if refused := _why_not_these(instances):
            return done(request, refused, back=_back(), tone="bad")
        if not form.is_valid():
            return _show(request, instances, form)
        if not is_first(form.cleaned_data["token"]):
            return done(request, gettext("It has been asked for already."), back=reverse("restores:list"))
        outcomes = restoring.ask_many(instances, acting(request), until=form.moment)
        return _tell(request, outcomes)


@require_POST
def preview(request: HttpRequest) -> HttpResponse:
    """Return what would come of each as the form says now."""
    instances, form = _named(request)[:MOST_AT_ONCE], _form(request.POST)
    return render(request, EFFECTS, {"effects": _effects(instances, form), "form": form})


def _form(said: QueryDict | dict[str, str]) -> MomentForm:
    """Return the form, bound from the beginning: the newest moment of each is what is usual."""
    moment = clock.now().strftime(IN_A_FIELD)
    usual = {"by": NEWEST, "until": moment, "token": new_token()}
    return MomentForm({name: said.get(name, value) for name, value in usual.items()}, label_suffix="")


def _show(request: HttpRequest, instances: list[Instance], form: MomentForm) -> HttpResponse:
    shown = {"instances": instances, "form": form, "effects": _effects(instances, form)}
    return render_dialog(request, TEMPLATE, shown, back=_back())


def _effects(instances: list[Instance], form: MomentForm) -> Effects | None:
    if not form.is_valid():
        return None
    effects = Effects()
    for instance in instances:
        found = restoring.checks(instance, until=form.moment)
        effects.lines.append((instance, found, several_in_words(found)))
    return effects


def _tell(request: HttpRequest, outcomes: list[restoring.Outcome]) -> HttpResponse:
    asked = [outcome for outcome in outcomes if outcome.restore]
    shown = {"outcomes": outcomes, "asked": len(asked), "refused": len(outcomes) - len(asked)}
    response = render_dialog(request, OUTCOMES, shown, back=reverse("restores:list"))
    return announce(response, gettext("Restores under way: %(n)s.") % {"n": len(asked)}) if asked else response


def _why_not_these(instances: list[Instance]) -> str:
    if not instances:
        return gettext("Tick at least one instance.")
    if len(instances) > MOST_AT_ONCE:
        return gettext("At most %(n)s instances are restored in one go; tick fewer.") % {"n": MOST_AT_ONCE}
    return ""


def _named(request: HttpRequest) -> list[Instance]:
    """Return exactly the instances the dialog was opened for."""
    wanted = row_numbers(request.POST.getlist("pick"), MOST_AT_ONCE + 1)
    found = access.instances_for(request.user).filter(pk__in=wanted).order_by("name", "pk")
    return _operated(request, list(found))


def _operated(request: HttpRequest, instances: list[Instance]) -> list[Instance]:
    groups = set(access.groups_for(request.user, Role.OPERATOR).values_list("pk", flat=True))
    if any(instance.group_id not in groups for instance in instances):
        raise PermissionDenied("Restoring needs the role operator.")
    return instances


def _back() -> str:
    return reverse("restores:recovery")
