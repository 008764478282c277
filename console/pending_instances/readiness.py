"""What enabling would begin with, for a page of instances in one query; the dialog asks `planning.examine` exactly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Max, Q
from django.utils.translation import gettext

from backups import default_backups
from backups.copying.planning import DAY, STILL_ONLINE
from backups.models import BackupSet, Instance, Kind


def tell(instances: Sequence[Instance], at: datetime) -> None:
    """Give each instance `readiness`: "" when every database has a valid backup of the day, else what that means."""
    newest = _newest_backups(instances, at)
    for instance in instances:
        known = newest.get(instance.pk, {})
        lacks = not known or any(full is None or last < at - DAY for full, last in known.values())
        instance.readiness = _consequence(instance) if lacks else ""
        instance.seen_at = at


def _newest_backups(
    instances: Sequence[Instance], at: datetime
) -> dict[int, dict[str, tuple[datetime | None, datetime]]]:
    """Return per instance and database when its newest full, and its newest backup of any kind, was finished."""
    sets = BackupSet.objects.valid().data().filter(instance__in=instances, finished_at__gte=at - STILL_ONLINE)
    found: dict[int, dict[str, tuple[datetime | None, datetime]]] = {}
    full = Max("finished_at", filter=Q(kind=Kind.FULL))
    rows = sets.values_list("instance", "database").annotate(full=full, last=Max("finished_at"))
    for instance, database, newest_full, last in rows.order_by():
        found.setdefault(instance, {})[database] = newest_full, last
    return found


def _consequence(instance: Instance) -> str:
    if default_backups.can_take(instance):
        return gettext("No valid backup in the last 24 hours: a full backup runs first")
    return gettext("No full backup in the last 24 hours: nothing can be restored until the next one arrives")
