"""If a region were gone: what can be brought back of each instance, how old, from where, how soon (R-1.2)."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import django_tables2 as tables
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from backups import access
from backups.models import Instance, Role
from console.restores.figures import DRILL, Measured, Recovery, SourceRegion, recoveries_of, source_regions
from console.widgets import cells, words
from console.widgets.addresses import restoring
from console.widgets.badges import BAD, OFF, OK, WARN, Look, badge
from console.widgets.instance_lists import InstanceFilter, instances_here, mark_operated, recoverable
from console.widgets.labels import translated
from console.widgets.listing import ListView
from console.widgets.restorable import with_landing
from console.widgets.states import STORE, UNKNOWN
from console.widgets.tables import LONG, ActionsColumn, ConsoleTable, PickColumn
from regions import clock
from regions.models import Store

CAN = Look(OK, "check", _("Can be restored"))
CANNOT = Look(OFF, "ban", _("Not by Farshore"))
NOTHING = Look(BAD, "circle-x", _("Nothing to restore"))
NO_STORE = Look(WARN, "circle-dashed", _("No store"))


class RecoveryTable(ConsoleTable):
    caption = _("What can be brought back")
    seen_at: datetime

    pick = PickColumn()
    name = tables.Column(verbose_name=_("Instance ID / Name"))
    source = tables.Column(verbose_name=_("Source region"), accessor="pk")
    state = tables.Column(verbose_name=_("What can be restored"), accessor="pk", attrs=LONG)
    newest = tables.Column(verbose_name=_("Newest / oldest moment"), accessor="pk", attrs=LONG)
    store = tables.Column(verbose_name=pgettext_lazy("where it comes from", "From"), accessor="pk")
    measured = tables.Column(verbose_name=_("How long it takes"), accessor="pk")
    actions = ActionsColumn()

    class Meta(ConsoleTable.Meta):
        empty_text = _("No instance here yet. Once one is added and copied, this page says what can be brought back.")

    def can_pick(self, record: Instance) -> bool:
        return record.may_operate and record.recovery.is_possible

    def render_name(self, record: Instance) -> SafeString:
        return cells.instance(record)

    def render_source(self, record: Instance) -> SafeString:
        return format_html("{}<small>{}</small>", translated(record.region.name), store_state(record.recovery.source))

    def render_state(self, record: Instance) -> SafeString:
        return recovery_state(record.recovery, self.seen_at)

    def render_newest(self, record: Instance) -> SafeString | str:
        found = record.recovery
        if found.newest is None:
            return "—"
        newest = words.moment(found.newest, seconds=True)
        return format_html("{}<small>{}</small>", newest, words.moment(found.oldest, seconds=True))

    def render_store(self, record: Instance) -> SafeString | str:
        store = record.recovery.store
        if store is None:
            return "—"
        return format_html("{}<small>{}</small>", translated(store.region.name), store_state(store))

    def render_measured(self, record: Instance) -> SafeString | str:
        found = record.recovery.measured
        if found is None:
            return gettext("not measured yet") if record.recovery.is_possible else "—"
        return format_html("{}<small>{}</small>", words.measured(found.seconds), when_measured(found, self.seen_at))

    def render_actions(self, record: Instance) -> SafeString | str:
        if not record.may_operate or not record.recovery.is_possible:
            return ""
        label = gettext("Restore %(name)s") % {"name": record.name}
        return cells.button(gettext("Restore"), restoring(record.code), label, dialog=False)


class PickTable(RecoveryTable):
    """The same without ticks: one is to be chosen."""

    class Meta(RecoveryTable.Meta):
        exclude = ("pick", "measured")


class RecoveryList(ListView):
    page_template = "restores/recovery.html"
    table_class: type[RecoveryTable] = RecoveryTable
    filter_class = InstanceFilter
    orders = {"name": ("name", "pk")}
    usual_sort = "name"

    def rows(self) -> QuerySet[Instance]:
        return with_landing(recoverable(instances_here(self.request)))

    def dress(self, rows: list[Instance]) -> list[Instance]:
        found = recoveries_of(rows)
        for instance in rows:
            instance.recovery = found[instance.pk]
        return mark_operated(self.request, rows)

    def context(self) -> dict[str, Any]:
        self.table.seen_at = clock.now()
        return {"places": partial(_places, self.request), "may_restore": may_restore(self.request.user)}


class PickInstance(RecoveryList):
    page_template = "restores/pick.html"
    table_class = PickTable


def _places(request: HttpRequest) -> list[tuple[SourceRegion, SafeString, str]]:
    """Return the source regions, each with what its store said and when; only the whole page asks for them."""
    at, seen = clock.now(), recoverable(access.instances_for(request.user))
    return [
        (one, store_state(one.store), words.ago(one.store.probed_at, at) if one.store else "")
        for one in source_regions(seen)
    ]


def may_restore(user: Any) -> bool:
    return access.groups_for(user, Role.OPERATOR).exists()


def recovery_state(found: Recovery, at: datetime) -> SafeString:
    """Return what would be had of an instance now, and how old that would be."""
    if found.newest is None:
        return badge(NOTHING, gettext("no completed copy of it lies in another region"))
    age = gettext("the state of %(length)s ago") % {"length": words.lasting(at - found.newest)}
    if found.worst_database:
        age = gettext("%(age)s (%(database)s is the oldest)") % {"age": age, "database": found.worst_database}
    return badge(CANNOT, f"{found.why_not} · {age}") if found.why_not else badge(CAN, age)


def store_state(store: Store | None) -> SafeString:
    """Return what a store said the last time it was asked; it is not asked now."""
    if store is None:
        return badge(NO_STORE)
    return badge(STORE.get(store.state, UNKNOWN))


def when_measured(measured: Measured, at: datetime) -> str:
    ago = {"ago": words.ago(measured.at, at)}
    return gettext("measured by a drill %(ago)s") % ago if measured.by == DRILL else gettext("measured %(ago)s") % ago
