"""Default backups at their source, each beside its copies, with Copy now on any that is still there."""

from __future__ import annotations

from datetime import datetime

import django_tables2 as tables
from django import forms
from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.models import ENDED, BackupFile, BackupJob, BackupSet, Copy, CopyPolicy, Kind
from console.widgets import cells, words
from console.widgets.addresses import row_number
from console.widgets.badges import BAD, OFF, OK, Look, badge
from console.widgets.labels import choices_of, translated
from console.widgets.listing import Filter
from console.widgets.progress import progress_of, state_of
from console.widgets.tables import LONG, NUMBER, ActionsColumn, ConsoleTable, PickColumn
from regions import clock

SET_ORDERS = {"finished_at": ("finished_at", "pk"), "size_bytes": ("size_bytes", "pk")}
COPIES_SHOWN = 2
WORDS = {Kind.DIFFERENTIAL: _("Differential or incremental")}  # one kind, which engines call by different words
KINDS = [("", _("All types")), *((kind, WORDS.get(kind, label)) for kind, label in choices_of(Kind))]

THERE = Look(OK, "check", _("At the source"))
PARTLY = Look(BAD, "triangle-alert", _("Not usable"))
NO_LONGER = Look(OFF, "archive", _("No longer at the source"))


class SetFilter(Filter):
    q = forms.CharField(required=False, max_length=200, label=_("Search by set, database or instance"))
    kind = forms.ChoiceField(choices=KINDS, required=False, label=_("Type"))

    def narrow(self, rows: QuerySet) -> QuerySet:
        if asked := self.wanted("q").strip():
            found = Q(database__icontains=asked) | Q(instance__name__icontains=asked) | Q(instance__code=asked)
            number = row_number(asked)
            rows = rows.filter(found if number is None else found | Q(pk=number))
        if kind := self.wanted("kind"):
            rows = rows.filter(kind=kind)
        return rows


def with_copies(sets: QuerySet[BackupSet]) -> QuerySet[BackupSet]:
    copies = Copy.objects.visible().select_related("destination_store__region", "policy").order_by("-pk")
    files = BackupFile.objects.only("pk", "state")
    sets = sets.annotate(of_secondary=of_secondary(OuterRef("pk")))
    return sets.prefetch_related(Prefetch("files", queryset=files), Prefetch("copies", queryset=copies))


def of_secondary(found: OuterRef) -> Exists:
    """Whether a set was taken of the secondary."""
    return Exists(BackupJob.objects.filter(result=found, on=BackupJob.On.SECONDARY))


def tell(sets: list[BackupSet]) -> list[BackupSet]:
    """Give each set its instance's enabled `policy`, `has_copy`, and `why_not_copied` ("" when Copy now would work).

    `progress` of all their copies comes along, so that a list asks for it once.
    """
    policies = CopyPolicy.objects.cross_region().enabled().select_related("destination")
    enabled = {policy.instance_id: policy for policy in policies.filter(instance__in={s.instance_id for s in sets})}
    progress = progress_of([copy for found in sets for copy in found.copies.all()], clock.now())
    for found in sets:
        found.policy, found.progress = enabled.get(found.instance_id), progress
        found.has_copy = any(_is_at(copy, found.policy) for copy in found.copies.all() if found.policy)
        found.why_not_copied = why_not_copied(found)
    return sets


def is_there(found: BackupSet) -> bool:
    files = list(found.files.all())
    return bool(files) and all(file.state == BackupFile.State.SETTLED for file in files)


def why_not_copied(found: BackupSet) -> str:
    """Return why Copy now is not offered for a set that `tell` has seen."""
    if not is_there(found) or found.status != "succeeded":
        return gettext("its files are not at the source any more")
    if found.policy is None:
        return gettext("cross-region backup is off")
    if found.kind == Kind.LOG and not found.policy.logs_enabled:
        return gettext("cross-region log backup is off")
    return gettext("it has a copy already") if found.has_copy else ""


def _is_at(copy: Copy, policy: CopyPolicy) -> bool:
    return copy.state not in ENDED and copy.destination_store.region_id == policy.destination_id


def shown_copies(found: BackupSet) -> list[Copy]:
    return list(found.copies.all())[:COPIES_SHOWN]


def source_state(found: BackupSet) -> SafeString:
    if found.status != "succeeded":
        return badge(PARTLY, translated(found.get_status_display()))
    return badge(THERE) if is_there(found) else badge(NO_LONGER)


class SetTable(ConsoleTable):
    caption = _("Default backups")

    pick = PickColumn(names="pk")
    id = tables.Column(verbose_name=_("Backup Set ID"), empty_values=())
    instance = tables.Column(verbose_name=_("Instance ID / Name"), empty_values=())
    finished_at = tables.Column(verbose_name=_("Restoration Point"))
    kind = tables.Column(verbose_name=_("Type"))
    size_bytes = tables.Column(verbose_name=_("Size"), attrs=NUMBER)
    status = tables.Column(verbose_name=_("At the source"))
    copies = tables.Column(verbose_name=_("Copies"), accessor="pk", attrs=LONG)
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _("No default backup has been seen yet. One that finishes appears here by itself.")

    def can_pick(self, record: BackupSet) -> bool:
        return not record.why_not_copied

    def render_id(self, record: BackupSet) -> SafeString:
        return cells.backup_set(record)

    def render_instance(self, record: BackupSet) -> SafeString:
        return cells.instance(record.instance)

    def render_finished_at(self, value: datetime) -> str:
        return words.moment(value, seconds=True)

    def render_kind(self, record: BackupSet) -> SafeString:
        return cells.kind(record, of_secondary=record.of_secondary)

    def render_size_bytes(self, value: int) -> str:
        return words.size(value)

    def render_status(self, record: BackupSet) -> SafeString:
        return source_state(record)

    def render_copies(self, record: BackupSet) -> SafeString | str:
        shown = shown_copies(record)
        if not shown:
            return gettext("none")
        return format_html_join(
            "", "{}", ((cells.copy_state(copy, state_of(copy, record.progress.get(copy.pk))),) for copy in shown)
        )

    def render_actions(self, record: BackupSet) -> SafeString:
        if record.why_not_copied:
            return format_html('<span class="reason">{}</span>', "" if record.has_copy else record.why_not_copied)
        where = f"{reverse('backup_sets:copy')}?pick={record.pk}"
        return cells.button(gettext("Copy now"), where, gettext("Copy set %(n)s now") % {"n": record.pk})
