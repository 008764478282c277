"""Deleting bytes: one guarded function, in two phases, driven by rows and never by listings (I4 to I6, I15, I19)."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet, Sum

from backups import alerts, cleaning, events, presence, recoveries, second_person
from backups.chains import dependents, log_chain, windows
from backups.engines import engine_of
from backups.engines.chains import ChainRules, ChainSet, is_placed
from backups.events import By
from backups.keeping import expiring, locks, retention, source_gone
from backups.leases import LeaseLost, next_lease
from backups.models import ENDED, PENDING, Copy, CopyState, Kind, Transfer
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import Gone, ObjectInfo, Storage, StorageError

CLOCKS_AGREE = timedelta(seconds=300)
BREAKER_SHARE, BREAKER_SETS, BREAKER_BYTES = 0.05, 50, 10 * 2**30
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALIVE = (*PENDING, CopyState.COMPLETED, CopyState.DAMAGED, CopyState.HIDDEN)
MOST_NEIGHBOURS = 100  # logs of about one time; what is further away is told by the dates


def purge_due(region_id: str, limit: int = 200) -> int:
    """Delete what has spent its grace in the stores of a region; return how many copies are gone for good."""
    count = 0
    for store in Store.objects.attached().filter(region=region_id):
        while count < limit and (copy := claim(store)):
            count += purge(copy)
    return count


def claim(store: Store) -> Copy | None:
    """Take the next copy whose deletion is due, under a new fence and a lease by the database's clock."""
    with transaction.atomic():
        at = clock.now()
        copy = (
            Copy.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(
                Q(leased_until=None) | Q(leased_until__lt=at),
                destination_store=store,
                state=CopyState.EXPIRED,
                purge_at__lte=at,
                due_at__lte=at,
            )
            .exclude(set__instance__region__in=source_gone.regions_until(at))  # else each is looked at in vain
            .select_related("set__instance", "policy", "destination_store")
            .order_by("purge_at", "pk")
            .first()
        )
        if copy is None:
            return None
        copy.fence += 1
        copy.leased_until = next_lease(at)
        Copy.objects.filter(pk=copy.pk).update(fence=copy.fence, leased_until=copy.leased_until)
        return copy


def purge(copy: Copy) -> bool:
    """Delete the bytes of a claimed copy if nothing speaks against it; False: it stays, and the row says why."""
    storage = copy.destination_store.open()
    try:
        presence.require_ours(copy.destination_store, storage)
        if until := locks.look_again(copy, storage):
            _later(copy, f"Its store keeps it locked until {until:%Y-%m-%d %H:%M:%S} UTC.")
            return False
        skew = abs(storage.clock() - clock.now())
        if not _begin(copy, skew):
            return False
        for transfer in Transfer.objects.filter(copied_files__copy=copy, state=Transfer.State.DELETING):
            _renew(copy)
            _delete_object(storage, transfer)
        _renew(copy)
        _delete_key(storage, copy.manifest_key, None)
        presence.require_ours(copy.destination_store, storage)  # else "it is gone" was said by somebody else
    except StorageError as error:
        _later(copy, error.sentence)
        return False
    except LeaseLost:
        return False
    return _finish(copy)


def _begin(copy: Copy, skew: timedelta) -> bool:
    """Journal the intention under the row's lock, after the last look at everything that keeps bytes alive."""
    with transaction.atomic():
        locked = Copy.objects.select_for_update().filter(pk=copy.pk, fence=copy.fence).first()
        if locked is None:
            raise LeaseLost
        at = clock.now()
        objection = why_not_delete(locked, at, skew)
        if objection is None:
            Copy.objects.filter(pk=copy.pk, fence=copy.fence).update(deleting_since=locked.deleting_since or at)
            _give_up_objects(copy)
            return True
    _later(copy, objection)
    return False


def _renew(copy: Copy) -> None:
    lease = next_lease(clock.now())
    mine = Copy.objects.filter(pk=copy.pk, fence=copy.fence, state=CopyState.EXPIRED)
    if not mine.update(leased_until=lease):
        raise LeaseLost


def why_not_delete(copy: Copy, at: datetime, skew: timedelta) -> str | None:
    """Return what speaks against deleting this copy now, None when nothing does. Call with its row locked (I4)."""
    grace = timedelta(seconds=settings.PURGE_GRACE_SECONDS)
    if copy.state != CopyState.EXPIRED or copy.expires_at is None or copy.expires_at > at:
        return "It has not expired."
    if copy.expired_at is None or copy.expired_at + grace > at:
        return "Its 24 hours of grace are not over."
    if copy.holds.filter(released_at=None).exists():
        return "It is held."
    if copy.locked_until and copy.locked_until > at:
        return "Its store keeps it locked."
    if copy.pins.filter(until__gt=at).exists():
        return "A restore, drill or download is reading it."
    if copy.set.instance.region_id in source_gone.regions_until(at):
        return "Its source region is gone, or has not been back for 24 hours."
    if recoveries.is_waiting(copy.destination_store_id):
        return "It was brought back, and nobody has confirmed that yet."
    if skew > CLOCKS_AGREE:
        return f"The store's clock and the database's differ by {int(skew.total_seconds())} seconds."
    if expiring.is_newest_full(copy, at):
        return "It is the last good copy of its database."
    if _is_needed(copy):
        return "A copy that needs it is on its way or has not expired."
    if breaker_holds(copy, at):
        return "So much was brought forward that a second person must agree."
    return None


def _is_needed(copy: Copy) -> bool:
    """A full, differential or log is not deleted while one that needs it is queued, copying or unexpired (I5)."""
    beside = windows.copies_of(copy.set.instance, copy.destination_store, copy.set.database).filter(state__in=ALIVE)
    if copy.set.set_guid and beside.filter(set__base_guid=copy.set.set_guid).exists():
        return True
    return _has_dependents_near(copy, beside) and _is_needed_in_its_chain(copy)


def _has_dependents_near(copy: Copy, beside: QuerySet[Copy]) -> bool:
    """Whether the chain has to be asked: a log leads on from this copy, or one outlived its date in the queue.

    Only the latter is needed past the dates, which follow every chain to its end; all else may be far away.
    """
    logs = beside.filter(set__kind=Kind.LOG, set__fork=copy.set.fork)
    if windows.that_cross(beside).exclude(set__fork=copy.set.fork).exists():
        return True  # the first log of a fork needs everything from a backup on the fork that it left
    if logs.exclude(state=CopyState.COMPLETED).filter(expires_at__lte=clock.now()).exists():
        return True
    rules = engine_of(copy.set.instance.engine).chain_rules
    [needed] = windows.chain_sets(Copy.objects.filter(pk=copy.pk), rules)
    anchors = beside.filter(state=CopyState.COMPLETED).exclude(pk=copy.pk).exclude(set__kind=Kind.LOG)
    completed = windows.chain_sets(anchors, rules)
    return any(log_chain.leans_on(log, needed, completed, rules) for log in _logs_after(copy, logs, rules))


def _is_needed_in_its_chain(copy: Copy) -> bool:
    """Ask what needs it at any depth, also by way of copies in their grace; what is only kept with it does not count.

    So do not sets in its file: the object stays until the last of them goes (`_give_up_objects`).
    """
    copies = windows.copies_of(copy.set.instance, copy.destination_store, copy.set.database)
    needed_by = dependents.in_chains(copies.filter(state__in=retention.DATED))
    found, todo = {copy.pk}, [copy.pk]
    while todo:
        more = needed_by.get(todo.pop(), set()) - found
        found |= more
        todo.extend(more)
    return copies.filter(pk__in=found - {copy.pk}, state__in=ALIVE).exists()


def _logs_after(copy: Copy, logs: QuerySet[Copy], rules: ChainRules) -> list[ChainSet]:
    """Return the logs of about the time at which one that leads on from this copy must lie."""
    logs = logs.exclude(pk=copy.pk).order_by("set__finished_at")
    moments = {copy.set.finished_at}
    if copy.set.kind != Kind.LOG:
        moments.add(copy.set.started_at or copy.set.finished_at)
    near = [logs.filter(set__finished_at__gte=moment - CLOCKS_AGREE)[:MOST_NEIGHBOURS] for moment in moments]
    found = [log for rows in near for log in windows.chain_sets(rows, rules)]
    return [log for log in found if is_placed(log)]


def _give_up_objects(copy: Copy) -> None:
    """Mark the objects no other live copy shares (appended sets lie in one file), so that none adopts them now."""
    mine = Transfer.objects.select_for_update(of=("self",)).filter(copied_files__copy=copy)
    for transfer in mine.order_by("pk"):
        if not transfer.copied_files.exclude(copy=copy).exclude(copy__state__in=ENDED).exists():
            Transfer.objects.filter(pk=transfer.pk).update(state=Transfer.State.DELETING)


def _delete_object(storage: Storage, transfer: Transfer) -> None:
    match = ObjectInfo(transfer.key, transfer.size, transfer.etag, transfer.started_at, transfer.version)
    _delete_key(storage, transfer.key, match)
    Transfer.objects.filter(pk=transfer.pk).update(state=Transfer.State.DELETED, ended_at=clock.now())


def _delete_key(storage: Storage, key: str, match: ObjectInfo | None) -> None:
    if not key:
        return
    storage.delete(key, match)
    try:
        storage.head(key)
    except Gone:
        return
    raise StorageError("The store says it deleted the object, and still has it.", retry=True)


def _finish(copy: Copy) -> bool:
    with transaction.atomic():
        at = clock.now()
        won = Copy.objects.filter(pk=copy.pk, fence=copy.fence, state=CopyState.EXPIRED).update(
            state=CopyState.DELETED, deleted_at=at, leased_until=None, error=""
        )
        if won:
            events.record(
                "copy.deleted",
                f"The copy of {copy.set} was deleted from {copy.destination_store.region}.",
                set=copy.set,
                copy=copy.pk,
                expired_at=copy.expired_at.isoformat(),
                bytes=copy.stored_bytes,
            )
            alerts.close_alert("database_not_seen", expiring.database_subject(copy))
            cleaning.abandon_transfers(copy)  # kept for a sharer that was cancelled while we deleted
    return bool(won)


def _later(copy: Copy, why: str) -> None:
    at = clock.now()
    Copy.objects.filter(pk=copy.pk, fence=copy.fence).update(
        leased_until=None, due_at=at + timedelta(minutes=5), error=why
    )


# ---- the breaker: what a person brings forward waits for a second one when it is very much


def breaker_holds(copy: Copy, at: datetime) -> bool:
    """Whether this copy is part of more brought forward within an hour than one person may erase."""
    if copy.brought_forward_by_id is None or copy.approved_by_id is not None:
        return False
    wave = _wave(copy)
    total = Copy.objects.present().filter(destination_store=copy.destination_store_id).aggregate(n=Sum("stored_bytes"))
    tripped = is_tripped(wave["sets"], wave["bytes"] or 0, total["n"] or 0)
    if tripped:
        alerts.open_alert(
            "purge_needs_second_person",
            f"store:{copy.destination_store_id}",
            f"{wave['sets']} backup sets brought forward by {copy.brought_forward_by} wait for a second person"
            f" before they are erased from {copy.destination_store.region}.",
            remedy="An approver confirms it in the support admin, or the retention is restored.",
        )
    return tripped


def is_tripped(sets: int, bytes_: int, total: int) -> bool:
    """All three: 5 % of the destination's bytes, 50 sets and 10 GiB (invariants.md)."""
    return sets > BREAKER_SETS and bytes_ > BREAKER_BYTES and bytes_ > BREAKER_SHARE * total


def _wave(copy: Copy) -> dict:
    around = (copy.brought_forward_at - HOUR, copy.brought_forward_at + HOUR)
    return Copy.objects.filter(
        destination_store=copy.destination_store_id, brought_forward_by__isnull=False, brought_forward_at__range=around
    ).aggregate(sets=Count("pk"), bytes=Sum("stored_bytes"))


def approve(store: Store, by: By) -> int:
    """A second person agrees to what was brought forward at a store; returns how many copies that frees.

    Raises Refusal for who brought it forward: never the one who asked (design.md §8). Where there is no other user, the
    same person confirms it again, a day later.
    """
    waiting = Copy.objects.filter(
        destination_store=store, state=CopyState.EXPIRED, brought_forward_by__isnull=False, approved_by=None
    )
    own = waiting.filter(brought_forward_by=by.user)
    alone = second_person.is_alone(by)
    if alone and own.filter(brought_forward_at__gt=clock.now() - DAY).exists():
        raise Refusal(
            "ConfirmLater", "There is nobody else to agree; you can confirm it a day after you brought it forward."
        )
    if not alone and own.exists():
        raise Refusal(
            "SecondPersonNeeded", "You brought some of these forward yourself.", "Ask somebody else to agree."
        )
    with transaction.atomic():
        # Not what this person brought forward in this very moment.
        agreed = waiting.filter(brought_forward_at__lte=clock.now() - DAY) if alone else waiting.exclude(pk__in=own)
        count = agreed.update(approved_by=by.user, due_at=F("purge_at"))
        events.record(
            "purge.approved",
            f"{by.name} agreed to erase {count} copies from {store.region}.",
            by=by,
            store=store.pk,
            copies=count,
        )
        alerts.close_alert("purge_needs_second_person", f"store:{store.pk}")
    return count
