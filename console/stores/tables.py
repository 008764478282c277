from __future__ import annotations

import django_tables2 as tables
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.engines import ENGINES
from console.widgets import cells, labels, words
from console.widgets.badges import badge
from console.widgets.states import STORE, UNKNOWN
from console.widgets.tables import LONG, NUMBER, ActionsColumn, ConsoleTable
from regions.models import Store


class StoreTable(ConsoleTable):
    caption = _("Stores")

    region = tables.Column(verbose_name=_("Region"))
    url = tables.Column(verbose_name=_("Address"), attrs=LONG)
    state = tables.Column(verbose_name=_("Status"), attrs=LONG)
    instances = tables.Column(verbose_name=_("Source of"), attrs=NUMBER, empty_values=())
    stored_bytes = tables.Column(verbose_name=_("Copies stored"), attrs=NUMBER, empty_values=())
    startable = tables.Column(verbose_name=_("Can start"), accessor="capabilities", empty_values=())
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _("No store is attached yet. Attach one to each region you back up from or to.")

    def render_region(self, record: Store) -> SafeString:
        return format_html(
            '<a class="who" href="{}">{}</a><bdi class="id"><code>{}</code></bdi>',
            reverse("stores:page", args=[record.pk]),
            labels.place_of(record),
            record.region_id,
        )

    def render_url(self, record: Store) -> SafeString:
        endpoint = record.options.get("endpoint", "")
        return format_html('<bdi class="keyed">{}</bdi><small>{}</small>', record.url, endpoint)

    def render_state(self, record: Store) -> SafeString:
        probed = gettext("probed %(when)s") % {"when": words.ago(record.probed_at, self.seen_at)}
        return badge(STORE.get(record.state, UNKNOWN), record.last_error or probed)

    def render_instances(self, record: Store) -> str:
        return str(record.instance_count) if record.role == Store.Role.PRIMARY else "—"

    def render_stored_bytes(self, record: Store) -> str:
        return words.size(record.stored_bytes or 0)

    def render_startable(self, record: Store) -> SafeString | str:
        """What the region's workers can restore into, as they said when they last looked at the store."""
        known = record.capabilities.get("startable", {})
        said = [(_server(engine), ", ".join(versions)) for engine, versions in sorted(known.items()) if versions]
        return format_html_join("", "{} {}<br>", said) or "—"

    def render_actions(self, record: Store) -> SafeString | str:
        if not self.may_attach:
            return ""
        named = {"name": labels.place_of(record)}
        probe = format_html(
            '<button class="btn small" type="submit" formaction="{0}" formmethod="post" hx-post="{0}" hx-swap="none"'
            ' aria-label="{1}">{2}</button>',
            reverse("stores:probe", args=[record.pk]),
            gettext("Probe the store of %(name)s") % named,
            gettext("Probe"),
        )
        detach = cells.button(
            gettext("Detach"),
            reverse("stores:detach", args=[record.pk]),
            gettext("Detach the store of %(name)s") % named,
        )
        return cells.buttons(probe, detach)


def _server(engine: str) -> str:
    """An engine this process does not know was named by a worker that is newer."""
    return ENGINES[engine].capabilities.label if engine in ENGINES else engine
