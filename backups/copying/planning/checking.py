"""The 24-hour check: for each database the newest valid set of the last day, and what it needs (R-6.1).

It only looks; `policies` plans what it found, or asks for the full that is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.copying.planning.bases import Bases, with_instances
from backups.copying.planning.databases import databases_of
from backups.models import BackupSet, Instance, Kind

DAY = timedelta(seconds=86_400)


@dataclass(frozen=True)
class DatabaseCheck:
    """What the 24-hour check found for one database: `chosen` is copied, its `bases` before it, the full first.

    `chosen` None: no set of the database is valid.
    """

    database: str
    chosen: BackupSet | None = None
    bases: tuple[BackupSet, ...] = ()


def examine(instance: Instance, at: datetime) -> list[DatabaseCheck]:
    """Run the 24-hour check of R-6.1 for each database, changing nothing; [] when no database is known yet."""
    return examine_all([instance], at)[instance.pk]


def examine_all(instances: Iterable[Instance], at: datetime) -> dict[int, list[DatabaseCheck]]:
    """Return the same of many instances, by their keys, in a few statements however many they are."""
    known = {instance.pk: instance for instance in instances}
    recent = recent_sets(known, at)
    bases = Bases(recent, known)
    names = databases_of(known.values(), at)
    newest = {pk: {name: DatabaseCheck(name) for name in names[pk]} for pk in known}
    for found in recent:
        checks = newest[found.instance_id]
        if checks.get(found.database, DatabaseCheck(found.database)).chosen is None:
            check = _check(found, bases.of(found))
            if check:
                checks[found.database] = check
    return {pk: [checks[name] for name in sorted(checks)] for pk, checks in newest.items()}


def has_valid(instance: Instance, database: str, at: datetime) -> bool:
    """Whether the 24-hour check finds a valid set of a database (R-6.1)."""
    return any(check.chosen for check in examine(instance, at) if check.database == database)


def _check(found: BackupSet, bases: list[BackupSet]) -> DatabaseCheck | None:
    return DatabaseCheck(found.database, found, tuple(bases)) if [*bases, found][0].kind == Kind.FULL else None


def recent_sets(instances: Mapping[int, Instance], at: datetime) -> list[BackupSet]:
    """Read the valid sets of the last 24 hours, logs aside, the newest first."""
    sets = BackupSet.objects.valid().data().filter(instance__in=instances, finished_at__gte=at - DAY)
    return with_instances(sets.order_by("-finished_at", "-pk"), instances)
