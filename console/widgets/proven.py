"""Drills as pages show them: the verdict as icon, word and consequence, and the last proven restore in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.drilling.drills import Proof, last_proven
from backups.models import Alert, Copy, Drill, Event, Instance
from console.widgets import words
from console.widgets.badges import badge
from console.widgets.labels import translated
from console.widgets.states import DRILL, UNKNOWN
from console.widgets.told import told

Row = TypeVar("Row", Event, Alert, Copy)

STAGES: dict[str, str | Promise] = {
    "download": _("Bringing the files to the share"),
    "full": _("Restoring the full backup"),
    "differential": _("Restoring the differential backup"),
    "log": _("Restoring the logs"),
    "recover": _("Bringing the database online"),
    "unpack": _("Unpacking"),
    "prepare": _("Preparing"),
    "replay": _("Replaying logs"),
    "start": _("Starting the server"),
    "check": _("Looking whether it answers"),
    "recovery": _("Until the server answered"),
    "engine check": _("The engine's own check"),
    "rows": _("Counting rows"),
    "queries": _("The team's queries"),
    "hashes": _("Comparing with recorded hashes"),
}


def tell(instances: list[Instance]) -> list[Instance]:
    """Give each instance its `proof`, None when no drill of it has ever passed; one query."""
    found = last_proven(instances)
    for instance in instances:
        instance.proof = found.get(instance.pk)
    return instances


def tell_named(rows: list[Row], now: datetime) -> list[Row]:
    """Give each row that names an instance its `proven` sentence; one query.

    It is "" where a row names none, and where the sentence stands beside an earlier row already.
    """
    named = [one for one in (_named(row) for row in rows) if one]
    found = last_proven(named)
    said = set()
    for row in rows:
        instance = _named(row)
        is_news = instance is not None and instance.pk not in said
        row.proven = proven(found.get(instance.pk), now) if is_news else ""
        said.add(instance and instance.pk)
    return rows


def _named(row: Event | Alert | Copy) -> Instance | None:
    return row.set.instance if isinstance(row, Copy) else row.instance


def proven(proof: Proof | None, now: datetime) -> str:
    """Return the last proven restore in a sentence."""
    if proof is None:
        return gettext("Restore never proven")
    said = {
        "ago": words.ago(proof.at, now),
        "rows": number_format(proof.rows, force_grouping=True),
        "length": words.lasting(max(1, round(proof.seconds))),
    }
    return gettext("Last proven restore %(ago)s: %(rows)s rows in %(length)s") % said


def proof_of(instance: Instance, now: datetime) -> str:
    return proven(last_proven([instance]).get(instance.pk), now)


def under(cell: SafeString | str, proof: Proof | None, now: datetime) -> SafeString:
    """Return a cell with the last proven restore beneath."""
    return format_html('{}<small class="proven">{}</small>', cell, proven(proof, now))


def drill_badge(drill: Drill) -> SafeString:
    """Return the verdict, or how far the drill is, with what that means."""
    look = DRILL.get(drill.state, UNKNOWN)
    if drill.state == Drill.State.PASSED and drill.pick != Drill.Pick.CANARY:
        return badge(look, gettext("restored, checked, counted and removed again"))
    if drill.state == Drill.State.PASSED:
        return badge(look, gettext("the damage of the clone was noticed"))
    if drill.state == Drill.State.RUNNING:
        return badge(look, str(STAGES.get(drill.sentence, gettext("Beginning"))))
    if drill.state == Drill.State.QUEUED:
        return badge(look, told(drill.sentence) or gettext("a worker of the backup region takes it up"))
    return badge(look, told(drill.sentence))


def stages_of(drill: Drill) -> Sequence[tuple[str, float]]:
    """Return what the drill spent its time on, in the order of happening."""
    known = [(str(word), drill.seconds[name]) for name, word in STAGES.items() if name in drill.seconds]
    return known + [(translated(name), took) for name, took in drill.seconds.items() if name not in STAGES]
