"""Webhooks in the admin: to be read only, and never a secret."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from console.support.nouns import Facts, among
from console.webhooks import posting
from console.webhooks.models import Attempt, Delivery, Endpoint, FormerSecret, Kind, Turn


@admin.register(Endpoint)
class Endpoints(Facts):
    list_display = ["code", "name", "user", "kinds", "is_limited", "created_at", "last_delivered_at", "disabled_at"]
    list_filter = [
        "is_limited",
        ("disabled_at", admin.EmptyFieldListFilter),
        ("removed_at", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["user"]
    search_fields = ["code", "name", "user__username"]
    ordering = ["-pk"]

    @admin.display(description="host")
    def host(self, row: Endpoint) -> str:
        """Of a URL no more than that: its path may be a secret of the receiver's (I18)."""
        return posting.host_of(row.url)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name if name != "url" else "host" for name in super().get_fields(request, obj)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return self.get_fields(request, obj)


@admin.register(FormerSecret)
class FormerSecrets(Facts):
    list_display = ["endpoint", "until"]
    list_filter = ["until"]
    list_select_related = ["endpoint"]
    search_fields = ["endpoint__code", "endpoint__name"]
    ordering = ["-pk"]


@admin.register(Delivery)
class Deliveries(Facts):
    list_display = ["message_id", "kind", "endpoint", "instance", "occurred_at", "state", "attempts", "last_status"]
    list_filter = ["created_at", among("state", *Delivery.State.values), among("kind", *Kind.values)]
    list_select_related = ["endpoint", "instance"]
    search_fields = ["message_id", "source", "endpoint__code", "endpoint__name", "instance__code", "instance__name"]
    ordering = ["-pk"]


@admin.register(Attempt)
class Attempts(Facts):
    list_display = ["began_at", "delivery", "status", "milliseconds", "error"]
    list_filter = ["began_at"]
    list_select_related = ["delivery"]
    search_fields = ["delivery__message_id", "delivery__endpoint__code"]
    ordering = ["-pk"]


@admin.register(Turn)
class Turns(Facts):
    list_display = ["id", "fence", "leased_by", "leased_until"]
    list_filter = [("leased_until", admin.EmptyFieldListFilter)]
    search_fields = ["leased_by"]
    ordering = ["pk"]
