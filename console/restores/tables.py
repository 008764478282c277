from __future__ import annotations

from datetime import datetime

import django_tables2 as tables
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.models import Restore
from console.restores.looks import moment_of, state_of, wish_of
from console.restores.stages import seconds_taken
from console.widgets import cells, words
from console.widgets.labels import translated
from console.widgets.tables import LONG, NUMBER, ConsoleTable

SHORT_ORIGINS = {Restore.Origin.COPY: _("from copies"), Restore.Origin.DEFAULT: _("from default backups")}

ONTO_ORIGINAL = _("onto the original")


class RestoreTable(ConsoleTable):
    caption = _("Restores")
    seen_at: datetime

    name = tables.Column(verbose_name=_("New instance"))
    instance = tables.Column(verbose_name=_("Restored from"))
    moment = tables.Column(verbose_name=_("Moment"), accessor="pk", attrs=LONG)
    region = tables.Column(verbose_name=_("Where"))
    state = tables.Column(verbose_name=_("State"), attrs=LONG)
    asked_at = tables.Column(verbose_name=_("Asked"))
    took = tables.Column(verbose_name=_("Took"), accessor="pk", attrs=NUMBER)

    class Meta(ConsoleTable.Meta):
        empty_text = _(
            "Nothing has been restored yet. Press New restore to bring an instance back as it was at a moment; "
            "it becomes a new instance, and the old one is left alone."
        )

    def render_name(self, record: Restore) -> SafeString:
        return format_html(
            '<a class="who" href="{}"><bdi>{}</bdi></a><bdi class="id"><code>{}</code></bdi>',
            reverse("restores:page", args=[record.code]),
            record.goes_by,
            record.code,
        )

    def render_instance(self, record: Restore) -> SafeString:
        return cells.instance(record.instance)

    def render_moment(self, record: Restore) -> SafeString | str:
        wish, moment = wish_of(record, record.has_logs), moment_of(record, record.has_logs)
        return format_html("{}<small>{}</small>", words.moment(moment, seconds=True), wish) if moment else wish

    def render_region(self, record: Restore) -> SafeString:
        where = ONTO_ORIGINAL if record.onto_id else SHORT_ORIGINS[record.origin]
        if record.landed_as:
            where = gettext("on %(name)s") % {"name": record.landed_on}
        return format_html("{}<small>{}</small>", translated(record.region.name), where)

    def render_state(self, record: Restore) -> SafeString:
        return format_html('<div id="restore-{}">{}</div>', record.pk, state_of(record, self.seen_at))

    def render_asked_at(self, record: Restore) -> SafeString:
        who = record.asked_by.get_username() if record.asked_by else gettext("Farshore")
        return format_html("{}<small><bdi>{}</bdi></small>", words.moment(record.asked_at), who)

    def render_took(self, record: Restore) -> str:
        return words.measured(seconds_taken(record))
