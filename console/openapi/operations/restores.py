"""New instances from copies in their region: checked, then made, by set or by time (R-17.1). RegionId: where to."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from django.db import transaction

from backups import restoring
from backups.chains import windows
from backups.chains.log_chain import Interval
from backups.models import Copy, Instance
from console.openapi import faults
from console.openapi.asking import Asked
from console.openapi.callers import Caller
from console.openapi.faults import Fault
from console.openapi.models import ClientToken
from console.openapi.operations import landing, spelling
from console.openapi.operations.copies import copy_for, number_of
from console.openapi.operations.table import Answer, operation
from regions.models import Region, Store

SET, TIME = "set", "time"
CHECKED = {"0": SET, "1": TIME}
CREATED = {"BackupSet": SET, "BackupTime": TIME, **CHECKED}
BAD_TYPE = "InvalidRestoreType.Format"


@operation("CheckCreateDdrDBInstance")
def check_create_ddr_db_instance(caller: Caller, asked: Asked) -> Answer:
    """What speaks against it is the error; else it is valid."""
    instance, wish = _wish(caller, asked, asked.among("RestoreType", CHECKED, BAD_TYPE))
    landing.checks(instance, wish)
    return {"IsValid": "true"}


@operation("CreateDdrInstance", changes=True)
def create_ddr_instance(caller: Caller, asked: Asked) -> Answer:
    """The same ClientToken again makes nothing and answers the same."""
    token = asked.text("ClientToken")
    if len(token) > 64 or not token.isascii():
        raise faults.bad_format("ClientToken", "it has at most 64 ASCII characters")
    return _once(caller, asked, token) if token else _create(caller, asked)


def _once(caller: Caller, asked: Asked, token: str) -> Answer:
    """Two calls with one token: the second waits for the first at the row, and reads what that was answered."""
    print_ = hashlib.sha256(json.dumps([asked.operation, dict(asked.given)], sort_keys=True).encode()).hexdigest()
    with transaction.atomic():
        row, is_new = ClientToken.objects.get_or_create(
            key=caller.key, token=token, defaults={"asked": print_, "made_at": caller.at}
        )
        if is_new:
            row.answer = _create(caller, asked)
            row.save(update_fields=["answer"])
    if row.asked != print_:
        sentence = "The ClientToken was used for a call with other parameters."
        raise Fault("IdempotentParameterMismatch", 400, sentence, "Use a new token for each wish.")
    return row.answer


def _create(caller: Caller, asked: Asked) -> dict[str, Any]:
    instance, wish = _wish(caller, asked, asked.among("RestoreType", CREATED, BAD_TYPE))
    described = asked.text("DBInstanceDescription")
    if "landing" in wish:
        restore = landing.ask(instance, caller.by, wish, described)
    else:
        restore = restoring.ask(instance, caller.by, name=described or restoring.free_name(instance), **wish)
    return {
        "DBInstanceId": restore.code,
        "OrderId": str(restore.pk),
        "ConnectionString": restore.host,
        "Port": str(restore.port or ""),
    }


def _wish(caller: Caller, asked: Asked, how: str | None) -> tuple[Instance, dict[str, Any]]:
    """Return the instance, and what is to be restored of it as `restoring` takes it; raises Fault."""
    region = caller.region(asked.text("RegionId"))
    instance, wish = _by_set(caller, asked, region) if how == SET else _by_time(caller, asked, region)
    caller.require_operating(instance)
    _require_engine(instance, asked)
    if server := landing.server_for(instance, region, asked.text("ZoneId")):
        wish |= {"landing": server} | _databases(instance, wish)
    return instance, wish


def _databases(instance: Instance, wish: dict[str, Any]) -> dict[str, Any]:
    """A set is of one database; to a moment comes back whatever was there."""
    return {} if "copy" in wish else {"databases": restoring.databases_until(instance, wish["store"], wish["until"])}


def _by_set(caller: Caller, asked: Asked, region: Region) -> tuple[Instance, dict[str, Any]]:
    if "BackupSetId" not in asked.given:
        raise Fault("NoBaksetName", 400, "BackupSetId is mandatory to restore a set.")
    copy: Copy = copy_for(caller, number_of(asked.text("BackupSetId")))
    where = copy.destination_store.region_id
    if where != region.pk or asked.text("BackupSetRegion", where) != where:
        raise _elsewhere(where)
    return copy.set.instance, {"copy": copy}


def _by_time(caller: Caller, asked: Asked, region: Region) -> tuple[Instance, dict[str, Any]]:
    if "SourceRegion" not in asked.given:
        raise Fault("NoBackupSetRegion", 400, "SourceRegion is mandatory to restore to a point in time.")
    if "SourceDBInstanceName" not in asked.given:
        raise Fault("NoSourceInstanceName", 400, "SourceDBInstanceName is mandatory to restore to a point in time.")
    until = asked.moment("RestoreTime")
    if until is None:
        raise faults.missing("RestoreTime")
    source = caller.region(asked.text("SourceRegion"), "SourceRegion")
    instance = caller.instance(asked.text("SourceDBInstanceName"))
    if instance.region_id != source.pk:
        raise faults.no_such_instance()
    store = _store(caller, instance, region)
    return instance, {"store": store, "until": _within(until, instance, store)}


def _within(said: datetime, instance: Instance, store: Store) -> datetime:
    """Return the moment meant by a time to the second: what begins within that second is told by its second."""
    found = [one for name in windows.databases_at(instance, store) for one in _window(instance, store, name)]
    return restoring.meant_by(said, found)


def _window(instance: Instance, store: Store, database: str) -> list[Interval]:
    return windows.chain_of(instance, store, database).window()


def _store(caller: Caller, instance: Instance, region: Region) -> Store:
    """Return the store in the destination where copies of the instance lie; raises Fault."""
    copies = caller.copies().restorable().filter(set__instance=instance).order_by("-set__finished_at")
    stores = list(dict.fromkeys(copies.values_list("destination_store", "destination_store__region")[:1000]))
    here = [pk for pk, where in stores if where == region.pk]
    if here:
        return Store.objects.select_related("region").get(pk=here[0])
    if stores:
        raise _elsewhere(stores[0][1])
    raise Fault("NoAvailableDisasterRestoreBakset", 400, f"No copy of {instance.name} is there to be restored.")


def _elsewhere(where: str) -> Fault:
    sentence = f"RegionId is where the new instance stands: the copies lie in {where}."
    return Fault("DisasterRestoreRegionNotMatched", 400, sentence, f"Call it with RegionId={where}.")


def _require_engine(instance: Instance, asked: Asked) -> None:
    if asked.text("Engine").lower() != instance.engine:
        raise Fault("IncorrectDBInstanceEngine", 403, f"The source is {spelling.engine(instance)}.")
    known, named = _major(instance.engine_version), _major(asked.text("EngineVersion"))
    if known and named != known:
        raise Fault("IncorrectEngineVersion", 403, f"The source is of version {instance.engine_version}.")


def _major(version: str) -> str:
    """Return what comes before the first dot or underscore: 2019 of 2019_std, 16 of 16.4."""
    return version.replace("_", ".").partition(".")[0]


@operation("RestoreDdrTable", changes=True)
def restore_ddr_table(caller: Caller, asked: Asked) -> Answer:
    """No engine here takes single tables out of a copy (design.md §10): refused, with the way to get one."""
    instance = caller.operated(asked.text("DBInstanceId"))
    asked.among("RestoreType", CHECKED, BAD_TYPE)
    raise Fault(
        "IncorrectDBInstanceEngine",
        403,
        f"Single tables of {spelling.engine(instance)} are not restored.",
        "Restore the set with CreateDdrInstance, and take the table from the new instance.",
    )
