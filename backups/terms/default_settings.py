"""How default backups are taken and kept: what is set, what speaks against a change, and the change (R-2.5, R-5.1).

Cross-region backup has settings of its own (`policies`); neither touches the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import time
from typing import Any

from django.db import transaction

from backups import events
from backups.engines import engine_of
from backups.events import By
from backups.models import Arrival, BackupMethod, Event, Instance
from backups.models.instance import LOG_MINUTES
from backups.terms import eligibility
from backups.terms.policy_settings import Refusals, enabled_policy
from backups.timetable import USUAL_TIME
from regions import clock
from regions.refusals import Refusal

SHORTEST_DAYS, LONGEST_DAYS = 7, 730
MOST_DAYS_BETWEEN_FULLS = 31
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class DefaultSettings:
    """The columns of an instance that say when its default backups are taken, of what kind, and how long they stay.

    `timetable_days`: Monday is 0. `timetable_time`: UTC, None at no set hour. `log_every_minutes` 0: none are taken.
    """

    default_backup_enabled: bool
    timetable_days: tuple[int, ...]
    timetable_time: time | None
    full_every_days: int
    log_every_minutes: int
    default_retention_days: int
    backup_method: str


def settings_of(instance: Instance) -> DefaultSettings:
    found = {field.name: getattr(instance, field.name) for field in fields(DefaultSettings)}
    plain = {"timetable_days": tuple(sorted(instance.timetable_days)), "backup_method": str(instance.backup_method)}
    return DefaultSettings(**found | plain)


def version_of(instance: Instance) -> str:
    """Return the token a form carries, so that a second person's save is noticed (R-14.5)."""
    return hashlib.sha256(repr(settings_of(instance)).encode()).hexdigest()[:16]


# ---- changing


def apply(instance: Instance, given: Mapping[str, Any], by: By, *, expected: str = "") -> bool:
    """Change what is given, by the names of DefaultSettings, all or nothing; raises Refusals. Returns whether anything
    changed. What is not given stays as it is by then, whoever set it.

    `expected`: the version a form was filled in from, "" does not ask.
    """
    with transaction.atomic():
        locked = Instance.objects.select_for_update(no_key=True, of=("self",)).get(pk=instance.pk)
        now = settings_of(locked)
        wanted = replace(now, **given)
        if refusals := _against_change(locked, wanted, expected):
            raise Refusals(refusals)
        if now == wanted:
            return False
        changed = {name: value for name, value in vars(wanted).items() if value != getattr(now, name)}
        Instance.objects.filter(pk=locked.pk).update(**_columns(changed), **_worked_out_anew(locked, changed))
        said = f"The default backups of {locked.name} were set: {_in_words(now, wanted, changed)}."
        events.record("instance.default_backups", said, by=by, instance=locked, changed=sorted(changed))
        return True


def _worked_out_anew(instance: Instance, changed: Collection[str]) -> dict[str, None]:
    """Forget the moments that a changed timetable gave; one that has come stays, and its backup is asked for."""
    columns = {"next_backup_at": {"timetable_days", "timetable_time"}, "next_log_at": {"log_every_minutes"}}
    at = clock.now()
    return {
        column: None
        for column, names in columns.items()
        if names & set(changed) and not ((due := getattr(instance, column)) and due <= at)
    }


def _columns(changed: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


def _in_words(now: DefaultSettings, wanted: DefaultSettings, changed: Iterable[str]) -> str:
    return ", ".join(f"{CALLED[name]} {_told(now, name)} → {_told(wanted, name)}" for name in changed)


CALLED = {
    "default_backup_enabled": "by the timetable",
    "timetable_days": "days",
    "timetable_time": "hour",
    "full_every_days": "days between fulls",
    "log_every_minutes": "minutes between logs",
    "default_retention_days": "days kept",
    "backup_method": "method",
}


def _told(settings: DefaultSettings, name: str) -> str:
    value = getattr(settings, name)
    if name == "timetable_days":
        return " ".join(DAYS[day] for day in value) or "none"
    if name == "timetable_time":
        return f"{value or USUAL_TIME:%H:%M}"
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


# ---- what speaks against it


def _against_change(instance: Instance, wanted: DefaultSettings, expected: str) -> list[Refusal]:
    if instance.released:
        return [Refusal("ProductInstanceReleased", "The instance has been released.", "")]
    if expected and expected != version_of(instance):
        return [_conflict(instance)]
    now = settings_of(instance)
    return [one for one in against(instance, wanted) if getattr(wanted, one.field) != getattr(now, one.field)]


def _conflict(instance: Instance) -> Refusal:
    said = Event.objects.filter(instance=instance, kind__startswith="instance.").order_by("-pk").first()
    what = f"{said.actor_name} saved at {said.at:%H:%M} UTC: {said.sentence}" if said else "Somebody saved first."
    return Refusal("Conflict", f"The settings changed while this was open. {what}", "Look at them again, then save.")


def against(instance: Instance, wanted: DefaultSettings) -> list[Refusal]:
    """Return everything that speaks against such settings of an instance, each beside its field."""
    found = [_bad_timetable(wanted), _bad_retention(wanted), _no_incrementals(instance, wanted)]
    found += [_no_logs(instance, wanted), _bad_method(instance, wanted)]
    return [refusal for refusal in found if refusal]


def _bad_timetable(wanted: DefaultSettings) -> Refusal | None:
    if wanted.timetable_days and set(wanted.timetable_days) <= set(range(7)):
        return None
    return Refusal(
        "InvalidParameters.Format",
        "Default backups need at least one day of the week.",
        "Choose the days they are taken on.",
        "timetable_days",
    )


def _bad_retention(wanted: DefaultSettings) -> Refusal | None:
    if SHORTEST_DAYS <= wanted.default_retention_days <= LONGEST_DAYS:
        return None
    return Refusal(
        "InvalidParameters.Format",
        f"Default backups are kept {SHORTEST_DAYS} to {LONGEST_DAYS} days.",
        "Enter a whole number of days.",
        "default_retention_days",
    )


def _no_incrementals(instance: Instance, wanted: DefaultSettings) -> Refusal | None:
    able, days = engine_of(instance.engine).capabilities, wanted.full_every_days
    takes_differentials = able.takes_differentials and instance.arrival == Arrival.TAKEN
    if not 1 <= days <= MOST_DAYS_BETWEEN_FULLS:
        sentence = f"From one full backup to the next it is 1 to {MOST_DAYS_BETWEEN_FULLS} days."
        return Refusal("InvalidParameters.Format", sentence, "Enter a whole number of days.", "full_every_days")
    if days == 1 or takes_differentials or able.takes_incrementals_of(instance.engine_version):
        return None
    sentence = "Farshore takes no incremental backups of this."
    return Refusal("IncrementalNotTaken", sentence, "Leave it at 1.", "full_every_days")


def _no_logs(instance: Instance, wanted: DefaultSettings) -> Refusal | None:
    return logs_refused(instance, wanted.log_every_minutes, instance.engine, instance.arrival)


def logs_refused(instance: Instance, minutes: int, engine: str, arrival: str) -> Refusal | None:
    """Return why logs are not taken every so many minutes, or why they may not cease to be (R-5.1)."""
    takes = engine_of(engine).capabilities.takes_logs and arrival == Arrival.TAKEN
    if minutes and not takes:
        return Refusal("LogNotTaken", "Farshore takes no log backups of it.", "Choose never.", "log_every_minutes")
    if minutes and minutes not in LOG_MINUTES:
        sentence = f"Logs are taken every {', '.join(map(str, LOG_MINUTES))} minutes, or never."
        return Refusal("InvalidParameters.Format", sentence, "Choose one of them.", "log_every_minutes")
    policy = enabled_policy(instance) if instance.pk and takes and not minutes else None
    return _logs_wanted() if policy and policy.logs_enabled else None


def _logs_wanted() -> Refusal:
    return Refusal(
        "LogsWanted",
        "Its logs are copied to another region, and then nobody would take them.",
        "Turn log backup off in its cross-region settings first.",
        "log_every_minutes",
    )


def _bad_method(instance: Instance, wanted: DefaultSettings) -> Refusal | None:
    """R-7.1. What stands already is refused by `eligibility`, where it matters."""
    if wanted.backup_method == instance.backup_method:
        return None
    able = engine_of(instance.engine).capabilities
    if wanted.backup_method == BackupMethod.SNAPSHOT and not able.can_snapshot:
        sentence = f"{able.label} has no snapshot backups."
        return Refusal("InvalidParameters.Format", sentence, "Leave the method physical.", "backup_method")
    return eligibility.refuse_method(instance, wanted.backup_method)
