"""A restore is asked for: pick the instance, say what to bring back, read the plan, OK."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.views import View

from backups import access, restoring
from backups.models import Copy, Instance, Restore, Role
from backups.policies import Refusals
from console.restores import choice
from console.restores.beside import BesideChoice
from console.restores.choice import DEFAULT, Place, SetChoice, Stretch
from console.restores.forms import BESIDE, MOMENT, NEW, NEWEST, ORIGINAL, SET, RestoreForm, in_a_field, moment_in
from console.restores.landing import LandingChoice
from console.restores.once import is_first, new_token
from console.restores.plan import Also, Plan, plan_of
from console.restores.recovery import PickInstance
from console.widgets import words
from console.widgets.acting import acting
from console.widgets.addresses import row_number
from console.widgets.dialogs import leave
from console.widgets.fragments import render_page
from console.widgets.labels import translated
from console.widgets.restorable import why_engine_not_restored
from regions import clock

FRAGMENTS = {"wizard": "restores/_wizard.html", "plan": "restores/_plan.html"}
KEPT = ("instance", "place", "database", "by", "until", "set", "target", "name")


class New(View):
    """GET shows what can be chosen and the plan of it, POST asks for it; "Check again" without script comes back."""

    def get(self, request: HttpRequest) -> HttpResponse:
        if not request.GET.get("instance"):
            return PickInstance.as_view()(request)
        return _show(request, _wizard(request, request.GET))

    def post(self, request: HttpRequest) -> HttpResponse:
        wizard = _wizard(request, request.POST, is_order=True)
        if "show" in request.POST:
            return HttpResponseRedirect(wizard.address)
        if wizard.why_not or not wizard.form.is_valid():
            return _show(request, wizard)
        token = wizard.form.cleaned_data["token"]
        if not is_first(token):
            return _asked_already(request, token)
        try:
            if wizard.also:
                return _ask_several(request, wizard, token)
            restore = restoring.ask(wizard.instance, acting(request), name=wizard.name, batch=token, **wizard.wish)
        except Refusals as refused:
            wizard.refuse(refused)
            return _show(request, wizard)
        waits, goes_on = (
            gettext("The restore onto %(name)s waits for a second person."),
            gettext("%(name)s is being restored."),
        )
        sentence = (waits if restore.state == Restore.State.WAITING else goes_on) % {"name": restore.goes_by}
        return leave(request, sentence, to=reverse("restores:page", args=[restore.code]))


def _ask_several(request: HttpRequest, wizard: Wizard, token: str) -> HttpResponse:
    """Ask for all databases or, raising Refusals, for none."""
    wish = {name: value for name, value in wizard.wish.items() if name != "database"}
    names = {wizard.database: wizard.name, **wizard.also}
    restores = restoring.ask_databases(wizard.instance, acting(request), names=names, batch=token, **wish)
    sentence = gettext("%(n)s databases are being restored.") % {"n": len(restores)}
    return leave(request, sentence, to=reverse("restores:list"))


def _wizard(request: HttpRequest, said: QueryDict, *, is_order: bool = False) -> Wizard:
    code = said.get("instance", "")[:40].replace("\0", "")
    return Wizard(access.instance_for(request.user, code, Role.OPERATOR), said, request.user, is_order=is_order)


def _show(request: HttpRequest, wizard: Wizard) -> HttpResponse:
    form = None if wizard.why_not else wizard.form
    return render_page(request, "restores/new.html", FRAGMENTS, {"wizard": wizard, "form": form})


def _asked_already(request: HttpRequest, token: str) -> HttpResponse:
    found = access.restores_for(request.user).filter(batch=token).first()
    where = reverse("restores:page", args=[found.code]) if found else reverse("restores:list")
    return leave(request, gettext("It has been asked for already."), to=where)


class Wizard:
    """What can be chosen for one instance, what of it is asked for, and what would come of that."""

    def __init__(self, instance: Instance, said: QueryDict, user: Any, *, is_order: bool) -> None:
        self.instance, self.said, self.at, self.is_order = instance, said, clock.now(), is_order
        self.user = user
        self.wanted_set = row_number(said.get("set", ""))

    # ---- what can be chosen

    @cached_property
    def places(self) -> list[Place]:
        return choice.places_of(self.instance)

    @cached_property
    def why_not(self) -> str:
        """Return why nothing of this instance can be restored, "" when something can."""
        if why := why_engine_not_restored(self.instance):
            return why
        return "" if self.places else gettext("nothing of it has been copied yet, and nothing lies at its source")

    @cached_property
    def place(self) -> Place:
        by_key = {place.key: place for place in self.places}
        return by_key.get(self.said.get("place", "")) or by_key.get(self._place_of_set) or self.places[0]

    @cached_property
    def _place_of_set(self) -> str:
        """Return where the set that was asked for can be read from: a copy of it before the set itself."""
        if self.wanted_set is None:
            return ""
        copies = Copy.objects.restorable().filter(set=self.wanted_set, set__instance=self.instance)
        stores = set(copies.values_list("destination_store", flat=True))
        return next((place.key for place in self.places if place.store and place.store.pk in stores), DEFAULT)

    @cached_property
    def databases(self) -> list[str]:
        return choice.databases_of(self.instance, self.place)

    @cached_property
    def database(self) -> str:
        asked = self.said.get("database")
        if asked is None and self.wanted_set:
            asked = self.instance.sets.filter(pk=self.wanted_set).values_list("database", flat=True).first()
        return asked if asked in self.databases else self.databases[0] if self.databases else ""

    @cached_property
    def sets(self) -> list[SetChoice]:
        return choice.sets_of(self.instance, self.place, self.database, self.wanted_set)

    @cached_property
    def stretches(self) -> list[Stretch]:
        return choice.stretches_of(self.instance, self.place, self.database)

    @property
    def shown_stretches(self) -> list[Stretch]:
        return self.stretches[: choice.STRETCHES_SHOWN]

    @property
    def more_stretches(self) -> bool:
        return len(self.stretches) > choice.STRETCHES_SHOWN

    @cached_property
    def newest(self) -> datetime | None:
        return choice.newest_moment(self.instance, self.place, self.database)

    @cached_property
    def refused(self) -> dict[str, str]:
        """Return the ways that cannot be chosen, and why."""
        why = {}
        if not self.stretches and self.place.store:
            why[MOMENT] = gettext("no logs are copied there, so only what a backup set holds can be had")
        elif not self.stretches:
            why[MOMENT] = gettext("no logs lie there, so only what a backup set holds can be had")
        if self.newest is None:
            why[NEWEST] = gettext("nothing there can be restored yet")
        if not any(not one.why_not for one in self.sets):
            why[SET] = gettext("no set there can be restored")
        return why

    @cached_property
    def why_not_onto(self) -> str:
        """Return why the original cannot be what is restored onto, "" when it can (R-2.3)."""
        if self.place.store:
            return gettext("copies become a new instance; a default backup may go onto the original")
        refusals = restoring.why_not_original(self.instance)
        return " ".join(map(str, refusals))

    @cached_property
    def landing(self) -> LandingChoice | None:
        """Return what is chosen of a landing server, None where the engine needs none."""
        if not restoring.needs_landing(self.instance):
            return None
        return LandingChoice(self)

    @property
    def needs_landing(self) -> bool:
        return restoring.needs_landing(self.instance)

    @cached_property
    def beside(self) -> BesideChoice:
        return BesideChoice(self, self.user)

    # ---- what is asked for

    @cached_property
    def target(self) -> str:
        """Return as what: while one is only looking, what can be chosen."""
        asked = self.said.get("target")
        if asked == ORIGINAL and (self.is_order or not self.why_not_onto):
            return ORIGINAL
        if asked == BESIDE and (self.is_order or self.beside.targets):
            return BESIDE
        return NEW

    @property
    def is_onto(self) -> bool:
        return self.target == ORIGINAL

    @property
    def is_beside(self) -> bool:
        return self.target == BESIDE

    @property
    def name(self) -> str:
        """Return the new instance's name, or what was typed in for that of one that is there."""
        return self.form.cleaned_data.get("typed" if self.is_onto or self.is_beside else "name", "")

    @cached_property
    def asked_by(self) -> str:
        return self.said.get("by") or (SET if "set" in self.said else MOMENT if "until" in self.said else NEWEST)

    @cached_property
    def by(self) -> str:
        """Return the way that is asked for; while one is only looking, another where that cannot be chosen."""
        if self.asked_by not in self.refused or self.is_order:
            return self.asked_by
        return next((way for way in (NEWEST, SET, MOMENT) if way not in self.refused), self.asked_by)

    @property
    def why_fallen_back(self) -> str:
        """Return why what an address asks for cannot be chosen, "" when it can or nothing was asked for."""
        is_asked = any(name in self.said for name in ("by", "until", "set"))
        return self.refused.get(self.asked_by, "") if is_asked and self.by != self.asked_by else ""

    @cached_property
    def form(self) -> RestoreForm:
        data = {
            "place": self.place.key,
            "database": self.database,
            "by": self.by,
            "until": self._until,
            "set": self._set,
            "target": self.target,
            "typed": self.said.get("typed", ""),
            "name": self._name,
            "landing": self.landing.server.code if self.landing and self.landing.server else "",
            "beside": self.beside.target.code if self.beside.target else self.said.get("beside", ""),
            "called": self.beside.called,
            "token": self.said.get("token") or new_token(),
        }
        return RestoreForm(
            data,
            places=[(place.key, place.label) for place in self.places],
            databases=self.databases or [""],
            sets=[one.set.pk for one in self.sets if not one.why_not],
            refused=self.refused,
            limits=self._limits,
            landings=[(one.code, one.name) for one in self.landing.servers] if self.landing else (),
            besides=[(one.code, one.name) for one in self.beside.targets],
        )

    @property
    def _name(self) -> str:
        if self.landing:
            return self.landing.name
        return self.said["name"] if "name" in self.said else restoring.free_name(self.instance)

    @property
    def also(self) -> dict[str, str]:
        """Return the other databases that are wanted: a set is one database's, a moment is everybody's."""
        return self.landing.also if self.landing and self.by != SET and not self.is_beside else {}

    @property
    def _limits(self) -> dict[str, str]:
        """Return what a browser offers: the first and the last second that can be had."""
        if not self.stretches:
            return {}
        first, last = min(one.first for one in self.stretches), self.stretches[0].last
        return {"min": in_a_field(first), "max": in_a_field(last)}

    @cached_property
    def _until(self) -> str:
        typed = self.said.get("until")
        if typed is not None:
            moment = moment_in(typed)
            return in_a_field(moment) if moment else typed[:40]
        return in_a_field(self.stretches[0].last) if self.stretches else ""

    @cached_property
    def _set(self) -> str:
        able = [one.set.pk for one in self.sets if not one.why_not]
        asked = self.wanted_set if self.wanted_set in [one.set.pk for one in self.sets] else None
        return str(asked or (able[0] if able else ""))

    @cached_property
    def wish(self) -> dict[str, Any]:
        """Return what is asked for, as the verbs of backups.restoring take it; the form is valid as far as it goes."""
        said = self.form.cleaned_data
        chosen = next((one.set for one in self.sets if one.set.pk == said.get("set")), None)
        onto = self._onto
        if self.place.store is None and said["by"] == SET:
            return {"default_set": chosen, **onto}
        place = {"store": self.place.store} if self.place.store else {"at_source": True}
        wish: dict[str, Any] = {"database": self.database, **place, **onto}
        if said["by"] == SET:
            copies = choice.copies_at(self.instance, self.place.store)
            wish["copy"] = copies.select_related("set__instance", "destination_store__region").get(set=chosen)
        if said["by"] == MOMENT:
            wish["until"] = said["until"]
        return wish

    @property
    def _onto(self) -> dict[str, Any]:
        if self.is_beside:
            return {"onto": self.beside.target, "called": self.form.cleaned_data.get("called", "")}
        if self.is_onto:
            return {"onto": self.instance}
        return {"landing": self.landing.server} if self.landing and self.landing.server else {}

    @cached_property
    def plan(self) -> Plan | None:
        """Return what would come of it, None where the form does not say enough; a name may still be missing."""
        if self.why_not or set(self.form.errors) - {"name", "called"}:
            return None
        preview = restoring.checks(self.instance, name=self.name, **self.wish)
        others = [self._other(database, name) for database, name in self.also.items()]
        return plan_of(preview, self.place.region, self.at, target=self.target, others=others)

    def _other(self, database: str, name: str) -> Also:
        wish = self.wish | {"database": database}
        return Also(database, name, restoring.checks(self.instance, name=name or " ", **wish))

    @cached_property
    def nearest(self) -> list[datetime]:
        """Return the moments next to one that cannot be had, each to be chosen by one click."""
        moment = self.form.cleaned_data.get("until")
        if self.by != MOMENT or moment is None or self.plan is None or self.plan.is_possible:
            return []
        return choice.nearest(self.stretches, moment)

    def refuse(self, refused: Refusals) -> None:
        """Put what speaks against it beside its field, under a new token: this one has been used."""
        self.plan = self.plan  # worked out from the form as it was sent, before it says no
        self.nearest = self.nearest
        self.form.data = self.form.data | {"token": new_token()}
        for refusal in refused.items:
            self.form.add_error(refusal.field if refusal.field in ("name", "typed", "called") else None, str(refusal))

    @property
    def region_name(self) -> str:
        return translated(self.place.region.name)

    @property
    def newest_ago(self) -> str:
        return words.ago(self.newest, self.at)

    @property
    def here(self) -> str:
        """Return where links to a moment begin: the same instance, place, target and name."""
        kept = {"instance": self.instance.code, "place": self.place.key, "database": self.database}
        as_what = {"target": self.target, "name": self.form["name"].value()}
        return f"{reverse('restores:new')}?{urlencode([*(kept | as_what).items(), *self._kept])}"

    @property
    def _kept(self) -> list[tuple[str, str]]:
        return [*(self.landing.kept if self.landing else []), *self.beside.kept]

    @property
    def address(self) -> str:
        kept = [(name, self.said[name]) for name in KEPT if name in self.said]
        return f"{reverse('restores:new')}?{urlencode([*kept, *self._kept])}"
