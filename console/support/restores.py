"""Restores: what was built from which copies. Support may cancel one, or remove the server it made."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from backups import restoring
from backups.models import LandingServer, Restore, RestoreSource
from backups.servers import landing_servers
from console.support.asking import Operated, ask_for_each
from console.support.nouns import Facts, FactsInline
from console.widgets.acting import acting


class RestoreSourceRows(FactsInline):
    model = RestoreSource
    fields = readonly_fields = ["order", "set", "copy"]


@admin.register(Restore)
class Restores(Operated, Facts):
    list_display = ["code", "name", "instance", "region", "state", "stage", "asked_by", "asked_at", "error"]
    list_filter = ["state", "origin", "region", "asked_at"]
    list_select_related = ["instance", "region", "asked_by"]
    search_fields = ["code", "name", "batch", "instance__code", "instance__name", "error"]
    ordering = ["-pk"]
    inlines = [RestoreSourceRows]
    actions = ["agree", "cancel", "remove"]

    @admin.action(description="Agree, as the second person, to the selected restores", permissions=["operate"])
    def agree(self, request: HttpRequest, restores: QuerySet[Restore]) -> None:
        by = acting(request)
        ask_for_each(request, restores, lambda restore: restoring.agree(restore, by), "Agreed to")

    @admin.action(description="Cancel the selected restores", permissions=["operate"])
    def cancel(self, request: HttpRequest, restores: QuerySet[Restore]) -> None:
        by = acting(request)
        ask_for_each(request, restores, lambda restore: restoring.cancel(restore, by), "Asked to stop")

    @admin.action(description="Remove the selected restored servers", permissions=["operate"])
    def remove(self, request: HttpRequest, restores: QuerySet[Restore]) -> None:
        by = acting(request)
        ask_for_each(request, restores, lambda restore: restoring.remove(restore, by), "Asked to be removed")


@admin.register(LandingServer)
class LandingServers(Operated, Facts):
    """Registered and granted on the console's own page; here support may look, look again, and retire."""

    list_display = ["name", "region", "engine", "version", "host", "is_simulation", "looked_at", "error", "retired_at"]
    list_filter = ["engine", "region", "is_simulation", "retired_at"]
    list_select_related = ["region"]
    search_fields = ["code", "name", "host", "share_called", "error"]
    ordering = ["name"]
    actions = ["look_again", "retire"]

    @admin.action(description="Look at the selected landing servers again", permissions=["operate"])
    def look_again(self, request: HttpRequest, rows: QuerySet[LandingServer]) -> None:
        by = acting(request)
        ask_for_each(request, rows, lambda row: landing_servers.retry(row, by), "Looked at")

    @admin.action(description="Retire the selected landing servers", permissions=["operate"])
    def retire(self, request: HttpRequest, rows: QuerySet[LandingServer]) -> None:
        by = acting(request)
        ask_for_each(request, rows, lambda row: landing_servers.retire(row, by), "Retired")


@admin.register(RestoreSource)
class RestoreSources(Facts):
    list_display = ["restore", "order", "set", "copy"]
    list_filter = ["restore__state"]
    list_select_related = ["restore__instance", "set__instance", "copy__set__instance"]
    search_fields = ["restore__code", "set__instance__code", "set__instance__name"]
    ordering = ["-pk"]
