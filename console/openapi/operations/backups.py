"""Default backups at their source: which there are, taking and deleting one, and what is under way."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet, Sum

from backups import default_backups, restoring, retiring
from backups.engines import engine_of
from backups.models import BackupJob, BackupSet, Instance, Kind, Restore, Role, SetStatus
from console.openapi import faults
from console.openapi.asking import Asked, Page, page_of
from console.openapi.callers import Caller
from console.openapi.faults import Fault
from console.openapi.operations import spelling
from console.openapi.operations.table import Answer, operation

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


def _between(rows: QuerySet[BackupSet], asked: Asked) -> QuerySet[BackupSet]:
    start, end = asked.span()
    rows = rows.filter(finished_at__gte=start) if start else rows
    rows = rows.filter(finished_at__lte=end) if end else rows
    return rows.order_by("-finished_at", "-pk")


def _sets(rows: QuerySet[BackupSet], asked: Asked) -> QuerySet[BackupSet]:
    """Return the data sets asked for, those that were deleted at their source left out."""
    rows = _between(rows.data().filter(deleted_at=None), asked)
    if "BackupId" in asked.given:
        rows = rows.filter(pk__in=[int(one) for one in asked.text("BackupId").split(",") if _is_number(one)][:100])
    by_hand = asked.among("BackupMode", MODES)
    if by_hand is not None:
        manual = BackupJob.objects.filter(reason=BackupJob.Reason.ON_DEMAND).exclude(result=None).values("result")
        rows = rows.filter(pk__in=manual) if by_hand else rows.exclude(pk__in=manual)
    is_good = asked.among("BackupStatus", STATUSES)
    if is_good is not None:
        good = {"status": SetStatus.SUCCEEDED}
        rows = rows.filter(**good) if is_good else rows.exclude(**good)
    return rows


def _is_number(said: str) -> bool:
    return said.isascii() and said.isdecimal() and len(said) <= 18


@operation("DescribeBackups")
def describe_backups(caller: Caller, asked: Asked) -> Answer:
    instance = caller.instance(asked.text("DBInstanceId"))
    page, rows = page_of(asked), _sets(instance.sets.all(), asked)
    if kind := asked.among("BackupType", {name: kind for name, kind in TYPES.items() if name != "Auto"}):
        rows = rows.filter(kind=kind)
    shown = list(rows[page.rows])
    for found in shown:
        found.instance = instance
    manual = _by_hand(shown)
    return {
        "Items": {"Backup": [_line(found, found.pk in manual) | _more(found) for found in shown]},
        **_string_counters(page, len(shown), page.total(len(shown), rows)),
    }


def _string_counters(page: Page, shown: int, total: int) -> dict[str, str]:
    """The counters of these lists are strings."""
    return {"PageNumber": str(page.number), "PageRecordCount": str(shown), "TotalRecordCount": str(total)}


def _by_hand(shown: list[BackupSet]) -> set[int]:
    jobs = BackupJob.objects.filter(result__in=shown, reason=BackupJob.Reason.ON_DEMAND)
    return set(jobs.values_list("result", flat=True))


def _line(found: BackupSet, is_manual: bool) -> dict[str, Any]:
    is_good = found.status == SetStatus.SUCCEEDED
    return {
        "BackupId": str(found.pk),
        "DBInstanceId": found.instance.code,
        "HostInstanceID": str(found.instance_id),
        "BackupStartTime": spelling.second(found.started_at or found.finished_at),
        "BackupEndTime": spelling.second(found.finished_at),
        "ConsistentTime": spelling.epoch(found.finished_at),
        "BackupType": spelling.LONG_TYPES[found.kind],
        "BackupMethod": spelling.LONG_METHODS[found.method],
        "BackupMode": "Manual" if is_manual else "Automated",
        "BackupSize": found.size_bytes,
        "BackupStatus": "Success" if is_good else "Failed",
        "IsAvail": int(is_good),
        "MetaStatus": "OK" if is_good else "",
        "StoreStatus": "Disabled",
    }


def _more(found: BackupSet) -> dict[str, Any]:
    return {
        "BackupInitiator": "User" if found.origin == "found" else "System",
        "CopyOnlyBackup": str(int(found.is_copy_only)),
        "Encryption": '{"IsEncrypted":true}' if found.is_encrypted else "",
        "Engine": spelling.engine(found.instance),
        "EngineVersion": found.instance.engine_version,
        "StorageClass": "0",
    }


@operation("DescribeDetachedBackups")
def describe_detached_backups(caller: Caller, asked: Asked) -> Answer:
    """The backup sets of released instances (R-12.5)."""
    region = caller.region(asked.text("Region"), "Region")
    released = caller.instances().filter(region=region, released_at__isnull=False)
    if code := asked.text("DBInstanceId"):
        released = released.filter(code=code)
    page = page_of(asked)
    rows = _sets(BackupSet.objects.filter(instance__in=released), asked)
    shown = list(rows.select_related("instance")[page.rows])
    manual = _by_hand(shown)
    lines = [_line(found, found.pk in manual) | {"DBInstanceComment": found.instance.name} for found in shown]
    return {"Items": {"Backup": lines}, **_string_counters(page, len(shown), page.total(len(shown), rows))}


@operation("DescribeLogBackupFiles")
def describe_log_backup_files(caller: Caller, asked: Asked) -> Answer:
    return _logs(caller, asked, named=False)


@operation("DescribeBinlogFiles")
def describe_binlog_files(caller: Caller, asked: Asked) -> Answer:
    return _logs(caller, asked, named=True)


def _logs(caller: Caller, asked: Asked, *, named: bool) -> Answer:
    """The logs at the source; two operations tell of them, and one of the two names the file."""
    instance = caller.instance(asked.text("DBInstanceId"))
    page = page_of(asked)
    rows = _between(instance.sets.filter(kind=Kind.LOG, deleted_at=None), asked)
    shown = list(rows.prefetch_related("files")[page.rows])
    return {
        "Items": {"BinLogFile": [_log(found, named) for found in shown]},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": page.total(len(shown), rows),
        "TotalFileSize": int(rows.order_by().aggregate(total=Sum("size_bytes"))["total"] or 0),
    }


def _log(found: BackupSet, named: bool) -> dict[str, Any]:
    said = {
        "FileSize": found.size_bytes,
        "LogBeginTime": spelling.second(found.started_at or found.finished_at),
        "LogEndTime": spelling.second(found.finished_at),
    }
    if not named:
        return said
    names = [str(file).rpartition("/")[2] for file in found.files.all()]
    return said | {"LogFileName": names[0] if names else "", "RemoteStatus": "Completed"}


@operation("DescribeLocalAvailableRecoveryTime")
def describe_local_available_recovery_time(caller: Caller, asked: Asked) -> Answer:
    """From the first to the last moment that the default backups at their source hold; gaps may lie between."""
    instance = caller.instance(asked.text("DBInstanceId"))
    names = [""]
    if engine_of(instance.engine).capabilities.per_database:
        names = list(
            instance.sets.valid().data().order_by().values_list("database", flat=True).distinct()[:MOST_LISTED]
        )
    found = [one for name in names for one in restoring.chain_at_source(instance, name).window()]
    return {
        "DBInstanceId": instance.code,
        "RecoveryBeginTime": spelling.second(min((one.start for one in found), default=None)),
        "RecoveryEndTime": spelling.second(max((one.end for one in found), default=None)),
    }


# ---- taking and deleting one


@operation("CreateBackup", changes=True)
def create_backup(caller: Caller, asked: Asked) -> Answer:
    """One that is queued or running already is answered instead."""
    instance = caller.instance(asked.text("DBInstanceId"), Role.OPERATOR)
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
    instance = caller.instance(asked.text("DBInstanceId"), Role.OPERATOR)
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
    jobs = BackupJob.objects.filter(instance=instance).exclude(kind=Kind.LOG).order_by("-pk")
    number = asked.number("BackupJobId")
    jobs = jobs.filter(state__in=BackupJob.ACTIVE) if number is None else jobs.filter(pk=number)
    return {"Items": {"BackupJob": [_job(job) for job in jobs[:MOST_LISTED]]}}


def _job(job: BackupJob) -> dict[str, str]:
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
    tasks = [*_backups_of(instance, asked), *_restores_of(instance, asked)]
    for name, field in (("Status", "Status"), ("TaskAction", "TaskAction")):
        tasks = [task for task in tasks if asked.text(name, task[field]) == task[field]]
    tasks.sort(key=lambda task: task["BeginTime"], reverse=True)
    shown = tasks[page.rows]
    return {
        "Items": {"TaskProgressInfo": shown},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": len(tasks),
    }


def _asked_between(rows: QuerySet[Any], asked: Asked) -> QuerySet[Any]:
    start, end = asked.span()
    rows = rows.filter(asked_at__gte=start) if start else rows
    rows = rows.filter(asked_at__lte=end) if end else rows
    return rows.order_by("-pk")[:1000]


def _backups_of(instance: Instance, asked: Asked) -> list[dict[str, Any]]:
    jobs = _asked_between(BackupJob.objects.filter(instance=instance).exclude(kind=Kind.LOG), asked)
    return [
        {
            "TaskId": f"backup-{job.pk}",
            "TaskAction": "BackupInstance",
            "DBName": job.database,
            "BeginTime": spelling.second(job.asked_at),
            "FinishTime": spelling.second(job.finished_at),
            "Status": JOB_STATES[job.state],
            "Progress": "100.0" if job.state == BackupJob.State.SUCCEEDED else "0.0",
            "TaskErrorMessage": job.error,
        }
        for job in jobs
    ]


def _restores_of(instance: Instance, asked: Asked) -> list[dict[str, Any]]:
    restores = _asked_between(Restore.objects.filter(instance=instance), asked)
    return [
        {
            "TaskId": restore.code,
            "TaskAction": "CreateDdrInstance",
            "DBName": restore.database,
            "BeginTime": spelling.second(restore.asked_at),
            "FinishTime": spelling.second(restore.finished_at),
            "Status": _state_of(restore),
            "CurrentStepName": restore.stage,
            "Progress": "100.0" if restore.state == Restore.State.READY else _percent(restore),
            "TaskErrorCode": restore.error_code,
            "TaskErrorMessage": restore.error,
        }
        for restore in restores
    ]


def _state_of(restore: Restore) -> str:
    if restore.state in (Restore.State.FAILED, Restore.State.CANCELLED):
        return "Failed"
    if restore.state == Restore.State.RUNNING:
        return "Processing"
    return "NoStart" if restore.state in Restore.PENDING else "Finished"


def _percent(restore: Restore) -> str:
    return f"{min(99.9, 100 * restore.done / restore.total):.1f}" if restore.total else "0.0"
