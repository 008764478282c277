from __future__ import annotations

import django_tables2 as tables
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from backups.models import Instance
from console.widgets import cells, proven, words
from console.widgets.badges import INFO, OK, Look, badge
from console.widgets.tables import LONG, NUMBER, ActionsColumn, ConsoleTable, PickColumn

READY = Look(OK, "check", _("Ready"))
READY_BUT = Look(INFO, "info", _("Ready"))


class PendingTable(ConsoleTable):
    caption = _("Pending Instances")

    pick = PickColumn()
    name = tables.Column(verbose_name=_("Instance ID / Name"))
    engine = tables.Column(verbose_name=_("Engine"))
    data_bytes = tables.Column(verbose_name=_("Data size"), attrs=NUMBER)
    last_backup_at = tables.Column(verbose_name=_("Last default backup"), empty_values=())
    readiness = tables.Column(verbose_name=_("Readiness"), accessor="pk", attrs=LONG)
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _("Every instance here has cross-region backup, or none has been added yet.")

    def can_pick(self, record: Instance) -> bool:
        return record.may_operate

    def render_name(self, record: Instance) -> SafeString:
        return cells.instance(record)

    def render_engine(self, record: Instance) -> SafeString:
        return cells.engine(record)

    def render_data_bytes(self, value: int) -> str:
        return words.size(value or None)

    def render_last_backup_at(self, record: Instance) -> SafeString:
        return cells.time(record.last_backup_at, record.seen_at)

    def render_readiness(self, record: Instance) -> SafeString:
        said = badge(READY_BUT, record.readiness) if record.readiness else badge(READY)
        return proven.under(said, record.proof, record.seen_at) if record.proof else said

    def render_actions(self, record: Instance) -> SafeString | str:
        if not record.may_operate:
            return ""
        return cells.settings(record, "pending")


class AbsentTable(ConsoleTable):
    """What is not listed under Pending Instances, and why."""

    caption = _("Not listed")

    name = tables.Column(verbose_name=_("Instance ID / Name"))
    engine = tables.Column(verbose_name=_("Engine"))
    reasons = tables.Column(verbose_name=_("Why it is not listed"), attrs=LONG)

    class Meta(ConsoleTable.Meta):
        empty_text = _("Every instance here meets the requirements.")

    def render_name(self, record: Instance) -> SafeString:
        return cells.instance(record)

    def render_engine(self, record: Instance) -> SafeString:
        return cells.engine(record)

    def render_reasons(self, record: Instance) -> SafeString:
        said = ((reason.sentence, reason.remedy) for reason in record.reasons)
        return format_html_join("", "<p>{}<small>{}</small></p>", said)
