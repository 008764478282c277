"""Level-2 intra-region backup: a second store in the source region (R-18.2, docs/decisions/0067).

enabled ──disable──> hidden: kept, shown nowhere, free of charge, not ageing ──enable──> shown, charged from then on
hidden ──the longest retention there is──> expired ──24 h──> deleted, before that period is over
Planning, carrying, dates and deleting are those of every copy. Nothing leaves the region: no agreement, no traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Q, QuerySet, Value

from backups import events, policies
from backups.chains import dependents, windows
from backups.copying import cancelling, planning
from backups.events import FARSHORE, By
from backups.keeping import expiring, retention
from backups.models import ENDED, CancelReason, Copy, CopyPolicy, CopyState, Instance, PolicyKind, StorageSpan
from backups.policies import LONGEST_DAYS, SHORTEST_DAYS, Refusals
from backups.terms import eligibility, service_role
from backups.terms.policy_settings import bad_retention, conflict
from regions import clock
from regions.models import Region, Store
from regions.refusals import Refusal

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SHOWN = (CopyState.COMPLETED, CopyState.DAMAGED)


@dataclass(frozen=True)
class Terms:
    """What is wanted of an instance's level-2 backup. `expected`: the version a form was filled in from ("": any)."""

    enabled: bool
    retention_days: int = SHORTEST_DAYS
    expected: str = ""


# ---- reading


def policy_of(instance: Instance) -> CopyPolicy | None:
    """Return the level-2 policy of an instance, enabled or not; None when it never had one."""
    found = CopyPolicy.objects.intra_region().filter(instance=instance).select_related("destination")
    return found.order_by("-enabled", "-pk").first()


def terms_of(instance: Instance) -> Terms:
    policy = policy_of(instance)
    if policy is None:
        return Terms(enabled=False, expected="none")
    return Terms(policy.enabled, policy.retention_days, policy.version)


def second_store(region: Region) -> Store | None:
    return Store.objects.attached().filter(region=region, role=Store.Role.SECOND).first()


def hidden_copies(policy: CopyPolicy) -> QuerySet[Copy]:
    """Return what enabling again would show: also what has reached the longest retention and is not erased yet."""
    return policy.copies.filter(hidden_at__isnull=False, deleting_since=None).exclude(state__in=ENDED)


def coming_back(policy: CopyPolicy, retention_days: int, at: datetime) -> set[int]:
    """Return which of the hidden copies enabling under this retention would show; the others expire by it at once."""
    hidden = hidden_copies(policy)
    rows = hidden.values_list("pk", "set__finished_at", "hidden_for", "hidden_at", "locked_until")
    own = {
        pk: retention.not_before(retention.own_expiry(done, retention_days, before + (at - since)), locked_until)
        for pk, done, before, since, locked_until in rows
    }
    return {pk for pk, date in dependents.effective(own, dependents.all_of(hidden)).items() if date > at}


# ---- checking


def check(instance: Instance, wanted: Terms) -> list[Refusal]:
    """Return everything that speaks against the terms, changing nothing."""
    now = terms_of(instance)
    found = [conflict(instance)] if wanted.expected and wanted.expected != now.expected else []
    found += bad_retention(wanted.retention_days)
    if instance.released:
        return found + ([_released()] if wanted.enabled != now.enabled else [])
    if wanted.enabled and not now.enabled:
        found += [replace(refusal, field="enabled") for refusal in eligibility.reasons(instance)]
        found += _no_second_store(instance.region)
    return found


def _released() -> Refusal:
    sentence = "The instance has been released; only the retention of its level-2 backup can change."
    return Refusal("ProductInstanceReleased", sentence, "Leave the status as it is.", "enabled")


def _no_second_store(region: Region) -> list[Refusal]:
    store = second_store(region)
    if store is not None and store.state == Store.State.OK:
        return []
    sentence = f"{region.name} has no reachable second store."
    return [Refusal("StoreMissing", sentence, "Attach one under Stores.", "enabled")]


# ---- changing


def apply(instance: Instance, wanted: Terms, by: By) -> None:
    """Make the level-2 backup of an instance what is wanted, all or nothing; raises Refusals. Safe to repeat."""
    try:
        with transaction.atomic():
            locked = policies.lock_instance(instance)
            if refusals := check(locked, wanted):
                raise Refusals(refusals)
            service_role.ensure(by)
            _change(locked, wanted, by)
    except Refusal as refusal:  # of planning or asking for a backup
        raise Refusals([refusal]) from refusal
    except IntegrityError as error:  # a promise of the tables caught what the checks above did not
        said = f"The database refused the change: {error}".split("\n")[0]
        raise Refusals([Refusal("OperationDenied", said)]) from error


def _change(instance: Instance, wanted: Terms, by: By) -> None:
    at, policy = clock.now(), _lock(instance)
    retention.lock_copies(instance.pk)
    if policy is not None and policy.retention_days != wanted.retention_days:
        _set_retention(policy, wanted.retention_days, by)
    if wanted.enabled and (policy is None or not policy.enabled):
        _enable(instance, wanted, by, at)
    elif policy is not None and policy.enabled and not wanted.enabled:
        _disable(policy, by, at)


def _lock(instance: Instance) -> CopyPolicy | None:
    """Lock the policy, so that nothing is planned or committed under it meanwhile."""
    rows = CopyPolicy.objects.intra_region().filter(instance=instance).select_for_update(no_key=True, of=("self",))
    return rows.select_related("destination", "instance").order_by("-enabled", "-pk").first()


def _set_retention(policy: CopyPolicy, days: int, by: By) -> None:
    """It counts for what is there too, both ways; what expires by it comes back with the former period (R-14.3)."""
    before, policy.retention_days = policy.retention_days, days
    CopyPolicy.objects.filter(pk=policy.pk).update(retention_days=days, terms_version=F("terms_version") + 1)
    said = f"Retention of level-2 backup was changed from {before} to {days} days."
    events.record("policy.retention", said, by=by, instance=policy.instance, before=before, after=days)
    if policy.enabled:
        _date(policy, by)


def _enable(instance: Instance, wanted: Terms, by: By, at: datetime) -> None:
    version = policies.next_route_version(instance)
    policy, _ = CopyPolicy.objects.update_or_create(
        instance=instance,
        kind=PolicyKind.INTRA_REGION,
        destination=instance.region,
        defaults={
            "source_region": instance.region,
            "enabled": True,
            "route_version": version,
            "retention_days": wanted.retention_days,
            "enabled_at": at,
            "ended_at": None,
            "end_reason": "",
            "suspended_at": None,
            "hidden_at": None,
        },
    )
    planning.open_coverage(policy, at)
    policy.copies.live().update(route_version=version)
    _show(policy, by, at)
    expiring.keep_last_good(policy, by)
    said = f"Level-2 backup in {policy.destination.name} was enabled: {wanted.retention_days} days."
    events.record("policy.level2_enabled", said, by=by, instance=instance, policy=policy.pk, route_version=version)
    policies.begin(policy, by, at)


def _disable(policy: CopyPolicy, by: By, at: datetime) -> None:
    expiring.expire_due(only=Q(policy=policy))  # what its date has come for is not hidden away
    CopyPolicy.objects.filter(pk=policy.pk).update(
        enabled=False,
        ended_at=at,
        end_reason=CancelReason.DISABLED,
        route_version=policies.next_route_version(policy.instance),
        suspended_at=None,
        hidden_at=at,
    )
    planning.close_coverage(policy, at)
    cancelling.cancel_in_flight(policy, CancelReason.DISABLED, by)
    planning.forget_cancelled(policy)
    count = _hide(policy, at)
    said = f"Level-2 backup in {policy.destination.name} was disabled; {count} sets are kept, hidden and not charged."
    events.record("policy.level2_disabled", said, by=by, instance=policy.instance, policy=policy.pk, hidden=count)


# ---- hiding and showing


def _hide(policy: CopyPolicy, at: datetime) -> int:
    """Stop charging and ageing what is there, and offer it no longer, in one transaction; return how much it is."""
    there = policy.copies.filter(state__in=SHOWN, deleting_since=None)
    for copy in there.filter(expires_at__lte=at):
        retention.close_span(copy, retention.charged_until(copy))
    StorageSpan.objects.filter(copy__in=there, ended_at=None).update(ended_at=at)
    pks, stores = list(there.values_list("pk", flat=True)), _stores(policy)
    policy.copies.filter(pk__in=pks).update(state=CopyState.HIDDEN, hidden_at=at, kept_for="")
    _date_hidden(policy)
    for store in stores:
        windows.rebuild(policy.instance, store)
    return len(pks)


def _show(policy: CopyPolicy, by: By, at: datetime) -> None:
    """What was hidden is what it was, as old as it was, and charged from now on."""
    passed = ExpressionWrapper(Value(at, DateTimeField()) - F("hidden_at"), DurationField())
    back = list(hidden_copies(policy).select_related("set").order_by("pk"))
    hidden_copies(policy).update(hidden_for=F("hidden_for") + passed)
    for copy in back:
        copy.refresh_from_db(fields=["hidden_for"])
        copy.hidden_at = None
        if copy.state == CopyState.HIDDEN:  # an expired one in its grace is undone by its new date
            copy.state, copy.kept_for = CopyState.DAMAGED if copy.is_damaged else CopyState.COMPLETED, ""
            copy.expires_at = retention.own_expiry(copy.set.finished_at, policy.retention_days, copy.hidden_for)
    Copy.objects.bulk_update(back, ["hidden_at", "kept_for", "expires_at", "state"], batch_size=500)
    _date(policy, by)
    ahead = policy.copies.filter(Q(expires_at=None) | Q(expires_at__gt=at), state=CopyState.COMPLETED)
    for copy in ahead.exclude(spans__ended_at=None, spans__isnull=False):
        retention.open_span(copy, at)
    for store in _stores(policy):
        windows.rebuild(policy.instance, store)


def _date(policy: CopyPolicy, by: By) -> None:
    """Date what is shown anew, and expire at once what is past its date."""
    for store in _stores(policy):
        retention.reschedule(policy.instance_id, store.pk, by)
    expiring.expire_due(only=Q(policy=policy))


def _stores(policy: CopyPolicy) -> list[Store]:
    copies = policy.copies.order_by().values("destination_store")
    return list(Store.objects.filter(pk__in=copies).order_by("pk"))


# ---- how long hidden ones stay


def latest(finished_at: datetime) -> datetime:
    """Return when a hidden set expires, so that its bytes are gone when the longest retention is over (R-18.2)."""
    grace = timedelta(seconds=settings.PURGE_GRACE_SECONDS) + HOUR
    return finished_at + LONGEST_DAYS * DAY - grace


def together(own: Mapping[int, datetime], needed_by: Mapping[int, Iterable[int]]) -> dict[int, datetime]:
    """Return each copy's date: the earliest of its own and those of what it needs, at any depth. Pure.

    A set cannot outlast what it stands on; while shown the latter is kept for it, hidden it goes along.
    """
    found: dict[int, datetime] = {}
    for first in sorted(own, key=lambda copy: own[copy]):
        stack = [first]
        while stack:
            if (copy := stack.pop()) in own and copy not in found:
                found[copy] = own[first]
                stack.extend(needed_by.get(copy, ()))
    return found


def _date_hidden(policy: CopyPolicy) -> None:
    """Date what is hidden; what is held, or needed by what is, has no date until the hold is released."""
    hidden = policy.copies.filter(state=CopyState.HIDDEN)
    own = {pk: latest(at) for pk, at in hidden.values_list("pk", "set__finished_at")}
    needed_by = dependents.all_of(hidden)
    held = dependents.held_with_what_they_need(hidden, own, needed_by)
    dates = together(own, needed_by)
    grouped: dict[datetime | None, list[int]] = {}
    for pk, date in dates.items():
        grouped.setdefault(None if pk in held else date, []).append(pk)
    for expires, pks in grouped.items():
        hidden.filter(pk__in=pks).update(expires_at=expires)


def date_released(by: By = FARSHORE) -> int:
    """Date hidden copies that a hold kept without a date, once it is released; return how many policies had some."""
    undated = Copy.objects.filter(state=CopyState.HIDDEN, expires_at=None)
    free = undated.exclude(pk__in=undated.filter(holds__isnull=False, holds__released_at=None).values("pk"))
    found = list(CopyPolicy.objects.filter(pk__in=free.order_by().values("policy")).order_by("pk"))
    for policy in found:
        with transaction.atomic():
            _date_hidden(policy)
    return len(found)
