"""How long copies stay: dates, expiry, undo. Deleting is `purging`'s (R-12.6, R-14.3, R-15, I4 to I6, I9).

until `expires_at`: completed, charged, restorable ──expire──> expired, free, undoable ──24 h──> purging deletes
Past that date, but completed and free of charge while a reason of KEPT_PAST holds: the last good copy, one whose source
region is gone, one that was brought back and not confirmed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet

from backups import alerts, events, log_chain, recoveries, source_gone, windows
from backups.engines import engine_of
from backups.events import FARSHORE, By
from backups.models import (
    Alert,
    BackupSet,
    CopiedFile,
    Copy,
    CopyPolicy,
    CopyState,
    Instance,
    Kind,
    PolicyKind,
    SetFile,
    StorageSpan,
    Transfer,
)
from backups.policy_settings import LONGEST_DAYS
from regions import clock
from regions.models import Store

log = logging.getLogger(__name__)
DAY = timedelta(seconds=86_400)
CATCH_UP = timedelta(hours=1)
MAY_LAG = 2 * CATCH_UP  # dates that lie days ahead may be as much too early, while logs only follow each other
NEVER = datetime.max.replace(tzinfo=UTC)
NEEDED, HELD = "needed", "hold"
LAST_GOOD, SOURCE_GONE, UNCONFIRMED = "last_good", "source_gone", "unconfirmed"
KEPT_PAST = {
    LAST_GOOD: "last good copy",
    SOURCE_GONE: "its source region is gone",
    UNCONFIRMED: "it was brought back, and nobody has confirmed that yet",
}
DATED = (
    CopyState.PLANNED,
    CopyState.COPYING,
    CopyState.VERIFYING,
    CopyState.FAILED,
    CopyState.COMPLETED,
    CopyState.EXPIRED,
    CopyState.DAMAGED,
)


EXPIRING = (CopyState.COMPLETED, CopyState.DAMAGED, CopyState.HIDDEN)


def own_expiry(finished_at: datetime, retention_days: int, hidden_for: timedelta = timedelta(0)) -> datetime:
    """Retention counts from the backup's completion (R-12.6), but for the time it was hidden (R-18.2), up to the
    longest there is."""
    return finished_at + min(retention_days * DAY + hidden_for, LONGEST_DAYS * DAY)


def erased_at(expired_at: datetime) -> datetime:
    """Return when what expires now is erased, and until when that can be undone (R-14.3, R-15.4)."""
    return expired_at + timedelta(seconds=settings.PURGE_GRACE_SECONDS)


def effective(own: Mapping[int, datetime], needed_by: Mapping[int, Iterable[int]]) -> dict[int, datetime]:
    """Return each copy's date: the latest of its own and those of the copies that need it, at any depth. Pure."""
    needs: dict[int, list[int]] = {}
    for needed, dependents_ in needed_by.items():
        for dependent in dependents_:
            if needed in own and dependent in own:
                needs.setdefault(dependent, []).append(needed)
    found: dict[int, datetime] = {}
    for latest in sorted(own, key=lambda copy: own[copy], reverse=True):
        stack = [latest]
        while stack:
            if (copy := stack.pop()) not in found:
                found[copy] = own[latest]
                stack.extend(needs.get(copy, ()))
    return found


def dependents(copies: QuerySet[Copy]) -> dict[int, set[int]]:
    """Return copy → copies that need it next: by its chain (log_chain.needs), sets in one file by each other (I5)."""
    needed: dict[int, set[int]] = {}
    for rules, sets in windows.chains_among(copies):
        needs = log_chain.needs(*windows.data_and_logs(sets), rules)
        for one, needing in log_chain.needed_by(needs).items():
            needed.setdefault(one, set()).update(needing)
    for sharing in _sharing_a_file(copies):
        for one in sharing:
            needed.setdefault(one, set()).update(sharing - {one})
    return needed


def _sharing_a_file(copies: QuerySet[Copy]) -> list[set[int]]:
    carried = CopiedFile.objects.filter(copy__in=copies.order_by().values("pk"))
    shared = carried.values("transfer").annotate(n=Count("copy")).filter(n__gt=1).values("transfer")
    by_transfer: dict[int, set[int]] = {}
    for copy, transfer in carried.filter(transfer__in=shared).values_list("copy", "transfer"):
        by_transfer.setdefault(transfer, set()).add(copy)
    return list(by_transfer.values())


# ---- logs that only follow: an instance may have tens of thousands, and none of the others has to be looked at


def follows_on(found: BackupSet, store: Store, own: datetime) -> bool:
    """Whether a log simply leads on from the newest one owed at a store, so that nothing else is touched by owing it.

    What it needs is kept at least as long as that one, but for `fall_behind`. Locks that one until the transaction
    ends: it is not cancelled meanwhile, or was before.
    """
    newest = _newest_log(found, store)
    if newest is None or own <= clock.now() + DAY:
        return False
    if not newest.finished_at <= found.finished_at <= newest.finished_at + CATCH_UP:
        return False
    rules = engine_of(found.instance.engine).chain_rules
    [before], [log] = (windows.set_chain(BackupSet.objects.filter(pk=one.pk), rules) for one in (newest, found))
    if before.fork != log.fork:  # the first log of a fork needs more than the one before it
        return False
    if not log_chain.follows(before, log, rules) or rules.span(log)[1] <= rules.span(before)[1]:
        return False
    beside = SetFile.objects.filter(file__set_files__set=found).exclude(set=found)
    return not beside.exists()


def _newest_log(found: BackupSet, store: Store) -> BackupSet | None:
    owed = windows.copies_of(found.instance, store, found.database).filter(set__kind=Kind.LOG, deleting_since=None)
    there = owed.filter(state__in=windows.THERE_OR_COMING).select_for_update(no_key=True, of=("self",))
    copy = there.select_related("set").order_by("-set__finished_at", "-pk").first()
    return copy.set if copy else None


def fall_behind(policy: CopyPolicy) -> None:
    """Say that what a new log needs still has the date of the logs before it. Call with the policy locked."""
    CopyPolicy.objects.filter(pk=policy.pk, dates_behind_since=None).update(dates_behind_since=clock.now())


def catch_up(only: Q | None = None) -> int:
    """Date anew what logs that followed each other need: hourly, days before any of these dates comes (R-12.6)."""
    behind = CopyPolicy.objects.filter(only or Q(dates_behind_since__lte=clock.now() - CATCH_UP))
    places = behind.filter(dates_behind_since__isnull=False).values_list("instance", "destination__stores")
    chains = list(places.distinct().order_by("instance", "destination__stores"))
    for instance, store in chains:
        reschedule(instance, store)
    return len(chains)


def _is_caught_up(instance_id: int, store_id: int) -> None:
    """Every log known now is about to be looked at; one being owed in this moment by somebody else falls behind again.

    Skips a policy that somebody holds: he locked it before the copies, which we hold.
    """
    behind = CopyPolicy.objects.filter(
        instance=instance_id, destination__stores=store_id, dates_behind_since__isnull=False
    )
    mine = behind.select_for_update(skip_locked=True, no_key=True, of=("self",))
    CopyPolicy.objects.filter(pk__in=[policy.pk for policy in mine]).update(dates_behind_since=None)


def stands_alone(copy: Copy, transfers: Iterable[Transfer]) -> bool:
    """Whether nobody's date changes by this copy's arrival: a log whose file no other set lies in."""
    others = CopiedFile.objects.filter(transfer__in=[transfer.pk for transfer in transfers]).exclude(copy=copy)
    return copy.set.kind == Kind.LOG and not others.exists()


# ---- dates of many


def lock_copies(instance_id: int, store_id: int | None = None) -> None:
    """Lock the copies whose dates hang together, in one order for all; call it before any one of them is changed.

    Without a store, those at every store. Read them after it: what a locking query itself joins (the policy's days) is
    as old as the query, not as the lock.
    """
    list(_dated(instance_id, store_id).select_for_update(no_key=True, of=("self",)).only("pk"))


def _dated(instance_id: int, store_id: int | None) -> QuerySet[Copy]:
    dated = Copy.objects.filter(set__instance=instance_id, state__in=DATED, deleting_since=None).order_by("pk")
    return dated if store_id is None else dated.filter(destination_store=store_id)


def reschedule(instance_id: int, store_id: int, by: By = FARSHORE) -> None:
    """Work out anew when each copy of an instance at a store expires; call it whenever a date or a chain changed.

    What a held copy needs is held with it. A copy in its grace whose new date lies ahead is undone: completed again,
    charged from now on. One whose deletion has begun keeps its date: its bytes may be gone, and the deletion must find
    nothing against it when it goes on.
    """
    with transaction.atomic():
        lock_copies(instance_id, store_id)
        _is_caught_up(instance_id, store_id)
        at = clock.now()
        copies = _dated(instance_id, store_id)
        rows = [Dated(*row) for row in copies.values_list(*DATED_COLUMNS)]
        own = {row.pk: own_expiry(row.finished_at, row.retention_days, row.hidden_for) for row in rows}
        wanted = effective(own | _never_while_held(copies), dependents(copies))
        moved = [row for row in rows if (row.expires_at, row.kept_for) != _dating(row, wanted[row.pk], own[row.pk])]
        plain = [row for row in moved if row.is_plain(at)]
        _redate_plainly(plain, wanted, own, at, by)
        others = Copy.objects.select_related("set", "policy").in_bulk([row.pk for row in moved if not row.is_plain(at)])
        for pk in sorted(others):
            _redate(others[pk], wanted[pk], own[pk], at, by)
        _offer_again(instance_id, store_id, others.values())


class Dated(NamedTuple):
    """What dating looks at of a copy."""

    pk: int
    state: str
    expires_at: datetime | None
    kept_for: str
    finished_at: datetime
    retention_days: int
    hidden_for: timedelta

    def is_plain(self, at: datetime) -> bool:
        """Whether another date changes nothing but the date: it has not come yet, so that nothing was concluded."""
        return self.state != CopyState.EXPIRED and (self.expires_at is None or self.expires_at > at)


DATED_COLUMNS = ("pk", "state", "expires_at", "kept_for", "set__finished_at", "policy__retention_days", "hidden_for")


def _dating(row: Dated | Copy, wanted: datetime, own: datetime) -> tuple[datetime | None, str]:
    """Return the date as the column holds it, None for a held copy, and why it is later than the copy's own."""
    if wanted == NEVER:
        return None, HELD
    return wanted, NEEDED if wanted > own else row.kept_for if row.kept_for in KEPT_PAST else ""


def _redate_plainly(
    rows: Iterable[Dated], wanted: Mapping[int, datetime], own: Mapping[int, datetime], at: datetime, by: By
) -> None:
    """Write many dates with few statements: the sets of a chain have one and the same."""
    together: dict[tuple, list[int]] = {}
    for row in rows:
        expires, kept = _dating(row, wanted[row.pk], own[row.pk])
        is_forward = expires is not None and (row.expires_at is None or expires < row.expires_at)
        together.setdefault((expires, kept, is_forward), []).append(row.pk)
    for (expires, kept, is_forward), pks in together.items():
        forward = _brought_forward(at, by) if is_forward else {}
        Copy.objects.filter(pk__in=pks).update(expires_at=expires, kept_for=kept, **forward)


def _brought_forward(at: datetime, by: By) -> dict:
    return {"brought_forward_at": at, "brought_forward_by": by.user, "approved_by": None}


def _offer_again(instance_id: int, store_id: int, redated: Iterable[Copy]) -> None:
    """What was undone can be restored again (I7)."""
    databases = {copy.set.database for copy in redated if copy.state == CopyState.COMPLETED}
    if databases:
        windows.rebuild(Instance.objects.get(pk=instance_id), Store.objects.get(pk=store_id), sorted(databases))


def _never_while_held(copies: QuerySet[Copy]) -> dict[int, datetime]:
    held = copies.filter(holds__released_at=None, holds__isnull=False)
    return dict.fromkeys(held.values_list("pk", flat=True), NEVER)


def held_with_what_they_need(
    copies: QuerySet[Copy], own: Mapping[int, datetime], needed_by: Mapping[int, Iterable[int]]
) -> set[int]:
    """Return those a hold keeps, itself or because what is held needs them."""
    dates = effective({**own, **_never_while_held(copies)}, needed_by)
    return {pk for pk, date in dates.items() if date == NEVER}


def _redate(copy: Copy, wanted: datetime, own: datetime, at: datetime, by: By) -> None:
    """Give a copy whose date had come, or that has expired, another one."""
    _settle(copy, at)
    copy.expires_at, copy.kept_for = _dating(copy, wanted, own)
    Copy.objects.filter(pk=copy.pk).update(expires_at=copy.expires_at, kept_for=copy.kept_for)
    if wanted > at:
        _charge_again(copy, at, by)


def _settle(copy: Copy, at: datetime) -> None:
    """A date that passed before the sweep saw it has ended the charge, whatever date the copy gets now."""
    if copy.state == CopyState.COMPLETED and copy.expires_at is not None and copy.expires_at <= at:
        close_span(copy, charged_until(copy))


def charged_until(copy: Copy) -> datetime:
    """Until its date; where that was moved into the past, until it was moved (R-14.3: free of charge at the OK)."""
    return max(copy.expires_at, copy.brought_forward_at or copy.expires_at)


def _charge_again(copy: Copy, at: datetime, by: By) -> None:
    """Its date lies ahead (again): an expired copy returns, and an uncharged one is charged from now on."""
    if copy.state == CopyState.EXPIRED and copy.deleting_since is None:
        won = Copy.objects.filter(pk=copy.pk, state=CopyState.EXPIRED, deleting_since=None).update(
            state=CopyState.DAMAGED if copy.is_damaged else CopyState.COMPLETED,
            expired_at=None,
            purge_at=None,
            brought_forward_at=None,
            brought_forward_by=None,
            kept_for=copy.kept_for,
        )
        if not won:
            return
        copy.state = CopyState.DAMAGED if copy.is_damaged else CopyState.COMPLETED
        events.record("copy.undone", f"The copy of {copy.set} is kept again.", set=copy.set, by=by, copy=copy.pk)
    if copy.state == CopyState.COMPLETED and not copy.spans.filter(ended_at=None).exists():
        Copy.objects.filter(pk=copy.pk, kept_for__in=KEPT_PAST).update(kept_for="")
        open_span(copy, at)


def open_span(copy: Copy, at: datetime) -> None:
    StorageSpan.objects.create(copy=copy, bytes=copy.stored_bytes, began_at=at)


def close_span(copy: Copy, at: datetime) -> None:
    """Stop charging at `at`; a span that would end before it began (a retention shortened into the past) ends where
    it began."""
    for span in copy.spans.filter(ended_at=None):
        StorageSpan.objects.filter(pk=span.pk).update(ended_at=max(span.began_at, at))


# ---- the sweep


def expire_due(limit: int = 500, only: Q | None = None) -> int:
    """Turn copies past their date into expired ones, or keep some free of charge (KEPT_PAST); return how many."""
    at, only = clock.now(), only or Q()
    due = Copy.objects.filter(only, state__in=EXPIRING, expires_at__lte=at).exclude(kept_for__in=KEPT_PAST)
    catch_up(Q(pk__in=due.values("policy")))
    ready = list(due.order_by("expires_at", "pk").values_list("pk", flat=True)[:limit])
    together: dict[tuple[int, int], list[int]] = {}
    places = Copy.objects.filter(pk__in=[*ready, *_superseded(at, only), *_let_go(at, only, limit)])
    for pk, *place in places.values_list("pk", "set__instance", "destination_store"):
        together.setdefault(tuple(place), []).append(pk)
    return sum(_expire_together(*place, pks) for place, pks in together.items())


def _expire_together(instance_id: int, store_id: int, pks: list[int]) -> int:
    """Expire what is due of one instance at one store, and offer it no longer, in one transaction (I7)."""
    with transaction.atomic():
        rows = Copy.objects.select_for_update(skip_locked=True).order_by("pk")  # joins nothing: that is read after it
        expired = [copy for copy in rows.filter(pk__in=pks, state__in=EXPIRING) if _expire_unless_it_fails(copy)]
        if expired:
            instance, store = Instance.objects.get(pk=instance_id), Store.objects.get(pk=store_id)
            windows.rebuild(instance, store, sorted({copy.set.database for copy in expired}))
        return len(expired)


def _expire_unless_it_fails(copy: Copy) -> bool:
    try:
        with transaction.atomic():
            return _expire_if_due(copy)
    except Exception:  # with its traceback; one copy must not keep all the others, of everybody, from expiring
        log.exception("copy not expired", extra={"copy": copy.pk})
        return False


def _expire_if_due(copy: Copy) -> bool:
    at = clock.now()
    if copy.expires_at is None or copy.expires_at > at:
        return False
    expire(copy, at)
    return True


def _superseded(at: datetime, only: Q) -> list[int]:
    """Return kept copies that no longer are the newest verified full of a live policy."""
    kept = Copy.objects.filter(only, state=CopyState.COMPLETED, kept_for=LAST_GOOD, expires_at__lte=at)
    return [copy.pk for copy in kept.select_related("set__instance", "policy") if not is_last_good(copy, at)]


def _let_go(at: datetime, only: Q, limit: int) -> list[int]:
    """Return kept copies whose source region is back, or which somebody has confirmed."""
    kept = Copy.objects.filter(only, state__in=(CopyState.COMPLETED, CopyState.HIDDEN), expires_at__lte=at)
    back = kept.filter(kept_for=SOURCE_GONE).exclude(set__instance__region__in=source_gone.regions())
    confirmed = kept.filter(kept_for=UNCONFIRMED).exclude(destination_store__in=recoveries.waiting_stores())
    return [pk for free in (back, confirmed) for pk in free.order_by("pk").values_list("pk", flat=True)[:limit]]


def expire(copy: Copy, at: datetime, by: By = FARSHORE) -> None:
    """Write what the date means: charging stopped at `expires_at`; kept where KEPT_PAST has a reason, else expired.

    Call with the copy's row locked. A date that passed unnoticed is charged no second longer.
    """
    close_span(copy, charged_until(copy))
    if why := _why_kept(copy, at):
        Copy.objects.filter(pk=copy.pk).update(kept_for=why)
        said = f"The copy of {copy.set} is kept: {KEPT_PAST[why]}."
        events.record("copy.kept", said, set=copy.set, copy=copy.pk)
        return
    Copy.objects.filter(pk=copy.pk).update(
        state=CopyState.EXPIRED,
        expired_at=at,
        kept_for="",
        purge_at=erased_at(at),
    )
    alerts.close_alert("copy_damaged", f"copy:{copy.pk}")
    events.record("copy.expired", f"The copy of {copy.set} has expired.", set=copy.set, by=by, copy=copy.pk)


def _why_kept(copy: Copy, at: datetime) -> str:
    if is_last_good(copy, at):
        return LAST_GOOD
    if copy.set.instance.region_id in source_gone.regions():
        return SOURCE_GONE
    return UNCONFIRMED if recoveries.is_waiting(copy.destination_store_id) else ""


def is_last_good(copy: Copy, at: datetime) -> bool:
    """Whether this is the newest verified full of its database at its destination under a live policy (I6, R-15.6)."""
    return copy.state == CopyState.COMPLETED and is_newest_full(copy, at)


def is_newest_full(copy: Copy, at: datetime) -> bool:
    """Whether no newer verified full is kept beside this one, its policy being live; asked of expired ones too."""
    policy, instance = copy.policy, copy.set.instance
    if copy.is_damaged or copy.set.kind != Kind.FULL or not policy.enabled or instance.released:
        return False
    newer = Copy.objects.filter(
        state=CopyState.COMPLETED,
        destination_store=copy.destination_store_id,
        set__instance=instance,
        set__database=copy.set.database,
        set__kind=Kind.FULL,
    ).filter(Q(set__finished_at__gt=copy.set.finished_at) | Q(set__finished_at=copy.set.finished_at, pk__gt=copy.pk))
    return not newer.exists() and not _database_is_gone(copy, at)


def keep_last_good(policy: CopyPolicy, by: By = FARSHORE) -> None:
    """Enabled again: the newest full of each database that is still in its grace is kept, free of charge (I6)."""
    at = clock.now()
    expired = Copy.objects.select_for_update(of=("self",)).filter(
        policy=policy, state=CopyState.EXPIRED, deleting_since=None, set__kind=Kind.FULL
    )
    kept = set()
    for copy in expired.select_related("set__instance", "policy").order_by("-set__finished_at", "-pk"):
        if is_newest_full(copy, at):
            kept.add((copy.destination_store_id, copy.set.database))
            Copy.objects.filter(pk=copy.pk).update(
                state=CopyState.COMPLETED, expired_at=None, purge_at=None, kept_for=LAST_GOOD
            )
            said = f"The copy of {copy.set} is kept again: last good copy."
            events.record("copy.kept", said, set=copy.set, by=by, copy=copy.pk)
    for store_id, database in sorted(kept):
        windows.rebuild(policy.instance, Store.objects.get(pk=store_id), [database])


def let_last_good_go(policy: CopyPolicy, by: By) -> None:
    """The policy has ended, and with it what kept these past their date: a person brought that about (breaker)."""
    kept = Copy.objects.filter(policy=policy, state=CopyState.COMPLETED, kept_for=LAST_GOOD)
    kept.update(brought_forward_at=clock.now(), brought_forward_by=by.user, approved_by=None)


def _database_is_gone(copy: Copy, at: datetime) -> bool:
    """A database not seen for a whole retention period loses its last good copy, a day after the alert (I6).

    Nothing is concluded while its region is gone, nor on the day after: it could not be seen (I19).
    """
    if copy.set.instance.region_id in source_gone.regions_until(at):
        return False
    horizon = at - copy.policy.retention_days * DAY
    sets = BackupSet.objects.filter(instance=copy.set.instance_id, database=copy.set.database)
    others = BackupSet.objects.filter(instance=copy.set.instance_id).exclude(database=copy.set.database)
    subject = database_subject(copy)
    if sets.filter(finished_at__gte=horizon).exists() or not others.filter(finished_at__gte=horizon).exists():
        alerts.close_alert("database_not_seen", subject)
        return False
    alerts.open_alert(
        "database_not_seen",
        subject,
        f"No backup of {copy.set.database} has been seen for {copy.policy.retention_days} days;"
        " its last good copy is deleted after a day.",
        remedy="If it is still needed, place a hold on the copy or take a backup.",
        instance=copy.set.instance,
    )
    return Alert.objects.filter(
        code="database_not_seen", subject=subject, closed_at=None, opened_at__lte=at - DAY
    ).exists()


def database_subject(copy: Copy) -> str:
    return alerts.fitting(f"instance:{copy.set.instance_id}:{copy.set.database}")


# ---- what a change of retention would do, for the dialog


def shortening(
    instance: Instance, retention_days: int, at: datetime, kind: str = PolicyKind.CROSS_REGION
) -> dict[str, Any]:
    """Return what a new retention would expire at once: sets, bytes, of how many, and when they are erased (R-14.3)."""
    found = Copy.objects.filter(set__instance=instance, state=CopyState.COMPLETED, policy__kind=kind)
    rows = list(found.values_list("pk", "set__finished_at", "stored_bytes", "hidden_for"))
    copies = [row[:3] for row in rows]
    own = {pk: own_expiry(finished_at, retention_days, hidden_for) for pk, finished_at, _, hidden_for in rows}
    dates = effective(own | _never_while_held(found), dependents(found))
    kept_anyway = _newest_fulls(found.select_related("set__instance", "policy"))
    gone = {pk for pk in own if dates[pk] <= at and pk not in kept_anyway}
    return {
        "sets": len(gone),
        "bytes": sum(size for pk, _, size in copies if pk in gone),
        "all_sets": len(copies),
        "all_bytes": sum(size for _, _, size in copies),
        "erased_at": erased_at(at),
        "earliest": min((finished_at for pk, finished_at, _ in copies if pk not in gone), default=None),
    }


def _newest_fulls(copies: QuerySet[Copy]) -> set[int]:
    newest: dict[tuple[str, int], Copy] = {}
    for copy in copies.filter(set__kind=Kind.FULL, policy__enabled=True, set__instance__released_at=None):
        key = (copy.set.database, copy.destination_store_id)
        best = newest.get(key)
        if best is None or copy.set.finished_at > best.set.finished_at:
            newest[key] = copy
    return {copy.pk for copy in newest.values()}


def next_expiry(instance) -> datetime | None:
    """Return when the last file of an instance expires, None when there is none."""
    live = Copy.objects.filter(set__instance=instance, state__in=(CopyState.COMPLETED, CopyState.EXPIRED))
    return live.order_by(F("expires_at").desc(nulls_first=True)).values_list("expires_at", flat=True).first()
