from __future__ import annotations

import django_tables2 as tables
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.engines import engine_of
from backups.models import LandingServer
from console.stores.landing_looks import look_of
from console.widgets import cells, words
from console.widgets.labels import translated
from console.widgets.tables import LONG, NUMBER, ActionsColumn, ConsoleTable


class LandingTable(ConsoleTable):
    caption = _("Landing servers")

    name = tables.Column(verbose_name=_("Landing server"))
    region = tables.Column(verbose_name=_("Region"))
    engine = tables.Column(verbose_name=_("Engine"))
    share_called = tables.Column(verbose_name=_("Share"), attrs=LONG)
    state = tables.Column(verbose_name=_("Status"), accessor="pk", attrs=LONG)
    bytes_free = tables.Column(verbose_name=_("Free"), attrs=NUMBER, empty_values=())
    standing = tables.Column(verbose_name=_("Databases restored"), attrs=NUMBER, empty_values=())
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _(
            "No landing server is registered. SQL Server is restored on one: register a server in each region that"
            " copies of it go to."
        )

    def render_name(self, record: LandingServer) -> SafeString:
        tag = format_html(' <span class="tag">{}</span>', gettext("simulation")) if record.is_simulation else ""
        return format_html(
            '<a class="who" href="{}"><bdi>{}</bdi></a>{}<bdi class="id"><code>{}</code></bdi>',
            reverse("stores:landing_page", args=[record.code]),
            record.name,
            tag,
            record.code,
        )

    def render_region(self, record: LandingServer) -> SafeString:
        return format_html("{}<small>{}</small>", translated(record.region.name), record.region_id)

    def render_engine(self, record: LandingServer) -> SafeString:
        return format_html("{}<small>{}</small>", engine_of(record.engine).capabilities.label, record.version)

    def render_share_called(self, record: LandingServer) -> SafeString:
        called, folder = record.share_called, record.share_folder
        return format_html('<bdi class="keyed">{}</bdi><small><bdi>{}</bdi></small>', called, folder)

    def render_state(self, record: LandingServer) -> SafeString:
        return look_of(record, self.seen_at)

    def render_bytes_free(self, record: LandingServer) -> str:
        return "—" if record.bytes_free is None else words.size(record.bytes_free)

    def render_standing(self, record: LandingServer) -> str:
        return str(record.standing)

    def render_actions(self, record: LandingServer) -> SafeString | str:
        if not self.may_register:
            return ""
        named = {"name": record.name}
        retry = format_html(
            '<button class="btn small" type="submit" formaction="{0}" formmethod="post" hx-post="{0}" hx-swap="none"'
            ' aria-label="{1}">{2}</button>',
            reverse("stores:landing_retry", args=[record.code]),
            gettext("Look at %(name)s again") % named,
            gettext("Look again"),
        )
        address = reverse("stores:landing_retire", args=[record.code])
        return cells.buttons(retry, cells.button(gettext("Retire"), address, gettext("Retire %(name)s") % named))
