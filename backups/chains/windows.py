"""What can be restored at a destination and what it takes: `log_chain`'s answers for the rows we have (I7, R-9.4).

The copies of one (instance, destination store, database) are one chain; a ChainSet's `id` is the copy's. Answers that
somebody acts on are worked out from the copies as they are now; RestorableInterval rows are for looking at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backups.chains import certificates, log_chain
from backups.chains.certificates import AtHand
from backups.chains.log_chain import Gap, Interval
from backups.engines import engine_of
from backups.engines.chains import RECORDED, ChainRules, ChainSet, chain_set_of
from backups.models import PENDING, BackupSet, Copy, CopyState, Instance, Kind, RestorableInterval
from regions.built_once import Given, built_once
from regions.models import Store
from regions.refusals import Refusal

THERE_OR_COMING = (*PENDING, CopyState.COMPLETED)
WHOLE = (CopyState.COMPLETED, CopyState.EXPIRED)
CHAIN_LOCK = 730_004
MOST_WAITING = 200  # logs that arrived before the one they follow


@dataclass(frozen=True)
class Chain:
    """The copies of one database at one destination, as chains see them, with the rules of its engine."""

    rules: ChainRules
    sets: tuple[ChainSet, ...]

    @cached_property
    def data(self) -> list[ChainSet]:
        return [one for one in self.sets if one.kind != Kind.LOG]

    @cached_property
    def logs(self) -> list[ChainSet]:
        return [one for one in self.sets if one.kind == Kind.LOG]

    def window(self) -> list[Interval]:
        return log_chain.window(self.data, self.logs, self.rules)

    def gaps(self) -> list[Gap]:
        return log_chain.gaps(self.data, self.logs, self.rules)

    def needs(self) -> dict[int, set[int]]:
        return log_chain.needs(self.data, self.logs, self.rules)


def data_and_logs(sets: Iterable[ChainSet]) -> tuple[list[ChainSet], list[ChainSet]]:
    data, logs = [], []
    for one in sets:
        (logs if one.kind == Kind.LOG else data).append(one)
    return data, logs


OF_ITS_SET = tuple(f"set__{name}" for name in RECORDED)
LOOKED_AT = ("pk", "state", "destination_store__region", *certificates.OF_ITS_SET, *OF_ITS_SET)  # of a copy


def chain_of(instance: Instance, store: Store, database: str) -> Chain:
    """Read the copies that are at a destination or on their way there; only restorable ones count as completed."""
    return _read(instance, store=store.pk, database=database)


def _read(instance: Instance, **facts: Any) -> Chain:
    rules = engine_of(instance.engine).chain_rules
    return Chain(rules, tuple(as_chain_sets(_chain(instance=instance.pk, **facts), rules)))


@built_once
def _chain(**given: Given) -> QuerySet[Any]:
    copies = copies_of(given["instance"], given["store"], given["database"]).filter(state__in=THERE_OR_COMING)
    if "full" in given:
        copies = copies.filter(Q(set__kind=Kind.LOG) | Q(pk=given["full"]))
    return copies.order_by("pk").values_list(*LOOKED_AT)


def copies_of(instance: Any, store: Any, database: Any) -> QuerySet[Copy]:
    return Copy.objects.filter(set__instance=instance, set__database=database, destination_store=store)


def that_cross(copies: QuerySet[Copy]) -> QuerySet[Copy]:
    """Return the copies of first logs of a fork: they hold the place where it left another one."""
    return copies.filter(set__kind=Kind.LOG, set__first_position__lte=F("set__fork_position"))


def chain_sets(copies: QuerySet[Copy], rules: ChainRules) -> list[ChainSet]:
    """Return copies as chains see them; an encrypted set waits for its certificate at the destination (R-3.5)."""
    return as_chain_sets(copies.values_list(*LOOKED_AT), rules)


def as_chain_sets(rows: Iterable[tuple], rules: ChainRules, at_hand: AtHand | None = None) -> list[ChainSet]:
    """Do the same for what was read of copies, LOOKED_AT; `at_hand`: where many chains are asked for."""
    at_hand, needs, found = at_hand or AtHand(), certificates.OF_ITS_SET, []
    for pk, state, region, *facts in rows:
        wanted = certificates.needed(*facts[: len(needs)])
        done = state == CopyState.COMPLETED and not (wanted and at_hand.misses(wanted, region))
        found.append(chain_set_of(pk, facts[len(needs) :], rules, is_completed=done))
    return found


def chains_among(copies: QuerySet[Copy]) -> Iterator[tuple[ChainRules, list[ChainSet]]]:
    """Give the chains that copies belong to, each as its engine sees it; encrypted ones count as any other.

    So do those in their grace: their bytes are whole; dates follow what is there, not what is offered.
    """
    found: dict[tuple, list] = {}
    chain = ("set__instance__engine", "destination_store", "set__database")
    for engine, store, database, pk, state, *facts in copies.values_list(*chain, "pk", "state", *OF_ITS_SET):
        found.setdefault((engine, store, database), []).append((pk, state in WHOLE, facts))
    for (engine, _, _), rows in found.items():
        rules = engine_of(engine).chain_rules
        yield rules, [chain_set_of(pk, facts, rules, is_completed=done) for pk, done, facts in rows]


def set_chain(sets: QuerySet[BackupSet], rules: ChainRules) -> list[ChainSet]:
    """Return default backups at their source as chains see them; a ChainSet's `id` is the set's."""
    return sets_as_chain(sets.values_list("pk", *RECORDED), rules)


def sets_as_chain(rows: Iterable[Sequence[Any]], rules: ChainRules) -> list[ChainSet]:
    return [chain_set_of(pk, facts, rules) for pk, *facts in rows]


def is_restorable(copy: Copy) -> bool:
    """Completed, and readable at the destination: an encrypted set waits for its certificate there (R-3.5)."""
    return copy.state == CopyState.COMPLETED and not certificates.is_sealed(copy)


def databases_at(instance: Instance, store: Store) -> list[str]:
    """Return the databases of which anything lies, or is owed, at a destination."""
    copies = Copy.objects.filter(set__instance=instance, destination_store=store, state__in=THERE_OR_COMING)
    return list(copies.values_list("set__database", flat=True).distinct().order_by("set__database"))


def stores_with_copies(instance: Instance) -> list[Store]:
    """Return the stores where completed copies of an instance lie, wherever its backups go today (R-14.4)."""
    copies = Copy.objects.restorable().filter(set__instance=instance)
    stores = Store.objects.filter(pk__in=copies.values("destination_store")).select_related("region")
    return list(stores.order_by("region__position", "pk"))


# ---- what a restore needs


def copies_for(instance: Instance, store: Store, database: str, moment: datetime) -> list[Copy]:
    """Return the completed copies that bring a database back as it was at a moment, in the order of applying them.

    Raises Refusal with what is missing and which moments are near where it cannot be had.
    """
    chain = chain_of(instance, store, database)
    plan = log_chain.plan_for(moment, chain.data, chain.logs, chain.rules)
    if plan.refusal:
        raise plan.refusal
    return _in_order(one.id for one in plan.sets)


def copies_for_set(copy: Copy) -> list[Copy]:
    """Return a completed copy behind everything it needs; raises Refusal when something of that is not there."""
    if copy.set.kind == Kind.FULL and is_restorable(copy):
        return [copy]
    chain = _chain_around(copy)
    lineage = log_chain.lineage_of(copy.pk, chain.data, chain.rules)
    if not lineage:
        raise _base_missing(copy)
    return _in_order(one.id for one in lineage)


def reach_of(copy: Copy) -> datetime:
    """Return until when a database can be brought back from a copy with the logs beside it; raises Refusal as above."""
    only = {"full": copy.pk} if copy.set.kind == Kind.FULL else {}  # it builds on nothing: others say nothing of it
    chain = _chain_around(copy, **only)
    reached = log_chain.reach(copy.pk, chain.data, chain.logs, chain.rules)
    if reached is None:
        raise _base_missing(copy)
    return reached


def _chain_around(copy: Copy, **only: int) -> Chain:
    return _read(copy.set.instance, store=copy.destination_store_id, database=copy.set.database, **only)


def _base_missing(copy: Copy) -> Refusal:
    return Refusal(
        "BaseMissing",
        f"{copy.set} cannot be restored from {copy.destination_store.region}: what it builds on is not there.",
        "Choose a full backup, or a set whose full has been copied.",
        "set",
    )


def _in_order(ids: Iterable[int]) -> list[Copy]:
    wanted = list(ids)
    rows = Copy.objects.select_related("set__instance", "destination_store__region").in_bulk(wanted)
    return [rows[pk] for pk in wanted]


def restorable_sets(instance: Instance, store: Store, database: str) -> set[int]:
    """Return the sets, logs aside, that can be restored there as they were taken: all that each needs is there."""
    copies = copies_of(instance, store, database).filter(state=CopyState.COMPLETED).exclude(set__kind=Kind.LOG)
    rules = engine_of(instance.engine).chain_rules
    found = [one for one in chain_sets(copies, rules) if one.is_completed]
    whole = log_chain.lineages_of(found, rules)
    return set(copies.filter(pk__in=whole).values_list("set", flat=True))


# ---- rows for looking at


def lock_chain(instance: Instance, store: Store, database: str) -> None:
    """Wait until nobody else writes down what this chain comes to; until the end of the transaction.

    Everybody locks copies before it, never after it.
    """
    with connection.cursor() as cursor:
        chain = f"{instance.pk}:{store.pk}:{database}"
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [CHAIN_LOCK, chain])


def rebuild(instance: Instance, store: Store, databases: Sequence[str] | None = None) -> None:
    """Write the intervals of an instance at a destination anew, all of them or those of some databases; repeatable."""
    for database in databases_at(instance, store) if databases is None else sorted(databases):
        with transaction.atomic():
            lock_chain(instance, store, database)
            write(instance, store, database, chain_of(instance, store, database).window())
    if databases is None:
        there = Q(database__in=databases_at(instance, store))
        RestorableInterval.objects.filter(instance=instance, store=store).exclude(there).delete()


def rebuild_missing() -> int:
    """Work out what was never worked out: copies that arrived before there were windows; return how many chains."""
    intervals = RestorableInterval.objects.filter(
        instance=OuterRef("set__instance"), store=OuterRef("destination_store"), database=OuterRef("set__database")
    )
    data = Copy.objects.restorable().exclude(set__kind=Kind.LOG).exclude(certificates.sealed_copies())
    chains = data.exclude(Exists(intervals)).order_by("set__instance", "destination_store", "set__database")
    found = list(chains.values_list("set__instance", "destination_store", "set__database").distinct())
    for instance, store, database in found:
        rebuild(Instance.objects.get(pk=instance), Store.objects.get(pk=store), [database])
    return len(found)


def write(instance: Instance, store: Store, database: str, found: Iterable[Interval]) -> None:
    """Make the rows of a chain what was found; rows that are right already stay. Call with the chain locked."""
    there = RestorableInterval.objects.filter(instance=instance, store=store, database=database)
    wanted = {_said(row): row for row in (_row(instance, store, database, interval) for interval in found)}
    wrong = [row.pk for row in there if wanted.pop(_said(row), None) is None]
    there.filter(pk__in=wrong).delete()
    RestorableInterval.objects.bulk_create(wanted.values())


def _said(row: RestorableInterval) -> tuple:
    return row.began_at, row.ended_at, row.fork, row.anchor_id, row.reached


def extend(copy: Copy) -> None:
    """A copy of a log has completed: lengthen the interval it continues.

    Only where it is not that simple is the whole chain read: beside a new full, or where something old was missing.
    """
    where = copy.set.instance, copy.destination_store, copy.set.database
    with transaction.atomic():
        lock_chain(*where)
        if is_restorable(copy) and not _lengthen(copy, *where):
            rebuild(*where[:2], [where[2]])


def _lengthen(copy: Copy, instance: Instance, store: Store, database: str) -> bool:
    rules = engine_of(instance.engine).chain_rules
    if _joins_forks(copy, copies_of(instance, store, database).restorable()):
        return False
    intervals = RestorableInterval.objects.filter(instance=instance, store=store, database=database, fork=copy.set.fork)
    newest = intervals.exclude(reached=None).order_by("-reached", "-ended_at").first()
    readable = copies_of(instance, store, database).restorable().filter(set__fork=copy.set.fork)
    readable = readable.exclude(certificates.sealed(store.region_id))
    data = readable.exclude(set__kind=Kind.LOG)
    if newest is None:
        return not data.exists()  # nothing to lead on from, so nothing more can be restored
    [log] = chain_sets(Copy.objects.filter(pk=copy.pk), rules)
    beyond = data.filter(set__last_position__gt=newest.reached)
    if log.last is None or rules.span(log)[1] < newest.reached:
        return False
    if rules.span(log)[0] > newest.reached:
        return not beyond.exists()  # it leads on from a newer full, or from nothing that has arrived
    logs = [log, *_arrived_before(readable.filter(set__kind=Kind.LOG), newest, log, rules)]
    end = _end_of(newest, logs, rules)
    if len(logs) > MOST_WAITING or end[1] < newest.began_at or beyond.filter(set__last_position__lte=end[0]).exists():
        return False
    _run_on(newest, end, intervals)
    return True


def _joins_forks(copy: Copy, readable: QuerySet[Copy]) -> bool:
    """Whether a log may change more than the end of its own fork's interval: where one fork left another."""
    found = copy.set
    if that_cross(readable).filter(set__parent_fork=found.fork).exists():
        return True
    if not found.parent_fork:
        return False
    if found.first_position is None or found.first_position <= found.fork_position:
        return True
    said = {f"set__{name}": getattr(found, name) for name in ("fork", "parent_fork", "fork_position")}
    same = readable.filter(**said, set__forked_at__lte=found.forked_at).exclude(pk=copy.pk)
    return not same.exists()


def _arrived_before(
    logs: QuerySet[Copy], newest: RestorableInterval, log: ChainSet, rules: ChainRules
) -> list[ChainSet]:
    """Return the logs behind an interval's end that had to wait for what leads to them."""
    waiting = logs.filter(set__finished_at__gte=newest.ended_at).exclude(pk=log.id).order_by("set__finished_at")
    return [one for one in chain_sets(waiting[:MOST_WAITING], rules) if one.last is not None]


def _end_of(newest: RestorableInterval, logs: list[ChainSet], rules: ChainRules) -> tuple[int, datetime]:
    end = newest.reached, newest.ended_at
    for log in sorted(logs, key=lambda log: rules.span(log)):
        first, last = rules.span(log)
        if first > end[0]:
            break  # a log between has not arrived, or never will
        end = max(end, (last, log.shown_at))
    return end


def _run_on(newest: RestorableInterval, end: tuple[int, datetime], intervals: QuerySet[RestorableInterval]) -> None:
    intervals.filter(reached=None, began_at__gte=newest.began_at, began_at__lte=end[1]).delete()
    RestorableInterval.objects.filter(pk=newest.pk).update(reached=end[0], ended_at=end[1])


def _row(instance: Instance, store: Store, database: str, found: Interval) -> RestorableInterval:
    return RestorableInterval(
        instance=instance,
        store=store,
        database=database,
        began_at=found.start,
        ended_at=found.end,
        fork=found.fork,
        anchor_id=found.anchor.id,
        reached=found.reached,
    )
