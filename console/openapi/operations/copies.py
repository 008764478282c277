"""Copies in other regions: data and logs, how far one can be restored, which databases are in it (R-16, R-17.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import F, QuerySet

from backups.chains import certificates, windows
from backups.engines import engine_of
from backups.models import Copy, CopyState, Instance, Kind, ServerDatabase
from backups.models.copy import CopyQuerySet
from console.openapi import faults, links
from console.openapi.asking import Asked, page_of
from console.openapi.callers import Caller
from console.openapi.faults import Fault
from console.openapi.links import Handed
from console.openapi.operations import spelling
from console.openapi.operations.instances import in_region
from console.openapi.operations.spelling import Second
from console.openapi.operations.table import Answer, operation
from regions.built_once import Count, Given, among, built_once

DIGITS = str.maketrans("", "", "-T:Z")  # all that is left of a moment as it is spelled
SHOWN = (CopyState.COMPLETED, CopyState.FAILED, CopyState.DAMAGED)  # what is there, and what should be
LOOKED_AT = (  # of one copy; whatever else of it is wanted is read then: each column takes a µs, and there are 150
    "state",
    "reference",
    "stored_bytes",
    *(f"set__{name}" for name in ("database", "kind", "method", "finished_at", "size_bytes", "tool_version")),
    *(f"set__{name}" for name in certificates.ITS),
    *(f"set__instance__{name}" for name in ("code", "name", "group", "region", "engine", "engine_version")),
    *(f"destination_store__region__{name}" for name in ("name", "position")),
)


def copy_for(caller: Caller, number: int | None) -> Copy:
    """Return a copy by its CrossBackupId; raises Fault."""
    found = _one.first(number=number, sees=caller.sees) if number is not None else None
    if found is None:
        raise faults.no_such_set()
    caller.about = found.set.instance
    return found


@built_once
def _one(**given: Given) -> QuerySet[Copy]:
    seen = Copy.objects.visible().cross_region().filter(among("set__instance__group", "sees"), pk=given["number"])
    return seen.select_related("set__instance", "destination_store__region").only(*LOOKED_AT)


@built_once
def _of_data(**given: Given) -> QuerySet[Any]:
    return _listed(Copy.objects.exclude(set__kind=Kind.LOG).filter(state__in=SHOWN), given)


@built_once
def _of_logs(**given: Given) -> QuerySet[Any]:
    return _listed(Copy.objects.filter(set__kind=Kind.LOG, state=CopyState.COMPLETED), given)


def _listed(rows: CopyQuerySet, given: Mapping[str, Given]) -> QuerySet[Any]:
    """Of an instance that the caller has found."""
    rows = rows.visible().cross_region().filter(set__instance=given["instance"])
    for name, condition in NARROWED.items():
        rows = rows.filter(**{condition: given[name]}) if name in given else rows
    own = ("pk", "state", "stored_bytes")
    of_set = {"kind": F("set__kind"), "method": F("set__method"), "size_bytes": F("set__size_bytes")}
    of_set |= {"began": Second("set__started_at"), "finished": Second("set__finished_at")}
    rows = rows.order_by("-set__finished_at", "-pk")
    total = Count(rows.order_by().values("pk"))
    return rows.values(*own, "set_id", **of_set, region=F("destination_store__region"), total=total)


NARROWED = {
    "start": "set__finished_at__gte",
    "end": "set__finished_at__lte",
    "region": "destination_store__region",
    "copy": "pk",
    "set": "set",
}


def _narrowed(caller: Caller, asked: Asked) -> dict[str, Any]:
    start, end = asked.span()
    region = asked.text("CrossBackupRegion")
    where = caller.region(region, "CrossBackupRegion").pk if region else None
    wanted = {"start": start, "end": end, "region": where}
    return {name: value for name, value in wanted.items() if value is not None}


@operation("DescribeCrossRegionBackups")
def describe_cross_region_backups(caller: Caller, asked: Asked) -> Answer:
    instance = in_region(caller, asked)
    page, wanted = page_of(asked), _narrowed(caller, asked)
    for name, column in (("CrossBackupId", "copy"), ("BackupId", "set")):
        if name in asked.given:
            wanted[column] = asked.number(name)
    shown, total = _of_data.page(page.rows, instance=instance.pk, **wanted)
    addresses, same = links.handed_of([copy.pk for copy in shown], instance, caller), _of_all(instance)
    return {
        "RegionId": instance.region_id,
        "StartTime": asked.text("StartTime"),
        "EndTime": asked.text("EndTime"),
        "Items": {"Item": [same | _item(copy, instance, addresses) for copy in shown]},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": total,
    }


def _of_all(instance: Instance) -> dict[str, Any]:
    return {
        "CrossBackupSetLocation": "OSS",
        "BackupSetScale": spelling.scale(instance),
        "Category": spelling.CATEGORIES[instance.edition],
        "Engine": spelling.engine(instance),
        "EngineVersion": instance.engine_version,
        "InstanceId": instance.pk,
    }


def _item(copy: Any, instance: Instance, addresses: Mapping[int, Handed]) -> dict[str, Any]:
    is_good, at = copy.state == CopyState.COMPLETED, copy.finished
    return {
        "CrossBackupId": copy.pk,
        "CrossBackupRegion": copy.region,
        "CrossBackupSetFile": _file_name(copy, instance, "data", at),
        "CrossBackupSetSize": copy.stored_bytes or copy.size_bytes,
        "CrossBackupDownloadLink": addresses.get(copy.pk, links.NONE).address,
        "BackupStartTime": copy.began or at,
        "BackupEndTime": at,
        "ConsistentTime": at,
        "BackupType": spelling.DATA_TYPES[copy.kind],
        "BackupMethod": spelling.METHODS[copy.method],
        "BackupSetStatus": spelling.GOOD if is_good else spelling.FAILED,
        "RestoreRegions": {"RestoreRegion": [copy.region] if is_good else []},
    }


def _file_name(copy: Any, instance: Instance, word: str, at: str) -> str:
    """<source region>_<instance>_<set>_data_<yyyyMMddHHmmss>_<kind>.<ending>"""
    ending = engine_of(instance.engine).capabilities.file_endings[0]
    return f"{instance.region_id}_{instance.code}_{copy.set_id}_{word}_{at.translate(DIGITS)}_{copy.kind}{ending}"


@operation("DescribeCrossRegionLogBackupFiles")
def describe_cross_region_log_backup_files(caller: Caller, asked: Asked) -> Answer:
    instance = in_region(caller, asked)
    shown, total = _of_logs.page(page_of(asked).rows, instance=instance.pk, **_narrowed(caller, asked))
    addresses = links.handed_of([copy.pk for copy in shown], instance, caller)
    return {
        "RegionId": instance.region_id,
        "DBInstanceId": instance.code,
        "StartTime": asked.text("StartTime"),
        "EndTime": asked.text("EndTime"),
        "Items": {"Item": [_log(copy, instance, addresses) for copy in shown]},
        "PageNumber": page_of(asked).number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": total,
    }


def _log(copy: Any, instance: Instance, addresses: Mapping[int, Handed]) -> dict[str, Any]:
    handed, at = addresses.get(copy.pk, links.NONE), copy.finished
    return {
        "CrossLogBackupId": copy.pk,
        "CrossLogBackupSize": copy.stored_bytes or copy.size_bytes,
        "CrossBackupRegion": copy.region,
        "CrossDownloadLink": handed.address,
        "LinkExpiredTime": spelling.second(handed.until),
        "InstanceId": instance.pk,
        "LogBeginTime": copy.began or at,
        "LogEndTime": at,
        "LogFileName": _file_name(copy, instance, "log", at),
    }


@operation("DescribeAvailableRecoveryTime")
def describe_available_recovery_time(caller: Caller, asked: Asked) -> Answer:
    """How far the unbroken logs behind one set reach, as the copies are now (I7)."""
    copy = copy_for(caller, asked.number("CrossBackupId"))
    found = copy.set
    if asked.text("DBInstanceId", found.instance.code) != found.instance.code:
        raise faults.no_such_set()
    if copy.state != CopyState.COMPLETED or found.kind == Kind.LOG:
        raise Fault("NoAvailableDisasterRestoreBakset", 400, f"{found} cannot be restored from where it was copied to.")
    return {
        "CrossBackupId": copy.pk,
        "RegionId": copy.destination_store.region_id,
        "RecoveryBeginTime": spelling.second(found.finished_at),
        "RecoveryEndTime": spelling.second(max(windows.reach_of(copy), found.finished_at)),
    }


@operation("DescribeCrossBackupMetaList")
def describe_cross_backup_meta_list(caller: Caller, asked: Asked) -> Answer:
    """The databases in a set: one, where an engine backs up each by itself; else those that are known of the server."""
    copy = copy_for(caller, number_of(asked.text("BackupSetId")))
    page = page_of(asked, any_size=True, number="PageIndex")
    metas = _metas(copy)
    if wanted := asked.text("GetDbName") or asked.text("Pattern"):
        metas = [meta for meta in metas if wanted.lower() in meta["Database"].lower()]
    shown = metas[page.rows]
    return {
        "DBInstanceName": copy.set.instance.code,
        "Items": {"Meta": shown},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalPageCount": -(-len(metas) // page.size),
        "TotalRecordCount": len(metas),
    }


def _metas(copy: Copy) -> list[dict[str, str]]:
    found = copy.set
    if found.database:
        return [{"Database": found.database, "Size": str(found.size_bytes), "Tables": ""}]
    names = _databases(instance=found.instance_id)
    return [{"Database": one.name, "Size": str(one.data_bytes or 0), "Tables": ""} for one in names]


@built_once
def _databases(**given: Given) -> QuerySet[Any]:
    rows = ServerDatabase.objects.filter(instance=given["instance"], gone_at=None)
    return rows.order_by("name").values("name", "data_bytes")


def number_of(said: str) -> int | None:
    """Return a CrossBackupId that is passed as a string; None for what is none."""
    return int(said) if said.isascii() and said.isdecimal() and len(said) <= 18 else None
