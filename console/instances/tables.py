from __future__ import annotations

from datetime import datetime

import django_tables2 as tables
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups import default_backups
from backups.chains import windows
from backups.models import BackupSet, Copy, Drill, Instance
from console.widgets import cells, labels, proven, words
from console.widgets.addresses import restoring
from console.widgets.downloading import downloading
from console.widgets.progress import why_kept
from console.widgets.proofs import compared_with
from console.widgets.protected import protection_badge
from console.widgets.restorable import why_engine_not_restored
from console.widgets.tables import LONG, NUMBER, STACKED, ActionsColumn, ConsoleTable


class InstanceTable(ConsoleTable):
    caption = _("Instances")

    name = tables.Column(verbose_name=_("Instance ID / Name"))
    engine = tables.Column(verbose_name=_("Engine"))
    region = tables.Column(verbose_name=_("Region"))
    data_bytes = tables.Column(verbose_name=_("Data size"), attrs=NUMBER)
    last_backup_at = tables.Column(verbose_name=_("Last default backup"), empty_values=())
    protection = tables.Column(verbose_name=_("Protection"), accessor="pk", attrs=LONG)
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _("No instance here yet. Add one: a store must be attached to its region first.")

    def render_name(self, record: Instance) -> SafeString:
        return cells.instance(record)

    def render_engine(self, record: Instance) -> SafeString:
        return cells.engine(record)

    def render_region(self, record: Instance) -> SafeString:
        return format_html("{}<small>{}</small>", labels.translated(record.region.name), record.group.name)

    def render_data_bytes(self, value: int) -> str:
        return words.size(value or None)

    def render_last_backup_at(self, record: Instance) -> SafeString:
        return cells.time(record.last_backup_at, record.seen_at)

    def render_protection(self, record: Instance) -> SafeString:
        said = protection_badge(record.protection, record.seen_at)
        if record.protection.state == "not_set_up" and record.proof is None:
            return said
        return proven.under(said, record.proof, record.seen_at)

    def render_actions(self, record: Instance) -> SafeString | str:
        if not record.may_operate:
            return ""
        named = {"name": record.name}
        backup = cells.button(
            gettext("Back up now"),
            reverse("instances:backup", args=[record.code]),
            gettext("Back up %(name)s now") % named,
        )
        settings = cells.settings(record)
        return cells.buttons(backup if default_backups.can_take(record) else "", settings)


class CopyTable(ConsoleTable):
    """The "Data Backup" tab (R-16.2): what lies, or is on its way to lie, in the backup region."""

    caption = _("Data Backup")

    id = tables.Column(verbose_name=_("Backup Set ID"), accessor="set")
    finished_at = tables.Column(verbose_name=_("Restoration Point"), accessor="set__finished_at")
    kind = tables.Column(verbose_name=_("Type / Method"), accessor="set")
    size = tables.Column(verbose_name=_("Size"), accessor="set__size_bytes", attrs=NUMBER)
    state = tables.Column(verbose_name=_("Status / Backup Region"), attrs=LONG)
    proof = tables.Column(verbose_name=_("Compared with"), accessor="pk", attrs=LONG)
    dates = tables.Column(verbose_name=_("Copied at / Expires"), accessor="pk")
    actions = ActionsColumn(attrs=STACKED)

    class Meta(ConsoleTable.Meta):
        empty_text = _("No copy yet. The next default backup that finishes is copied by itself.")

    def render_id(self, value: BackupSet) -> SafeString:
        return cells.backup_set(value)

    def render_finished_at(self, value: datetime) -> str:
        return words.moment(value, seconds=True)

    def render_kind(self, record: Copy) -> SafeString:
        return cells.kind(record.set, of_secondary=record.of_secondary)

    def render_size(self, value: int) -> str:
        return words.size(value)

    def render_state(self, record: Copy) -> SafeString:
        return cells.copy_state(record, record.badge)

    def render_proof(self, record: Copy) -> SafeString:
        inside = labels.translated(record.verification)
        return format_html("{}<small>{}</small>", compared_with(record) or "—", inside)

    def render_dates(self, record: Copy) -> SafeString:
        kept = why_kept(record)
        return format_html(
            "{}<small>{}{}</small>",
            words.moment(record.completed_at),
            words.moment(record.expires_at),
            format_html("<br>{}", kept) if kept else "",
        )

    def render_actions(self, record: Copy) -> SafeString:
        label = gettext("Details of set %(n)s") % {"n": record.set_id}
        details = cells.button(
            gettext("Details"), reverse("backup_sets:page", args=[record.set_id]), label, dialog=False
        )
        return cells.buttons(downloading(record), _restore(record), details)


def _restore(copy: Copy) -> SafeString | str:
    """Return the button for a copy that can be restored as it was taken."""
    instance = copy.set.instance
    if not instance.may_operate or not windows.is_restorable(copy) or why_engine_not_restored(instance):
        return ""
    label = gettext("Restore set %(n)s") % {"n": copy.set_id}
    return cells.button(gettext("Restore"), restoring(instance.code, set=copy.set_id), label, dialog=False)


class DrillTable(ConsoleTable):
    """Rehearsed restores, the newest first."""

    caption = _("Drills")

    asked_at = tables.Column(verbose_name=_("Asked for"))
    pick = tables.Column(verbose_name=_("What was restored"))
    state = tables.Column(verbose_name=_("Verdict"), attrs=LONG)
    restored_until = tables.Column(verbose_name=_("Restored until"), empty_values=())
    seconds = tables.Column(verbose_name=_("Time"), attrs=NUMBER)
    rows_counted = tables.Column(verbose_name=_("Rows"), accessor="evidence", attrs=NUMBER)
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _("No drill yet. The first begins by itself when a copy has been completed.")

    def render_asked_at(self, record: Drill) -> SafeString:
        by = record.asked_by.get_username() if record.asked_by else gettext("by Farshore")
        moment = words.moment(record.asked_at, seconds=True)
        where = reverse("drills:page", args=[record.pk])
        return format_html('<a class="who sid" href="{}">{}</a><small><bdi>{}</bdi></small>', where, moment, by)

    def render_pick(self, record: Drill) -> str:
        return labels.translated(record.get_pick_display())

    def render_state(self, record: Drill) -> SafeString:
        return proven.drill_badge(record)

    def render_restored_until(self, record: Drill) -> str | SafeString:
        return words.moment(record.restored_until, seconds=True)

    def render_seconds(self, record: Drill) -> str:
        took = record.seconds.get("recovery")
        return words.measured(took)

    def render_rows_counted(self, record: Drill) -> str:
        rows = record.evidence.get("total_rows")
        return "—" if rows is None else number_format(rows, force_grouping=True)

    def render_actions(self, record: Drill) -> SafeString:
        label = gettext("Evidence of drill %(n)s") % {"n": record.pk}
        return cells.button(gettext("Evidence"), reverse("drills:page", args=[record.pk]), label, dialog=False)
