"""A SQL Server that was asked a minute ago, for stories of what a person sees of its databases."""

from __future__ import annotations

from datetime import timedelta

from backups.chains import windows
from backups.models import Instance, ServerDatabase, ServerLook
from tests.console.crossed_logs import HOUR, copied
from tests.console.fleet import DAY, GB, TARGET, Fleet


def erp_of(fleet: Fleet) -> Instance:
    """A server whose logs are copied, asked a minute ago; of Orders a full and a log have come."""
    instance = fleet.instance("erp", host="10.0.0.9", databases_seen_at=fleet.now - timedelta(minutes=1))
    ServerLook.objects.create(instance=instance, due_at=fleet.now, answered_at=fleet.now)
    fleet.policy(instance, logs_enabled=True)
    begin = fleet.now - 3 * HOUR
    copied(fleet, instance, "full", 1000, 1010, begin, begin, "Orders")
    copied(fleet, instance, "log", 995, 1020, begin, begin + HOUR, "Orders")
    windows.rebuild(instance, fleet.stores[TARGET])
    return instance


def told(instance: Instance, name: str, **more: object) -> ServerDatabase:
    """The server has said this of a database a minute ago."""
    row = said(instance, name, **more)
    row.save()
    return row


def said(instance: Instance, name: str, **more: object) -> ServerDatabase:
    seen = {"first_seen_at": instance.databases_seen_at - DAY, "seen_at": instance.databases_seen_at}
    usual = {"state": "ONLINE", "recovery_model": "FULL", "has_logs": True, "data_bytes": 3 * GB, "fork": "f"}
    usual |= {"log_chain_position": 7, "last_full_at": instance.databases_seen_at - HOUR}
    return ServerDatabase(instance=instance, name=name, **(seen | usual | more))
