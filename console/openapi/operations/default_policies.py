"""How default backups are set, and setting it."""

from __future__ import annotations

import re
from datetime import time
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from backups.engines import engine_of
from backups.models import BackupMethod, BackupSet, Instance, Kind, LogStream
from backups.models.instance import LOG_MINUTES
from backups.terms import default_settings
from backups.timetable import USUAL_TIME, next_slot
from console.openapi import faults
from console.openapi.asking import Asked
from console.openapi.callers import Caller
from console.openapi.faults import Fault
from console.openapi.operations import spelling
from console.openapi.operations.table import Answer, operation
from regions.built_once import Given, built_once

WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HOUR = re.compile(r"([01]\d|2[0-3]):([0-5]\d)Z(-([01]\d|2[0-3]):([0-5]\d)Z)?")
WEEKLY = 7  # days between two fulls where somebody only says that there shall be incrementals
SWITCHES = {"Enable": True, "Enabled": True, "1": True, "Disable": False, "Disabled": False, "0": False}
FREQUENCIES = {"LogInterval": LOG_MINUTES[-1]} | {f"LogInterval{minutes}": minutes for minutes in LOG_MINUTES}
METHODS = {word: method for method, word in spelling.LONG_METHODS.items() if method != BackupMethod.LOGICAL}


@operation("DescribeBackupPolicy")
def describe_backup_policy(caller: Caller, asked: Asked) -> Answer:
    instance = caller.instance(asked.text("DBInstanceId"))
    hour = instance.timetable_time or USUAL_TIME
    days = sorted(instance.timetable_days)
    logs = _gets_logs(instance)
    return {
        "BackupMethod": spelling.LONG_METHODS[instance.backup_method],
        "BackupRetentionPeriod": instance.default_retention_days,
        "Category": "Standard",
        "PreferredBackupPeriod": ",".join(WEEK[day] for day in days),
        "PreferredBackupTime": f"{hour:%H:%M}Z-{(hour.hour + 1) % 24:02}:{hour:%M}Z",
        "PreferredNextBackupTime": f"{_next(instance, caller):%Y-%m-%dT%H:%MZ}" if days else "",
        "BackupLog": spelling.SWITCH[logs],
        "EnableBackupLog": str(int(logs)),
        "LogBackupRetentionPeriod": instance.default_retention_days if logs else 0,
        "LogBackupFrequency": f"LogInterval{instance.log_every_minutes}" if instance.log_every_minutes else "",
        "EnableIncrementDataBackup": instance.full_every_days > 1,
    }


def _gets_logs(instance: Instance) -> bool:
    """Whether logs of it arrive: taken by us, received by us, or found beside its backups."""
    return instance.log_every_minutes > 0 or bool(_with_logs(instance=instance.pk))


@built_once
def _with_logs(**given: Given) -> QuerySet[Any]:
    streams = LogStream.objects.filter(instance=OuterRef("pk"), state__in=LogStream.ACTIVE)
    logs = BackupSet.objects.filter(instance=OuterRef("pk"), kind=Kind.LOG)
    return Instance.objects.filter(Exists(streams) | Exists(logs), pk=given["instance"]).values("pk")


def _next(instance: Instance, caller: Caller) -> Any:
    hour = instance.timetable_time or USUAL_TIME
    return instance.next_backup_at or next_slot(instance.timetable_days, hour, caller.at)


@operation("ModifyBackupPolicy", changes=True)
def modify_backup_policy(caller: Caller, asked: Asked) -> Answer:
    """Only what is given is changed; what Farshore has nothing of is tolerated, as long as something else is given."""
    instance = caller.operated(asked.text("DBInstanceId"))
    given = _given(instance, asked)
    if not given:
        raise Fault("ParameterLeastAssociate", 400, "At least one of the settings of default backups is needed.")
    _require_one_retention(asked, given.get("default_retention_days", instance.default_retention_days))
    default_settings.apply(instance, given, caller.by)
    instance.refresh_from_db()
    return {
        "DBInstanceID": instance.code,
        "EnableBackupLog": str(int(_gets_logs(instance))),
        "EnableIncrementDataBackup": instance.full_every_days > 1,
    }


def _given(instance: Instance, asked: Asked) -> dict[str, Any]:
    asked.among("BackupPolicyMode", {"DataBackupPolicy": 1, "LogBackupPolicy": 1})
    found = {
        "timetable_days": _days(asked),
        "timetable_time": _hour(asked),
        "default_retention_days": asked.number("BackupRetentionPeriod"),
        "full_every_days": _full_every(instance, asked),
        "log_every_minutes": _log_every(instance, asked),
        "backup_method": asked.among("BackupMethod", METHODS),
    }
    return {name: value for name, value in found.items() if value is not None}


def _days(asked: Asked) -> tuple[int, ...] | None:
    if not (said := asked.text("PreferredBackupPeriod")):
        return None
    named = said.split(",")
    if not set(named) <= set(WEEK):
        raise faults.bad_format("PreferredBackupPeriod", f"it names days out of {', '.join(WEEK)}")
    return tuple(sorted({WEEK.index(day) for day in named}))


def _hour(asked: Asked) -> time | None:
    """The hour it begins; the end of the vendor's hour is not ours to promise."""
    if not (said := asked.text("PreferredBackupTime")):
        return None
    if not (read := HOUR.fullmatch(said)):
        raise faults.bad_format("PreferredBackupTime", "it is HH:mmZ-HH:mmZ")
    return time(int(read[1]), int(read[2]))


def _full_every(instance: Instance, asked: Asked) -> int | None:
    wanted = asked.flag("EnableIncrementDataBackup")
    if wanted is None:
        return None
    if not wanted:
        return 1
    return instance.full_every_days if instance.full_every_days > 1 else WEEKLY


def _log_every(instance: Instance, asked: Asked) -> int | None:
    """Minutes between two log backups. Where logs are received as they are made, the switch is another one."""
    switch = asked.among("EnableBackupLog" if "EnableBackupLog" in asked.given else "BackupLog", SWITCHES)
    frequency = asked.among("LogBackupFrequency", FREQUENCIES)
    if switch is None and frequency is None:
        return None
    if engine_of(instance.engine).receive_logs is not None:
        if switch is _gets_logs(instance) and frequency is None:
            return None
        raise Fault(
            "IncorrectDBInstanceEngine",
            403,
            "Its logs are received as they are made, as long as they are copied to another region.",
            "Set LogBackupEnabled by ModifyInstanceCrossBackupPolicy.",
        )
    if switch is False:
        return 0
    return frequency or instance.log_every_minutes or LOG_MINUTES[-1]


def _require_one_retention(asked: Asked, days: int) -> None:
    said = asked.number("LogBackupRetentionPeriod")
    if said is not None and said != days:
        raise faults.bad_format("LogBackupRetentionPeriod", f"logs are kept as long as the data, {days} days")
