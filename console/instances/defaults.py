"""How the default backups of an instance are taken and kept: the dialog on its page (R-2.5, R-7.1)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views import View

from backups import access
from backups.engines import engine_of
from backups.models import Arrival, BackupMethod, Instance, Role
from backups.policies import Refusals
from backups.terms import default_settings
from console.instances.forms import InstanceForm
from console.widgets.acting import acting
from console.widgets.asking import put_beside
from console.widgets.dialogs import done, render_dialog
from console.widgets.labels import choices_of
from console.widgets.words import plain

TEMPLATE = "instances/_defaults_dialog.html"
ALIKE = InstanceForm.declared_fields  # asked in the same words as when the instance is added


class DefaultsForm(forms.Form):
    """Only what the engine has is asked for; the rest stays as it is."""

    default_backup_enabled = forms.BooleanField(required=False, label=_("Default backup by the timetable"))
    timetable_days = ALIKE["timetable_days"]
    timetable_time = ALIKE["timetable_time"]
    default_retention_days = forms.IntegerField(
        label=_("Default backups are kept (days)"),
        min_value=default_settings.SHORTEST_DAYS,
        max_value=default_settings.LONGEST_DAYS,
        help_text=_("7 to 730. Only those that Farshore takes are ever deleted by it."),
    )
    full_every_days = ALIKE["full_every_days"]
    log_every_minutes = ALIKE["log_every_minutes"]
    backup_method = forms.ChoiceField(label=_("Backup method"))
    expected = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, instance: Instance, *args: Any, **kwargs: Any) -> None:
        now = default_settings.settings_of(instance)
        kwargs.setdefault("initial", vars(now) | {"expected": default_settings.version_of(instance)})
        super().__init__(*args, label_suffix="", **kwargs)
        able, is_taken = engine_of(instance.engine).capabilities, instance.arrival == Arrival.TAKEN
        self.fields["backup_method"].choices = choices_of(BackupMethod)
        has_incrementals = able.takes_incrementals_of(instance.engine_version)
        asked = {
            "default_backup_enabled": is_taken,
            "full_every_days": (is_taken and able.takes_differentials) or has_incrementals,
            "log_every_minutes": is_taken and able.takes_logs,
            "backup_method": able.can_snapshot,
        }
        for name, is_asked in asked.items():
            if not is_asked:
                del self.fields[name]

    def wanted(self) -> dict[str, Any]:
        """Return what was asked for; of what was not, nothing is said."""
        said = {name: value for name, value in self.cleaned_data.items() if name != "expected"}
        said["timetable_days"] = tuple(sorted(said["timetable_days"]))
        if "full_every_days" in said:
            said["full_every_days"] = said["full_every_days"] or 1
        return said


class Dialog(View):
    def get(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = access.instance_for(request.user, code, Role.OPERATOR)
        return self._show(request, instance, DefaultsForm(instance))

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        instance = access.instance_for(request.user, code, Role.OPERATOR)
        form = DefaultsForm(instance, request.POST)
        if not form.is_valid():
            return self._show(request, instance, form)
        try:
            default_settings.apply(instance, form.wanted(), acting(request), expected=form.cleaned_data["expected"])
        except Refusals as refused:
            put_beside(form, refused.items)
            return self._show(request, instance, form)
        sentence = gettext("Saved: the default backups of %(name)s.") % {"name": plain(instance.name)}
        return done(request, sentence, back=_page_of(code))

    def _show(self, request: HttpRequest, instance: Instance, form: DefaultsForm) -> HttpResponse:
        context = {"instance": instance, "form": form, "is_taken": instance.arrival == Arrival.TAKEN}
        return render_dialog(request, TEMPLATE, context, back=_page_of(instance.code))


def _page_of(code: str) -> str:
    return reverse("instances:default", args=[code])
