"""An instance's own page: its route, its copies, its default backups, and how far copies are."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import OuterRef, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from backups import access, default_backups, policies
from backups.engines import engine_of
from backups.keeping import retention
from backups.models import BackupSet, Copy, CopyPolicy, CopyState, Drill, Instance
from backups.oversight import lag, protection
from backups.oversight.protection import Protection
from backups.terms import eligibility
from console.instances import level2, refused, servers, streams, taking
from console.instances.no_copy import why_no_copy
from console.instances.tables import CopyTable, DrillTable
from console.instances.window import Window
from console.widgets import lag_words, proven, words
from console.widgets.addresses import restoring
from console.widgets.instance_lists import mark_operated
from console.widgets.labels import translated
from console.widgets.listing import ListView
from console.widgets.polling import Poll, asked_for, poll_for, tell_if_old, with_badges
from console.widgets.progress import MOVING
from console.widgets.protected import protection_badge
from console.widgets.restorable import why_engine_not_restored
from console.widgets.set_lists import SET_ORDERS, SetFilter, SetTable, of_secondary, shown_copies, tell, with_copies
from regions import clock


class OfInstance(ListView):
    """A tab of the instance's page."""

    page_template = "instances/page.html"
    fragments = {"rows": "instances/_fresh_rows.html"}  # the head of the page comes along
    tab = ""

    @abstractmethod
    def copies(self) -> list[Copy]:
        """Return the copies that the rows show."""

    @cached_property
    def instance(self) -> Instance:
        return access.instance_for(self.request.user, self.kwargs["code"])

    def context(self) -> dict[str, Any]:
        engine, standing = engine_of(self.instance.engine).capabilities, self.standing
        policy, may_restore = standing["policy"], standing["may_operate"] and not standing["why_not_restored"]
        shown = {
            "tab": self.tab,
            "instance": self.instance,
            "engine_label": engine.label,
            "differential_label": engine.differential_label,
            "destination": policy.destination if policy else None,
            "window": Window(self.request, self.instance, policy.destination if policy else None, standing["at"]),
            "has_logs": bool(policy and policy.logs_enabled),
            "has_databases": engine_of(self.instance.engine).inspect_databases is not None,
            "may_restore": may_restore,
        }
        return shown | standing | {"poll": _poll(self.instance, self.copies())}

    @cached_property
    def standing(self) -> dict[str, Any]:
        return standing_of(self.request, self.instance)

    @cached_property
    def may_operate(self) -> bool:
        return access.may_operate(self.request.user, self.instance)


class CopiesOfInstance(OfInstance):
    """The tab "Data Backup" (R-16.2)."""

    tab = "copies"
    table_class = CopyTable
    orders = {"finished_at": ("set__finished_at", "pk")}
    usual_sort = "-finished_at"

    def rows(self) -> QuerySet[Copy]:
        copies = Copy.objects.visible().filter(set__instance=self.instance).exclude(state="deleted")
        copies = copies.exclude(set__kind="log").annotate(of_secondary=of_secondary(OuterRef("set")))
        return copies.select_related("set__instance", "destination_store__region", "policy")

    def dress(self, rows: list[Copy]) -> list[Copy]:
        mark_operated(self.request, [self.instance])
        for copy in rows:
            copy.set.instance = self.instance
        return with_badges(rows)

    def copies(self) -> list[Copy]:
        return self.page.rows

    def context(self) -> dict[str, Any]:
        state, may_operate = self.standing["protection"].state, self.standing["may_operate"]
        self.table.empty_text = why_no_copy(self.instance, state, may_set=may_operate)
        return super().context()


class SetsOfInstance(OfInstance):
    """The default backups at the source, each beside its copies."""

    tab = "default"
    table_class = SetTable
    filter_class = SetFilter
    orders = SET_ORDERS
    usual_sort = "-finished_at"

    def rows(self) -> QuerySet[BackupSet]:
        return with_copies(access.sets_for(self.request.user).filter(instance=self.instance, deleted_at=None))

    def dress(self, rows: list[BackupSet]) -> list[BackupSet]:
        return tell(rows)

    def copies(self) -> list[Copy]:
        return [copy for found in self.page.rows for copy in shown_copies(found)]

    def context(self) -> dict[str, Any]:
        return super().context() | {"refused": partial(refused.newest, self.instance)}


class DrillsOfInstance(OfInstance):
    """The tab "Drills": rehearsed restores, their timetable, and what the team asks a restored server."""

    tab = "drills"
    fragments = {"rows": "instances/_drill_rows.html", "queries": "instances/_drill_queries.html"}
    table_class = DrillTable
    orders = {"asked_at": ("pk",)}
    usual_sort = "-asked_at"

    def rows(self) -> QuerySet[Drill]:
        return self.instance.drills.select_related("asked_by").defer("rows", "checks")

    def copies(self) -> list[Copy]:
        return []

    def context(self) -> dict[str, Any]:
        shown = {
            "queries": self.instance.drill_queries.select_related("added_by").order_by("pk"),
            "is_drilling": any(drill.state in Drill.ACTIVE for drill in self.page.rows),
        }
        return super().context() | shown


def standing_of(request: HttpRequest, instance: Instance) -> dict[str, Any]:
    """Return what the head of the page says: route, state, terms, what can be done."""
    at = clock.now()
    found = protection.of(instance, at)
    policy = policies.latest_policy(instance)
    return {
        "protection": found,
        "state": _state(found, at),
        "policy": policy,
        "undo_until": retention.erased_at(policy.shortened_at) if policy and policy.shortened_at else None,
        "has_expired_by_it": has_expired_by_shortening(instance, policy),
        "reasons": eligibility.reasons(instance),
        "can_take": default_backups.can_take(instance),
        "why_not_restored": why_engine_not_restored(instance),
        "restoring": restoring(instance.code),
        "job": taking.job_told(instance),
        "taken": taking.told(instance),
        "may_operate": access.may_operate(request.user, instance),
        "at": at,
        "stored": _stored(instance, policy),
        "lag": lag_words.sentence(lag.of(policy, at), found.state) if policy else "",
        "level2": level2.told(instance),
        "troubles": servers.troubles(instance, policy, at),
        "stream": streams.told(instance, at),
        "proven": proven.proof_of(instance, at),
    }


def has_expired_by_shortening(instance: Instance, policy: CopyPolicy | None) -> bool:
    """Whether a file that the shortening let expire is still there to be brought back."""
    if policy is None or policy.shortened_at is None or policy.former_retention_days is None:
        return False
    expired = Copy.objects.cross_region().filter(set__instance=instance, state=CopyState.EXPIRED)
    return expired.filter(expired_at__gte=policy.shortened_at).exists()


def _state(found: Protection, at: datetime) -> SafeString:
    """Return the instance's state; while one copy moves, in the very words of its row."""
    moving = list(Copy.objects.cross_region().filter(set__instance=found.instance, state__in=MOVING)[:2])
    if found.state == "copying" and len(moving) == 1:
        return with_badges(moving)[0].badge
    return protection_badge(found, at)


def _stored(instance: Instance, policy: CopyPolicy | None) -> list[str]:
    """Return what lies in the backup region and, after a change of it, what still lies elsewhere (R-14.4)."""
    copies = Copy.objects.cross_region().filter(set__instance=instance, state=CopyState.COMPLETED).order_by()
    rows = copies.values_list("destination_store__region", "destination_store__region__name")
    stored = {pk: (name, held) for pk, name, held in rows.annotate(held=Sum("stored_bytes")) if held}
    here = policy.destination_id if policy else ""
    if not stored or list(stored) == [here]:
        return []
    said = [gettext("%(size)s here") % {"size": words.in_words(stored.pop(here, ("", 0))[1])}] if here else []
    for name, held in stored.values():
        said.append(gettext("%(size)s in %(region)s") % {"size": words.in_words(held), "region": translated(name)})
    return said


def progress(request: HttpRequest, code: str) -> HttpResponse:
    """Answer the page's one poller: the cells of copies under way, out of band; a word when the list itself is old."""
    instance = access.instance_for(request.user, code)
    copies = asked_for(request, Copy.objects.visible().filter(set__instance=instance))
    poll = _poll(instance, copies)
    shown = {"copies": copies, "instance": instance, "poll": poll} | standing_of(request, instance)
    return tell_if_old(request, render(request, "instances/_progress.html", shown), copies, poll)


def _poll(instance: Instance, copies: list[Copy]) -> Poll:
    sets = BackupSet.objects.filter(instance=instance, deleted_at=None)
    path = reverse("instances:progress", args=[instance.code])
    return poll_for(path, copies, sets, instance.jobs.all(), is_in_rows=True)
