"""The dialogs of a restore's page: each does one thing to it, or says what stands against it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.views import View

from backups import access, restoring
from backups.events import By
from backups.models import Kind, Restore, Role
from console.restores.forms import ReasonForm
from console.restores.looks import moment_of, wish_of
from console.restores.pages import kept_aside
from console.widgets.acting import acting
from console.widgets.dialogs import done, render_dialog
from regions.refusals import Refusal


class Deed(View, ABC):
    """A dialog of `template`; OK does it and says so, and a refusal is said in its words."""

    template = ""
    role: ClassVar[Role | None] = Role.OPERATOR

    def get(self, request: HttpRequest, code: str) -> HttpResponse:
        return self._show(request, self._restore(request, code))

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        return self._do(request, self._restore(request, code))

    @abstractmethod
    def do(self, restore: Restore, by: By) -> str:
        """Do it and return what to say; raises Refusal."""

    def shown(self, restore: Restore) -> dict[str, Any]:
        return {}

    def _restore(self, request: HttpRequest, code: str) -> Restore:
        return access.restore_for(request.user, code, *filter(None, [self.role]))

    def _do(self, request: HttpRequest, restore: Restore) -> HttpResponse:
        back = reverse("restores:page", args=[restore.code])
        try:
            return done(request, self.do(restore, acting(request)), back=back)
        except Refusal as refusal:
            return done(request, str(refusal), back=back, tone="bad")

    def _show(self, request: HttpRequest, restore: Restore, **more: Any) -> HttpResponse:
        shown = {"restore": restore} | self.shown(restore) | more
        return render_dialog(request, self.template, shown, back=reverse("restores:page", args=[restore.code]))


class Cancel(Deed):
    """Cancel a restore under way: the engine is proved stopped, nothing of it is left behind."""

    template = "restores/_cancel_dialog.html"

    def do(self, restore: Restore, by: By) -> str:
        restoring.cancel(restore, by)
        return gettext("The restore is being cancelled.")


class Remove(Deed):
    """Remove what was restored: server and data; the copies it came from stay."""

    template = "restores/_remove_dialog.html"

    def do(self, restore: Restore, by: By) -> str:
        restoring.remove(restore, by)
        return gettext("%(name)s is being removed.") % {"name": restore.goes_by}

    def shown(self, restore: Restore) -> dict[str, Any]:
        return {"aside": kept_aside(restore)}


class Agree(Deed):
    """A second person agrees to a restore onto an instance; whether they may is for the verb to say."""

    template = "restores/_agree_dialog.html"
    role = None

    def do(self, restore: Restore, by: By) -> str:
        restoring.agree(restore, by)
        return gettext("You agreed; the restore begins.")

    def shown(self, restore: Restore) -> dict[str, Any]:
        has_logs = restore.sources.filter(set__kind=Kind.LOG).exists()
        return {"moment": moment_of(restore, has_logs), "wish": wish_of(restore, has_logs)}


class Confirm(Deed):
    """Keep what was restored: the data it replaced is discarded."""

    template = "restores/_confirm_dialog.html"

    def do(self, restore: Restore, by: By) -> str:
        restoring.confirm(restore, by)
        return gettext("%(name)s stays as it was restored.") % {"name": restore.name}


class WriteOff(Deed):
    """Say that the machine of a restored server is gone; whatever stood there is given up."""

    template = "restores/_write_off_dialog.html"

    def shown(self, restore: Restore) -> dict[str, Any]:
        return {"form": ReasonForm()}

    def post(self, request: HttpRequest, code: str) -> HttpResponse:
        restore, self.form = self._restore(request, code), ReasonForm(request.POST)
        if not self.form.is_valid():
            return self._show(request, restore, form=self.form)
        return self._do(request, restore)

    def do(self, restore: Restore, by: By) -> str:
        restoring.write_off(restore, by, self.form.cleaned_data["reason"])
        return gettext("%(name)s is written off.") % {"name": restore.goes_by}
