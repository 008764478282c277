"""Copies, the attempts that brought them, what keeps them and what is charged for them."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from backups.copying import mending, replication
from backups.keeping.retention import HELD, KEPT_PAST, LOCKED, NEEDED
from backups.models import CopiedFile, Copy, Coverage, Hold, Pin, StorageSpan, Transfer, TransferPart
from console.support.asking import Operated, ask_for_each
from console.support.nouns import Facts, FactsInline, among
from console.widgets.acting import acting

ITS_INSTANCE = ["set__instance__code", "set__instance__name"]
ITS_COPYS_INSTANCE = [f"copy__{name}" for name in ITS_INSTANCE]


class StorageSpanRows(FactsInline):
    model = StorageSpan
    fields = readonly_fields = ["bytes", "began_at", "ended_at"]


class CopiedFileRows(FactsInline):
    model = CopiedFile
    fields = readonly_fields = ["file", "transfer"]


@admin.register(Copy)
class Copies(Operated, Facts):
    list_display = ["pk", "set", "instance", "destination", "state", "attempts", "error", "expires_at", "kept_for"]
    list_filter = [
        "state",
        "origin",
        "cancel_reason",
        among("kept_for", NEEDED, HELD, LOCKED, *KEPT_PAST),
        "destination_store__region",
    ]
    list_select_related = ["set__instance", "destination_store"]
    search_fields = [*ITS_INSTANCE, "set__database", "set__set_guid", "error"]
    ordering = ["-pk"]
    inlines = [CopiedFileRows, StorageSpanRows]
    actions = ["retry", "again"]

    @admin.display(ordering="set__instance__name")
    def instance(self, copy: Copy) -> str:
        return str(copy.set.instance)

    @admin.display(ordering="destination_store__region")
    def destination(self, copy: Copy) -> str:
        return copy.destination_store.region_id

    @admin.action(description="Retry the selected copies now", permissions=["operate"])
    def retry(self, request: HttpRequest, copies: QuerySet[Copy]) -> None:
        by = acting(request)
        ask_for_each(request, copies, lambda copy: replication.retry(copy, by=by), "Tried again")

    @admin.action(description="Copy the selected damaged copies again now", permissions=["operate"])
    def again(self, request: HttpRequest, copies: QuerySet[Copy]) -> None:
        by = acting(request)
        ask_for_each(request, copies, lambda copy: mending.again(copy, by=by), "Copied again")


class TransferPartRows(FactsInline):
    model = TransferPart
    fields = readonly_fields = ["number", "offset", "size", "sha256", "sent_at", "verified_at"]


@admin.register(Transfer)
class Transfers(Facts):
    list_display = ["pk", "file", "store", "state", "size", "bytes_sent", "bytes_resent", "bytes_verified", "error"]
    list_filter = ["state", "store__region", "started_at"]
    list_select_related = ["file", "store"]
    search_fields = ["digest", "etag", "upload_id", "error", "file__instance__code", "file__instance__name"]
    ordering = ["-pk"]
    inlines = [TransferPartRows]


@admin.register(TransferPart)
class TransferParts(Facts):
    list_display = ["transfer", "number", "offset", "size", "sha256", "verified_at"]
    list_filter = [("verified_at", admin.EmptyFieldListFilter), "sent_at"]
    list_select_related = ["transfer"]
    search_fields = ["sha256", "etag", "transfer__digest"]
    ordering = ["-pk"]


@admin.register(CopiedFile)
class CopiedFiles(Facts):
    list_display = ["copy", "file", "transfer"]
    list_filter = ["copy__state"]
    list_select_related = ["copy__set__instance", "file", "transfer"]
    search_fields = ITS_COPYS_INSTANCE
    ordering = ["-pk"]


@admin.register(StorageSpan)
class StorageSpans(Facts):
    list_display = ["copy", "bytes", "began_at", "ended_at"]
    list_filter = [("ended_at", admin.EmptyFieldListFilter), "began_at"]
    list_select_related = ["copy__set__instance"]
    search_fields = ITS_COPYS_INSTANCE
    ordering = ["-pk"]


@admin.register(Pin)
class Pins(Facts):
    list_display = ["copy", "reason", "pinned_at", "until"]
    list_filter = ["reason", "until"]
    list_select_related = ["copy__set__instance"]
    search_fields = [*ITS_COPYS_INSTANCE, "reason"]
    ordering = ["-pk"]


@admin.register(Hold)
class Holds(Facts):
    list_display = ["copy", "case_number", "placed_by", "placed_at", "released_at"]
    list_filter = [("released_at", admin.EmptyFieldListFilter), "placed_at"]
    list_select_related = ["copy__set__instance", "placed_by"]
    search_fields = [*ITS_COPYS_INSTANCE, "case_number", "placed_by__username"]
    ordering = ["-pk"]


@admin.register(Coverage)
class Coverages(Facts):
    list_display = ["policy", "content", "began_at", "ended_at", "route_version"]
    list_filter = ["content", ("ended_at", admin.EmptyFieldListFilter)]
    list_select_related = ["policy__instance"]
    search_fields = ["policy__instance__code", "policy__instance__name"]
    ordering = ["-pk"]
