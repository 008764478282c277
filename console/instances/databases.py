"""The tab "Databases": each database as its server says it stands, and whether it is protected (R-3.5, R-6.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import django_tables2 as tables
from django import forms
from django.db.models import Max, Q, QuerySet
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.logs import breaking
from backups.models import Alert, Copy, CopyPolicy, Kind, LogGap, RestorableInterval, ServerDatabase
from backups.oversight.protection import Protection
from backups.servers import standings
from console.instances.pages import OfInstance
from console.widgets import words
from console.widgets.badges import BAD, OFF, OK, WARN, Look, badge
from console.widgets.listing import Filter
from console.widgets.tables import LONG, NUMBER, ConsoleTable
from console.widgets.told import told

SHOWN_WHEN_GONE = timedelta(days=35)

PROTECTED = Look(OK, "check", _("Protected"))
UNPROTECTED = Look(WARN, "shield-alert", _("Not protected"))
NOT_SET_UP = Look(OFF, "circle-dashed", _("Not set up"))
GONE = Look(OFF, "archive", _("Gone"))
UNBROKEN = Look(OK, "check", _("Unbroken"))
BROKEN = Look(BAD, "triangle-alert", _("Broken"))
NOT_BEGUN = Look(WARN, "hourglass", _("Not begun"))
NONE = Look(OFF, "circle-dashed", _("None"))

WHY = {
    "may_not_back_up": _("the account may not back it up (db_backupoperator)"),
    "late": _("the newest copy is older than the timetable allows"),
    "new": _("new since the last full backup: nothing of it has been backed up"),
    "no_copy": _("no copy yet"),
}


@dataclass
class Backups:
    """What Farshore has of the databases on one page, by name."""

    protection: Protection
    policy: CopyPolicy | None
    at: datetime
    copied_at: Mapping[str, datetime] = field(default_factory=dict)
    reach: Mapping[str, datetime] = field(default_factory=dict)
    gaps: Mapping[str, LogGap] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    certificates: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_enabled(self) -> bool:
        return self.policy is not None and self.policy.enabled

    @property
    def has_logs(self) -> bool:
        return self.policy is not None and self.policy.logs_enabled


class DatabaseFilter(Filter):
    q = forms.CharField(required=False, max_length=200, label=_("Search by database"))

    def narrow(self, rows: QuerySet[ServerDatabase]) -> QuerySet[ServerDatabase]:
        asked = self.wanted("q").strip()
        return rows.filter(name__icontains=asked) if asked else rows


class DatabaseTable(ConsoleTable):
    caption = _("Databases")

    name = tables.Column(verbose_name=_("Database"))
    last_full_at = tables.Column(verbose_name=_("Last full backup"), empty_values=())
    chain = tables.Column(verbose_name=_("Log chain"), accessor="pk", attrs=LONG)
    recovery_model = tables.Column(verbose_name=_("Recovery model"))
    data_bytes = tables.Column(verbose_name=_("Size"), attrs=NUMBER, empty_values=())
    protection = tables.Column(verbose_name=_("Protection"), accessor="pk", attrs=LONG)

    class Meta(ConsoleTable.Meta):
        empty_text = _("The server names no database of its own yet.")

    def render_name(self, record: ServerDatabase) -> SafeString:
        under = "" if record.is_online else format_html("<small>{}</small>", record.state)
        return format_html('<span class="who"><bdi>{}</bdi></span>{}', record.name, under)

    def render_last_full_at(self, record: ServerDatabase) -> SafeString:
        copied = record.backups.copied_at.get(record.name)
        under = gettext("copied: %(when)s") % {"when": words.ago(copied, record.backups.at)} if copied else ""
        return format_html("{}<small>{}</small>", words.moment(record.last_full_at), under)

    def render_chain(self, record: ServerDatabase) -> SafeString | str:
        return chain_of(record, record.backups)

    def render_recovery_model(self, value: str) -> SafeString:
        return format_html("<bdi>{}</bdi>", value)

    def render_data_bytes(self, value: int | None) -> str | SafeString:
        return words.size(value)

    def render_protection(self, record: ServerDatabase) -> SafeString:
        return protection_of(record, record.backups)


def chain_of(one: ServerDatabase, backups: Backups) -> SafeString | str:
    """Return how far the log chain of a database reaches, or who broke it."""
    if one.gone_at or not one.is_online:
        return "—"
    if not one.has_logs:
        return badge(NONE, gettext("SIMPLE has none: nothing between two backups can be restored"))
    if said := backups.broken.get(one.name):
        return badge(BROKEN, said)
    if gap := backups.gaps.get(one.name):
        named = {"from": words.stamp(gap.from_time), "until": words.stamp(gap.until_time)}
        said = gettext("no log from %(from)s to %(until)s") % named
        return badge(BROKEN, f"{said}. {gap.broken_by}" if gap.broken_by else said)
    if one.log_chain_position is None and one.fork:
        return badge(NOT_BEGUN, gettext("an ordinary full backup on the primary begins it"))
    if not backups.has_logs:
        return badge(NONE, gettext("its logs are not copied"))
    if reach := backups.reach.get(one.name):
        return badge(UNBROKEN, gettext("reaches until %(moment)s") % {"moment": words.stamp(reach)})
    if backups.protection.why.get(one.name) == "certificate":
        return badge(NONE, gettext("its copies cannot be opened there"))
    return badge(NONE, gettext("no copy to lead on from yet"))


def protection_of(one: ServerDatabase, backups: Backups) -> SafeString:
    """Return whether a database is protected, or the reason it is not."""
    if one.gone_at:
        named = {"day": words.stamp(one.gone_at)}
        return badge(GONE, gettext("not on the server since %(day)s; its copies keep their dates") % named)
    if not backups.is_enabled:
        return badge(NOT_SET_UP)
    if one.name in backups.protection.unprotected:
        return badge(UNPROTECTED, _why(one, backups))
    return badge(PROTECTED, "" if one.has_logs else gettext("only at the moments of its backups"))


def _why(one: ServerDatabase, backups: Backups) -> str:
    code = backups.protection.why.get(one.name, "")
    if code == "offline":
        return gettext("it is %(state)s on the server: no backup can be taken") % {"state": one.state}
    if code == "certificate":
        named = {"print": backups.certificates.get(one.name) or one.certificate_thumbprint}
        return gettext("needs certificate %(print)s at the destination") % named
    return str(WHY.get(code, ""))


class DatabasesOfInstance(OfInstance):
    tab = "databases"
    fragments = {"rows": "instances/_database_rows.html"}
    table_class = DatabaseTable
    filter_class = DatabaseFilter
    orders = {"name": ("name", "pk"), "data_bytes": ("data_bytes", "pk")}
    usual_sort = "name"

    def rows(self) -> QuerySet[ServerDatabase]:
        lately = Q(gone_at=None) | Q(gone_at__gt=self.standing["at"] - SHOWN_WHEN_GONE)
        return self.instance.databases.filter(lately)

    def dress(self, rows: list[ServerDatabase]) -> list[ServerDatabase]:
        backups = self._backups([row.name for row in rows])
        for row in rows:
            row.backups = backups
        return rows

    def copies(self) -> list[Copy]:
        return []

    def context(self) -> dict[str, Any]:
        if not self.is_narrowed:
            self.table.empty_text = self._why_empty
        return super().context() | {"asked": self.instance.server_looks.filter(side="primary").first()}

    @property
    def _why_empty(self) -> str:
        if not standings.are_told(self.instance):
            return gettext(
                "Nothing says how to reach this server, so it is not asked for its databases. What is copied of it"
                " stands under Data Backup."
            )
        if self.instance.databases_seen_at is None:
            return gettext("The server has not been asked yet; a worker of its region does so every minute.")
        return gettext("The server has no database of its own yet.")

    def _backups(self, names: list[str]) -> Backups:
        """Read what there is of the databases of a page, with a fixed number of queries."""
        policy = self.standing["policy"]
        found = Backups(self.standing["protection"], policy, self.standing["at"])
        if not names or policy is None:
            return found
        here = {"instance": self.instance, "database__in": names}
        there = here | {"store__region": policy.destination_id}
        ends = RestorableInterval.objects.filter(**there).order_by().values_list("database").annotate(Max("ended_at"))
        found.reach = dict(ends)
        found.copied_at = self._copied(names)
        if policy.logs_enabled:
            found.gaps = {gap.database: gap for gap in LogGap.objects.filter(**there, healed_at=None)}
        found.broken, found.certificates = self._broken(names), self._certificates(names)
        return found

    def _copied(self, names: Iterable[str]) -> dict[str, datetime]:
        copies = Copy.objects.restorable().cross_region().filter(set__instance=self.instance, set__kind=Kind.FULL)
        copies = copies.filter(set__database__in=names).order_by()
        return dict(copies.values_list("set__database").annotate(Max("set__finished_at")))

    def _certificates(self, names: Iterable[str]) -> dict[str, str]:
        fulls = self.instance.sets.filter(database__in=names, kind=Kind.FULL).exclude(certificate_thumbprint="")
        newest = fulls.order_by("database", "-finished_at").distinct("database")
        return dict(newest.values_list("database", "certificate_thumbprint"))

    def _broken(self, names: Iterable[str]) -> dict[str, str]:
        subjects = {breaking.subject_of(Kind.LOG, self.instance, name): name for name in names}
        opened = Alert.objects.filter(code=breaking.BROKEN, subject__in=subjects, closed_at=None)
        return {subjects[alert.subject]: told(alert.sentence) for alert in opened}
