from __future__ import annotations

from datetime import datetime

import django_tables2 as tables
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.models import Acceptance
from console.agreement.forms import region_groups
from console.widgets import words
from console.widgets.labels import translated
from console.widgets.tables import LONG, ConsoleTable

NAMES_SHOWN = 3


class AcceptanceTable(ConsoleTable):
    caption = _("Acceptances")

    at = tables.Column(verbose_name=_("Accepted"))
    user = tables.Column(verbose_name=_("Who"))
    text_version = tables.Column(verbose_name=_("Text"))
    route = tables.Column(verbose_name=_("Route"), accessor="source_group")
    scope = tables.Column(verbose_name=_("For"), accessor="pk", attrs=LONG)

    class Meta(ConsoleTable.Meta):
        empty_text = _("Nobody has accepted the agreement yet. It is asked for when cross-region backup is enabled.")

    @cached_property
    def group_names(self) -> dict[str, str]:
        return dict(region_groups())

    def render_at(self, value: datetime) -> str:
        return words.moment(value, seconds=True)

    def render_user(self, value: object, record: Acceptance) -> SafeString:
        return format_html("<bdi>{}</bdi><small>{}</small>", value, record.address)

    def render_text_version(self, value: int, record: Acceptance) -> SafeString:
        version = gettext("version %(n)s") % {"n": value}
        return format_html("{}<small><code>{}</code></small>", version, record.text_sha256[:12])

    def render_route(self, record: Acceptance) -> SafeString:
        source = translated(record.source_region) or self.group_names.get(record.source_group, record.source_group)
        destination = translated(record.destination_region) or self.group_names.get(
            record.destination_group, record.destination_group
        )
        border = gettext("crosses a border") if record.crosses_border else gettext("crosses no border")
        return format_html("{} → {}<small>{}</small>", source, destination, border)

    def render_scope(self, record: Acceptance) -> SafeString | str:
        if record.is_standing:
            return format_html("{}<small>{}</small>", record.resource_group, gettext("standing: all its instances"))
        names = [accepted.instance.name for accepted in record.accepted.all()]
        more = len(names) - NAMES_SHOWN
        return words.listed(names[:NAMES_SHOWN]) + (gettext(" and %(n)s more") % {"n": more} if more > 0 else "")
