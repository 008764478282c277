"""Which copies are owed: exactly one for every finished default backup under a policy (R-5.2, R-6, I2).

A set is weighed once, in the transaction that plans its copies; a sweep weighs what a lost bell forgot. Logs go ahead
of data, oldest first; an instance may have thousands a day, so one that simply follows the newest touches nothing else.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from backups import alerts, bell, events, log_chain, log_gaps, retention, windows
from backups.engines import engine_of
from backups.engines.chains import RECORDED, chain_set
from backups.events import FARSHORE, By
from backups.models import (
    BackupSet,
    CancelReason,
    Copy,
    CopyPolicy,
    CopyState,
    Coverage,
    Instance,
    Kind,
    ServerDatabase,
    SetStatus,
)
from regions import clock
from regions.models import Store
from regions.refusals import Refusal

log = logging.getLogger(__name__)

DAY = timedelta(seconds=86_400)
STILL_ONLINE = timedelta(days=14)  # a database known only by its files counts while a set of it is this young
LOG_PRIORITY, BASE_PRIORITY, DATA_PRIORITY = 0, 5, 10


@dataclass(frozen=True)
class LogBeginning:
    """What R-8.2 found for one database: `logs` lead on from `anchor` without a hole, oldest first; None: none do."""

    database: str
    anchor: BackupSet | None = None
    logs: tuple[int, ...] = ()


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
    recent = _recent(known, at)
    bases = _Bases(recent, known)
    names = databases_of_all(known.values(), at)
    newest = {pk: {name: DatabaseCheck(name) for name in names[pk]} for pk in known}
    for found in recent:
        checks = newest[found.instance_id]
        if checks.get(found.database, DatabaseCheck(found.database)).chosen is None:
            check = _check(found, bases.of(found))
            if check:
                checks[found.database] = check
    return {pk: [checks[name] for name in sorted(checks)] for pk, checks in newest.items()}


def _recent(instances: Mapping[int, Instance], at: datetime) -> list[BackupSet]:
    """Read the valid sets of the last 24 hours, logs aside, the newest first."""
    sets = BackupSet.objects.valid().data().filter(instance__in=instances, finished_at__gte=at - DAY)
    return _of(instances, sets.order_by("-finished_at", "-pk"))


def _of(instances: Mapping[int, Instance], sets: Iterable[BackupSet]) -> list[BackupSet]:
    found = list(sets)
    for one in found:
        one.instance = instances[one.instance_id]
    return found


def _check(found: BackupSet, bases: list[BackupSet]) -> DatabaseCheck | None:
    return DatabaseCheck(found.database, found, tuple(bases)) if [*bases, found][0].kind == Kind.FULL else None


def databases_of(instance: Instance, at: datetime) -> list[str]:
    """Return the databases that are online: as the server says, where it has been asked, else those of young sets."""
    return databases_of_all([instance], at)[instance.pk]


def databases_of_all(instances: Collection[Instance], at: datetime) -> dict[int, list[str]]:
    """Return the same of many instances, by their keys."""
    found: dict[int, list[str]] = {instance.pk: [""] for instance in instances}
    apart = [one.pk for one in instances if not engine_of(one.engine).capabilities.whole_server]
    if not apart:
        return found
    seen, told = _databases_seen(apart, at), _databases_told(apart)
    for pk in apart:
        there = {name for name in seen.get(pk, ()) if told[pk].get(name, True)}
        found[pk] = sorted(there | {name for name, is_on in told[pk].items() if is_on})
    return found


def _databases_seen(instances: Collection[int], at: datetime) -> dict[int, set[str]]:
    sets = BackupSet.objects.data().filter(instance__in=instances, finished_at__gte=at - STILL_ONLINE)
    seen: dict[int, set[str]] = defaultdict(set)
    for pk, name in sets.order_by().values_list("instance", "database").distinct():
        seen[pk].add(name)
    return seen


def _databases_told(instances: Collection[int]) -> dict[int, dict[str, bool]]:
    rows = ServerDatabase.objects.filter(instance__in=instances).order_by()
    told: dict[int, dict[str, bool]] = defaultdict(dict)
    for pk, name, gone_at, is_online in rows.values_list("instance", "name", "gone_at", "is_online"):
        told[pk][name] = gone_at is None and is_online
    return told


def has_valid(instance: Instance, database: str, at: datetime) -> bool:
    """Whether the 24-hour check finds a valid set of a database (R-6.1)."""
    return any(check.chosen for check in examine(instance, at) if check.database == database)


def bases_of(found: BackupSet) -> list[BackupSet]:
    """Return what a set needs, at any depth, the full first; as far down as that is still valid at the source."""
    return _Bases([found], {found.instance_id: found.instance}).of(found)


class _Bases:
    """The fulls, or incrementals, that sets were made from, where their files are still at the source.

    They are read for all the sets at once, with a statement for each step down.
    """

    def __init__(self, sets: Iterable[BackupSet], instances: Mapping[int, Instance]) -> None:
        self._named: dict[tuple[int, str], list[BackupSet]] = {}
        wanted = self._unknown(sets)
        while wanted:
            self._named |= {key: [] for key in wanted}
            where = {"instance__in": {pk for pk, _ in wanted}, "set_guid__in": {guid for _, guid in wanted}}
            found = _of(instances, BackupSet.objects.valid().filter(**where).order_by("pk"))
            named = [one for one in found if (one.instance_id, one.set_guid) in wanted]
            for one in named:
                self._named[one.instance_id, one.set_guid].append(one)
            wanted = self._unknown(named)

    def _unknown(self, sets: Iterable[BackupSet]) -> set[tuple[int, str]]:
        return {(one.instance_id, one.base_guid) for one in sets if one.base_guid} - self._named.keys()

    def of(self, found: BackupSet) -> list[BackupSet]:
        chain = [found]
        while (base := base_of(chain[0], self._named_by(chain[0]))) and base not in chain:
            chain.insert(0, base)
        return chain[:-1]

    def _named_by(self, found: BackupSet) -> list[BackupSet]:
        return self._named.get((found.instance_id, found.base_guid), [])


def base_of(differential: BackupSet, named: Iterable[BackupSet]) -> BackupSet | None:
    """Return the full, or the incremental, that a set was made from, of those that have the name it gives."""
    rules = engine_of(differential.instance.engine).chain_rules
    made = chain_set(differential.pk, differential, rules)
    return next((base for base in named if rules.is_base(chain_set(base.pk, base, rules), made)), None)


# ---- logs that are there when they are enabled


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
        for pk, names in databases_of_all(known.values(), at).items()
    }


Chains = dict[tuple[int, str], list]  # by instance and database


def _anchors(instances: Mapping[int, Instance], at: datetime) -> Chains:
    """Return the sets of the last 24 hours that logs can follow."""
    recent = _recent(instances, at)
    bases = _Bases(recent, instances)
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
    copies = [_new_copy(policy, found, at, Copy.Origin.TWENTY_FOUR_HOURS) for found in missing]
    Copy.objects.bulk_create([copy for copy in copies if copy.expires_at > at])
    retention.reschedule(policy.instance_id, store.pk)
    log_gaps.settle(policy.instance, store, beginning.database)
    bell.ring_copies(policy.destination_id)


def weigh_due(limit: int = 500) -> int:
    """Weigh every complete set that has not been weighed; return how many were."""
    due = BackupSet.objects.filter(weighed_at=None, status=SetStatus.SUCCEEDED).order_by("pk")
    count = 0
    for pk in due.values_list("pk", flat=True).iterator(500):  # past those that cannot be weighed now
        if count >= limit:
            break
        try:
            count += weigh(pk)
        except Refusal as refusal:  # its destination has no store now; it stays due and the others go on
            log.warning("set not weighed", extra={"set": pk, "reason": str(refusal)})
        except Exception:  # as above, with its traceback: one set must not end the planning of the whole fleet
            log.exception("set not weighed", extra={"set": pk})
    return count


def weigh(set_pk: int) -> bool:
    """Decide once what is owed for a set and write it down; safe to repeat, in any order, from any worker."""
    with transaction.atomic():
        found = BackupSet.objects.select_for_update(no_key=True, of=("self",)).get(pk=set_pk)
        if found.weighed_at or found.status != SetStatus.SUCCEEDED:
            return False
        # Locking the policies is not enough: one that is being enabled for the first time is no row to wait for yet.
        found.instance = Instance.objects.select_for_update(no_key=True).get(pk=found.instance_id)
        at = clock.now()
        for policy in _policies_of(found.instance):
            _weigh_under(policy, found, at)
        BackupSet.objects.filter(pk=set_pk).update(weighed_at=at)
    return True


def _policies_of(instance: Instance) -> Iterable[CopyPolicy]:
    """Return the instance's policies, locked: a change of settings waits for us, or we for it."""
    policies = CopyPolicy.objects.select_for_update(no_key=True, of=("self",)).filter(instance=instance)
    return list(policies.select_related("destination", "instance__region").order_by("pk"))


def _weigh_under(policy: CopyPolicy, found: BackupSet, at: datetime) -> None:
    content, moment = ("log" if found.kind == Kind.LOG else "data"), came_about(found)
    spans = policy.coverage.filter(content=content, began_at__lte=moment)
    covered = spans.filter(Q(ended_at=None) | Q(ended_at__gt=moment)).exists()
    if covered and policy.enabled:
        plan(policy, found, at=at)
    elif covered:
        _plan_cancelled(policy, found, at)
        if policy.end_reason == CancelReason.DESTINATION_CHANGED and (successor := _successor(policy, found)):
            plan(successor, found, at=at)
    elif content == "data" and _is_awaited(policy, found):
        plan(policy, found, at=at, origin=Copy.Origin.TWENTY_FOUR_HOURS)


def came_about(found: BackupSet) -> datetime:
    """Return when a set finished, by our clock; a log's own times are those of its server, whose clock may be wrong."""
    return found.discovered_at if found.kind == Kind.LOG and found.origin == "taken" else found.finished_at


def _successor(policy: CopyPolicy, found: BackupSet) -> CopyPolicy | None:
    """What a changed destination left behind goes to the new one, also when it is noticed late (R-14.5)."""
    beside = CopyPolicy.objects.cross_region().enabled().filter(instance=policy.instance_id)
    successor = beside.select_for_update(no_key=True, of=("self",)).select_related("destination").first()
    return successor if successor and (found.kind != Kind.LOG or successor.logs_enabled) else None


def _is_awaited(policy: CopyPolicy, found: BackupSet) -> bool:
    """A full finished within the day before enabling, but noticed only now, ends the wait for a full backup (R-6.2)."""
    if not policy.enabled or policy.suspended_at or found.kind != Kind.FULL:
        return False
    recent = policy.coverage.filter(content="data", ended_at=None, began_at__lte=found.finished_at + DAY).exists()
    return recent and not has_full(policy, found.database)


def has_full(policy: CopyPolicy, database: str | None = None) -> bool:
    """Whether a full of the database (of any, when None) is at the destination or on its way there."""
    fulls = policy.copies.live().exclude(state__in=(CopyState.EXPIRED, CopyState.DAMAGED)).filter(set__kind=Kind.FULL)
    return (fulls if database is None else fulls.filter(set__database=database)).exists()


def plan(
    policy: CopyPolicy, found: BackupSet, *, at: datetime, origin: str = Copy.Origin.TRIGGERED, by: By = FARSHORE
) -> Copy | None:
    """Write down that a copy of the set is owed, its bases first; returns the live copy, None where it was cancelled.

    Call with the policy locked. A live copy at the destination is adopted, never doubled (one_live_copy); raises
    Refusal while it, or the base, is being deleted there: a moment later there is room for a new one.
    """
    store = policy.store
    if found.kind == Kind.LOG:
        return _plan_log(policy, found, at, origin, by)
    retention.lock_copies(found.instance_id, store.pk)  # a deletion begins before us, and we see it, or asks after us
    is_owed = retention.own_expiry(found.finished_at, policy.retention_days) > at or _live(found, store)
    for base in bases_of(found) if is_owed else ():
        _plan_one(policy, base, at, Copy.Origin.BASE, by)
    return _plan_one(policy, found, at, origin, by)


def _plan_log(policy: CopyPolicy, found: BackupSet, at: datetime, origin: str, by: By) -> Copy | None:
    """Owe a log: in one step where it only leads on from the newest, else beside all the others, to find what is gone.

    A gap that is being healed may not be closed by a log behind it: it is looked at anew then too.
    """
    store = policy.store
    own = retention.own_expiry(found.finished_at, policy.retention_days)
    if _live(found, store) is None and retention.follows_on(found, store, own):
        copy = _new_copy(policy, found, at, origin)
        copy.save()
        retention.fall_behind(policy)
        bell.ring_copies(policy.destination_id)
        return copy
    retention.lock_copies(found.instance_id, store.pk)
    copy = _plan_one(policy, found, at, origin, by)
    log_gaps.settle(found.instance, store, found.database)
    return copy


def plan_anew(policy: CopyPolicy, orphan: Copy, *, at: datetime) -> Copy | None:
    """Plan at another destination what a change of it cancelled (R-14.5).

    A base past its own date is left to the differential that needs it, which brings it along.
    """
    is_past = retention.own_expiry(orphan.set.finished_at, policy.retention_days) <= at
    if orphan.origin == Copy.Origin.BASE and is_past:
        return None
    return plan(policy, orphan.set, at=at, origin=orphan.origin)


def _live(found: BackupSet, store: Store) -> Copy | None:
    return Copy.objects.live().filter(set=found, destination_store=store).first()


def _plan_one(policy: CopyPolicy, found: BackupSet, at: datetime, origin: str, by: By) -> Copy | None:
    store = policy.store
    live = _live(found, store)
    if live:
        return _adopt(live, policy)
    copy = _new_copy(policy, found, at, origin)
    if copy.expires_at <= at and origin != Copy.Origin.BASE:
        return _save_cancelled(copy, CancelReason.EXPIRED, at)
    copy.save()
    if found.kind != Kind.LOG or by.user:  # of a log nobody asked for its arrival is told, thousands of times a day
        events.record(
            "copy.planned",
            f"A copy of {found} to {policy.destination.name} is owed.",
            set=found,
            by=by,
            copy=copy.pk,
            origin=origin,
        )
    retention.reschedule(found.instance_id, store.pk)
    bell.ring_copies(policy.destination_id)
    return copy


def _new_copy(policy: CopyPolicy, found: BackupSet, at: datetime, origin: str) -> Copy:
    priority = BASE_PRIORITY if origin == Copy.Origin.BASE else DATA_PRIORITY
    return Copy(
        set=found,
        policy=policy,
        destination_store=policy.store,
        origin=origin,
        route_version=policy.route_version,
        priority=LOG_PRIORITY if found.kind == Kind.LOG else priority,
        planned_at=at,
        due_at=at,
        expires_at=retention.own_expiry(found.finished_at, policy.retention_days),
        total_bytes=sum(file.size for file in found.files.all()),
    )


def _adopt(live: Copy, policy: CopyPolicy) -> Copy:
    """Coming back to a destination: what is present or on its way there now belongs to this policy and route."""
    if live.deleting_since:
        said = f"The old copy of {live.set} is being deleted in this moment."
        raise Refusal("CopyBeingDeleted", said, "Try again in a few minutes.")
    Copy.objects.filter(pk=live.pk).update(policy=policy, route_version=policy.route_version)
    live.policy, live.route_version = policy, policy.route_version
    return live


def _plan_cancelled(policy: CopyPolicy, found: BackupSet, at: datetime) -> None:
    """The backup finished under the policy, but the policy has ended since: say so instead of nothing (I2)."""
    store = policy.last_store  # a second store that was let go of since holds up no copy to another region
    if Copy.objects.filter(set=found, destination_store=store).exists():
        return
    copy = Copy(
        set=found,
        policy=policy,
        destination_store=store,
        route_version=policy.route_version,
        planned_at=at,
        due_at=at,
        total_bytes=0,
    )
    _save_cancelled(copy, policy.end_reason or CancelReason.DISABLED, at)


def _save_cancelled(copy: Copy, reason: str, at: datetime) -> None:
    copy.state, copy.cancel_reason, copy.cancelled_at = CopyState.CANCELLED, reason, at
    copy.save()
    say_cancelled(copy, reason)


def say_cancelled(copy: Copy, reason: str, by: By = FARSHORE) -> None:
    """Record a cancellation; those nobody asked for open an alert (R-2.5)."""
    label = CancelReason(reason).label
    events.record(
        "copy.cancelled",
        f"The copy of {copy.set} was cancelled: {label}.",
        set=copy.set,
        by=by,
        copy=copy.pk,
        reason=reason,
    )
    if reason in (CancelReason.SOURCE_GONE, CancelReason.EXPIRED):
        alerts.open_alert(
            "copy_cancelled",
            f"copy:{copy.pk}",
            f"The backup {copy.set} will not reach its destination: {label}.",
            remedy="Take a backup now, so that a newer one is copied.",
            instance=copy.set.instance,
        )


def close_cancelled_alerts(arrived: Copy) -> None:
    """A newer backup of the database has arrived: that an older one did not is no longer anybody's worry (R-19).

    A log is no such backup: it cannot stand for a full, nor for the log before it.
    """
    if arrived.set.kind == Kind.LOG:
        return
    older = Copy.objects.filter(
        set__instance=arrived.set.instance_id,
        set__database=arrived.set.database,
        set__finished_at__lte=arrived.set.finished_at,
        state=CopyState.CANCELLED,
        cancel_reason__in=(CancelReason.SOURCE_GONE, CancelReason.EXPIRED),
    )
    opened = alerts.Alert.objects.filter(code="copy_cancelled", closed_at=None)
    for pk in older.values_list("pk", flat=True) if opened.exists() else ():
        alerts.close_alert("copy_cancelled", f"copy:{pk}")


def forget_cancelled(policy: CopyPolicy, **which: str) -> None:
    """Nothing newer will be copied, to end the alerts of what did not arrive: a person wants it so, they end (R-19).

    `which`: of which copies, where others go on being made.
    """
    opened = alerts.Alert.objects.filter(code="copy_cancelled", instance=policy.instance_id, closed_at=None)
    told = {int(subject.removeprefix("copy:")): subject for subject in opened.values_list("subject", flat=True)}
    ended = Copy.objects.filter(pk__in=told, policy__kind=policy.kind, **which).values_list("pk", flat=True)
    opened.filter(subject__in=[told[pk] for pk in ended]).update(closed_at=clock.now())


def open_coverage(policy: CopyPolicy, at: datetime) -> None:
    """From now on what finishes is owed a copy; logs too where they are wanted (R-8.1)."""
    for content in ("data", "log") if policy.logs_enabled else ("data",):
        defaults = {"began_at": at, "route_version": policy.route_version}
        Coverage.objects.get_or_create(policy=policy, content=content, ended_at=None, defaults=defaults)


def close_coverage(policy: CopyPolicy, at: datetime, contents: Iterable[str] = ("data", "log")) -> None:
    policy.coverage.filter(ended_at=None, content__in=contents).update(ended_at=at)


def copy_now(policy: CopyPolicy, found: BackupSet, by: By) -> Copy | None:
    """Plan a copy a person asked for; None where none can be on its way.

    That is: the policy has ended meanwhile or leaves logs out, the set's files are no longer at the source, or its date
    has passed (then it is cancelled, and said so).
    """
    with transaction.atomic():
        locked = CopyPolicy.objects.select_for_update(no_key=True, of=("self",)).get(pk=policy.pk)
        wanted = locked.enabled and (found.kind != Kind.LOG or locked.logs_enabled)
        if not wanted or not BackupSet.objects.valid().filter(pk=found.pk).exists():
            return None
        return plan(locked, found, at=clock.now(), origin=Copy.Origin.PERSON, by=by)
