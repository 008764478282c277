"""How each database of an instance's server stands: asked of the server now and then, kept as rows (R-3.5, R-6.1).

A look is complete or it concludes nothing: a server that does not answer makes no database gone (I19).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from backups.chains import windows
from backups.engines import engine_of
from backups.engines.facts import DatabaseStanding
from backups.models import BackupSet, Instance, ServerDatabase
from backups.servers import reaching
from regions import clock

OLD = timedelta(hours=1)


def are_told(instance: Instance) -> bool:
    """Whether the instance's server can be asked for its databases one by one."""
    return bool(instance.host) and not instance.released and engine_of(instance.engine).inspect_databases is not None


def are_old(instance: Instance, at: datetime) -> bool:
    """Whether databases may have come or gone since the server was asked for them."""
    return are_told(instance) and (instance.databases_seen_at is None or instance.databases_seen_at < at - OLD)


def refresh(instance: Instance) -> list[ServerDatabase]:
    """Ask the server and write down what it says of each database; raises Refusal, having concluded nothing."""
    return write(instance, ask(instance))


def ask(instance: Instance) -> list[DatabaseStanding]:
    """Ask the server how each of its databases stands; raises Refusal."""
    return engine_of(instance.engine).inspect_databases(reaching.connection_of(instance))


def write(instance: Instance, said: list[DatabaseStanding]) -> list[ServerDatabase]:
    """Write down a complete look; returns the databases that are there."""
    at = clock.now()
    with transaction.atomic():
        Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)  # two looks at once: one after the other
        before = {row.name: row for row in instance.databases.all()}
        for one in said:
            known = {"seen_at": at, "gone_at": None, **_columns(one), **_encryption(before.get(one.name), one)}
            ServerDatabase.objects.update_or_create(
                instance=instance, name=one.name, defaults=known, create_defaults=known | {"first_seen_at": at}
            )
        left = instance.databases.present().exclude(name__in=[one.name for one in said])
        left.update(gone_at=at)
        Instance.objects.filter(pk=instance.pk).update(databases_seen_at=at)
    there = list(instance.databases.present().order_by("name"))
    _mark_encrypted(instance, there)
    return there


def _columns(one: DatabaseStanding) -> dict[str, object]:
    return {"is_online": one.is_online, "has_logs": one.has_logs, **asdict(one)}


# ---- what is encrypted


def _encryption(before: ServerDatabase | None, now: DatabaseStanding) -> dict[str, object]:
    """Say since when a database is encrypted with what it is; of one that is seen for the first time nobody knows."""
    if before is None or before.certificate_thumbprint == now.certificate_thumbprint:
        return {}
    return {"encrypted_since": before.seen_at if now.certificate_thumbprint else None}


def thumbprint_of(instance: Instance, database: str, at: datetime) -> str:
    """Return the certificate that a database was encrypted with at a moment, "" as far as its server never said."""
    if instance.databases_seen_at is None:
        return ""
    since = Q(encrypted_since=None) | Q(encrypted_since__lte=at)
    found = instance.databases.filter(since, name=database).values_list("certificate_thumbprint", flat=True)
    return found.first() or ""


def _mark_encrypted(instance: Instance, databases: list[ServerDatabase]) -> None:
    """Sets of an encrypted database need its certificate, those that were here before it was asked too (R-3.5)."""
    marked = []
    for one in databases:
        if one.certificate_thumbprint:
            sets = BackupSet.objects.filter(instance=instance, database=one.name, certificate_thumbprint="")
            since = {"finished_at__gte": one.encrypted_since} if one.encrypted_since else {}
            if sets.filter(**since).update(certificate_thumbprint=one.certificate_thumbprint):
                marked.append(one.name)
    for store in windows.stores_with_copies(instance) if marked else ():
        windows.rebuild(instance, store, marked)
