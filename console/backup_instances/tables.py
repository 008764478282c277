from __future__ import annotations

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.models import CopyPolicy, Instance
from console.widgets import cells, labels, lag_words, proven, words
from console.widgets.protected import protection_badge
from console.widgets.tables import LONG, NUMBER, ActionsColumn, ConsoleTable, PickColumn


class BackupTable(ConsoleTable):
    caption = _("Backup Instances")

    pick = PickColumn()
    name = tables.Column(verbose_name=_("Instance ID / Name"))
    protection = tables.Column(verbose_name=_("Protection"), accessor="pk", attrs=LONG)
    restorable = tables.Column(verbose_name=_("Restorable until"), accessor="pk", attrs={"td": {"class": "until"}})
    status = tables.Column(verbose_name=_("Status"), accessor="pk")
    destination = tables.Column(verbose_name=_("Backup Region"), accessor="pk")
    retention = tables.Column(verbose_name=_("Retention"), accessor="pk", attrs=NUMBER)
    stored = tables.Column(verbose_name=_("Stored"), accessor="pk", attrs=NUMBER)
    settings = ActionsColumn(_("Cross-region Backup Settings"))

    class Meta(ConsoleTable.Meta):
        empty_text = _("No instance here has cross-region backup yet. Enable it on Pending Instances.")

    def can_pick(self, record: Instance) -> bool:
        return record.may_operate

    def render_name(self, record: Instance) -> SafeString:
        return cells.instance(record)

    def render_protection(self, record: Instance) -> SafeString:
        badge = protection_badge(record.protection, record.seen_at)
        state = format_html('<div id="state-{}">{}</div>', record.pk, badge)
        return proven.under(state, record.proof, record.seen_at)

    def render_restorable(self, record: Instance) -> SafeString:
        return format_html('<div id="lag-{}">{}</div>', record.pk, lag_words.cell(record.lag, record.protection.state))

    def render_status(self, record: Instance) -> str:
        policy = record.protection.policy
        if record.released:
            return gettext("Released")
        return gettext("Enabled") if policy and policy.enabled else gettext("Disabled")

    def render_destination(self, record: Instance) -> SafeString | str:
        policy = record.protection.policy
        if policy is None:
            return "—"
        return format_html("{}<small>{}</small>", labels.translated(policy.destination.name), _content(policy))

    def render_retention(self, record: Instance) -> str:
        policy = record.protection.policy
        return gettext("%(n)s days") % {"n": policy.retention_days} if policy else "—"

    def render_stored(self, record: Instance) -> SafeString:
        return format_html('<div id="stored-{}">{}</div>', record.pk, words.size(record.protection.stored_bytes))

    def render_settings(self, record: Instance) -> SafeString | str:
        if not record.may_operate:
            return ""
        return cells.settings(record)


def _content(policy: CopyPolicy) -> str:
    return gettext("Data + log") if policy.logs_enabled else gettext("Data")
