"""How well each instance is protected, in the words of R-19: the first state that applies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Case, Count, F, Max, Min, Q, Sum, When

from backups.chains import newest_copies
from backups.copying.planning import databases_seen
from backups.models import PENDING, Arrival, Copy, CopyPolicy, CopyState, Instance, Kind, LogGap, ServerDatabase
from backups.models.instance import every_day
from backups.timetable import USUAL_TIME, last_slot
from regions import clock

SLACK = timedelta(hours=2)
DAY = timedelta(days=1)
STATES = (
    "released",
    "disabled",
    "not_set_up",
    "suspended",
    "waiting_for_full",
    "failed",
    "log_gap",
    "behind",
    "partial",
    "copying",
    "in_step",
)
NEEDS_YOU = ("suspended", "waiting_for_full", "failed", "log_gap", "behind", "partial")
PROTECTED = ("copying", "in_step")  # where nothing lacks its copy: see Protection.is_protected
WHY = ("offline", "may_not_back_up", "certificate", "late", "new", "no_copy")  # why a database is not protected
CURED_BY_ARRIVAL = ("late", "new", "no_copy")
# An old set that a person asked for, or that something needs, is owed since then and not since it was finished.
OWED_SINCE = Case(When(origin=Copy.Origin.TRIGGERED, then=F("set__finished_at")), default=F("planned_at"))

DATA = ~Q(set__kind=Kind.LOG)  # logs always are on their way: they are no copying that comes to an end


@dataclass
class Protection:
    """One instance's state and the figures behind it. `behind_seconds`: age of the oldest backup not copied yet."""

    instance: Instance
    state: str = "not_set_up"
    policy: CopyPolicy | None = None
    behind_seconds: int = 0
    newest_copy_at: datetime | None = None
    pending: int = 0
    failed: int = 0
    total_bytes: int = 0
    arrived_bytes: int = 0
    stored_bytes: int = 0
    log_gaps: int = 0
    last_expiry: datetime | None = None
    unprotected: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)  # of WHY, for each unprotected database

    @property
    def percent(self) -> int:
        return min(99, self.arrived_bytes * 100 // self.total_bytes) if self.total_bytes else 0

    @property
    def is_protected(self) -> bool:
        """Whether every database has its copy; one whose first is still copying has none yet (R-19)."""
        return self.state in PROTECTED and not self.unprotected

    @property
    def is_moving(self) -> bool:
        return self.pending > self.failed


class Told(NamedTuple):
    """What counts of a database that its server names; a fleet has tens of thousands."""

    is_online: bool
    may_back_up: bool
    last_full_at: datetime | None
    gone_at: datetime | None


def due_since(instance: Instance, at: datetime) -> datetime:
    """Return the time no newest backup may be older than: the timetable plus two hours (R-19 Protected).

    Somebody else's job of which only the days were entered may run at any hour of them: a backup of the day counts,
    and is due from the usual time on. Of which nothing was entered, it is one full a day.
    """
    is_found_at_any_hour = instance.timetable_time is None and instance.arrival == Arrival.FOUND
    if is_found_at_any_hour and set(instance.timetable_days) >= set(every_day()):
        return at - DAY - SLACK
    slot = last_slot(instance.timetable_days, instance.timetable_time or USUAL_TIME, at - SLACK)
    if slot is None:
        return at - 8 * DAY
    return slot.replace(hour=0, minute=0) if is_found_at_any_hour else slot


def of(instance: Instance, at: datetime) -> Protection:
    return of_many([instance], at)[instance.pk]


def of_many(instances: Iterable[Instance], at: datetime) -> dict[int, Protection]:
    """Return each instance's protection with a fixed number of queries, however many there are."""
    found = {instance.pk: Protection(instance) for instance in instances}
    _add_policies(found)
    _add_copies(found)
    _add_gaps(found)
    newest, sealed = newest_copies.of({pk: one.instance for pk, one in found.items()})
    told = _told_databases(found)
    known = databases_seen(found, at)
    waiting = _without_full(found)
    for pk, protection in found.items():
        since = due_since(protection.instance, at)
        copied, there, locked = newest.get(pk, {}), told.get(pk, {}), sealed.get(pk, {})
        names = (known.get(pk, set()) | set(copied) | set(there)) - gone_from(there)
        protection.unprotected = sorted(name for name in names if copied.get(name, since - DAY) < since)
        protection.why = {
            name: why_not(there.get(name), name in copied, _is_after(locked.get(name), copied.get(name)))
            for name in protection.unprotected
        }
        protection.newest_copy_at = max(newest.get(pk, {}).values(), default=None)
        protection.state = _state(protection, names, pk in waiting, at)
    return found


def _state(now: Protection, databases: set[str], waits: bool, at: datetime) -> str:
    policy = now.policy
    if now.instance.released:
        return "released"
    if policy is None:
        return "not_set_up"
    if not policy.enabled:
        return "disabled"
    if policy.suspended_at:
        return "suspended"
    if waits:
        return "waiting_for_full"
    if now.failed:
        return "failed"
    if now.log_gaps:
        return "log_gap"
    is_young = policy.enabled_at is not None and policy.enabled_at > at - SLACK
    is_late = now.behind_seconds > SLACK.total_seconds() and not is_young
    if not is_late and _is_beginning(now, is_young):
        return "copying"
    if is_late or (now.unprotected and len(now.unprotected) == len(databases)):
        return "behind"
    if now.unprotected:
        return "partial"
    return "copying" if now.pending else "in_step"


def _is_beginning(now: Protection, is_young: bool) -> bool:
    """Whether the first copies are on their way and nothing of them is late: those under a policy of the last two
    hours, or the very first.

    Who has just enabled it need not come yet; nor is it protected yet. What no arrival helps is told at once.
    """
    are_first = is_young or now.newest_copy_at is None
    return are_first and now.pending > 0 and all(why in CURED_BY_ARRIVAL for why in now.why.values())


def _add_policies(found: dict[int, Protection]) -> None:
    policies = (
        CopyPolicy.objects.cross_region().filter(instance__in=found).select_related("destination", "source_region")
    )
    for policy in policies.order_by("enabled", F("ended_at").asc(nulls_first=True), "pk"):
        found[policy.instance_id].policy = policy  # the enabled one comes last, else the one that ended last


def _add_copies(found: dict[int, Protection]) -> None:
    sums = (
        Copy.objects.filter(set__instance__in=found, policy__kind="cross_region")
        .values("set__instance")
        .annotate(
            pending=Count("pk", filter=Q(state__in=PENDING) & DATA),
            failed=Count("pk", filter=Q(state=CopyState.FAILED)),
            oldest=Min(OWED_SINCE, filter=Q(state__in=PENDING)),
            total=Sum("total_bytes", filter=Q(state__in=PENDING) & DATA),
            stored=Sum("stored_bytes", filter=Q(state=CopyState.COMPLETED)),
            last_expiry=Max("expires_at", filter=Q(state__in=(CopyState.COMPLETED, CopyState.EXPIRED))),
        )
    )
    at = clock.now()
    for row in sums:
        one = found[row["set__instance"]]
        one.pending, one.failed = row["pending"], row["failed"]
        one.total_bytes, one.stored_bytes = row["total"] or 0, row["stored"] or 0
        one.last_expiry = row["last_expiry"]
        one.behind_seconds = max(0, int((at - row["oldest"]).total_seconds())) if row["oldest"] else 0
    arrived = (
        Copy.objects.cross_region().filter(DATA, set__instance__in=found, state__in=PENDING).values("set__instance")
    )
    for row in arrived.annotate(sent=Sum("copied_files__transfer__bytes_sent")):
        found[row["set__instance"]].arrived_bytes = row["sent"] or 0


def _add_gaps(found: dict[int, Protection]) -> None:
    """Where logs are wanted now and some are missing, nothing behind the gap can be restored to a moment (R-9.4)."""
    wanting = {pk: one.policy for pk, one in found.items() if one.policy and one.policy.logs_enabled}
    gaps = LogGap.objects.filter(instance__in=wanting, healed_at=None).values_list("instance", "store__region")
    for pk, region in gaps:
        found[pk].log_gaps += region == wanting[pk].destination_id


def _is_after(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and (other is None or one > other)


def _told_databases(found: dict[int, Protection]) -> dict[int, dict[str, Told]]:
    """Return the databases that each instance's server names, where it is asked; those that are gone among them."""
    asked = [pk for pk, one in found.items() if one.instance.databases_seen_at]
    told: dict[int, dict[str, Told]] = defaultdict(dict)
    rows = ServerDatabase.objects.filter(instance__in=asked).values_list("instance", "name", *Told._fields)
    for pk, name, *said in rows if asked else ():
        told[pk][name] = Told(*said)
    return told


def gone_from(told: dict[str, Told]) -> set[str]:
    return {name for name, row in told.items() if row.gone_at}


def why_not(told: Told | None, is_copied: bool, is_sealed: bool) -> str:
    """Return why a database is not protected, one of WHY; `told` None: its server is not asked. Pure."""
    if told and not told.is_online:
        return "offline"
    if told and not told.may_back_up:
        return "may_not_back_up"
    if is_sealed:
        return "certificate"
    if is_copied:
        return "late"
    return "new" if told and told.last_full_at is None else "no_copy"


def _without_full(found: dict[int, Protection]) -> set[int]:
    """Return instances whose enabled policy has no full at the destination and none on its way (R-6.2)."""
    enabled = {one.policy.pk: pk for pk, one in found.items() if one.policy and one.policy.enabled}
    fulls = Copy.objects.filter(policy__in=enabled, set__kind=Kind.FULL, state__in=(*PENDING, CopyState.COMPLETED))
    having = set(fulls.values_list("policy", flat=True).distinct())
    return {pk for policy, pk in enabled.items() if policy not in having}


def counts(instances: Sequence[Instance], at: datetime) -> dict[str, int]:
    """Return state → number of instances, for the states that occur."""
    found: dict[str, int] = defaultdict(int)
    for one in of_many(instances, at).values():
        found[one.state] += 1
    return dict(found)
