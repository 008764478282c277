"""Checks of `audit` that hold what was done against what people were promised: dates, last good copies, agreements."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backups.keeping import expiring
from backups.models import AcceptedInstance, Alert, Copy, CopyPolicy, CopyState, Kind
from backups.terms import agreements

SLACK = timedelta(minutes=5)


def early_deletes() -> Iterator[str]:
    """I4: nothing was deleted before its date, its grace, its store's lock or its last hold was over."""
    grace = timedelta(seconds=settings.PURGE_GRACE_SECONDS)
    gone = Copy.objects.filter(state=CopyState.DELETED)
    early = Q(deleted_at__lt=F("expired_at") + grace) | Q(deleted_at__lt=F("expires_at"))
    for copy in gone.filter(early):
        yield f"copy {copy.pk} was deleted before its grace was over"
    for copy in gone.filter(deleted_at__lt=F("locked_until")):
        yield f"copy {copy.pk} was deleted while its store had it locked"
    held = Q(holds__isnull=False, holds__placed_at__lt=F("deleted_at"))
    for copy in gone.filter(held & (Q(holds__released_at=None) | Q(holds__released_at__gt=F("deleted_at")))).distinct():
        yield f"copy {copy.pk} was deleted while a person held it"


def lost_last_copies() -> Iterator[str]:
    """I6: of no database whose policy is enabled the last full at its destination was deleted.

    But for one that was not seen for a whole retention period: an alert came before.
    """
    fulls = Copy.objects.filter(set__kind=Kind.FULL)
    others = fulls.filter(**{name: OuterRef(name) for name in ("set__instance", "set__database", "destination_store")})
    there = others.filter(state__in=(CopyState.COMPLETED, CopyState.DAMAGED))
    later = others.filter(state=CopyState.DELETED, set__finished_at__gt=OuterRef("set__finished_at"))
    lost = _under_enabled(fulls.filter(state=CopyState.DELETED)).exclude(Exists(there)).exclude(Exists(later))
    for copy in lost.select_related("set__instance"):
        if not Alert.objects.filter(code="database_not_seen", subject=expiring.database_subject(copy)).exists():
            yield f"copy {copy.pk} was the last full of {copy.set.instance.name} at its destination, and was deleted"


def _under_enabled(copies: QuerySet[Copy]) -> QuerySet[Copy]:
    """Return those that expired under the policy that is enabled now, at its own destination."""
    return copies.cross_region().filter(
        policy__enabled=True,
        policy__enabled_at__lte=F("expired_at"),
        policy__destination=F("destination_store__region"),
        set__instance__released_at=None,
    )


def late_commits() -> Iterator[str]:
    """I10: no copy was completed after its policy was disabled, or its destination changed."""
    ended = Copy.objects.filter(policy__enabled=False, completed_at__gt=F("policy__ended_at") + SLACK)
    for copy in ended.exclude(state=CopyState.CANCELLED):
        yield f"copy {copy.pk} was completed after its policy had ended"


def policies_without_agreement() -> Iterator[str]:
    """I12: an enabled policy stands on an acceptance of its own instance, or its group, and its own route."""
    enabled = CopyPolicy.objects.cross_region().enabled()
    for policy in enabled.select_related("acceptance__text", "instance__region", "source_region", "destination"):
        if why := _why_not_accepted(policy):
            yield f"policy {policy.pk} is enabled, and {why}"


def _why_not_accepted(policy: CopyPolicy) -> str:
    given = policy.acceptance
    if given is None:
        return "nobody accepted the agreement"
    if given.text_sha256 != given.text.sha256 or agreements.digest(given.text.text) != given.text_sha256:
        return f"the text of acceptance {given.pk} is not what was accepted"
    if given.is_standing:
        groups = policy.source_region.group, policy.destination.group
        is_its = groups == (given.source_group, given.destination_group)
        return "" if is_its else f"acceptance {given.pk} is for another route"
    if (given.source_region_id, given.destination_region_id) != (policy.source_region_id, policy.destination_id):
        return f"acceptance {given.pk} is for another route"
    accepted = AcceptedInstance.objects.filter(acceptance=given, instance=policy.instance_id)
    return "" if accepted.exists() else f"acceptance {given.pk} does not name its instance"
