"""Instances: listed, looked at, and the databases of one. A restore is one that is still to come, by its own code."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import F, Q, QuerySet

from backups.engines import engine_of
from backups.models import CopyPolicy, Instance, Restore
from console.openapi import faults
from console.openapi.asking import Asked, page_of
from console.openapi.callers import Caller
from console.openapi.operations import landing, spelling
from console.openapi.operations.table import Answer, operation

CLASSIC = "Classic"
COMING = {
    Restore.State.WAITING: "Creating",
    Restore.State.QUEUED: "Creating",
    Restore.State.RUNNING: "Restoring",
    Restore.State.READY: "Running",
    Restore.State.ASIDE: "Released",
    Restore.State.FAILED: "CreateFailed",
    Restore.State.CANCELLED: "CreateFailed",
    Restore.State.REMOVED: "Released",
}


@operation("DescribeDBInstances")
def describe_db_instances(caller: Caller, asked: Asked) -> Answer:
    page = page_of(asked, any_size=True)
    here = caller.instances().living().filter(region=asked.text("RegionId"))
    rows = _narrowed(here, asked).order_by("name", "pk")
    shown = list(rows[page.rows])
    if not shown:
        caller.region(asked.text("RegionId"))  # says so where there is no such region
    return {
        "Items": {"DBInstance": [_line(instance) for instance in shown]},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": page.total(len(shown), rows),
    }


def _narrowed(rows: QuerySet[Instance], asked: Asked) -> QuerySet[Instance]:
    if codes := asked.text("DBInstanceId"):
        rows = rows.filter(code__in=codes.split(",")[:100])
    if words := asked.text("SearchKey"):
        rows = rows.filter(Q(name__icontains=words) | Q(code__icontains=words))
    if named := asked.text("Engine"):
        rows = rows.filter(engine=named.lower())
    if version := asked.text("EngineVersion"):
        rows = rows.filter(engine_version__startswith=version)
    if group := asked.text("ResourceGroupId"):
        rows = rows.filter(group=int(group)) if group.isdecimal() and len(group) < 18 else rows.none()
    return rows


def _facts(instance: Instance) -> dict[str, Any]:
    """What a list and a look at one say alike."""
    return {
        "DBInstanceId": instance.code,
        "DBInstanceDescription": instance.name,
        "DBInstanceStatus": spelling.status(instance),
        "DBInstanceType": "Primary",
        "Engine": spelling.engine(instance),
        "EngineVersion": instance.engine_version,
        "Category": spelling.CATEGORIES[instance.edition],
        "PayType": spelling.payment(instance),
        "RegionId": instance.region_id,
        "ZoneId": instance.region_id,
        "ResourceGroupId": str(instance.group_id),
        "InstanceNetworkType": CLASSIC,
        "DBInstanceNetType": "Intranet",
        "ConnectionMode": "Standard",
        "ConnectionString": instance.host,
        "LockMode": "Unlock",
    }


def _line(instance: Instance) -> dict[str, Any]:
    return _facts(instance) | {"CreateTime": spelling.second(instance.created_at)}


@operation("DescribeDBInstanceAttribute")
def describe_db_instance_attribute(caller: Caller, asked: Asked) -> Answer:
    """Several, with commas between their IDs."""
    codes = asked.text("DBInstanceId").split(",")
    if len(codes) > 30:
        raise faults.bad_format("DBInstanceId", "at most 30 instances are looked at in one call")
    return {"Items": {"DBInstanceAttribute": [_attribute(caller, code.strip()) for code in codes]}}


def _attribute(caller: Caller, code: str) -> dict[str, Any]:
    restore = caller.restores().filter(code=code).first()
    if restore is not None:
        return _coming(restore)
    instance = caller.instance(code)
    return _facts(instance) | {
        "CreationTime": spelling.second(instance.created_at),
        "Port": str(instance.port or ""),
        "DBInstanceDiskUsed": str(instance.data_bytes),
        "DBInstanceStorage": _gigabytes(instance.data_bytes),
        "DBInstanceClassType": spelling.FAMILIES[instance.family],
        "AvailabilityValue": "100.0%",
        "TimeZone": "UTC",
    }


def _gigabytes(size: int) -> int:
    return -(-size // 2**30)


def _coming(restore: Restore) -> dict[str, Any]:
    """A server that is being made, or was, from backups: known by its restore's code from the first moment."""
    source, restores = restore.instance, landing.together(restore)
    return {
        "DBInstanceId": restore.code,
        "DBInstanceDescription": restore.name,
        "DBInstanceStatus": COMING[landing.state_of(restores)],
        "DBInstanceType": "Primary",
        "Engine": spelling.engine(source),
        "EngineVersion": source.engine_version,
        "Category": spelling.CATEGORIES[source.edition],
        "PayType": "Postpaid",
        "RegionId": restore.region_id,
        "ZoneId": restore.region_id,
        "ResourceGroupId": str(source.group_id),
        "InstanceNetworkType": CLASSIC,
        "ConnectionString": restore.host,
        "Port": str(restore.port or ""),
        "CreationTime": spelling.second(restore.asked_at),
        "MasterInstanceId": restore.result.code if restore.result else "",
        "LockMode": "Unlock",
        "Tips": landing.tips_of(restores) if restore.landing_id else restore.error,
    }


@operation("DescribeDatabases")
def describe_databases(caller: Caller, asked: Asked) -> Answer:
    """The databases of which backups are known, where an engine tells them apart."""
    instance = caller.instance(asked.text("DBInstanceId"))
    page = page_of(asked, any_size=True)
    names = _databases(instance)
    if wanted := asked.text("DBName"):
        names = [name for name in names if name == wanted]
    shown = [
        {
            "DBName": name,
            "DBInstanceId": instance.code,
            "DBStatus": "Running",
            "Engine": spelling.engine(instance),
            "PageNumber": page.number,
            "PageSize": page.size,
            "TotalCount": len(names),
        }
        for name in names[page.rows]
    ]
    return {"Databases": {"Database": shown}}


def _databases(instance: Instance) -> list[str]:
    if engine_of(instance.engine).capabilities.whole_server:
        return []
    backed_up = instance.sets.exclude(database="").values_list("database", flat=True)
    seen = instance.databases.filter(gone_at=None).values_list("name", flat=True)
    return sorted({*backed_up.distinct(), *seen})


def in_region(caller: Caller, asked: Asked, *roles: str) -> Instance:
    """Return the instance that DBInstanceId names in the region that RegionId names; raises Fault."""
    instance = caller.instance(asked.text("DBInstanceId"), *roles)
    if instance.region_id != asked.text("RegionId"):
        caller.region(asked.text("RegionId"))  # says so where there is no such region
        raise faults.no_such_instance()
    return instance


def policies_of(instances: Sequence[Instance]) -> dict[int, CopyPolicy]:
    """Return what `policies.latest_policy` would of each of them, in one query."""
    rows = CopyPolicy.objects.cross_region().filter(instance__in=instances)
    ended = F("ended_at").desc(nulls_last=True)
    return {
        row.instance_id: row for row in rows.order_by("instance_id", "-enabled", ended, "-pk").distinct("instance_id")
    }


def policy_facts(instance: Instance, policy: CopyPolicy | None) -> dict[str, Any]:
    """What every answer about cross-region backup says of an instance; `Enable` and `Disable`, whatever was asked."""
    said = {
        "DBInstanceId": instance.code,
        "DBInstanceDescription": instance.name,
        "DBInstanceStatus": spelling.status(instance),
        "Engine": spelling.engine(instance),
        "EngineVersion": instance.engine_version,
        "LockMode": "Unlock",
        "BackupEnabled": spelling.SWITCH[bool(policy and policy.enabled)],
        "LogBackupEnabled": spelling.SWITCH[bool(policy and policy.enabled and policy.logs_enabled)],
        "CrossBackupType": "1",
        "RetentType": 1,
    }
    if policy is None:
        return said
    return said | {
        "CrossBackupRegion": policy.destination_id,
        "Retention": policy.retention_days,
        "BackupEnabledTime": spelling.second(policy.enabled_at),
        "LogBackupEnabledTime": spelling.second(_logs_since(policy)) if policy.logs_enabled else "",
    }


def _logs_since(policy: CopyPolicy) -> datetime | None:
    logs = policy.coverage.filter(content="log").order_by("-began_at")
    return logs.values_list("began_at", flat=True).first()
