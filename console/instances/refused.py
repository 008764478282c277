"""The files of an instance that are not taken for backups, each with the reason and what to do (R-3.5)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import django_tables2 as tables
from django import forms
from django.db.models import F, QuerySet
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from backups import access
from backups.models import BackupFile, Instance
from console.instances.keys import Place, as_bytes
from console.widgets import words
from console.widgets.listing import Filter, ListView
from console.widgets.tables import LONG, NUMBER, ConsoleTable

SHOWN = 10  # on the tab "Default Backup"; the others are a page away


class RefusedTable(ConsoleTable):
    caption = _("Refused files")

    key = tables.Column(verbose_name=_("File"), attrs=LONG)
    first_seen_at = tables.Column(verbose_name=_("Seen at"))
    size = tables.Column(verbose_name=_("Size"), attrs=NUMBER)
    refusal = tables.Column(verbose_name=_("Why, and what to do"), attrs=LONG, empty_values=())

    class Meta(ConsoleTable.Meta):
        empty_text = _("No file was refused: every one that was found here is taken for a backup.")

    def render_key(self, record: BackupFile) -> SafeString:
        return format_html('<bdi class="keyed">{}</bdi>', record)

    def render_first_seen_at(self, value: datetime) -> str:
        return words.moment(value)

    def render_size(self, value: int) -> str:
        return words.size(value)

    def render_refusal(self, record: BackupFile) -> SafeString:
        return format_html("{}<small><code>{}</code></small>", record.refusal, record.refusal_code)


def refused_files(instance: Instance) -> QuerySet[BackupFile]:
    return instance.files.filter(state=BackupFile.State.REFUSED)


def newest(instance: Instance) -> dict[str, Any]:
    """Return the table of the files refused last, and whether there are others."""
    found = list(refused_files(instance).order_by("-first_seen_at", "-pk")[: SHOWN + 1])
    return {"table": RefusedTable(found[:SHOWN]), "is_cut": len(found) > SHOWN}


class RefusedFilter(Filter):
    q = forms.CharField(required=False, max_length=200, label=_("Search by file"))

    def narrow(self, rows: QuerySet[BackupFile]) -> QuerySet[BackupFile]:
        if asked := self.wanted("q").strip():
            rows = rows.alias(place=Place(as_bytes(asked), F("key"))).filter(place__gt=0)
        return rows


class RefusedOfInstance(ListView):
    """All of them, page by page."""

    page_template = "instances/refused.html"
    table_class = RefusedTable
    filter_class = RefusedFilter
    orders = {"first_seen_at": ("first_seen_at", "pk")}
    usual_sort = "-first_seen_at"

    @cached_property
    def instance(self) -> Instance:
        return access.instance_for(self.request.user, self.kwargs["code"])

    def rows(self) -> QuerySet[BackupFile]:
        return refused_files(self.instance)

    def context(self) -> dict[str, Any]:
        return {"instance": self.instance}
