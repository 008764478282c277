"""How long copies stay: their dates, and what is charged until then (R-12.6, R-14.3, R-15, I4 to I6, I9).

until `expires_at`: completed, charged, restorable ──expiring──> expired, free, undoable ──24 h──> purging deletes
Past that date, but completed and free of charge while a reason of KEPT_PAST holds: the last good copy, one whose source
region is gone, one that was brought back and not confirmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet

from backups import events
from backups.chains import log_chain, windows
from backups.chains.dependents import NEVER, all_of, effective, never_while_held
from backups.engines import engine_of
from backups.events import FARSHORE, By
from backups.models import (
    BackupSet,
    CopiedFile,
    Copy,
    CopyPolicy,
    CopyState,
    Instance,
    Kind,
    SetFile,
    StorageSpan,
    Transfer,
)
from backups.terms.policy_settings import LONGEST_DAYS
from regions import clock
from regions.models import Store

DAY = timedelta(seconds=86_400)
CATCH_UP = timedelta(hours=1)
MAY_LAG = 2 * CATCH_UP  # dates that lie days ahead may be as much too early, while logs only follow each other
NEEDED, HELD, LOCKED = "needed", "hold", "lock"
NOT_LOCKED = datetime.min.replace(tzinfo=UTC)
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


def own_expiry(finished_at: datetime, retention_days: int, hidden_for: timedelta = timedelta(0)) -> datetime:
    """Retention counts from the backup's completion (R-12.6), but for the time it was hidden (R-18.2), up to the
    longest there is."""
    return finished_at + min(retention_days * DAY + hidden_for, LONGEST_DAYS * DAY)


def not_before(own: datetime, locked_until: datetime | None) -> datetime:
    """A file under its store's lock is not let go of before that ends (R-14.3)."""
    return max(own, locked_until) if locked_until else own


def erased_at(expired_at: datetime) -> datetime:
    """Return when what expires now is erased, and until when that can be undone (R-14.3, R-15.4)."""
    return expired_at + timedelta(seconds=settings.PURGE_GRACE_SECONDS)


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
        least = {row.pk: not_before(own[row.pk], row.locked_until) for row in rows}
        needed_by = all_of(copies)
        wanted = effective(least | never_while_held(copies), needed_by)
        moved = [row for row in rows if (row.expires_at, row.kept_for) != _dating(row, wanted[row.pk], own[row.pk])]
        plain = [row for row in moved if row.is_plain(at)]
        _redate_plainly(plain, wanted, own, at, by)
        others = Copy.objects.select_related("set", "policy").in_bulk([row.pk for row in moved if not row.is_plain(at)])
        for pk in sorted(others):
            _redate(others[pk], wanted[pk], own[pk], at, by)
        _note_locks(rows, needed_by)
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
    locked_until: datetime | None
    lock_keeps_until: datetime | None

    def is_plain(self, at: datetime) -> bool:
        """Whether another date changes nothing but the date: it has not come yet, so that nothing was concluded."""
        return self.state != CopyState.EXPIRED and (self.expires_at is None or self.expires_at > at)


DATED_COLUMNS = (
    "pk",
    "state",
    "expires_at",
    "kept_for",
    "set__finished_at",
    "policy__retention_days",
    "hidden_for",
    "locked_until",
    "lock_keeps_until",
)


def _dating(row: Dated | Copy, wanted: datetime, own: datetime) -> tuple[datetime | None, str]:
    """Return the date as the column holds it, None for a held copy, and why it is later than the copy's own."""
    if wanted == NEVER:
        return None, LOCKED if row.locked_until == NEVER else HELD
    if wanted > own:
        return wanted, LOCKED if row.locked_until == wanted else NEEDED
    return wanted, row.kept_for if row.kept_for in KEPT_PAST else ""


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


def _note_locks(rows: Sequence[Dated], needed_by: Mapping[int, Iterable[int]]) -> None:
    """Keep until when locks keep each copy, by itself or for what needs it: no retention moves that (`shortening`)."""
    locked = {row.pk: row.locked_until or NOT_LOCKED for row in rows}
    if not any(row.locked_until or row.lock_keeps_until for row in rows):
        return
    latest = effective(locked, needed_by)
    together: dict[datetime | None, list[int]] = {}
    for row in rows:
        until = None if latest[row.pk] == NOT_LOCKED else latest[row.pk]
        if until != row.lock_keeps_until:
            together.setdefault(until, []).append(row.pk)
    for until, pks in together.items():
        Copy.objects.filter(pk__in=pks).update(lock_keeps_until=until)


def _brought_forward(at: datetime, by: By) -> dict:
    return {"brought_forward_at": at, "brought_forward_by": by.user, "approved_by": None}


def _offer_again(instance_id: int, store_id: int, redated: Iterable[Copy]) -> None:
    """What was undone can be restored again (I7)."""
    databases = {copy.set.database for copy in redated if copy.state == CopyState.COMPLETED}
    if databases:
        windows.rebuild(Instance.objects.get(pk=instance_id), Store.objects.get(pk=store_id), sorted(databases))


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


def next_expiry(instance) -> datetime | None:
    """Return when the last file of an instance expires, None when there is none."""
    live = Copy.objects.filter(set__instance=instance, state__in=(CopyState.COMPLETED, CopyState.EXPIRED))
    return live.order_by(F("expires_at").desc(nulls_first=True)).values_list("expires_at", flat=True).first()
