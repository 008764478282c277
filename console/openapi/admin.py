"""Access keys and calls in the admin: to be read only, and never the secret."""

from __future__ import annotations

from django.contrib import admin

from console.openapi.models import AccessKey, CallCount, ClientToken, UsedNonce
from console.support.nouns import Facts

ITS_KEY = ["key__key_id", "key__label", "key__user__username"]


@admin.register(AccessKey)
class AccessKeys(Facts):
    list_display = ["key_id", "label", "user", "reach", "is_limited", "created_at", "last_used_at", "disabled_at"]
    list_filter = ["reach", "is_limited", ("disabled_at", admin.EmptyFieldListFilter), "created_at"]
    list_select_related = ["user"]
    search_fields = ["key_id", "label", "user__username"]
    ordering = ["-pk"]


@admin.register(CallCount)
class CallCounts(Facts):
    list_display = ["began_at", "key", "what", "calls"]
    list_filter = ["began_at"]
    list_select_related = ["key"]
    search_fields = [*ITS_KEY, "what"]
    ordering = ["-pk"]


@admin.register(UsedNonce)
class UsedNonces(Facts):
    list_display = ["used_at", "key", "nonce"]
    list_filter = ["used_at"]
    list_select_related = ["key"]
    search_fields = ITS_KEY
    ordering = ["-pk"]


@admin.register(ClientToken)
class ClientTokens(Facts):
    list_display = ["made_at", "key", "token"]
    list_filter = ["made_at"]
    list_select_related = ["key"]
    search_fields = ITS_KEY
    ordering = ["-pk"]
