"""Downloads: who fetched what, how much of it arrived, by which links and answers."""

from __future__ import annotations

from django.contrib import admin

from backups.models import Download, DownloadLink, DownloadUse
from console.support.nouns import Facts, FactsInline

ITS_INSTANCE = ["copy__set__instance__code", "copy__set__instance__name", "user__username", "name"]
ITS_DOWNLOAD = [f"download__{name}" for name in ITS_INSTANCE]


class DownloadUseRows(FactsInline):
    model = DownloadUse
    fields = readonly_fields = ["came_from", "first", "end", "counted", "began_at", "ended_at"]


@admin.register(Download)
class Downloads(Facts):
    list_display = ["asked_at", "user", "name", "copy", "address", "size", "delivered_bytes", "whole_at"]
    list_filter = ["address", ("whole_at", admin.EmptyFieldListFilter), "asked_at"]
    list_select_related = ["user", "copy__set__instance"]
    search_fields = ITS_INSTANCE
    ordering = ["-pk"]
    inlines = [DownloadUseRows]


@admin.register(DownloadLink)
class DownloadLinks(Facts):
    """A link as a fact; what its hash is, is nobody's business."""

    list_display = ["made_at", "download", "expires_at"]
    list_filter = ["expires_at"]
    list_select_related = ["download__user"]
    search_fields = ITS_DOWNLOAD
    ordering = ["-pk"]


@admin.register(DownloadUse)
class DownloadUses(Facts):
    list_display = ["began_at", "download", "came_from", "first", "end", "counted", "ended_at"]
    list_filter = [("ended_at", admin.EmptyFieldListFilter), "began_at"]
    list_select_related = ["download__user", "link"]
    search_fields = [*ITS_DOWNLOAD, "came_from"]
    ordering = ["-pk"]
