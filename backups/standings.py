"""How each database of an instance's server stands: asked of the server now and then, kept as rows (R-3.5, R-6.1).

A look is complete or it concludes nothing: a server that does not answer makes no database gone (I19).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta

from django.db import transaction

from backups import reaching
from backups.engines import engine_of
from backups.engines.facts import DatabaseStanding
from backups.models import Instance, ServerDatabase
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
        for one in said:
            known = {"seen_at": at, "gone_at": None, **_columns(one)}
            ServerDatabase.objects.update_or_create(
                instance=instance, name=one.name, defaults=known, create_defaults=known | {"first_seen_at": at}
            )
        left = instance.databases.present().exclude(name__in=[one.name for one in said])
        left.update(gone_at=at)
        Instance.objects.filter(pk=instance.pk).update(databases_seen_at=at)
    return list(instance.databases.present().order_by("name"))


def _columns(one: DatabaseStanding) -> dict[str, object]:
    return {"is_online": one.is_online, "has_logs": one.has_logs, **asdict(one)}
