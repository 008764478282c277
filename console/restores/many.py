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
from backups.restoring import Preview, Prospect
from console.restores.forms import IN_A_FIELD, MOMENT, NEWEST, UtcMoment
from console.restores.once import is_first, new_token
from console.restores.plan import prospect_in_words
from console.widgets import words
from console.widgets.acting import acting
from console.widgets.addresses import restoring as restoring_at
from console.widgets.addresses import row_numbers
from console.widgets.dialogs import announce, done, render_dialog
from console.widgets.instance_lists import chosen, left_out
from console.widgets.listing import MOST_MATCHING
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


@dataclass(frozen=True)
class Line:
    """What would come of one instance, and where it is looked at alone."""

    found: Prospect
    sentence: str
    address: str

    @property
    def previews(self) -> list[Preview]:
        return [piece.preview for piece in self.found.pieces] if self.found.is_possible else []


@dataclass
class Effects:
    """What OK would do: a sentence or the refusals for each instance, and what it is together."""

    lines: list[Line] = field(default_factory=list)

    @property
    def possible(self) -> int:
        return sum(line.found.is_possible for line in self.lines)

    @property
    def bytes_read(self) -> int:
        return sum(preview.bytes_read for line in self.lines for preview in line.previews)

    @property
    def why_too_much(self) -> str:
        """Each alone has room enough; all together that go to one place may not."""
        for needed, free in self._by_place().values():
            if free is not None and needed > free:
                known = {"needed": words.in_words(needed), "free": words.in_words(free)}
                return (
                    gettext("Together they need %(needed)s, and %(free)s are free: the last of them may fail.") % known
                )
        return ""

    def _by_place(self) -> dict[tuple[str, int | None], tuple[int, int | None]]:
        """Return the bytes needed and free of each landing server, and of each region's machine."""
        found: dict[tuple[str, int | None], tuple[int, int | None]] = {}
        for preview in (one for line in self.lines for one in line.previews):
            place = preview.region.pk, preview.landing and preview.landing.pk
            needed = found[place][0] if place in found else 0
            found[place] = needed + preview.bytes_needed, preview.bytes_free
        return found


class Many(View):
    """GET shows the ticked instances and what would come of each, POST asks for their restores."""

    def get(self, request: HttpRequest) -> HttpResponse:
        instances = _operated(request, chosen(request, request.GET))
        beyond = left_out(request, request.GET) if len(instances) >= MOST_MATCHING else 0
        if refused := _why_not_these(len(instances) + beyond):
            return done(request, refused, back=_back(), tone="bad")
        return _show(request, instances, _form({}))

    def post(self, request: HttpRequest) -> HttpResponse:
        instances, form = _named(request), _form(request.POST)
        if refused := _why_not_these(len(instances)):
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
    found = restoring.prospects(instances, until=form.moment)
    return Effects([Line(one, prospect_in_words(one), _alone(one, form.moment)) for one in found])


def _alone(found: Prospect, until: datetime | None) -> str:
    return restoring_at(found.instance.code, until=until, store=found.store.pk if found.store else None)


def _tell(request: HttpRequest, outcomes: list[restoring.Outcome]) -> HttpResponse:
    asked = [restore for outcome in outcomes for restore in outcome.restores]
    refused = sum(not outcome.saved for outcome in outcomes)
    shown = {"outcomes": outcomes, "asked": len(asked), "refused": refused}
    response = render_dialog(request, OUTCOMES, shown, back=reverse("restores:list"))
    return announce(response, gettext("Restores under way: %(n)s.") % {"n": len(asked)}) if asked else response


def _why_not_these(count: int) -> str:
    """Return why so many are not restored in one go: none of them is left out unsaid."""
    if not count:
        return gettext("Tick at least one instance.")
    if count > MOST_AT_ONCE:
        said = {"most": MOST_AT_ONCE, "n": words.count(count), "more": words.count(count - MOST_AT_ONCE)}
        sentence = gettext(
            "At most %(most)s instances are restored in one go; %(n)s are ticked, %(more)s too many. Nothing was asked"
            " for; tick fewer."
        )
        return sentence % said
    return ""


def _named(request: HttpRequest) -> list[Instance]:
    """Return exactly the instances the dialog was opened for."""
    ticked = request.POST.getlist("pick")
    wanted = row_numbers(ticked, len(ticked))
    found = access.instances_for(request.user).filter(pk__in=wanted).order_by("name", "pk")
    return _operated(request, list(found))


def _operated(request: HttpRequest, instances: list[Instance]) -> list[Instance]:
    groups = set(access.groups_for(request.user, Role.OPERATOR).values_list("pk", flat=True))
    if any(instance.group_id not in groups for instance in instances):
        raise PermissionDenied("Restoring needs the role operator.")
    return instances


def _back() -> str:
    return reverse("restores:recovery")
