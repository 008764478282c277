"""The databases of an instance that are online: each of them wants its own set in the 24-hour check (R-6.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime, timedelta

from backups.engines import engine_of
from backups.models import BackupSet, Instance, ServerDatabase

STILL_ONLINE = timedelta(days=14)  # a database known only by its files counts while a set of it is this young


def databases_of(instances: Collection[Instance], at: datetime) -> dict[int, list[str]]:
    """Return the databases that are online, by the keys of their instances; "" stands for a whole server.

    Online is what the server says it is, where it has been asked; else a database with a young set.
    """
    found: dict[int, list[str]] = {instance.pk: [""] for instance in instances}
    apart = [one.pk for one in instances if not engine_of(one.engine).capabilities.whole_server]
    if not apart:
        return found
    seen, told = databases_seen(apart, at), _told(apart)
    for pk in apart:
        there = {name for name in seen.get(pk, ()) if told[pk].get(name, True)}
        found[pk] = sorted(there | {name for name, is_on in told[pk].items() if is_on})
    return found


def databases_seen(instances: Collection[int], at: datetime) -> dict[int, set[str]]:
    """Return the databases that have a young set, by their instances: one that was dropped long ago has none."""
    sets = BackupSet.objects.data().filter(instance__in=instances, finished_at__gte=at - STILL_ONLINE)
    seen: dict[int, set[str]] = defaultdict(set)
    for pk, name in sets.order_by().values_list("instance", "database").distinct():
        seen[pk].add(name)
    return seen


def _told(instances: Collection[int]) -> dict[int, dict[str, bool]]:
    rows = ServerDatabase.objects.filter(instance__in=instances).order_by()
    told: dict[int, dict[str, bool]] = defaultdict(dict)
    for pk, name, gone_at, is_online in rows.values_list("instance", "name", "gone_at", "is_online"):
        told[pk][name] = gone_at is None and is_online
    return told
