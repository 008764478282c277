"""Losing and coming back: outages of source regions, state objects, dumps of our own database, recoveries."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from backups import recoveries
from backups.models import Recovery, SelfBackup, SourceOutage, StateObject
from console.support.asking import Operated, ask_for_each
from console.support.nouns import Facts
from console.widgets.acting import acting

ITS_REGION = ["store__region__id", "store__region__name"]


@admin.register(SourceOutage)
class SourceOutages(Facts):
    list_display = ["store", "began_at", "ended_at"]
    list_filter = [("ended_at", admin.EmptyFieldListFilter), "began_at"]
    list_select_related = ["store"]
    search_fields = ITS_REGION
    ordering = ["-pk"]


@admin.register(StateObject)
class StateObjects(Facts):
    list_display = ["instance", "store", "sequence", "oldest", "written_at"]
    list_filter = ["store__region", "written_at"]
    list_select_related = ["instance", "store"]
    search_fields = ["instance__code", "instance__name", *ITS_REGION]
    ordering = ["-pk"]


@admin.register(SelfBackup)
class SelfBackups(Facts):
    list_display = ["began_at", "store", "state", "size", "finished_at", "error"]
    list_filter = ["state", "began_at"]
    list_select_related = ["store"]
    search_fields = ["key", "error", *ITS_REGION]
    ordering = ["-pk"]


@admin.register(Recovery)
class Recoveries(Operated, Facts):
    list_display = ["store", "kind", "recovered_at", "copies", "troubles", "confirmed_at", "confirmed_by"]
    list_filter = ["kind", ("confirmed_at", admin.EmptyFieldListFilter)]
    list_select_related = ["store", "confirmed_by"]
    search_fields = ITS_REGION
    ordering = ["-pk"]
    actions = ["confirm"]

    @admin.action(description="Confirm: nothing is missing, copies may expire again", permissions=["operate"])
    def confirm(self, request: HttpRequest, chosen: QuerySet[Recovery]) -> None:
        by = acting(request)
        rows = chosen.select_related("store__region")
        ask_for_each(request, rows, lambda recovery: recoveries.confirm(recovery, by), "Confirmed")
