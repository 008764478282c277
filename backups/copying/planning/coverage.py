"""When a policy covers an instance: what comes about meanwhile is owed a copy, data and logs each for themselves.

Enabling and a suspension's end open a stretch; disabling, a change of destination, a suspension and a release close it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q

from backups.models import BackupSet, CopyPolicy, Coverage, Kind


def open_coverage(policy: CopyPolicy, at: datetime) -> None:
    """From now on what finishes is owed a copy; logs too where they are wanted (R-8.1)."""
    for content in ("data", "log") if policy.logs_enabled else ("data",):
        defaults = {"began_at": at, "route_version": policy.route_version}
        Coverage.objects.get_or_create(policy=policy, content=content, ended_at=None, defaults=defaults)


def close_coverage(policy: CopyPolicy, at: datetime, contents: Iterable[str] = ("data", "log")) -> None:
    policy.coverage.filter(ended_at=None, content__in=contents).update(ended_at=at)


def is_covered(policy: CopyPolicy, found: BackupSet) -> bool:
    """Whether a set came about while the policy covered what it holds, even if that has ended since."""
    content, moment = ("log" if found.kind == Kind.LOG else "data"), came_about(found)
    spans = policy.coverage.filter(content=content, began_at__lte=moment)
    return spans.filter(Q(ended_at=None) | Q(ended_at__gt=moment)).exists()


def came_about(found: BackupSet) -> datetime:
    """Return when a set finished, by our clock; a log's own times are those of its server, whose clock may be wrong."""
    return found.discovered_at if found.kind == Kind.LOG and found.origin == "taken" else found.finished_at
