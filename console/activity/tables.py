from __future__ import annotations

from datetime import datetime

import django_tables2 as tables
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.models import Alert, Event
from console.widgets import words
from console.widgets.alert_pages import way_of
from console.widgets.icons import icon
from console.widgets.tables import LONG, ConsoleTable
from console.widgets.told import told


def _with_proof(record: Event | Alert) -> SafeString:
    where = reverse("instances:page", args=[record.instance.code])
    link = format_html('<a class="who" href="{}">{}</a>', where, record.instance.name)
    return format_html('{}<small class="proven">{}</small>', link, record.proven) if record.proven else link


def _where(alert: Alert) -> SafeString | str:
    """Return the way to where something can be done about it; that to its instance stands in a column of its own."""
    way = None if alert.instance_id else way_of(alert)
    return format_html(' <a href="{}">{}</a>', *way) if way else ""


class EventTable(ConsoleTable):
    caption = _("Activity")

    at = tables.Column(verbose_name=_("Time"))
    sentence = tables.Column(verbose_name=_("What happened"), attrs=LONG)
    instance = tables.Column(verbose_name=_("Instance"), empty_values=())
    actor_name = tables.Column(verbose_name=_("Who"))

    class Meta(ConsoleTable.Meta):
        empty_text = _("Nothing has happened yet. Attach a store and add an instance to begin.")

    def render_at(self, value: datetime) -> str:
        return words.moment(value, seconds=True)

    def render_sentence(self, value: str, record: Event) -> SafeString:
        return format_html("{}<small><code>{}</code></small>", told(value), record.kind)

    def render_instance(self, record: Event) -> SafeString | str:
        if record.instance is None:
            return "—"
        return _with_proof(record)

    def render_actor_name(self, value: str, record: Event) -> SafeString:
        return format_html("<bdi>{}</bdi><small>{}</small>", value, record.address)


class AlertTable(ConsoleTable):
    caption = _("Open alerts")

    sentence = tables.Column(verbose_name=_("What is wrong"), attrs=LONG)
    instance = tables.Column(verbose_name=_("Instance"), empty_values=())
    opened_at = tables.Column(verbose_name=_("Open since"))

    class Meta(ConsoleTable.Meta):
        empty_text = _("No open alerts. Everything is as it should be.")

    def render_sentence(self, value: str, record: Alert) -> SafeString:
        state = format_html('<span class="st warn">{}{}</span>', icon("triangle-alert"), gettext("Open"))
        remedy = told(record.remedy)
        return format_html("{} {}<small>{}{}</small>", state, told(value), remedy, _where(record))

    def render_instance(self, record: Alert) -> SafeString | str:
        if record.instance is None:
            return "—"
        return _with_proof(record)

    def render_opened_at(self, value: datetime) -> str:
        return words.moment(value)
