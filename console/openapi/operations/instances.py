"""Instances: listed, looked at, and the databases of one. A restore is one that is still to come, by its own code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import F, OuterRef, Q, QuerySet, Subquery

from backups.engines import engine_of
from backups.models import BackupSet, CopyPolicy, Coverage, Instance, Restore, ServerDatabase
from console.openapi import faults
from console.openapi.asking import Asked, page_of
from console.openapi.callers import Caller
from console.openapi.operations import landing, spelling
from console.openapi.operations.spelling import Second
from console.openapi.operations.table import Answer, operation
from regions.built_once import Count, Given, among, built_once

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


@built_once
def _living(**given: Given) -> QuerySet[Any]:
    rows = Instance.objects.living().filter(among("group", "sees"), region=given["region"])
    if "codes" in given:
        rows = rows.filter(among("code", "codes"))
    if "words" in given:
        rows = rows.filter(Q(name__icontains=given["words"]) | Q(code__icontains=given["words"]))
    if "engine" in given:
        rows = rows.filter(engine=given["engine"])
    if "version" in given:
        rows = rows.filter(engine_version__startswith=given["version"])
    if "group" in given:
        rows = rows.filter(group=given["group"])
    return rows.order_by("name", "pk").values(
        *OF_INSTANCE, created=Second("created_at"), total=Count(rows.values("pk"))
    )


OF_INSTANCE = (
    *("code", "name", "released_at", "engine", "engine_version", "edition", "billing_method"),
    *("region_id", "group_id", "host"),
)


@operation("DescribeDBInstances")
def describe_db_instances(caller: Caller, asked: Asked) -> Answer:
    page = page_of(asked, any_size=True)
    shown, total = _living.page(page.rows, sees=caller.sees, region=asked.text("RegionId"), **_narrowed(asked))
    if not shown:
        caller.region(asked.text("RegionId"))  # says so where there is no such region
    return {
        "Items": {"DBInstance": [_line(instance) for instance in shown]},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": total,
    }


def _narrowed(asked: Asked) -> dict[str, Any]:
    """Return what the list is narrowed to, by the names `_living` knows."""
    group = asked.text("ResourceGroupId")
    wanted = {
        "codes": asked.text("DBInstanceId").split(",")[:100] if asked.text("DBInstanceId") else None,
        "words": asked.text("SearchKey") or None,
        "engine": asked.text("Engine").lower() or None,
        "version": asked.text("EngineVersion") or None,
        "group": (int(group) if group.isdecimal() and len(group) < 18 else 0) if group else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _facts(instance: Any) -> dict[str, Any]:
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


def _line(instance: Any) -> dict[str, Any]:
    return _facts(instance) | {"CreateTime": instance.created}


@operation("DescribeDBInstanceAttribute")
def describe_db_instance_attribute(caller: Caller, asked: Asked) -> Answer:
    """Several, with commas between their IDs."""
    codes = [code.strip() for code in asked.text("DBInstanceId").split(",")]
    if len(codes) > 30:
        raise faults.bad_format("DBInstanceId", "at most 30 instances are looked at in one call")
    found = {instance.code: _attribute(instance) for instance in _named(sees=caller.sees, codes=codes)}
    found |= {restore.code: _coming(restore) for restore in _restores(sees=caller.sees, codes=codes)}
    if not found.keys() >= set(codes):
        raise faults.no_such_instance()
    return {"Items": {"DBInstanceAttribute": [found[code] for code in codes]}}


@built_once
def _named(**_: Given) -> QuerySet[Any]:
    rows = Instance.objects.filter(among("group", "sees"), among("code", "codes"))
    return rows.values(*OF_INSTANCE, "created_at", "port", "data_bytes", "family")


@built_once
def _restores(**_: Given) -> QuerySet[Any]:
    rows = Restore.objects.filter(among("instance__group", "sees"), among("code", "codes"))
    of_source = {name: F(f"instance__{name}") for name in ("engine", "engine_version", "edition", "group_id")}
    own = ("code", "name", "state", "region_id", "host", "port", "asked_at", "error")
    own += ("instance_id", "database", "landing_id", "landed_as", "batch")
    return rows.values(*own, **of_source, result_code=F("result__code"))


def _attribute(instance: Any) -> dict[str, Any]:
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


def _coming(restore: Any) -> dict[str, Any]:
    """A server that is being made, or was, from backups: known by its restore's code from the first moment."""
    restores = landing.together(restore)
    return {
        "DBInstanceId": restore.code,
        "DBInstanceDescription": restore.name,
        "DBInstanceStatus": COMING[landing.state_of(restores)],
        "DBInstanceType": "Primary",
        "Engine": spelling.engine(restore),
        "EngineVersion": restore.engine_version,
        "Category": spelling.CATEGORIES[restore.edition],
        "PayType": "Postpaid",
        "RegionId": restore.region_id,
        "ZoneId": restore.region_id,
        "ResourceGroupId": str(restore.group_id),
        "InstanceNetworkType": CLASSIC,
        "ConnectionString": restore.host,
        "Port": str(restore.port or ""),
        "CreationTime": spelling.second(restore.asked_at),
        "MasterInstanceId": restore.result_code or "",
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
    return sorted({row.name for row in _known_databases(instance=instance.pk)})


@built_once
def _known_databases(**given: Given) -> QuerySet[Any]:
    backed_up = BackupSet.objects.filter(instance=given["instance"]).exclude(database="").order_by()
    seen = ServerDatabase.objects.filter(instance=given["instance"], gone_at=None)
    return seen.values("name").union(backed_up.values(name=F("database")))


def in_region(caller: Caller, asked: Asked, *, to_operate: bool = False) -> Instance:
    """Return the instance that DBInstanceId names in the region that RegionId names; raises Fault."""
    instance = (caller.operated if to_operate else caller.instance)(asked.text("DBInstanceId"))
    if instance.region_id != asked.text("RegionId"):
        caller.region(asked.text("RegionId"))  # says so where there is no such region
        raise faults.no_such_instance()
    return instance


def policy_of(instance: Instance) -> Any:
    return next(iter(_policies(instances=[instance.pk])), None)


def policies_of(instances: Iterable[Any]) -> dict[int, Any]:
    """Return what `policies.latest_policy` would of each of them, and since when their logs are copied."""
    return {row.instance_id: row for row in _policies(instances=[instance.pk for instance in instances])}


@built_once
def _policies(**_: Given) -> QuerySet[Any]:
    logs = Coverage.objects.filter(policy=OuterRef("pk"), content="log").order_by("-began_at")
    rows = CopyPolicy.objects.cross_region().filter(among("instance", "instances"))
    rows = rows.order_by("instance_id", "-enabled", F("ended_at").desc(nulls_last=True), "-pk").distinct("instance_id")
    said = ("instance_id", "enabled", "logs_enabled", "destination_id", "retention_days", "enabled_at")
    return rows.values(*said, logs_since=Subquery(logs.values("began_at")[:1]))


def policy_facts(instance: Any, policy: Any) -> dict[str, Any]:
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
        "LogBackupEnabledTime": spelling.second(policy.logs_since) if policy.logs_enabled else "",
    }
