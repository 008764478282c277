"""What every page of the admin has in common: what it shows, what it never shows, and that changes leave events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from backups import events
from backups.models.fields import StoreKeyField
from console.widgets.acting import acting


def shown_fields(model: type[models.Model]) -> list[str]:
    """Name every column that may be shown: not those of bytes, where the sealed credentials lie (I18).

    A store's key is bytes too, and is shown by `shown_key` in a form that any page can hold.
    """
    columns = model._meta.concrete_fields
    names = [field.name for field in columns if not isinstance(field, models.BinaryField)]
    return names + (["shown_key"] if any(isinstance(field, StoreKeyField) for field in columns) else [])


def kept_by_farshore(model: type[models.Model]) -> list[str]:
    """Name the shown columns that no form may ask for."""
    return [name for name in shown_fields(model) if name != "shown_key" and not model._meta.get_field(name).editable]


@admin.display(description="key")
def shown_key(row: Any) -> SafeString:
    """Return an owner's key as data: undecodable bytes replaced, its direction isolated."""
    return format_html("<bdi>{}</bdi>", row.key.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def among(column: str, *values: str) -> type[admin.SimpleListFilter]:
    """Return a filter over values known beforehand: asking a table of millions for its distinct ones takes seconds."""

    class Among(admin.SimpleListFilter):
        title = column.replace("_", " ")
        parameter_name = column

        def lookups(self, request: HttpRequest, noun: Any) -> list[tuple[str, str]]:
            return [(value, value.replace("_", " ").capitalize()) for value in values]

        def queryset(self, request: HttpRequest, rows: QuerySet) -> QuerySet:
            return rows.filter(**{column: self.value()}) if self.value() in values else rows

    return Among


class Noun(admin.ModelAdmin):
    """A noun in the admin. Nothing is deleted here unless the noun says so: nearly everything carries history."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    shown_key = staticmethod(shown_key)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def log_addition(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        self.audit(request, obj, "added")
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        self.audit(request, obj, "changed", _changed_names(message))
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            self.audit(request, obj, "deleted")
        return super().log_deletions(request, queryset)

    def audit(self, request: HttpRequest, obj: models.Model, what: str, names: Sequence[str] = ()) -> None:
        """Record what support did; the names of the fields, never their values. Nouns changed by verbs override it."""
        by, noun = acting(request), str(self.opts.verbose_name)
        fields = f": {', '.join(names)}" if names else ""
        sentence = f"{noun.capitalize()} {obj} was {what} in the admin{fields}."
        events.record(f"support.{self.opts.model_name}.{what}", sentence, by=by, id=str(obj.pk))


def _changed_names(message: Any) -> list[str]:
    parts = message if isinstance(message, list) else []
    return [str(name) for part in parts for name in part.get("changed", {}).get("fields", [])]


class Facts(Noun):
    """What happened, or what a worker keeps: to be read only."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return shown_fields(self.model)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return shown_fields(self.model)


class FactsInline(admin.TabularInline):
    """Rows that belong to the one shown, to be read only."""

    extra = 0
    can_delete = False
    show_change_link = True
    shown_key = staticmethod(shown_key)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
