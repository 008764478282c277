from __future__ import annotations

from datetime import datetime

import django_tables2 as tables
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from console.openapi.models import AccessKey, Reach
from console.widgets import cells, words
from console.widgets.badges import OFF, OK, Look, badge
from console.widgets.tables import LONG, STACKED, ActionsColumn, ConsoleTable

ACTIVE, DISABLED = Look(OK, "check", _("Active")), Look(OFF, "circle-off", _("Disabled"))


class KeyTable(ConsoleTable):
    caption = _("Access keys")

    key = tables.Column(verbose_name=_("Access key"), accessor="key_id", attrs=LONG)
    may = tables.Column(verbose_name=_("May"), accessor="reach", attrs=LONG)
    networks = tables.Column(verbose_name=pgettext_lazy("networks", "From"), empty_values=())
    used = tables.Column(verbose_name=_("Last used"), accessor="last_used_at", empty_values=())
    created = tables.Column(verbose_name=_("Created"), accessor="created_at")
    state = tables.Column(verbose_name=_("State"), accessor="pk")
    actions = ActionsColumn(attrs=STACKED)

    class Meta(ConsoleTable.Meta):
        empty_text = _("No access key yet. Create one for each program, so that each can be disabled by itself.")

    def render_key(self, value: str, record: AccessKey) -> SafeString:
        owner = record.user.get_username() if record.user_id != self.listing.request.user.pk else ""
        named = format_html("<b><bdi>{}</bdi></b>", record.label) if record.label else ""
        under = format_html("<small><bdi>{}</bdi></small>", owner) if owner else ""
        return format_html('{}<small><code class="keyed">{}</code></small>{}', named, value, under)

    def render_may(self, value: str, record: AccessKey) -> SafeString:
        word = gettext("Looks and operates") if value == Reach.OPERATES else gettext("Looks only")
        return format_html("{}<small>{}</small>", word, _groups(record))

    def render_networks(self, record: AccessKey) -> SafeString | str:
        if not record.networks:
            return gettext("anywhere")
        return format_html_join(" ", "<code>{}</code>", ((network,) for network in record.networks))

    def render_used(self, value: datetime | None, record: AccessKey) -> SafeString | str:
        if value is None:
            return gettext("never")
        return format_html("{}<small>{}</small>", words.moment(value), record.last_used_from)

    def render_created(self, value: datetime, record: AccessKey) -> SafeString:
        if record.rotated_at is None:
            return format_html("{}", words.moment(value))
        rotated = gettext("new secret %(at)s") % {"at": words.stamp(record.rotated_at)}
        return format_html("{}<small>{}</small>", words.moment(value), rotated)

    def render_state(self, record: AccessKey) -> SafeString:
        return badge(ACTIVE if record.is_active else DISABLED)

    def render_actions(self, record: AccessKey) -> SafeString:
        is_mine = record.user_id == self.listing.request.user.pk
        return cells.buttons(
            _button(record, gettext("Settings"), gettext("Settings of %(name)s"), "change") if is_mine else "",
            _button(record, gettext("New secret"), gettext("New secret for %(name)s"), "rotate") if is_mine else "",
            _button(record, gettext("Disable"), gettext("Disable %(name)s"), "disable")
            if record.is_active
            else _button(record, gettext("Enable"), gettext("Enable %(name)s"), "enable"),
        )


def _groups(key: AccessKey) -> str:
    if not key.is_limited:
        return gettext("in all resource groups of its owner")
    return words.listed(group.name for group in key.groups.all()) or gettext("in no resource group")


def _button(key: AccessKey, text: str, label: str, what: str) -> SafeString:
    name = key.label or key.key_id
    address = reverse(f"openapi:{what}", args=[key.pk])
    return cells.button(text, address, label % {"name": name}, name=f"{what}-{key.pk}")
