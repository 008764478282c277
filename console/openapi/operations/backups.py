"""Default backups at their source: which there are, taking and deleting one, and what is under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backups import default_backups, restoring
from backups.default_backups import retiring
from backups.engines import engine_of
from backups.models import BackupJob, BackupSet, Instance, Kind, Restore, SetFile, SetStatus
from backups.models.backup_set import BackupSetQuerySet
from console.openapi import faults
from console.openapi.asking import Asked, Page, page_of
from console.openapi.callers import Caller
from console.openapi.faults import Fault
from console.openapi.operations import spelling
from console.openapi.operations.spelling import Second
from console.openapi.operations.table import Answer, operation
from regions.built_once import Count, Given, among, built_once

TYPES = {"Auto": Kind.FULL, "FullBackup": Kind.FULL, "IncrementalBackup": Kind.DIFFERENTIAL}
MODES = {"Automated": False, "Manual": True}
STATUSES = {"Success": True, "Failed": False}
JOB_STATES = {
    BackupJob.State.QUEUED: "NoStart",
    BackupJob.State.RUNNING: "Processing",
    BackupJob.State.SUCCEEDED: "Finished",
    BackupJob.State.FAILED: "Failed",
    BackupJob.State.CANCELLED: "Failed",
}
MOST_LISTED = 100


# ---- which there are


@built_once
def _of_one(**given: Given) -> QuerySet[Any]:
    return _sets(BackupSet.objects.filter(instance=given["instance"]), given)


@built_once
def _of_released(**given: Given) -> QuerySet[Any]:
    rows = BackupSet.objects.filter(among("instance__group", "sees"), instance__released_at__isnull=False)
    rows = rows.filter(instance__region=given["region"], instance__region__hidden=False)
    return _sets(rows.filter(instance__code=given["code"]) if "code" in given else rows, given)


def _sets(rows: BackupSetQuerySet, given: Mapping[str, Given]) -> QuerySet[Any]:
    """Of data, those that were deleted at their source left out."""
    rows, manual = _between(rows.data().filter(deleted_at=None), given), Exists(BY_HAND)
    if "numbers" in given:
        rows = rows.filter(among("pk", "numbers"))
    if "kind" in given:
        rows = rows.filter(kind=given["kind"])
    for name, condition in (("by_hand", manual), ("by_itself", ~manual), ("good", GOOD), ("not_good", ~GOOD)):
        rows = rows.filter(condition) if name in given else rows
    total = Count(rows.values("pk"))
    of_instance = {"code": F("instance__code"), "instance_name": F("instance__name")}
    times = {**SPELLED, "consistent": spelling.Epoch("finished_at")}
    return rows.order_by("-finished_at", "-pk").values(*OF_SET, **of_instance, **times, is_manual=manual, total=total)


BY_HAND = BackupJob.objects.filter(result=OuterRef("pk"), reason=BackupJob.Reason.ON_DEMAND)
GOOD = Q(status=SetStatus.SUCCEEDED)
SPELLED = {"began": Second("started_at"), "finished": Second("finished_at")}
OF_SET = (
    *("pk", "instance_id", "kind", "method", "status", "size_bytes", "origin"),
    *("is_copy_only", "is_encrypted"),
)


def _between(rows: BackupSetQuerySet, given: Mapping[str, Given]) -> BackupSetQuerySet:
    rows = rows.filter(finished_at__gte=given["start"]) if "start" in given else rows
    return rows.filter(finished_at__lte=given["end"]) if "end" in given else rows


def _narrowed(asked: Asked) -> dict[str, Any]:
    """Return what a list is narrowed to, by the names `_sets` knows."""
    wanted = _span(asked)
    if "BackupId" in asked.given:
        wanted["numbers"] = [int(one) for one in asked.text("BackupId").split(",") if _is_number(one)][:100]
    by_hand, is_good = asked.among("BackupMode", MODES), asked.among("BackupStatus", STATUSES)
    if by_hand is not None:
        wanted["by_hand" if by_hand else "by_itself"] = True
    if is_good is not None:
        wanted["good" if is_good else "not_good"] = True
    return wanted


def _span(asked: Asked) -> dict[str, Any]:
    start, end = asked.span()
    return {name: at for name, at in (("start", start), ("end", end)) if at}


def _is_number(said: str) -> bool:
    return said.isascii() and said.isdecimal() and len(said) <= 18


@operation("DescribeBackups")
def describe_backups(caller: Caller, asked: Asked) -> Answer:
    instance = caller.instance(asked.text("DBInstanceId"))
    page, wanted = page_of(asked), _narrowed(asked)
    if kind := asked.among("BackupType", {name: kind for name, kind in TYPES.items() if name != "Auto"}):
        wanted["kind"] = kind
    shown, total = _of_one.page(page.rows, instance=instance.pk, **wanted)
    return {
        "Items": {"Backup": [_line(found) | _more(found, instance) for found in shown]},
        **_string_counters(page, len(shown), total),
    }


def _string_counters(page: Page, shown: int, total: int) -> dict[str, str]:
    """The counters of these lists are strings."""
    return {"PageNumber": str(page.number), "PageRecordCount": str(shown), "TotalRecordCount": str(total)}


def _line(found: Any) -> dict[str, Any]:
    is_good, at = found.status == SetStatus.SUCCEEDED, found.finished
    return {
        "BackupId": str(found.pk),
        "DBInstanceId": found.code,
        "HostInstanceID": str(found.instance_id),
        "BackupStartTime": found.began or at,
        "BackupEndTime": at,
        "ConsistentTime": found.consistent,
        "BackupType": spelling.LONG_TYPES[found.kind],
        "BackupMethod": spelling.LONG_METHODS[found.method],
        "BackupMode": "Manual" if found.is_manual else "Automated",
        "BackupSize": found.size_bytes,
        "BackupStatus": "Success" if is_good else "Failed",
        "IsAvail": int(is_good),
        "MetaStatus": "OK" if is_good else "",
        "StoreStatus": "Disabled",
    }


def _more(found: Any, instance: Instance) -> dict[str, Any]:
    return {
        "BackupInitiator": "User" if found.origin == "found" else "System",
        "CopyOnlyBackup": str(int(found.is_copy_only)),
        "Encryption": '{"IsEncrypted":true}' if found.is_encrypted else "",
        "Engine": spelling.engine(instance),
        "EngineVersion": instance.engine_version,
        "StorageClass": "0",
    }


@operation("DescribeDetachedBackups")
def describe_detached_backups(caller: Caller, asked: Asked) -> Answer:
    """The backup sets of released instances (R-12.5)."""
    page, wanted = page_of(asked), _narrowed(asked)
    if code := asked.text("DBInstanceId"):
        wanted["code"] = code
    shown, total = _of_released.page(page.rows, sees=caller.sees, region=asked.text("Region"), **wanted)
    if not shown:
        caller.region(asked.text("Region"), "Region")  # says so where there is no such region
    lines = [_line(found) | {"DBInstanceComment": found.instance_name} for found in shown]
    return {"Items": {"Backup": lines}, **_string_counters(page, len(shown), total)}


@operation("DescribeLogBackupFiles")
def describe_log_backup_files(caller: Caller, asked: Asked) -> Answer:
    return _logs(caller, asked, named=False)


@operation("DescribeBinlogFiles")
def describe_binlog_files(caller: Caller, asked: Asked) -> Answer:
    return _logs(caller, asked, named=True)


def _logs(caller: Caller, asked: Asked, *, named: bool) -> Answer:
    """The logs at the source; two operations tell of them, and one of the two names the file."""
    instance = caller.instance(asked.text("DBInstanceId"))
    page, wanted = page_of(asked), _span(asked)
    shown, total = _logs_of.page(page.rows, instance=instance.pk, **wanted)
    names = {row.set_id: row.key for row in _files_of(sets=[found.pk for found in shown])} if named and shown else {}
    size = shown[0].total_bytes if shown else _bytes_before(page, instance, wanted)
    return {
        "Items": {"BinLogFile": [_log(found) | (_named(found, names) if named else {}) for found in shown]},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": total,
        "TotalFileSize": int(size or 0),
    }


@built_once
def _logs_of(**given: Given) -> QuerySet[Any]:
    rows = _between(BackupSet.objects.filter(instance=given["instance"], kind=Kind.LOG, deleted_at=None), given)
    totals = {"total": Count(rows.values("pk")), "total_bytes": Bytes(rows.values("size_bytes"))}
    return rows.order_by("-finished_at", "-pk").values("pk", "size_bytes", **SPELLED, **totals)


def _bytes_before(page: Page, instance: Instance, wanted: Mapping[str, Any]) -> int:
    """Of the pages before one that is empty."""
    first = _logs_of.first(instance=instance.pk, **wanted) if page.number > 1 else None
    return first.total_bytes if first else 0


class Bytes(Count):
    template = "(SELECT sum(size_bytes) FROM (%(subquery)s) AS counted)"


@built_once
def _files_of(**_: Given) -> QuerySet[Any]:
    """The first file of each."""
    rows = SetFile.objects.filter(among("set", "sets")).order_by("set_id", "file_id").distinct("set_id")
    return rows.values("set_id", key=F("file__key"))


def _log(found: Any) -> dict[str, Any]:
    return {
        "FileSize": found.size_bytes,
        "LogBeginTime": found.began or found.finished,
        "LogEndTime": found.finished,
    }


def _named(found: Any, names: Mapping[int, str]) -> dict[str, str]:
    """A file's key may hold bytes that are no text."""
    name = names.get(found.pk, "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {"LogFileName": name.rpartition("/")[2], "RemoteStatus": "Completed"}


@operation("DescribeLocalAvailableRecoveryTime")
def describe_local_available_recovery_time(caller: Caller, asked: Asked) -> Answer:
    """From the first to the last moment that the default backups at their source hold; gaps may lie between."""
    instance = caller.instance(asked.text("DBInstanceId"))
    found = [one for chain in restoring.chains_at_source(instance) for one in chain.window()]
    return {
        "DBInstanceId": instance.code,
        "RecoveryBeginTime": spelling.second(min((one.start for one in found), default=None)),
        "RecoveryEndTime": spelling.second(max((one.end for one in found), default=None)),
    }


# ---- taking and deleting one


@operation("CreateBackup", changes=True)
def create_backup(caller: Caller, asked: Asked) -> Answer:
    """One that is queued or running already is answered instead."""
    instance = caller.operated(asked.text("DBInstanceId"))
    _require_method(instance, asked)
    kind = asked.among("BackupType", TYPES) or Kind.FULL
    job = default_backups.ask(instance, caller.by, database=_database(instance, asked), kind=kind)
    return {"BackupJobId": str(job.pk)}


def _require_method(instance: Instance, asked: Asked) -> None:
    methods = {word: method for method, word in spelling.LONG_METHODS.items()}
    method = asked.among("BackupMethod", methods)
    if method and method != instance.backup_method:
        raise faults.bad_format("BackupMethod", f"its backups are {spelling.LONG_METHODS[instance.backup_method]}")


def _database(instance: Instance, asked: Asked) -> str:
    named = asked.text("DBName")
    if named and engine_of(instance.engine).capabilities.whole_server:
        raise Fault("InvalidDBName.NotFound", 400, "A backup of this engine holds every database of the server.")
    if len(named) > 200:
        raise faults.bad_format("DBName", "it has at most 200 characters")
    return named


@operation("DeleteBackup", changes=True)
def delete_backup(caller: Caller, asked: Asked) -> Answer:
    """One or several, all or none; they go within the hour (R-2.5)."""
    instance = caller.operated(asked.text("DBInstanceId"))
    named = asked.text("BackupId").split(",")
    numbers = {int(one) for one in named if _is_number(one)}
    if len(named) > MOST_LISTED:
        raise faults.bad_format("BackupId", f"it names at most {MOST_LISTED} sets")
    found = list(instance.sets.data().filter(pk__in=numbers, deleted_at=None))
    if len(found) < len(named):
        raise faults.no_such_set()
    retiring.ask_to_delete(found, caller.by)
    return {}


@operation("DescribeBackupTasks")
def describe_backup_tasks(caller: Caller, asked: Asked) -> Answer:
    """What is queued or running; a job that is over when it is named."""
    instance = caller.instance(asked.text("DBInstanceId"))
    number = asked.number("BackupJobId")
    wanted = {"instance": instance.pk} | ({} if number is None else {"number": number})
    return {"Items": {"BackupJob": [_job(job) for job in _jobs.some(MOST_LISTED, **wanted)]}}


@built_once
def _jobs(**given: Given) -> QuerySet[Any]:
    jobs = BackupJob.objects.filter(instance=given["instance"]).exclude(kind=Kind.LOG).order_by("-pk")
    jobs = jobs.filter(pk=given["number"]) if "number" in given else jobs.filter(state__in=BackupJob.ACTIVE)
    return jobs.values("pk", "result_id", "state", "reason")


def _job(job: Any) -> dict[str, str]:
    is_manual = job.reason == BackupJob.Reason.ON_DEMAND
    return {
        "BackupJobId": str(job.pk),
        "BackupId": str(job.result_id or ""),
        "BackupProgressStatus": JOB_STATES[job.state],
        "BackupStatus": JOB_STATES[job.state],
        "JobMode": "Manual" if is_manual else "Automated",
        "Process": "100%" if job.state == BackupJob.State.SUCCEEDED else "0%",
        "TaskAction": "TempBackupTask" if is_manual else "NormalBackupTask",
    }


# ---- what is under way


@operation("DescribeTasks")
def describe_tasks(caller: Caller, asked: Asked) -> Answer:
    """Backups and restores of an instance, the newest first."""
    instance = caller.instance(asked.text("DBInstanceId"))
    page = page_of(asked)
    found = _tasks(instance, asked)
    for name, said in (("Status", _status), ("TaskAction", _action)):
        found = [row for row in found if asked.text(name) == said(row)] if name in asked.given else found
    shown = [_backup_task(row) if _action(row) == BACKUP else _restore_task(row) for row in found[page.rows]]
    return {
        "Items": {"TaskProgressInfo": shown},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": len(found),
    }


BACKUP, RESTORE = "BackupInstance", "CreateDdrInstance"


def _tasks(instance: Instance, asked: Asked) -> list[Any]:
    wanted = {"instance": instance.pk, **_span(asked)}
    found = [*_jobs_of.some(MOST_TASKS, **wanted), *_restores_of.some(MOST_TASKS, **wanted)]
    return sorted(found, key=lambda row: row.asked, reverse=True)


def _action(row: Any) -> str:
    return RESTORE if hasattr(row, "stage") else BACKUP


def _status(row: Any) -> str:
    return _state_of(row) if _action(row) == RESTORE else JOB_STATES[row.state]


MOST_TASKS = 1000
OF_TASK = {"asked": Second("asked_at"), "finished": Second("finished_at")}


def _asked_between(rows: QuerySet[Any], given: Mapping[str, Given]) -> QuerySet[Any]:
    rows = rows.filter(asked_at__gte=given["start"]) if "start" in given else rows
    rows = rows.filter(asked_at__lte=given["end"]) if "end" in given else rows
    return rows.order_by("-pk")


@built_once
def _jobs_of(**given: Given) -> QuerySet[Any]:
    rows = _asked_between(BackupJob.objects.filter(instance=given["instance"]).exclude(kind=Kind.LOG), given)
    return rows.values("pk", "database", "state", "error", **OF_TASK)


def _backup_task(job: Any) -> dict[str, Any]:
    return {
        "TaskId": f"backup-{job.pk}",
        "TaskAction": BACKUP,
        "DBName": job.database,
        "BeginTime": job.asked,
        "FinishTime": job.finished or "",
        "Status": JOB_STATES[job.state],
        "Progress": "100.0" if job.state == BackupJob.State.SUCCEEDED else "0.0",
        "TaskErrorMessage": job.error,
    }


@built_once
def _restores_of(**given: Given) -> QuerySet[Any]:
    rows = _asked_between(Restore.objects.filter(instance=given["instance"]), given)
    own = ("code", "database", "state", "stage", "done", "total", "error_code", "error")
    return rows.values(*own, **OF_TASK)


def _restore_task(restore: Any) -> dict[str, Any]:
    return {
        "TaskId": restore.code,
        "TaskAction": RESTORE,
        "DBName": restore.database,
        "BeginTime": restore.asked,
        "FinishTime": restore.finished or "",
        "Status": _state_of(restore),
        "CurrentStepName": restore.stage,
        "Progress": "100.0" if restore.state == Restore.State.READY else _percent(restore),
        "TaskErrorCode": restore.error_code,
        "TaskErrorMessage": restore.error,
    }


def _state_of(restore: Any) -> str:
    if restore.state in (Restore.State.FAILED, Restore.State.CANCELLED):
        return "Failed"
    if restore.state == Restore.State.RUNNING:
        return "Processing"
    return "NoStart" if restore.state in Restore.PENDING else "Finished"


def _percent(restore: Any) -> str:
    return f"{min(99.9, 100 * restore.done / restore.total):.1f}" if restore.total else "0.0"
