"""Default backups: the sets, their files, and the backups that Farshore takes itself."""

from __future__ import annotations

from django.contrib import admin

from backups.models import Arrival, BackupFile, BackupJob, BackupMethod, BackupSet, SetFile
from console.support.nouns import Facts, FactsInline, among

ITS_INSTANCE = ["instance__code", "instance__name"]


class SetFileRows(FactsInline):
    model = SetFile
    fields = readonly_fields = ["file", "position", "family_sequence"]


@admin.register(BackupSet)
class BackupSets(Facts):
    list_display = ["finished_at", "instance", "database", "kind", "method", "status", "origin", "size_bytes"]
    list_filter = [
        "kind",
        "status",
        among("method", *BackupMethod.values),
        among("origin", *Arrival.values),
        "is_copy_only",
        "is_encrypted",
        "finished_at",
    ]
    list_select_related = ["instance"]
    search_fields = [*ITS_INSTANCE, "database", "set_guid", "family_guid", "run_id", "server"]
    ordering = ["-finished_at", "-pk"]
    inlines = [SetFileRows]


@admin.register(BackupFile)
class BackupFiles(Facts):
    list_display = ["first_seen_at", "instance", "shown_key", "size", "state", "refusal_code"]
    list_filter = ["state", "is_ours", "store__region", "first_seen_at"]
    list_select_related = ["instance", "store"]
    search_fields = [*ITS_INSTANCE, "etag", "version", "media_set_guid", "refusal_code", "refusal"]
    ordering = ["-pk"]


@admin.register(SetFile)
class SetFiles(Facts):
    list_display = ["set", "file", "position", "family_sequence"]
    list_filter = ["set__kind"]
    list_select_related = ["set__instance", "file"]
    search_fields = ["set__database", "set__instance__code", "set__set_guid"]
    ordering = ["-pk"]


@admin.register(BackupJob)
class BackupJobs(Facts):
    list_display = ["asked_at", "instance", "database", "kind", "on", "reason", "state", "asked_by", "finished_at"]
    list_filter = ["state", "reason", "on", "asked_at"]
    list_select_related = ["instance", "asked_by"]
    search_fields = [*ITS_INSTANCE, "database", "error"]
    ordering = ["-pk"]
