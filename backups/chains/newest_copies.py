"""How young what can be restored is: the newest restorable copy of each database, for thousands of instances (R-19).

A full stands for itself, a differential only where all that it was made from lies beside it, in the same store.
Differentials are read only where they are newer than every full: the newest of a chain with what it stands on and,
where that is not whole, the others that are newer. So it takes one query, and at most three.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from django.db.models import Max
from django.db.models.expressions import RawSQL

from backups.chains import certificates, log_lines, windows
from backups.chains.certificates import AtHand
from backups.engines import engine_of
from backups.models import Copy, Instance, Kind

Newest = dict[int, dict[str, datetime]]  # of an instance and a database
Chain = tuple[int, str, int]  # an instance, a database, a store
WHERE = ("set__instance", "set__database", "destination_store")
LONG_AGO = datetime.min.replace(tzinfo=UTC)

# The completed differentials of some chains, each since a moment, with what they were made from at any depth.
WITH_THEIR_BASES = """
WITH RECURSIVE needed AS (
    SELECT copy.id, found.instance_id, found.database, copy.destination_store_id, found.base_guid
    FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::timestamptz[]) AS asked (instance, name, store, since)
    JOIN backups_backupset found ON found.instance_id = asked.instance AND found.database = asked.name
        AND found.kind = 'differential' AND found.finished_at >= asked.since
    JOIN backups_copy copy ON copy.set_id = found.id AND copy.destination_store_id = asked.store
        AND copy.state = 'completed'
    UNION
    SELECT copy.id, base.instance_id, base.database, copy.destination_store_id, base.base_guid
    FROM needed
    JOIN backups_backupset base ON base.instance_id = needed.instance_id AND base.set_guid = needed.base_guid
        AND base.set_guid <> '' AND base.database = needed.database AND base.kind <> 'log'
    JOIN backups_copy copy ON copy.set_id = base.id AND copy.destination_store_id = needed.destination_store_id
        AND copy.state = 'completed'
)
SELECT id FROM needed
"""


def of(instances: Mapping[int, Instance]) -> tuple[Newest, Newest]:
    """Return when the backup of the newest restorable copy was finished; and of the newest without its certificate."""
    fulls: dict[Chain, datetime] = {}
    differentials: dict[Chain, datetime] = {}
    sealed: Newest = defaultdict(dict)
    copies = Copy.objects.restorable().cross_region().filter(set__instance__in=instances).exclude(set__kind=Kind.LOG)
    looked_at = ("destination_store__region", "set__kind", *WHERE, *certificates.OF_ITS_SET)
    at_hand = AtHand()
    for region, kind, *facts, at in copies.order_by().values_list(*looked_at).annotate(Max("set__finished_at")):
        chain, needs = tuple(facts[: len(WHERE)]), facts[len(WHERE) :]
        if at_hand.misses(certificates.needed(*needs), region):
            _note(sealed, chain, at)
            continue
        seen = fulls if kind == Kind.FULL else differentials
        seen[chain] = max(at, seen.get(chain, at))
    newest: Newest = defaultdict(dict)
    for chain, at in fulls.items():
        _note(newest, chain, at)
    _add_differentials(newest, {chain: at for chain, at in differentials.items() if chain in fulls}, instances)
    return newest, sealed


def _note(newest: Newest, chain: Chain, at: datetime) -> None:
    instance, database, _ = chain
    newest[instance][database] = max(at, newest[instance].get(database, at))


def _add_differentials(newest: Newest, there: Mapping[Chain, datetime], instances: Mapping[int, Instance]) -> None:
    """Note those that are whole; `there`: when the newest of each chain that has a full was finished."""
    first = {chain: at for chain, at in there.items() if at > _known(newest, chain)}
    whole = dict(_newest_whole(first, instances))
    for chain, at in whole.items():
        _note(newest, chain, at)
    again = {chain: _known(newest, chain) for chain, at in first.items() if at > _known(newest, chain)}
    for chain, at in _newest_whole(again, instances):
        _note(newest, chain, at)


def _known(newest: Newest, chain: Chain) -> datetime:
    instance, database, _ = chain
    return newest[instance].get(database, LONG_AGO)


def _newest_whole(
    since: Mapping[Chain, datetime], instances: Mapping[int, Instance]
) -> Iterator[tuple[Chain, datetime]]:
    """Give, for chains that have one, when the newest differential finished that stands on nothing that is missing."""
    if not since:
        return
    asked = [*map(list, zip(*since, strict=True)), list(since.values())]
    copies = Copy.objects.filter(pk__in=RawSQL(WITH_THEIR_BASES, asked))
    rows: dict[Chain, list[tuple]] = defaultdict(list)
    for row in copies.values_list(*WHERE, *windows.LOOKED_AT):
        rows[row[:3]].append(row[3:])
    at_hand = AtHand()
    for chain, facts in rows.items():
        rules = engine_of(instances[chain[0]].engine).chain_rules
        sets = [one for one in windows.as_chain_sets(facts, rules, at_hand) if one.is_completed]
        if whole := log_lines.lineages_of(sets, rules):
            yield chain, max(lineage[-1].finished_at for lineage in whole.values())
