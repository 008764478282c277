"""People: never deleted, since history names them, and never made mightier than whoever does the making."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest

from backups.models import Membership, ResourceGroup
from console.support.nouns import Noun

admin.site.unregister(EmailAddress)  # whoever changes an address here could have a superuser's password sent to it
admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class People(Noun, UserAdmin):
    """Deactivated instead of deleted. Rights are given by superusers alone."""

    RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        mine = list(super().get_readonly_fields(request, obj))
        return mine if request.user.is_superuser else [*mine, *self.RIGHTS]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        mightier = obj is not None and (obj.is_superuser or obj.is_staff) and not request.user.is_superuser
        return not mightier and super().has_change_permission(request, obj)


@admin.register(Group)
class Groups(Noun, GroupAdmin):
    """Bundles of rights: superusers give them, others may look."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser


@admin.register(ResourceGroup)
class ResourceGroups(Noun):
    list_display = ["name", "created_at"]
    list_filter = ["created_at"]
    search_fields = ["name"]
    readonly_fields = ["created_at"]


@admin.register(Membership)
class Memberships(Noun):
    """A role is given and taken away, each with its event; it is not edited into another."""

    list_display = ["user", "group", "role"]
    list_filter = ["role", "group"]
    list_select_related = ["user", "group"]
    search_fields = ["user__username", "user__email", "group__name"]
    autocomplete_fields = ["user", "group"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)
