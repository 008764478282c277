"""Drills and what they asked are evidence: to be read only. The queries are the team's own, on the instance's page."""

from __future__ import annotations

from django.contrib import admin

from backups.models import Drill, DrillQuery
from console.support.nouns import Facts

ITS_INSTANCE = ["instance__code", "instance__name"]


@admin.register(Drill)
class Drills(Facts):
    list_display = ["pk", "instance", "pick", "state", "asked_at", "finished_at", "restored_until", "isolation"]
    list_filter = ["state", "pick", "isolation", "asked_at"]
    list_select_related = ["instance"]
    search_fields = [*ITS_INSTANCE, "sentence"]
    ordering = ["-pk"]


@admin.register(DrillQuery)
class DrillQueries(Facts):
    list_display = ["pk", "instance", "database", "sql", "expected", "added_by", "added_at"]
    list_filter = ["added_at"]
    list_select_related = ["instance", "added_by"]
    search_fields = [*ITS_INSTANCE, "sql", "database"]
    ordering = ["-pk"]
