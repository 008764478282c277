"""Copies in other regions: data and logs, how far one can be restored, which databases are in it (R-16, R-17.1)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from backups import windows
from backups.engines import engine_of
from backups.models import Copy, CopyState, Instance, Kind
from console.openapi import faults, links
from console.openapi.asking import Asked, Page, page_of
from console.openapi.callers import Caller
from console.openapi.faults import Fault
from console.openapi.operations import spelling
from console.openapi.operations.instances import in_region
from console.openapi.operations.table import Answer, operation

SHOWN = (CopyState.COMPLETED, CopyState.FAILED, CopyState.DAMAGED)  # what is there, and what should be


def copy_for(caller: Caller, number: int | None) -> Copy:
    """Return a copy by its CrossBackupId; raises Fault."""
    found = caller.copies().filter(pk=number).first() if number is not None else None
    if found is None:
        raise faults.no_such_set()
    caller.about = found.set.instance
    return found


def _listed(caller: Caller, instance: Instance, asked: Asked) -> QuerySet[Copy]:
    start, end = asked.span()
    rows = caller.copies_of(instance)
    rows = rows.filter(set__finished_at__gte=start) if start else rows
    rows = rows.filter(set__finished_at__lte=end) if end else rows
    if region := asked.text("CrossBackupRegion"):
        rows = rows.filter(destination_store__region=caller.region(region, "CrossBackupRegion"))
    return rows.order_by("-set__finished_at", "-pk")


def _shown(rows: QuerySet[Copy], page: Page, instance: Instance) -> list[Copy]:
    """Return a page of copies, each with the instance that is known already."""
    shown = list(rows[page.rows])
    for copy in shown:
        copy.set.instance = instance
    return shown


@operation("DescribeCrossRegionBackups")
def describe_cross_region_backups(caller: Caller, asked: Asked) -> Answer:
    instance = in_region(caller, asked)
    page = page_of(asked)
    rows = _listed(caller, instance, asked).exclude(set__kind=Kind.LOG).filter(state__in=SHOWN)
    for name, column in (("CrossBackupId", "pk"), ("BackupId", "set")):
        if name in asked.given:
            rows = rows.filter(**{column: asked.number(name)})
    shown = _shown(rows, page, instance)
    return {
        "RegionId": instance.region_id,
        "StartTime": asked.text("StartTime"),
        "EndTime": asked.text("EndTime"),
        "Items": {"Item": [_item(copy, caller) for copy in shown]},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": page.total(len(shown), rows),
    }


def _item(copy: Copy, caller: Caller) -> dict[str, Any]:
    found, is_good = copy.set, copy.state == CopyState.COMPLETED
    instance, region = found.instance, copy.destination_store.region_id
    return {
        "CrossBackupId": copy.pk,
        "CrossBackupRegion": region,
        "CrossBackupSetFile": file_name(copy, "data"),
        "CrossBackupSetLocation": "OSS",
        "CrossBackupSetSize": copy.stored_bytes or found.size_bytes,
        "CrossBackupDownloadLink": links.link_to(copy, caller),
        "BackupStartTime": spelling.second(found.started_at or found.finished_at),
        "BackupEndTime": spelling.second(found.finished_at),
        "ConsistentTime": spelling.second(found.finished_at),
        "BackupType": spelling.DATA_TYPES[found.kind],
        "BackupMethod": spelling.METHODS[found.method],
        "BackupSetStatus": spelling.GOOD if is_good else spelling.FAILED,
        "BackupSetScale": spelling.scale(instance),
        "Category": spelling.CATEGORIES[instance.edition],
        "Engine": spelling.engine(instance),
        "EngineVersion": instance.engine_version,
        "InstanceId": instance.pk,
        "RestoreRegions": {"RestoreRegion": [region] if is_good else []},
    }


def file_name(copy: Copy, word: str) -> str:
    """<source region>_<instance>_<set>_data_<yyyyMMddHHmmss>_<kind>.<ending>"""
    found = copy.set
    ending = engine_of(found.instance.engine).capabilities.file_endings[0]
    at = f"{found.finished_at:%Y%m%d%H%M%S}"
    return f"{found.instance.region_id}_{found.instance.code}_{found.pk}_{word}_{at}_{found.kind}{ending}"


@operation("DescribeCrossRegionLogBackupFiles")
def describe_cross_region_log_backup_files(caller: Caller, asked: Asked) -> Answer:
    instance = in_region(caller, asked)
    page = page_of(asked)
    rows = _listed(caller, instance, asked).filter(set__kind=Kind.LOG, state=CopyState.COMPLETED)
    shown = _shown(rows, page, instance)
    return {
        "RegionId": instance.region_id,
        "DBInstanceId": instance.code,
        "StartTime": asked.text("StartTime"),
        "EndTime": asked.text("EndTime"),
        "Items": {"Item": [_log(copy, caller) for copy in shown]},
        "PageNumber": page.number,
        "PageRecordCount": len(shown),
        "TotalRecordCount": page.total(len(shown), rows),
    }


def _log(copy: Copy, caller: Caller) -> dict[str, Any]:
    found, handed = copy.set, links.handed(copy, caller)
    return {
        "CrossLogBackupId": copy.pk,
        "CrossLogBackupSize": copy.stored_bytes or found.size_bytes,
        "CrossBackupRegion": copy.destination_store.region_id,
        "CrossDownloadLink": handed.address,
        "LinkExpiredTime": spelling.second(handed.until),
        "InstanceId": found.instance_id,
        "LogBeginTime": spelling.second(found.started_at or found.finished_at),
        "LogEndTime": spelling.second(found.finished_at),
        "LogFileName": file_name(copy, "log"),
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
    windows.copies_for_set(copy)  # raises Refusal where something it builds on is missing
    reaches = windows.chain_of(found.instance, copy.destination_store, found.database).window()
    ends = [one.end for one in reaches if one.start <= found.finished_at <= one.end]
    return {
        "CrossBackupId": copy.pk,
        "RegionId": copy.destination_store.region_id,
        "RecoveryBeginTime": spelling.second(found.finished_at),
        "RecoveryEndTime": spelling.second(max(ends, default=found.finished_at)),
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
    names = found.instance.databases.filter(gone_at=None).order_by("name").values_list("name", "data_bytes")
    return [{"Database": name, "Size": str(size or 0), "Tables": ""} for name, size in names]


def number_of(said: str) -> int | None:
    """Return a CrossBackupId that is passed as a string; None for what is none."""
    return int(said) if said.isascii() and said.isdecimal() and len(said) <= 18 else None
