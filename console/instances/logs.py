"""The tab "Log Backup": every log of an instance at its destinations, and what is missing between them (R-16.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

import django_tables2 as tables
from django import forms
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.engines import engine_of
from backups.models import BackupFile, BackupSet, Copy, CopyState, Instance, Kind, LogGap, RestorableInterval
from console.instances.keys import Place, as_bytes
from console.instances.pages import OfInstance
from console.instances.window import is_covered
from console.widgets import cells, words
from console.widgets.addresses import restoring
from console.widgets.downloading import downloading
from console.widgets.icons import icon
from console.widgets.labels import choices_of, translated
from console.widgets.listing import Filter
from console.widgets.polling import with_badges
from console.widgets.restorable import why_engine_not_restored
from console.widgets.tables import LONG, NUMBER, STACKED, ActionsColumn, ConsoleTable

Stretches = dict[tuple[int, str], list[tuple[datetime, datetime]]]
STATES = [("", _("Any status")), *choices_of(CopyState)]


class LogFilter(Filter):
    q = forms.CharField(required=False, max_length=200, label=_("Search by file or database"))
    state = forms.ChoiceField(choices=STATES, required=False, label=_("Status"))

    def narrow(self, rows: QuerySet[Copy]) -> QuerySet[Copy]:
        if asked := self.wanted("q").strip():
            files = BackupFile.objects.filter(sets=OuterRef("set")).alias(place=Place(as_bytes(asked), F("key")))
            rows = rows.filter(Q(set__database__icontains=asked) | Exists(files.filter(place__gt=0)))
        if state := self.wanted("state"):
            rows = rows.filter(state=state)
        return rows


class LogTable(ConsoleTable):
    caption = _("Log Backup")

    file = tables.Column(verbose_name=_("Log file"), accessor="set")
    database = tables.Column(verbose_name=_("Database"), accessor="set__database", empty_values=())
    begins = tables.Column(verbose_name=_("From"), accessor="begins", empty_values=())
    ends = tables.Column(verbose_name=_("To"), accessor="set__finished_at")
    size = tables.Column(verbose_name=_("Size"), accessor="total_bytes", attrs=NUMBER)
    state = tables.Column(verbose_name=_("Status / Backup Region"), accessor="pk", attrs=LONG)
    expires = tables.Column(verbose_name=_("Expires"), accessor="expires_at", empty_values=())
    actions = ActionsColumn(attrs=STACKED)

    class Meta(ConsoleTable.Meta):
        empty_text = _("No log has been copied. Enable Cross-region Log Backup in the settings.")

    def body(self) -> Iterator[SafeString]:
        """Return each row; before a log that does not follow the one below it, the gap between them."""
        for record, row in zip(self.data, super().body(), strict=True):
            for gap in record.gaps_above:
                yield self._gap(gap)
            yield row
            for gap in record.gaps_below:
                yield self._gap(gap)

    def _gap(self, gap: LogGap) -> SafeString:
        return format_html(
            '<tr role="row" class="missing{}"><td role="cell" colspan="{}"><p>{}<span>{}</span></p></td></tr>',
            " filled" if gap.is_covered else "",
            len(self.columns),
            icon("check" if gap.is_covered else "triangle-alert"),
            _said(gap),
        )

    def render_file(self, record: Copy) -> SafeString:
        name = next((str(file).rpartition("/")[2] for file in record.set.files.all()), "—")
        where = reverse("backup_sets:page", args=[record.set_id])
        return format_html('<a class="who sid" href="{}"><bdi>{}</bdi></a>', where, name)

    def render_database(self, value: str) -> SafeString | str:
        return format_html("<bdi>{}</bdi>", value) if value else _whole_server()

    def render_begins(self, value: datetime | None) -> str:
        return words.moment(value, seconds=True)

    def render_ends(self, value: datetime) -> str:
        return words.moment(value, seconds=True)

    def render_size(self, value: int) -> str:
        return words.size(value)

    def render_state(self, record: Copy) -> SafeString:
        return cells.copy_state(record, record.badge)

    def render_expires(self, record: Copy) -> str:
        return words.moment(record.expires_at)

    def render_actions(self, record: Copy) -> SafeString | str:
        return cells.buttons(downloading(record), self._restore(record))

    def _restore(self, record: Copy) -> SafeString | str:
        if not record.may_restore or record.state != CopyState.COMPLETED:
            return ""
        if not record.is_restorable:
            return format_html('<span class="reason">{}</span>', gettext("outside what can be restored"))
        label = gettext("Restore to %(moment)s") % {"moment": words.stamp(record.moment)}
        where = restoring(
            record.set.instance.code,
            until=record.moment,
            database=record.set.database,
            store=record.destination_store_id,
        )
        return cells.button(gettext("Restore to here"), where, label, dialog=False)


def _whole_server() -> SafeString:
    return format_html('<span class="one-line">{}</span>', gettext("whole server"))


def _said(gap: LogGap) -> str:
    """Return what is missing and what has become of it, and who took it where that is known."""
    said = _missing(gap)
    return f"{said} {gap.broken_by}" if gap.broken_by and not gap.is_covered else said


def _missing(gap: LogGap) -> str:
    """Return what is missing, and what has become of it: in the past where it came after all."""
    named = {"from": words.stamp(gap.from_time), "until": words.stamp(gap.until_time)}
    if gap.is_covered:
        return gettext("The log from %(from)s to %(until)s was missing; it has been copied since.") % named
    if gap.healed_at and gap.healing == LogGap.Healing.BACKUP:
        named["at"] = words.stamp(gap.healed_at)
        return gettext("No log from %(from)s to %(until)s, healed by a backup at %(at)s.") % named
    if gap.healed_at:
        named["at"] = words.stamp(gap.healed_at)
        return gettext("No log from %(from)s to %(until)s, healed at %(at)s.") % named
    said = gettext("No log from %(from)s to %(until)s: nothing behind it can be restored until it is healed.") % named
    return f"{said} {translated(gap.get_healing_display())}." if gap.healing else said


class LogsOfInstance(OfInstance):
    tab = "logs"
    table_class = LogTable
    filter_class = LogFilter
    orders = {"ends": ("set__finished_at", "pk")}
    usual_sort = "-ends"

    def rows(self) -> QuerySet[Copy]:
        copies = (
            Copy.objects.visible()
            .filter(set__instance=self.instance, set__kind=Kind.LOG)
            .exclude(state=CopyState.DELETED)
        )
        copies = copies.select_related("set__instance", "destination_store__region").prefetch_related("set__files")
        ended, reached = (_log_before().values(name)[:1] for name in ("finished_at", "last_position"))
        return copies.annotate(before_ended=Subquery(ended), before_reached=Subquery(reached))

    def dress(self, rows: list[Copy]) -> list[Copy]:
        may = bool(rows) and self.may_operate and not why_engine_not_restored(self.instance)
        times = engine_of(self.instance.engine).chain_rules.times
        self.instance.may_operate = self.may_operate
        for copy in rows:
            copy.set.instance = self.instance
            begins, shown_at = times(Kind.LOG, copy.set.started_at, copy.set.finished_at)
            copy.begins = begins or _end_of_log_before(copy)
            copy.moment = shown_at.replace(microsecond=0)  # a restore is asked for by the second
            copy.gaps_above, copy.gaps_below = [], []
        solid = _solid(self.instance, rows)
        for copy in rows:
            copy.may_restore, copy.is_restorable = may, _is_inside(copy, solid)
        self._place_gaps(rows, solid)
        return with_badges(rows)

    def copies(self) -> list[Copy]:
        return self.page.rows

    def _place_gaps(self, rows: list[Copy], solid: Stretches) -> None:
        """Put each gap beside the log that begins behind it, whichever way the list is sorted."""
        if not rows:
            return
        oldest, newest = min(map(_earliest, rows)), max(copy.set.finished_at for copy in rows)
        gaps = LogGap.objects.filter(instance=self.instance, from_time__lte=newest, until_time__gte=oldest)
        descends = self.sort.startswith("-")
        for gap, copy in _behind(gaps.order_by("from_time"), rows):
            gap.is_covered = is_covered((gap.from_time, gap.until_time), solid.get((gap.store_id, gap.database), ()))
            (copy.gaps_below if descends else copy.gaps_above).append(gap)


def _log_before() -> QuerySet[BackupSet]:
    """Return the logs before an outer copy's, the nearest first."""
    logs = BackupSet.objects.filter(instance=OuterRef("set__instance"), database=OuterRef("set__database"))
    return logs.filter(kind=Kind.LOG, finished_at__lt=OuterRef("set__finished_at")).order_by("-finished_at")


def _end_of_log_before(copy: Copy) -> datetime | None:
    """Return when a log begins whose engine does not say: when the one before it ended, if it continues that one."""
    reached, first = copy.before_reached, copy.set.first_position
    return copy.before_ended if reached is not None and first is not None and reached >= first else None


def _earliest(copy: Copy) -> datetime:
    return min(copy.moment, copy.set.started_at or copy.moment)


def _solid(instance: Instance, rows: list[Copy]) -> Stretches:
    """Return what can be restored around the logs of a page, per destination and database (I7)."""
    if not rows:
        return {}
    found = RestorableInterval.objects.filter(instance=instance, database__in={copy.set.database for copy in rows})
    found = found.filter(ended_at__gte=min(map(_earliest, rows)), began_at__lte=max(copy.moment for copy in rows))
    stretches: Stretches = {}
    for store, database, begins, ends in found.values_list("store", "database", "began_at", "ended_at"):
        stretches.setdefault((store, database), []).append((begins, ends))
    return stretches


def _is_inside(copy: Copy, solid: Stretches) -> bool:
    """Say whether a restore can go to the end of a log: every change in it is there by that moment, and no later."""
    there = solid.get((copy.destination_store_id, copy.set.database), ())
    return any(begins <= copy.moment <= ends for begins, ends in there)


def _behind(gaps: Iterable[LogGap], rows: list[Copy]) -> Iterator[tuple[LogGap, Copy]]:
    """Give each gap with the row it stands beside: the first log of its chain that begins where the gap ends."""
    begins = {
        (copy.destination_store_id, copy.set.database, copy.set.fork, copy.set.first_position): copy for copy in rows
    }
    for gap in gaps:
        copy = begins.get((gap.store_id, gap.database, gap.fork, gap.begins))
        if copy:
            yield gap, copy
