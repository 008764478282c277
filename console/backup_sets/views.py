"""Default backups at their source, and a page for each backup set: files, checksums, copies, attempts, events."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.views import View
from django.views.decorators.http import require_POST

from backups import access
from backups.copying import cancelling, mending, planning, replication
from backups.default_backups import retiring
from backups.events import By
from backups.keeping import holds
from backups.models import BackupJob, BackupSet, CancelReason, Copy, CopyState, Hold, Role, Transfer
from backups.servers import server_scripts
from console.backup_sets.beside import beside, file_name
from console.backup_sets.cost import traffic_of
from console.backup_sets.holds import may_hold
from console.widgets.acting import acting
from console.widgets.addresses import restoring, row_numbers
from console.widgets.dialogs import done, render_dialog
from console.widgets.downloading import downloading, downloads_of
from console.widgets.instance_lists import instances_here, mark_operated
from console.widgets.listing import MOST_MATCHING, ListView
from console.widgets.polling import Poll, asked_for, poll_for, tell_if_old
from console.widgets.progress import MOVING, progress_of, state_of, why_kept
from console.widgets.proofs import compared_with
from console.widgets.proven import proof_of
from console.widgets.restorable import why_set_not_restored
from console.widgets.set_lists import SET_ORDERS, SetFilter, SetTable, shown_copies, tell, with_copies
from console.widgets.shell import chosen_region
from regions import clock
from regions.refusals import Refusal

EVENTS_SHOWN = 50
ATTEMPTS_SHOWN = 40
HELD = Hold.objects.filter(released_at=None).select_related("placed_by").order_by("pk")


class SetList(ListView):
    page_template = "backup_sets/list.html"
    fragments = {"rows": "widgets/_live_rows.html"}
    table_class = SetTable
    filter_class = SetFilter
    orders = SET_ORDERS
    usual_sort = "-finished_at"

    def rows(self) -> QuerySet[BackupSet]:
        return with_copies(_sets_here(self.request))

    def dress(self, rows: list[BackupSet]) -> list[BackupSet]:
        return tell(rows)

    def context(self) -> dict[str, Any]:
        return {"poll": _poll(self.request, [copy for row in self.page.rows for copy in shown_copies(row)])}


def progress(request: HttpRequest) -> HttpResponse:
    """Answer the list's one poller with the states of the copies under way, as out-of-band cells."""
    copies = asked_for(request, access.copies_for(request.user))
    poll = _poll(request, copies)
    response = render(request, "widgets/_copy_cells.html", {"copies": copies, "poll": poll})
    return tell_if_old(request, response, copies, poll)


def _poll(request: HttpRequest, shown: list[Copy]) -> Poll:
    sets = _sets_here(request)
    jobs = BackupJob.objects.filter(instance__in=instances_here(request))
    return poll_for(reverse("backup_sets:progress"), shown, sets, jobs, is_in_rows=True)


class CopyNow(View):
    """Copy the ticked sets, any that are still at their source, to where their instances' backups go."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._show(request, _chosen(request, request.GET))

    def post(self, request: HttpRequest) -> HttpResponse:
        sets = _chosen(request, request.POST)
        for found in sets:
            access.require(request.user, found.instance, Role.OPERATOR)
        going = [found for found in sets if not found.why_not_copied]
        planned = [found for found in going if _plan(found, acting(request))]
        sentence = ngettext("%(n)s copy is on its way.", "%(n)s copies are on their way.", len(planned))
        return done(request, sentence % {"n": len(planned)}, back=reverse("backup_sets:list"))

    def _show(self, request: HttpRequest, sets: list[BackupSet]) -> HttpResponse:
        going = [found for found in sets if not found.why_not_copied]
        context = {
            "sets": sets,
            "going": going,
            "traffic": traffic_of(going, clock.now()) if going else None,
            "bytes": sum(found.size_bytes for found in going),
        }
        return render_dialog(request, "backup_sets/_copy_dialog.html", context, back=reverse("backup_sets:list"))


class Cancel(View):
    """Cancel a copy that has not arrived: nothing of it is charged, its parts are removed."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        copy = _operated_copy(request, pk)
        return render_dialog(request, "backup_sets/_cancel_dialog.html", {"copy": copy}, back=_page_of(copy))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        copy = _operated_copy(request, pk)
        if not cancelling.cancel(copy, CancelReason.PERSON, acting(request)):
            return done(request, gettext("It is not under way any more."), back=_page_of(copy), tone="bad")
        return done(request, gettext("The copy is cancelled."), back=_page_of(copy))


class Delete(View):
    """Delete a default backup at its source before its date (R-2.5); copies of it stay."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        found = _operated_set(request, pk)
        context = {
            "set": found,
            "why_kept": retiring.why_kept(found, clock.now()),
            "copies": found.copies.visible().filter(state=CopyState.COMPLETED).count(),
        }
        return render_dialog(request, "backup_sets/_delete_dialog.html", context, back=_page_of_set(pk))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        try:
            retiring.ask_to_delete([_operated_set(request, pk)], acting(request))
        except Refusal as refusal:
            return done(request, str(refusal), back=_page_of_set(pk), tone="bad")
        return done(request, gettext("It will be deleted at its source within the hour."), back=_page_of_set(pk))


def _operated_set(request: HttpRequest, pk: int) -> BackupSet:
    found = access.set_for(request.user, pk)
    access.require(request.user, found.instance, Role.OPERATOR)
    return found


@require_POST
def retry(request: HttpRequest, pk: int) -> HttpResponse:
    copy = _operated_copy(request, pk)
    try:
        replication.retry(copy, acting(request))
    except Refusal as refusal:
        return done(request, str(refusal), back=_page_of(copy), tone="bad")
    return done(request, gettext("It is tried again now."), back=_page_of(copy))


@require_POST
def again(request: HttpRequest, pk: int) -> HttpResponse:
    """Carry a damaged copy again now; its second way is not charged (R-4.2)."""
    copy = _operated_copy(request, pk)
    try:
        mending.again(copy, acting(request))
    except Refusal as refusal:
        return done(request, str(refusal), back=_page_of(copy), tone="bad")
    return done(request, gettext("It is copied again; what is sent for it is not charged."), back=_page_of(copy))


def page(request: HttpRequest, pk: int) -> HttpResponse:
    found = access.set_for(request.user, pk)
    mark_operated(request, [found.instance])
    context = _copies_of(found) | {
        "set": found,
        "told": _told(pk),
        "base": _base_of(found),
        "files": found.set_files.select_related("file__store").order_by("family_sequence", "position"),
        "events": found.events.order_by("-pk")[:EVENTS_SHOWN],
        "may_operate": found.instance.may_operate,
        "may_hold": may_hold(request, found.instance.group_id),
        "downloads": downloads_of(found),
        "beside": beside(found),
        "why_not_restored": why_set_not_restored(found, found.copies.visible()),
        "restoring": restoring(found.instance.code, set=pk),
        "proven": proof_of(found.instance, clock.now()),
    }
    return render(request, "backup_sets/page.html", context)


@require_POST
def server_script(request: HttpRequest, pk: int) -> HttpResponse:
    """Hand out the script of what stood beside the database; that somebody read it is an event."""
    found = access.set_for(request.user, pk)
    access.require(request.user, found.instance, Role.OPERATOR)
    if (row := server_scripts.of_set(found)) is None:
        raise Http404("No script was recorded.")
    script = server_scripts.read(row, acting(request))
    named = {"Content-Disposition": f'attachment; filename="{file_name(found, row)}"', "Cache-Control": "no-store"}
    return HttpResponse(script, content_type="text/plain; charset=utf-8", headers=named)


def copies(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the copies' cards again: the page polls this while one is under way."""
    found = access.set_for(request.user, pk)
    mark_operated(request, [found.instance])
    shown = _copies_of(found) | {"set": found, "may_operate": found.instance.may_operate}
    shown["may_hold"] = may_hold(request, found.instance.group_id)
    return render(request, "backup_sets/_copies.html", shown)


def _told(pk: int) -> BackupSet:
    return tell(list(with_copies(BackupSet.objects.filter(pk=pk).select_related("instance"))))[0]


def _base_of(found: BackupSet) -> BackupSet | None:
    """Return the set that this one stands on, wherever its files are by now."""
    if not found.base_guid:
        return None
    return found.instance.sets.data().filter(set_guid=found.base_guid).exclude(pk=found.pk).first()


def _copies_of(found: BackupSet) -> dict[str, Any]:
    rows = found.copies.visible().select_related("destination_store__region", "policy").order_by("-pk")
    copies = list(rows.prefetch_related(Prefetch("holds", HELD, to_attr="held")))
    progress = progress_of(copies, clock.now())
    for copy in copies:
        copy.set = found
        copy.download = downloading(copy)
        copy.badge = state_of(copy, progress.get(copy.pk))
        copy.progress = progress.get(copy.pk)
        copy.kept = why_kept(copy)
        copy.is_keepable = holds.why_not(copy) is None
        copy.why_not_again = mending.why_not(copy) if copy.state == CopyState.DAMAGED else None
        copy.compared_with = compared_with(copy)
        copy.brought = _attempts(copy)
    is_live = any(copy.state in MOVING or copy.state == "planned" or _is_being_mended(copy) for copy in copies)
    return {"copies": copies, "is_live": is_live}


def _is_being_mended(copy: Copy) -> bool:
    return copy.state == CopyState.DAMAGED and copy.leased_until is not None


def _attempts(copy: Copy) -> list[Transfer]:
    """Return what was tried for each file of the copy, counted from 1 for each, with the file's own `name`."""
    stored = Transfer.objects.filter(store=copy.destination_store_id, file__set_files__set=copy.set_id)
    attempts = list(stored.select_related("file").order_by("file", "pk")[:ATTEMPTS_SHOWN])
    counted: Counter[int] = Counter()
    for attempt in attempts:
        counted[attempt.file_id] += 1
        attempt.number, attempt.name = counted[attempt.file_id], str(attempt.file).rpartition("/")[2]
    return attempts


def _sets_here(request: HttpRequest) -> QuerySet[BackupSet]:
    region = chosen_region(request)
    sets = access.sets_for(request.user).filter(deleted_at=None)
    return sets.filter(instance__region=region) if region else sets


def _plan(found: BackupSet, by: By) -> bool:
    """Plan one copy; a policy that ended in this moment, say, leaves that one out and not the others."""
    try:
        return planning.copy_now(found.policy, found, by) is not None
    except Refusal:
        return False


def _chosen(request: HttpRequest, asked: QueryDict) -> list[BackupSet]:
    if "matching" in asked:
        sets = SetFilter(QueryDict(asked["matching"])).narrow(_sets_here(request))
    else:
        wanted = row_numbers(asked.getlist("pick"), MOST_MATCHING)
        sets = access.sets_for(request.user).filter(pk__in=wanted)
    return tell(list(with_copies(sets.select_related("instance__region")).order_by("-finished_at")[:MOST_MATCHING]))


def _operated_copy(request: HttpRequest, pk: int) -> Copy:
    """Return a copy this person may act on; 404 when they may not see it, 403 when they may not act."""
    copy = access.copies_for(request.user).select_related("set__instance", "policy", "destination_store").filter(pk=pk)
    if not (found := copy.first()):
        raise Http404("No such copy.")
    access.require(request.user, found.set.instance, Role.OPERATOR)
    return found


def _page_of(copy: Copy) -> str:
    return _page_of_set(copy.set_id)


def _page_of_set(pk: int) -> str:
    return reverse("backup_sets:page", args=[pk])
