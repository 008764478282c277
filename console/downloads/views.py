"""The dialog before a download: what it costs, the tick, then the links and how to use what they give (R-16.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from shlex import quote

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.views import View

from backups import access, downloads
from backups.downloads import Digest, Handout
from backups.engines import engine_of
from backups.models import Copy, Download, Role
from backups.restore_sources import facts_of
from billing import downloads as billed
from billing.download_fees import DownloadFee, quota
from console.downloads.addresses import address_of, has_inside
from console.downloads.forms import DownloadForm
from console.widgets import words
from console.widgets.acting import acting
from console.widgets.dialogs import done, render_dialog
from regions import clock
from regions.refusals import Refusal


@dataclass(frozen=True)
class Shown:
    """One file as the dialog shows it, once."""

    handout: Handout
    address: str
    digest: Digest

    @property
    def fetching(self) -> str:
        """The command that fetches it, and goes on where it was when it is run again."""
        return f"curl -C - --retry 5 -o {quote('./' + self.handout.download.name)} {quote(self.address)}"


class Ask(View):
    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        if refusal := downloads.why_not(self.copy):
            return done(request, str(refusal), back=self.back, tone="bad")
        return self._show(DownloadForm(self.costs))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        form = DownloadForm(self.costs, request.POST)
        if not form.is_valid():
            return self._show(form)
        said = form.cleaned_data
        try:
            handouts = billed.ask(self.copy, acting(request), said["address"], learnt=said["learnt"])
        except Refusal as refusal:
            return done(request, str(refusal), back=self.back, tone="bad")
        return self._links(handouts)

    @cached_property
    def copy(self) -> Copy:
        """The copy, for who may act on it; 404 when they may not see it, 403 when they may not act."""
        rows = access.copies_for(self.request.user)
        found = rows.select_related("set__instance__region", "destination_store__region").filter(pk=self.kwargs["pk"])
        if not (copy := found.first()):
            raise Http404("No such copy.")
        access.require(self.request.user, copy.set.instance, Role.OPERATOR)
        return copy

    @property
    def back(self) -> str:
        return reverse("backup_sets:page", args=[self.copy.set_id])

    @cached_property
    def fee(self) -> DownloadFee:
        return billed.quote(self.copy, clock.now())

    @cached_property
    def costs(self) -> dict[str, str]:
        offered = {Download.Address.INTERNET: _internet(self.fee)}
        return offered | ({Download.Address.INTERNAL: gettext("Internal address · free")} if has_inside() else {})

    def _show(self, form: DownloadForm) -> HttpResponse:
        context = {
            "copy": self.copy,
            "form": form,
            "fee": self.fee,
            "price": self.fee.price and f"{self.fee.price.normalize():f}",
            "quota": quota(),
            "files": self.copy.copied_files.count(),
        }
        return render_dialog(self.request, "downloads/_ask_dialog.html", context, back=self.back)

    def _links(self, handouts: Sequence[Handout]) -> HttpResponse:
        files = [Shown(one, address_of(self.request, one), downloads.digest_of(one.download)) for one in handouts]
        context = {
            "copy": self.copy,
            "files": files,
            "until": handouts[0].link.expires_at,
            "by_hand": _by_hand(self.copy, [one.download.name for one in handouts]),
        }
        response = render_dialog(self.request, "downloads/_links_dialog.html", context, back=self.back)
        response.headers["Cache-Control"] = "no-store"  # the links are told once, and kept nowhere (I18)
        return response


def _internet(fee: DownloadFee) -> str:
    if fee.amount is None:
        return gettext("Internet · no price")
    return gettext("Internet · %(amount)s") % {"amount": words.dollars(fee.amount)}


def _by_hand(copy: Copy, names: Sequence[str]) -> str:
    place = copy.set.set_files.order_by("family_sequence").first()
    facts = replace(facts_of(copy.set), position=place.position if place else 1)
    return engine_of(copy.set.instance.engine).restore_by_hand(facts, names)
