"""Cross-region backup of instances: who has it, how it is set, and setting it (R-12 to R-15, R-13.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.db.models import QuerySet

from backups import policies
from backups.models import Instance
from backups.policies import Settings
from console.openapi import faults
from console.openapi.asking import Asked, page_of
from console.openapi.callers import Caller
from console.openapi.faults import Fault
from console.openapi.operations.instances import in_region, policies_of, policy_facts, policy_of
from console.openapi.operations.table import Answer, operation
from console.widgets.instance_lists import backed_up
from regions.built_once import Count, Given, among, built_once

SWITCHES = {"0": False, "1": True}
CHANGEABLE = ("BackupEnabled", "LogBackupEnabled", "CrossBackupRegion", "CrossBackupType", "RetentType", "Retention")
ECHOED = (
    "BackupEnabled",
    "CrossBackupRegion",
    "CrossBackupType",
    "DBInstanceId",
    "LogBackupEnabled",
    "RetentType",
    "Retention",
)


@operation("DescribeCrossRegionBackupDBInstance")
def describe_cross_region_backup_db_instance(caller: Caller, asked: Asked) -> Answer:
    """What Backup Instances lists (R-16.1, R-12.5)."""
    page, wanted = page_of(asked), {"sees": caller.sees, "region": asked.text("RegionId")}
    if code := asked.text("DBInstanceId"):
        wanted["one"] = caller.instance(code).pk
    shown, total = _listed.page(page.rows, **wanted)
    if not shown:
        caller.region(asked.text("RegionId"))  # says so where there is no such region
    known = policies_of(shown)
    return {
        "RegionId": asked.text("RegionId"),
        "Items": {"Item": [policy_facts(instance, known.get(instance.pk)) for instance in shown]},
        "PageNumber": page.number,
        "PageSize": page.size,
        "ItemsNumbers": len(shown),
        "TotalRecords": total,
    }


@built_once
def _listed(**given: Given) -> QuerySet[Any]:
    rows = backed_up(Instance.objects.filter(among("group", "sees"), region=given["region"], region__hidden=False))
    if "one" in given:
        rows = rows.filter(pk=given["one"])
    said = ("pk", "code", "name", "released_at", "engine", "engine_version")
    return rows.order_by("name", "pk").values(*said, total=Count(rows.values("pk")))


@operation("DescribeInstanceCrossBackupPolicy")
def describe_instance_cross_backup_policy(caller: Caller, asked: Asked) -> Answer:
    instance = in_region(caller, asked)
    return policy_facts(instance, policy_of(instance)) | {"RegionId": instance.region_id}


@operation("ModifyInstanceCrossBackupPolicy", changes=True)
def modify_instance_cross_backup_policy(caller: Caller, asked: Asked) -> Answer:
    """Only what is given is changed; in place of the tick stands the owner's standing acceptance (R-13.3)."""
    instance = in_region(caller, asked, to_operate=True)
    if not any(name in asked.given for name in CHANGEABLE):
        raise Fault("ParameterLeastAssociate", 400, f"At least one is needed of {', '.join(CHANGEABLE)}.")
    policies.apply(instance, _wanted(instance, asked), caller.by, standing_of=caller.by)
    said = policy_facts(instance, policy_of(instance))
    return {name: said[name] for name in ECHOED if name in said} | {"RegionId": instance.region_id}


def _wanted(instance: Instance, asked: Asked) -> Settings:
    for fixed in ("CrossBackupType", "RetentType"):  # the vendor knows one kind of each
        asked.among(fixed, {"1": 1})
    now = policies.current_settings(instance)
    given = {
        "enabled": asked.among("BackupEnabled", SWITCHES),
        "logs_enabled": asked.among("LogBackupEnabled", SWITCHES),
        "destination": _destination(asked),
        "retention_days": asked.number("Retention"),
    }
    wanted = replace(now, **{name: value for name, value in given.items() if value is not None})
    if not wanted.enabled and given["logs_enabled"]:
        raise faults.bad_format("LogBackupEnabled", "log backup can be on only while data backup is on")
    return wanted


def _destination(asked: Asked) -> Any:
    named = asked.text("CrossBackupRegion")
    return Caller.region(named, "CrossBackupRegion").pk if named else None
