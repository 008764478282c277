"""Append-only history: who did what, who agreed to what. To be searched and read, by nobody to be changed (I16)."""

from __future__ import annotations

from django.contrib import admin

from backups.models import Acceptance, AcceptedInstance, AgreementText, Alert, Event, Seal, ServiceLinkedRole
from console.support.nouns import Facts, FactsInline


@admin.register(Event)
class Events(Facts):
    list_display = ["at", "kind", "sentence", "actor_name", "instance", "address"]
    list_filter = ["at", "group"]
    list_select_related = ["instance"]
    search_fields = ["sentence", "kind", "actor_name", "instance__code", "instance__name"]
    ordering = ["-pk"]


@admin.register(Seal)
class Seals(Facts):
    list_display = ["sequence", "event", "hash"]
    list_select_related = ["event"]
    search_fields = ["hash", "previous", "event__sentence"]
    ordering = ["-sequence"]


@admin.register(AgreementText)
class AgreementTexts(Facts):
    list_display = ["version", "language", "published_at", "sha256"]
    list_filter = ["language"]
    search_fields = ["text", "sha256"]


class AcceptedInstanceRows(FactsInline):
    model = AcceptedInstance
    fields = readonly_fields = ["instance", "route_version"]


@admin.register(Acceptance)
class Acceptances(Facts):
    list_display = ["at", "user", "text_version", "source_group", "destination_group", "resource_group"]
    list_filter = ["text_version", "crosses_border", "at"]
    list_select_related = ["user", "resource_group"]
    search_fields = ["user__username", "address", "text_sha256", "accepted__instance__code", "accepted__instance__name"]
    ordering = ["-pk"]
    inlines = [AcceptedInstanceRows]


@admin.register(AcceptedInstance)
class AcceptedInstances(Facts):
    list_display = ["acceptance", "instance", "route_version"]
    list_filter = ["acceptance__text_version"]
    list_select_related = ["acceptance", "instance"]
    search_fields = ["instance__code", "instance__name", "acceptance__user__username"]
    ordering = ["-pk"]


@admin.register(Alert)
class Alerts(Facts):
    list_display = ["opened_at", "code", "sentence", "instance", "user", "closed_at"]
    list_filter = ["code", ("closed_at", admin.EmptyFieldListFilter), "group"]
    list_select_related = ["instance", "user"]
    search_fields = ["sentence", "subject", "code", "instance__code", "instance__name"]
    ordering = ["-pk"]


@admin.register(ServiceLinkedRole)
class ServiceLinkedRoles(Facts):
    list_display = ["name", "created_at", "created_by"]
    list_select_related = ["created_by"]
    search_fields = ["name"]
