"""Dialogs that hold a copy beyond its date and release it (R-14.3); whoever has the role security may."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups import access
from backups.keeping import holds
from backups.models import Copy, Hold, Role
from billing import estimates
from console.widgets.acting import acting
from console.widgets.asking import Dialog
from console.widgets.dialogs import leave
from regions import clock


class HoldForm(forms.Form):
    case_number = forms.CharField(
        max_length=holds.LONGEST,
        label=_("Case number"),
        help_text=_("What the case is known by. It is shown wherever the copy is, and kept in the record."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": _("Enter what the case is known by.")},
    )

    def __init__(self, *said: Any) -> None:
        super().__init__(*said, label_suffix="")


class Place(Dialog):
    template = "backup_sets/_hold_dialog.html"

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.copy = _copy(request, kwargs["pk"])
        self.back = reverse("backup_sets:page", args=[self.copy.set_id])

    def form(self, *said: Any) -> HoldForm:
        return HoldForm(*said)

    def context(self) -> dict[str, Any]:
        copy = self.copy
        where = copy.set.instance.region, clock.now(), copy.destination_store.region
        return {"copy": copy, "why_not": holds.why_not(copy), "cost": estimates.storing(copy.stored_bytes, *where)}

    def do(self, form: HoldForm) -> HttpResponse:
        hold = holds.place(self.copy, form.cleaned_data["case_number"], acting(self.request))
        return leave(self.request, gettext("It is held under %(case)s.") % {"case": hold.case_number}, to=self.back)


class Release(Dialog):
    template = "backup_sets/_release_dialog.html"

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        hold = Hold.objects.filter(pk=kwargs["pk"]).first()
        if hold is None:
            raise Http404("No such hold.")
        hold.copy = _copy(request, hold.copy_id)
        self.hold, self.back = hold, reverse("backup_sets:page", args=[hold.copy.set_id])

    def context(self) -> dict[str, Any]:
        copy = self.hold.copy
        others = copy.holds.filter(released_at=None).exclude(pk=self.hold.pk).count()
        return {"hold": self.hold, "copy": copy, "others": others}

    def do(self, form: forms.Form) -> HttpResponse:
        holds.release(self.hold, acting(self.request))
        sentence = gettext("The hold under %(case)s is released.") % {"case": self.hold.case_number}
        return leave(self.request, sentence, to=self.back)


def may_hold(request: HttpRequest, copy_group: int) -> bool:
    return access.may(request.user, copy_group, Role.SECURITY)


def _copy(request: HttpRequest, pk: int) -> Copy:
    """Return a copy this person may hold; 404 when they may not see it, 403 when they may not hold it."""
    rows = access.copies_for(request.user).select_related("set__instance__region", "destination_store__region")
    if not (found := rows.filter(pk=pk).first()):
        raise Http404("No such copy.")
    access.require(request.user, found.set.instance, Role.SECURITY)
    return found
