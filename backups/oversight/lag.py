"""How far each instance can be restored at its destination, and how far that is behind its source (I7).

What is said here is never more than the restorable intervals hold: a gap makes it unknown, not later; a database of
which nothing can be restored is not covered up by its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from django.db.models import Count, Q

from backups.copying.planning import databases_seen
from backups.engines import engine_of
from backups.engines.chains import ChainSet
from backups.models import PENDING, Copy, CopyPolicy, CopyState, Kind, LogGap, LogStream, RestorableInterval

MOVING = (CopyState.COPYING, CopyState.VERIFYING)

Policies = Mapping[int, CopyPolicy]
Gap = tuple[datetime, datetime]
Chain = tuple[int, str]  # an instance and one of its databases, at the destination of its policy


@dataclass(frozen=True)
class Lag:
    """The lag of the copies of one database; for an instance of several, of the one that is furthest behind.

    `until`: the newest moment that can be restored, None when there is none. `behind_seconds`: how much of what
    happened at the source lies behind it; a server that had nothing to say is not behind. `gap`: from when until when
    nothing is known behind `until`. `waiting` logs are owed and have not arrived, `moving` of them are under way.
    `database` is named only where there are others.
    """

    until: datetime | None = None
    behind_seconds: int = 0
    gap: Gap | None = None
    waiting: int = 0
    moving: int = 0
    has_logs: bool = False
    database: str = ""


class End(NamedTuple):
    """Where the newest restorable interval of a database ends."""

    at: datetime
    fork: str
    reached: int | None


class Heard(NamedTuple):
    """Everything until `at` lies in logs that were delivered, the last of which ends at `position`."""

    at: datetime
    fork: str
    position: int | None


# ---- one database


def lag(
    until: datetime | None,
    *,
    at: datetime,
    heard_at: datetime | None = None,
    gaps: Iterable[Gap] = (),
    waiting: int = 0,
    moving: int = 0,
    has_logs: bool = True,
) -> Lag:
    """Work out the lag at a moment. Pure.

    `heard_at`: everything until then is at the destination, be it that nothing happened (see `holds`). Only a gap that
    begins where the window ends counts: the window goes on behind a healed one. Without logs there are none to miss.
    """
    behind = [gap for gap in gaps if until is None or gap[1] > until] if has_logs else []
    covered = until
    if until and heard_at and not waiting and not behind:
        covered = max(until, heard_at)
    seconds = max(0, int((at - covered).total_seconds())) if covered else 0
    return Lag(until, seconds, min(behind, default=None), waiting, moving, has_logs)


def holds(end: End, heard: Heard) -> bool:
    """Say whether an interval reaches as far as the logs that were delivered: nothing of them is still to come. Pure.

    A log that was delivered and is not planned yet, or whose copy was given up, is nowhere but in this difference.
    """
    if heard.position is None or end.reached is None or heard.fork != end.fork:
        return False
    return end.reached >= heard.position


def furthest_behind(lags: Iterable[Lag]) -> Lag:
    """Return the worst: nothing restorable, then unknown, then the one with the most behind it. Pure."""
    worst = max(lags, key=lambda one: (one.until is None, one.gap is not None, one.behind_seconds), default=None)
    return worst or Lag()


# ---- many instances


def of(policy: CopyPolicy, at: datetime) -> Lag:
    return of_many({policy.instance_id: policy}, at)[policy.instance_id]


def of_many(policies: Policies, at: datetime) -> dict[int, Lag]:
    """Return each instance's lag at the destination of its policy, in a fixed number of queries.

    `policies`: instance key -> the policy that counts for it, enabled or the one that ended last.
    """
    ends, gaps, heard, owed = _ends(policies), _gaps(policies), _heard(policies), _owed(policies)
    online = databases_seen(list(policies), at)

    def one(pk: int, database: str) -> Lag:
        end, stream = ends.get((pk, database)), heard.get(pk)
        waiting, moving = owed.get((pk, database), (0, 0))
        return lag(
            end.at if end else None,
            at=at,
            heard_at=stream.at if end and stream and holds(end, stream) else None,
            gaps=gaps.get((pk, database), ()),
            waiting=waiting,
            moving=moving,
            has_logs=policies[pk].logs_enabled,
        )

    copied: dict[int, set[str]] = {}
    for pk, database in ends:
        copied.setdefault(pk, set()).add(database)
    found = {}
    for pk, policy in policies.items():
        names = (online.get(pk) if policy.enabled else None) or copied.get(pk, set())
        lags = [replace(one(pk, name), database=name if len(names) > 1 else "") for name in sorted(names)]
        found[pk] = furthest_behind(lags or [lag(None, at=at, has_logs=policy.logs_enabled)])
    return found


def _ends(policies: Policies) -> dict[Chain, End]:
    chain = ("instance", "store__region", "database")
    rows = RestorableInterval.objects.filter(instance__in=list(policies)).order_by(*chain, "-ended_at").distinct(*chain)
    return {
        (instance, database): End(*end)
        for instance, region, database, *end in rows.values_list(*chain, "ended_at", "fork", "reached")
        if policies[instance].destination_id == region
    }


def _gaps(policies: Policies) -> dict[Chain, list[Gap]]:
    rows = LogGap.objects.filter(instance__in=list(policies), healed_at=None).order_by("from_time")
    found: dict[Chain, list[Gap]] = {}
    named = rows.values_list("instance", "store__region", "database", "from_time", "until_time")
    for instance, region, database, begins, ends in named:
        if policies[instance].destination_id == region:
            found.setdefault((instance, database), []).append((begins, ends))
    return found


def _heard(policies: Policies) -> dict[int, Heard]:
    streams = LogStream.objects.filter(instance__in=list(policies), heard_at__isnull=False)
    rows = streams.values_list("instance", "instance__engine", "heard_at", "fork", "position")
    return {pk: Heard(at, fork, _met(engine, position, at)) for pk, engine, at, fork, position in rows}


def _met(engine: str, position: int | None, at: datetime) -> int | None:
    """Return a position as intervals say it: where logs meet."""
    if position is None:
        return None
    log = ChainSet(id=0, kind=Kind.LOG, first=position, last=position, finished_at=at)
    return engine_of(engine).chain_rules.span(log)[1]


def _owed(policies: Policies) -> dict[Chain, tuple[int, int]]:
    logs = Copy.objects.filter(set__instance__in=list(policies), set__kind=Kind.LOG, state__in=PENDING).order_by()
    chain = ("set__instance", "destination_store__region", "set__database")
    counted = logs.values_list(*chain).annotate(n=Count("pk"), moving=Count("pk", filter=Q(state__in=MOVING)))
    return {
        (instance, database): (n, moving)
        for instance, region, database, n, moving in counted
        if policies[instance].destination_id == region
    }
