"""The sweep: what a copy's date means once it has come, and the last good copy that outlives it (R-15, I6, I9)."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from backups import alerts, events, recoveries
from backups.chains import certificates, windows
from backups.events import FARSHORE, By
from backups.keeping import retention, source_gone
from backups.keeping.retention import DAY, KEPT_PAST, LAST_GOOD, SOURCE_GONE, UNCONFIRMED
from backups.models import Alert, BackupSet, CancelReason, Copy, CopyPolicy, CopyState, Instance, Kind
from backups.models.copy import CopyQuerySet
from regions import clock
from regions.models import Store

log = logging.getLogger(__name__)
EXPIRING = (CopyState.COMPLETED, CopyState.DAMAGED, CopyState.HIDDEN)


def expire_due(limit: int = 500, only: Q | None = None) -> int:
    """Turn copies past their date into expired ones, or keep some free of charge (KEPT_PAST); return how many."""
    at, only = clock.now(), only or Q()
    due = Copy.objects.filter(only, state__in=EXPIRING, expires_at__lte=at).exclude(kept_for__in=KEPT_PAST)
    retention.catch_up(Q(pk__in=due.values("policy")))
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
    """Return kept copies that no longer are the last good ones."""
    kept = Copy.objects.filter(only, state=CopyState.COMPLETED, kept_for=LAST_GOOD, expires_at__lte=at)
    return [
        copy.pk
        for copy in kept.select_related("set__instance", "policy", "destination_store")
        if not is_last_good(copy, at)
    ]


def _let_go(at: datetime, only: Q, limit: int) -> list[int]:
    """Return kept copies whose source region is back, or which somebody has confirmed."""
    kept = Copy.objects.filter(only, state__in=EXPIRING, expires_at__lte=at)
    back = kept.filter(kept_for=SOURCE_GONE).exclude(set__instance__region__in=source_gone.regions())
    confirmed = kept.filter(kept_for=UNCONFIRMED).exclude(destination_store__in=recoveries.waiting_stores())
    return [pk for free in (back, confirmed) for pk in free.order_by("pk").values_list("pk", flat=True)[:limit]]


def expire(copy: Copy, at: datetime, by: By = FARSHORE) -> None:
    """Write what the date means: charging stopped at `expires_at`; kept where KEPT_PAST has a reason, else expired.

    Call with the copy's row locked. A date that passed unnoticed is charged no second longer.
    """
    retention.close_span(copy, retention.charged_until(copy))
    if why := _why_kept(copy, at):
        Copy.objects.filter(pk=copy.pk).update(kept_for=why)
        said = f"The copy of {copy.set} is kept: {KEPT_PAST[why]}."
        events.record("copy.kept", said, set=copy.set, copy=copy.pk)
        return
    Copy.objects.filter(pk=copy.pk).update(
        state=CopyState.EXPIRED,
        expired_at=at,
        kept_for="",
        purge_at=retention.erased_at(at),
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
    """Whether this is the last good copy of its database at its destination (I6, R-15.6)."""
    return copy.state == CopyState.COMPLETED and is_newest_full(copy, at)


def is_newest_full(copy: Copy, at: datetime) -> bool:
    """Whether no newer verified full is kept in this one's place, and it counts still; asked of expired ones too.

    One that cannot be opened where it lies takes nobody's place but that of others like it (R-3.5).
    """
    if copy.is_damaged or copy.set.kind != Kind.FULL or not _counts(copy):
        return False
    newer = _fulls_of(copy).filter(destination_store=copy.destination_store_id).filter(_newer_than(copy))
    if newer.exclude(certificates.sealed(copy.destination_store.region_id)).exists():
        return False
    is_newest = not newer.exists() or not certificates.is_sealed(copy)
    return is_newest and not _database_is_gone(copy, at)


def _counts(copy: Copy) -> bool:
    """Whether its policy is live, or its destination was changed and nothing has come to the new one in its place."""
    if copy.set.instance.released:
        return False
    return copy.policy.enabled or (
        copy.policy.end_reason == CancelReason.DESTINATION_CHANGED and _is_awaited_elsewhere(copy)
    )


def _is_awaited_elsewhere(copy: Copy) -> bool:
    successor = CopyPolicy.objects.cross_region().enabled().filter(instance=copy.set.instance_id).first()
    if successor is None:
        return False
    there = _fulls_of(copy).cross_region().filter(destination_store__region=successor.destination_id)
    as_new = there.filter(set__finished_at__gte=copy.set.finished_at)
    return not as_new.exclude(certificates.sealed(successor.destination_id)).exists()


def _fulls_of(copy: Copy) -> CopyQuerySet:
    """Return the verified fulls of the copy's database, wherever they lie."""
    of_database = {"set__instance": copy.set.instance_id, "set__database": copy.set.database}
    return Copy.objects.filter(**of_database, state=CopyState.COMPLETED, set__kind=Kind.FULL)


def _newer_than(copy: Copy) -> Q:
    finished_at = copy.set.finished_at
    return Q(set__finished_at__gt=finished_at) | Q(set__finished_at=finished_at, pk__gt=copy.pk)


def keep_last_good(policy: CopyPolicy, by: By = FARSHORE) -> None:
    """What is last good again, and still in its grace, is kept, free of charge (I6); at former destinations too.

    Asked where a policy is enabled and where a copy proves damaged. Call with the instance's copies locked.
    """
    at = clock.now()
    expired = Copy.objects.select_for_update(of=("self",)).filter(
        policy__instance=policy.instance_id,
        policy__kind=policy.kind,
        state=CopyState.EXPIRED,
        deleting_since=None,
        set__kind=Kind.FULL,
    )
    kept = set()
    rows = expired.select_related("set__instance", "policy", "destination_store")
    for copy in rows.order_by("-set__finished_at", "-pk"):
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
    """Disabled, and with it what kept these past their date, at every destination: a person brought it about (breaker).

    A change of destination lets none go: each waits for its successor, and goes as any other that has one.
    """
    kept = Copy.objects.filter(
        policy__instance=policy.instance_id,
        policy__kind=policy.kind,
        state=CopyState.COMPLETED,
        kept_for=LAST_GOOD,
    )
    kept.update(brought_forward_at=clock.now(), brought_forward_by=by.user, approved_by=None)


def _database_is_gone(copy: Copy, at: datetime) -> bool:
    """A database not seen for a whole retention period loses its last good copy, a day after the alert (I6).

    Nothing is concluded while its region is gone, nor on the day after: it could not be seen (I19).
    """
    if copy.set.instance.region_id in source_gone.regions_until(at):
        return False
    subject = database_subject(copy)
    if not is_not_seen(copy.set, at - copy.policy.retention_days * DAY):
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


def is_not_seen(found: BackupSet, since: datetime) -> bool:
    """Whether no backup of the set's database was seen since, while others of its instance were."""
    seen = BackupSet.objects.filter(instance=found.instance_id, finished_at__gte=since)
    return not seen.filter(database=found.database).exists() and seen.exists()


def database_subject(copy: Copy) -> str:
    return alerts.fitting(f"instance:{copy.set.instance_id}:{copy.set.database}")
