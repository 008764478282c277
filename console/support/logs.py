"""Logs on their way and what can be restored because of them: to be searched and read."""

from __future__ import annotations

from django.contrib import admin

from backups.models import LogGap, LogStream, RestorableInterval, ServerScript
from console.support.nouns import Facts

ITS_INSTANCE = ["instance__code", "instance__name"]


@admin.register(LogStream)
class LogStreams(Facts):
    list_display = ["instance", "state", "heard_at", "waiting_bytes", "failures", "error"]
    list_filter = ["state"]
    list_select_related = ["instance"]
    search_fields = [*ITS_INSTANCE, "error"]
    ordering = ["-pk"]


@admin.register(RestorableInterval)
class RestorableIntervals(Facts):
    list_display = ["instance", "store", "database", "began_at", "ended_at"]
    list_filter = ["store__region"]
    list_select_related = ["instance", "store"]
    search_fields = [*ITS_INSTANCE, "database"]
    ordering = ["-ended_at", "-pk"]


@admin.register(LogGap)
class LogGaps(Facts):
    list_display = ["instance", "store", "database", "from_time", "until_time", "healing", "healed_at"]
    list_filter = ["healing", ("healed_at", admin.EmptyFieldListFilter)]
    list_select_related = ["instance", "store"]
    search_fields = [*ITS_INSTANCE, "database"]
    ordering = ["-pk"]


@admin.register(ServerScript)
class ServerScripts(Facts):
    list_display = ["instance", "first_seen_at", "seen_at", "sha256"]
    list_filter = ["first_seen_at"]
    list_select_related = ["instance"]
    search_fields = [*ITS_INSTANCE, "sha256"]
    ordering = ["-pk"]
