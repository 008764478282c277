from __future__ import annotations

from datetime import datetime

import django_tables2 as tables
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from console.webhooks import posting
from console.webhooks.forms import KINDS
from console.webhooks.models import CHOSEN, Delivery, Endpoint
from console.widgets import cells, words
from console.widgets.badges import BAD, INFO, OFF, OK, WARN, Look, badge
from console.widgets.tables import LONG, STACKED, ActionsColumn, ConsoleTable
from regions import clock

ENABLED, FAILING = Look(OK, "check", _("Enabled")), Look(WARN, "triangle-alert", _("Failing"))
DISABLED = Look(OFF, "circle-off", _("Disabled"))
DELIVERIES = {
    Delivery.State.WAITING: Look(INFO, "clock", _("Waiting")),
    Delivery.State.DELIVERED: Look(OK, "check", _("Delivered")),
    Delivery.State.FAILED: Look(BAD, "circle-x", _("Failed")),
    Delivery.State.DROPPED: Look(OFF, "ban", _("Dropped")),
}


def look_of(endpoint: Endpoint) -> SafeString:
    if not endpoint.is_enabled:
        return badge(DISABLED, endpoint.disabled_why)
    if endpoint.failing_since:
        since = gettext("nothing was taken since %(at)s") % {"at": words.stamp(endpoint.failing_since)}
        return badge(FAILING, since)
    return badge(ENABLED)


def groups_of(endpoint: Endpoint) -> str:
    if not endpoint.is_limited:
        return gettext("of all resource groups of its owner")
    return words.listed(group.name for group in endpoint.groups.all()) or gettext("of no resource group")


class EndpointTable(ConsoleTable):
    caption = _("Webhooks")

    name = tables.Column(verbose_name=_("Webhook"), attrs=LONG)
    kinds = tables.Column(verbose_name=_("Tells when"), attrs=LONG)
    last = tables.Column(verbose_name=_("Last delivered"), accessor="last_delivered_at", empty_values=())
    state = tables.Column(verbose_name=_("State"), accessor="pk")
    actions = ActionsColumn(attrs=STACKED)

    class Meta(ConsoleTable.Meta):
        empty_text = _(
            "No webhook yet. Add one, and Farshore tells your pager or chat by itself when a copy fails or is late."
        )

    def render_name(self, value: str, record: Endpoint) -> SafeString:
        owner = record.user.get_username() if record.user_id != self.listing.request.user.pk else ""
        under = format_html("<small><bdi>{}</bdi></small>", owner) if owner else ""
        return format_html(
            '<a class="who" href="{}"><bdi>{}</bdi></a><small><bdi class="keyed">{}</bdi></small>{}',
            reverse("webhooks:page", args=[record.code]),
            value,
            posting.host_of(record.url),
            under,
        )

    def render_kinds(self, value: list[str], record: Endpoint) -> SafeString:
        if set(value) == set(CHOSEN):
            said = gettext("anything happens that can be told")
        else:
            said = "; ".join(str(KINDS[kind]) for kind in CHOSEN if kind in value)
        return format_html("{}<small>{}</small>", said, groups_of(record))

    def render_last(self, value: datetime | None) -> SafeString | str:
        return words.moment(value) if value else gettext("never")

    def render_state(self, record: Endpoint) -> SafeString:
        return look_of(record)

    def render_actions(self, record: Endpoint) -> SafeString:
        is_mine = record.user_id == self.listing.request.user.pk
        return cells.buttons(
            _button(record, gettext("Settings"), gettext("Settings of %(name)s"), "change") if is_mine else "",
            _button(record, gettext("Disable"), gettext("Disable %(name)s"), "disable")
            if record.is_enabled
            else _button(record, gettext("Enable"), gettext("Enable %(name)s"), "enable"),
        )


def _button(endpoint: Endpoint, text: str, label: str, what: str) -> SafeString:
    address = reverse(f"webhooks:{what}", args=[endpoint.code])
    return cells.button(text, address, label % {"name": endpoint.name}, name=f"{what}-{endpoint.pk}")


class DeliveryTable(ConsoleTable):
    caption = _("Deliveries")

    at = tables.Column(verbose_name=_("Time"), accessor="occurred_at")
    kind = tables.Column(verbose_name=_("What happened"), attrs=LONG)
    instance = tables.Column(verbose_name=_("Instance"), empty_values=())
    state = tables.Column(verbose_name=_("State"))
    attempts = tables.Column(verbose_name=_("Attempts"), accessor="fence")
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _("Nothing has been told yet. Send a test to see whether it arrives.")

    def render_at(self, value: datetime) -> str:
        return words.moment(value, seconds=True)

    def render_kind(self, value: str, record: Delivery) -> SafeString:
        return format_html("{}<small><code>{}</code></small>", KINDS[value], value)

    def render_instance(self, record: Delivery) -> SafeString | str:
        if record.instance is None:
            return "—"
        where = reverse("instances:page", args=[record.instance.code])
        return format_html('<a class="who" href="{}"><bdi>{}</bdi></a>', where, record.instance.name)

    def render_state(self, value: str, record: Delivery) -> SafeString:
        return badge(DELIVERIES[value], said_of(record))

    def render_attempts(self, value: int, record: Delivery) -> SafeString | str:
        if not value:
            return "—"
        tried = ngettext("%(n)s attempt", "%(n)s attempts", value) % {"n": value}
        return format_html("{}<small>{}</small>", tried, record.last_status or "")

    def render_actions(self, record: Delivery) -> SafeString:
        address = reverse("webhooks:delivery", args=[self.listing.endpoint.code, record.message_id])
        label = gettext("Look at the delivery %(id)s") % {"id": record.message_id}
        return cells.buttons(cells.button(gettext("Look"), address, label, name=f"look-{record.pk}"))


def said_of(delivery: Delivery) -> str:
    """Return what is behind a delivery's state, in a line."""
    if delivery.state != Delivery.State.WAITING:
        return " ".join(part for part in (delivery.why, delivery.last_error) if part)
    if delivery.leased_until and delivery.leased_until > clock.now():
        return gettext("being sent")
    if not delivery.last_error:
        return ""
    return gettext("%(error)s Next attempt %(at)s.") % {
        "error": delivery.last_error,
        "at": words.stamp(delivery.due_at),
    }
