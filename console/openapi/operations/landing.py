"""Restores that become databases on a landing server: which server, which databases, under what names.

The vendor makes a new instance of all of them. Here one call asks for a restore of each, all or none, and the first
one's code stands for all: `DescribeDBInstanceAttribute` of it says how far the last of them is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backups import restoring
from backups.events import By
from backups.models import Instance, LandingServer, Restore
from backups.restoring import Wanted
from console.openapi import faults
from console.openapi.faults import Fault
from regions.models import Region
from regions.refusals import Refusal

Wish = dict[str, Any]
LATEST_FIRST = (  # of several restores that were asked for together, what is said of all
    Restore.State.FAILED,
    Restore.State.CANCELLED,
    Restore.State.WAITING,
    Restore.State.QUEUED,
    Restore.State.RUNNING,
    Restore.State.REMOVED,
    Restore.State.ASIDE,
    Restore.State.READY,
)


def server_for(instance: Instance, region: Region, named: str) -> LandingServer | None:
    """Return the landing server in the destination, None where the engine needs none; raises Fault.

    The one whose ID or name was given as the zone, else the first that works.
    """
    if not restoring.needs_landing(instance):
        return None
    try:
        return restoring.landing_server_for(instance, region, named)
    except Refusal as refusal:
        raise Fault("IncorrectDBInstanceEngine", 403, refusal.sentence, refusal.remedy) from None


def checks(instance: Instance, wish: Wish) -> None:
    """Raise Fault with what speaks against it."""
    wish, databases = _split(wish)
    for database in databases:
        if refusals := restoring.why_not(Wanted(instance, **wish, **_of(database))):
            raise faults.of_refusals(refusals)


def ask(instance: Instance, by: By, wish: Wish, described: str) -> Restore:
    """Ask for all of it; `described` names the database where there is only one. Raises Refusals."""
    landing, (wish, databases) = wish["landing"], _split(wish)
    if len(databases) == 1:
        [database] = databases
        name = described or restoring.free_database_name(landing, database or wish["copy"].set.database)
        return restoring.ask(instance, by, name=name, **wish, **_of(database))
    names = {database: restoring.free_database_name(landing, database) for database in databases}
    return restoring.ask_databases(instance, by, names=names, **wish)[0]


def _split(wish: Wish) -> tuple[Wish, Sequence[str]]:
    return {name: value for name, value in wish.items() if name != "databases"}, wish.get("databases", [""])


def _of(database: str) -> dict[str, str]:
    return {"database": database} if database else {}


def together(restore: Restore) -> list[Restore]:
    """Return the restores that were asked for in one go, this one among them."""
    if not restore.batch or restore.landing_id is None:
        return [restore]
    return list(Restore.objects.filter(batch=restore.batch, instance=restore.instance_id).order_by("pk"))


def state_of(restores: Sequence[Restore]) -> str:
    return min((one.state for one in restores), key=LATEST_FIRST.index)


def tips_of(restores: Sequence[Restore]) -> str:
    """What is said of each database: what it is called now, or why it did not come."""
    return " ".join(f"{one.database}: {one.error or one.landed_as}." for one in restores if one.landed_as or one.error)
