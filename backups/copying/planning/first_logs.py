"""The logs that are there already when logs are enabled: those that follow a set of the last day (R-8.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from backups import bell
from backups.chains import log_chain, windows
from backups.copying.planning.bases import Bases
from backups.copying.planning.checking import DAY, recent_sets
from backups.copying.planning.databases import databases_of
from backups.copying.planning.owing import new_copy, plan
from backups.engines import engine_of
from backups.engines.chains import RECORDED, chain_set
from backups.keeping import retention
from backups.logs import log_gaps
from backups.models import BackupSet, Copy, CopyPolicy, Instance, Kind

Chains = dict[tuple[int, str], list]  # by instance and database


@dataclass(frozen=True)
class LogBeginning:
    """What R-8.2 found for one database: `logs` lead on from `anchor` without a hole, oldest first; None: none do."""

    database: str
    anchor: BackupSet | None = None
    logs: tuple[int, ...] = ()


def examine_logs(instance: Instance, at: datetime) -> list[LogBeginning]:
    """Look, for each database, which of its sets of the last 24 hours is followed by logs, changing nothing."""
    return examine_logs_all([instance], at)[instance.pk]


def examine_logs_all(instances: Iterable[Instance], at: datetime) -> dict[int, list[LogBeginning]]:
    """Return the same of many instances, by their keys, in a few statements however many they are."""
    known = {instance.pk: instance for instance in instances}
    anchors = _anchors(known, at)
    logs = _logs_beside(anchors)
    return {
        pk: [_logs_of(known[pk], name, anchors.get((pk, name), []), logs.get((pk, name), [])) for name in names]
        for pk, names in databases_of(known.values(), at).items()
    }


def _anchors(instances: Mapping[int, Instance], at: datetime) -> Chains:
    """Return the sets of the last 24 hours that logs can follow."""
    recent = recent_sets(instances, at)
    bases = Bases(recent, instances)
    anchors: Chains = defaultdict(list)
    for found in recent:
        if found.kind == Kind.FULL or bases.of(found):
            anchors[found.instance_id, found.database].append(found)
    return anchors


def _logs_beside(anchors: Chains) -> Chains:
    """Read the logs that may follow the anchors, as the facts that chains are made of behind the set's key."""
    if not anchors:
        return {}
    since = {chain: min(one.started_at or one.finished_at for one in sets) - DAY for chain, sets in anchors.items()}
    logs = BackupSet.objects.valid().filter(instance__in={pk for pk, _ in anchors}, kind=Kind.LOG)
    rows = logs.filter(finished_at__gte=min(since.values())).order_by()
    found: Chains = defaultdict(list)
    for pk, database, finished_at, *facts in rows.values_list("instance", "database", "finished_at", "pk", *RECORDED):
        chain = pk, database
        if chain in since and finished_at >= since[chain]:
            found[chain].append(facts)
    return found


def _logs_of(instance: Instance, database: str, anchors: list[BackupSet], facts: list) -> LogBeginning:
    rules = engine_of(instance.engine).chain_rules
    logs = windows.sets_as_chain(facts, rules)
    data = [chain_set(one.pk, one, rules) for one in anchors] if logs else []
    followed = [(one, found) for one in data if (found := log_chain.logs_after(one, logs, rules))]
    if not followed:
        return LogBeginning(database)
    best, found = max(followed, key=lambda way: (rules.span(way[1][-1])[1], way[0].finished_at, way[0].id))
    anchor = next(one for one in anchors if one.pk == best.id)
    return LogBeginning(database, anchor, tuple(log.id for log in found))


def begin_logs(policy: CopyPolicy, at: datetime) -> None:
    """Owe the logs that are there already, with the set they follow. Call with the policy locked.

    Where none follow a set, the first log that comes begins behind a gap, and that is healed by a backup (R-9.1).
    """
    for beginning in examine_logs(policy.instance, at):
        if beginning.anchor:
            plan(policy, beginning.anchor, at=at, origin=Copy.Origin.TWENTY_FOUR_HOURS)
            _plan_logs(policy, beginning, at)


def _plan_logs(policy: CopyPolicy, beginning: LogBeginning, at: datetime) -> None:
    """Owe many logs at once: a day may hold thousands."""
    store = policy.store
    retention.lock_copies(policy.instance_id, store.pk)
    live = Copy.objects.live().filter(set__in=beginning.logs, destination_store=store, deleting_since=None)
    live.update(policy=policy, route_version=policy.route_version)
    there = set(
        Copy.objects.live().filter(set__in=beginning.logs, destination_store=store).values_list("set", flat=True)
    )
    sets = BackupSet.objects.prefetch_related("files").in_bulk([pk for pk in beginning.logs if pk not in there])
    missing = (sets[pk] for pk in beginning.logs if pk in sets)
    copies = [new_copy(policy, found, at, Copy.Origin.TWENTY_FOUR_HOURS) for found in missing]
    Copy.objects.bulk_create([copy for copy in copies if copy.expires_at > at])
    retention.reschedule(policy.instance_id, store.pk)
    log_gaps.settle(policy.instance, store, beginning.database)
    bell.ring_copies(policy.destination_id)
