"""Enabling, changing, disabling, releasing: every way into a policy goes through `apply` (R-11 to R-15, I12, I14)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F, Max, Q

from backups import alerts, default_backups, events
from backups.copying import cancelling, planning
from backups.events import FARSHORE, By
from backups.keeping import expiring, retention
from backups.logs import log_gaps, log_receiving
from backups.models import (
    Acceptance,
    CancelReason,
    Copy,
    CopyPolicy,
    Instance,
    Kind,
    PolicyKind,
)
from backups.servers import standings
from backups.terms import agreements, eligibility, service_role
from backups.terms.policy_settings import (
    LONGEST_DAYS,
    SHORTEST_DAYS,
    Refusals,
    Settings,
    check,
    current_settings,
    destinations_among,
    destinations_of,
    enabled_policy,
    healthy_stores,
    latest_policies,
    latest_policy,
    settings_under,
    version_of,
    versions_of,
    why_no_logs,
)
from regions import clock
from regions.models import Region
from regions.refusals import Refusal

__all__ = [
    "LONGEST_DAYS",
    "SHORTEST_DAYS",
    "Outcome",
    "Refusals",
    "Settings",
    "apply",
    "apply_many",
    "check",
    "current_settings",
    "destinations_among",
    "destinations_of",
    "healthy_stores",
    "enabled_policy",
    "latest_policies",
    "latest_policy",
    "release",
    "requalify",
    "settings_under",
    "undo_shortening",
    "version_of",
    "versions_of",
    "why_no_logs",
]


@dataclass(frozen=True)
class Outcome:
    """What came of one instance in a bulk change (R-11.3)."""

    instance: Instance
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def saved(self) -> bool:
        return not self.refusals


# ---- changing


def apply(instance: Instance, wanted: Settings, by: By, *, standing_of: By | None = None) -> None:
    """Make the instance's settings what is wanted, all or nothing; raises Refusals with everything against it.

    Safe to repeat: wanting what already is changes nothing. Everybody locks in this order: instance, policies, copies,
    transfers; and never against a foreign key (no_key), or an event about the instance would wait for us and we for it.
    """
    try:
        with transaction.atomic():
            locked = lock_instance(instance)
            refusals = check(locked, wanted, standing_of=standing_of)
            if refusals:
                raise Refusals(refusals)
            service_role.ensure(by)
            _change(locked, wanted, by, standing_of)
    except Refusal as refusal:  # of planning or asking for a backup
        raise Refusals([refusal]) from refusal
    except IntegrityError as error:  # a promise of the tables caught what the checks above did not
        raise Refusals(
            [Refusal("OperationDenied", f"The database refused the change: {error}".split("\n")[0])]
        ) from error


def apply_many(instances: Iterable[Instance], wanted: Settings, by: By, expected: dict[int, str]) -> list[Outcome]:
    """Apply the same settings to each instance on its own; the outcome of each is told (R-11.3)."""
    outcomes = []
    for instance in instances:
        try:
            apply(instance, replace(wanted, expected=expected.get(instance.pk, "")), by)
            outcomes.append(Outcome(instance))
        except Refusals as refused:
            outcomes.append(Outcome(instance, refused.items))
    return outcomes


def _change(instance: Instance, wanted: Settings, by: By, standing_of: By | None) -> None:
    at = clock.now()
    now = _lock_policies(instance)
    retention.lock_copies(instance.pk)
    _set_terms(instance, wanted, by, at)
    if instance.released:
        return
    if not wanted.enabled:
        if now is not None:
            _end(now, CancelReason.DISABLED, by, at)
    elif now is not None and now.destination_id == wanted.destination:
        _set_logs(now, wanted, by, at)
    else:
        orphans = _end(now, CancelReason.DESTINATION_CHANGED, by, at) if now is not None else []
        _enable(instance, wanted, by, at, standing_of, orphans)
    log_receiving.keep(instance)


def lock_instance(instance: Instance) -> Instance:
    rows = Instance.objects.select_for_update(no_key=True, of=("self",)).select_related("region", "group")
    return rows.get(pk=instance.pk)


def _lock_policies(instance: Instance) -> CopyPolicy | None:
    """Lock every policy row of the instance, so that no copy is planned or committed meanwhile; return the enabled."""
    rows = CopyPolicy.objects.select_for_update(no_key=True, of=("self",)).filter(
        instance=instance, kind=PolicyKind.CROSS_REGION
    )
    rows = list(rows.select_related("destination").order_by("pk"))
    return next((row for row in rows if row.enabled), None)


def _enable(
    instance: Instance, wanted: Settings, by: By, at: datetime, standing_of: By | None, orphans: list[Copy]
) -> None:
    target = Region.objects.get(pk=wanted.destination)
    version = next_route_version(instance)
    acceptance = _acceptance_for(instance, target, wanted, by, version, standing_of)
    policy, _ = CopyPolicy.objects.update_or_create(
        instance=instance,
        kind=PolicyKind.CROSS_REGION,
        destination=target,
        defaults={
            "source_region": instance.region,
            "enabled": True,
            "acceptance": acceptance,
            "route_version": version,
            "retention_days": wanted.retention_days,
            "logs_enabled": wanted.logs_wanted,
            "enabled_at": at,
            "ended_at": None,
            "end_reason": "",
            "suspended_at": None,
        },
    )
    planning.open_coverage(policy, at)
    Copy.objects.filter(policy=policy).live().update(route_version=version)
    expiring.keep_last_good(policy, by)
    events.record(
        "policy.enabled",
        f"Cross-region backup to {target.name} was enabled: {wanted.retention_days} days"
        f"{', logs too' if wanted.logs_wanted else ''}.",
        by=by,
        instance=instance,
        policy=policy.pk,
        route_version=version,
        acceptance=acceptance.pk,
    )
    for orphan in orphans:
        if orphan.set.kind != Kind.LOG or policy.logs_enabled:
            planning.plan_anew(policy, orphan, at=at)
    begin(policy, by, at)


def next_route_version(instance: Instance) -> int:
    return (instance.policies.aggregate(newest=Max("route_version"))["newest"] or 0) + 1


def _acceptance_for(
    instance: Instance, target: Region, wanted: Settings, by: By, version: int, standing_of: By | None
) -> Acceptance:
    if wanted.agreed:
        return agreements.accept([instance], target, by, route_version=version, language=wanted.language)
    return agreements.standing_for(instance, target, standing_of.user if standing_of else None)


def begin(policy: CopyPolicy, by: By, at: datetime) -> None:
    """Run the 24-hour check and act on it: copy what is valid, back up what has nothing valid, else wait (R-6).

    A server whose databases nobody has looked at lately is looked at, and what has come meanwhile is backed up too.
    """
    checks = planning.examine(policy.instance, at)
    if not checks or standings.are_old(policy.instance, at):
        checks.append(planning.DatabaseCheck(""))
    for check_ in checks:
        if check_.chosen:
            planning.plan(policy, check_.chosen, at=at, origin=Copy.Origin.TWENTY_FOUR_HOURS)
        elif default_backups.can_take(policy.instance):
            job = default_backups.ask(policy.instance, by, database=check_.database, reason="24h")
            if policy.logs_enabled:
                log_receiving.let_logs_begin_first(job)
    if policy.logs_enabled:
        planning.begin_logs(policy, at)


def _end(policy: CopyPolicy, reason: str, by: By, at: datetime) -> list[Copy]:
    """End an enabled policy: no new copies, what is in flight is cancelled (R-14.5, R-15.1); returns those copies."""
    CopyPolicy.objects.filter(pk=policy.pk).update(
        enabled=False,
        logs_enabled=False,
        ended_at=at,
        end_reason=reason,
        route_version=next_route_version(policy.instance),
        suspended_at=None,
    )
    planning.close_coverage(policy, at)
    if reason == CancelReason.DISABLED:
        expiring.let_last_good_go(policy, by)
        planning.forget_cancelled(policy)
    word = "was disabled" if reason == CancelReason.DISABLED else f"no longer goes to {policy.destination.name}"
    events.record(f"policy.{reason}", f"Cross-region backup {word}.", by=by, instance=policy.instance, policy=policy.pk)
    orphans = cancelling.cancel_in_flight(policy, reason, by)
    log_gaps.close_alerts(policy.instance)
    alerts.close_alert("instance_suspended", f"instance:{policy.instance_id}")
    alerts.close_alert("waiting_for_full", f"instance:{policy.instance_id}")
    return orphans


def _set_terms(instance: Instance, wanted: Settings, by: By, at: datetime) -> None:
    """Retention counts for every file of the instance, at every destination, both ways (R-14.3)."""
    rows = list(CopyPolicy.objects.cross_region().filter(instance=instance).order_by("-enabled", "-pk"))
    before = rows[0].retention_days if rows else None
    changed = [row for row in rows if row.retention_days != wanted.retention_days]
    if not changed:
        return
    shorter = before is not None and wanted.retention_days < before
    CopyPolicy.objects.filter(pk__in=[row.pk for row in changed]).update(
        retention_days=wanted.retention_days,
        former_retention_days=before if shorter else None,
        shortened_at=at if shorter else None,
    )
    CopyPolicy.objects.filter(pk__in=[row.pk for row in rows]).update(terms_version=F("terms_version") + 1)
    events.record(
        "policy.retention",
        f"Retention was changed from {before} to {wanted.retention_days} days.",
        by=by,
        instance=instance,
        before=before,
        after=wanted.retention_days,
    )
    apply_dates(instance, by)


def _set_logs(policy: CopyPolicy, wanted: Settings, by: By, at: datetime) -> None:
    """Logs from now on, or no longer (R-8.1, R-8.2): copies of them that are on their way run on (R-14.5)."""
    if policy.logs_enabled == wanted.logs_wanted:
        return
    policy.logs_enabled, policy.retention_days = wanted.logs_wanted, wanted.retention_days
    terms = CopyPolicy.objects.cross_region().filter(instance=policy.instance_id)
    terms.update(terms_version=F("terms_version") + 1)
    CopyPolicy.objects.filter(pk=policy.pk).update(logs_enabled=policy.logs_enabled)
    word = "enabled" if policy.logs_enabled else "disabled"
    events.record(f"policy.logs_{word}", f"Log backup was {word}.", by=by, instance=policy.instance, policy=policy.pk)
    if not policy.logs_enabled:
        planning.close_coverage(policy, at, ["log"])
        planning.forget_cancelled(policy, set__kind=Kind.LOG)
        log_gaps.close_alerts(policy.instance)
    elif not policy.suspended_at:
        planning.open_coverage(policy, at)
        planning.begin_logs(policy, at)


def apply_dates(instance: Instance, by: By = FARSHORE) -> None:
    """Date every copy of the instance anew and expire at once what is past its date (R-14.3)."""
    stores = Copy.objects.filter(set__instance=instance).values_list("destination_store", flat=True).distinct()
    for store in stores.order_by("destination_store"):
        retention.reschedule(instance.pk, store, by)
    expiring.expire_due(only=Q(set__instance=instance))


def undo_shortening(instance: Instance, by: By) -> None:
    """Bring back the retention a shortening replaced, while its files are in their grace (R-14.3)."""
    shortened = CopyPolicy.objects.cross_region().filter(instance=instance, former_retention_days__isnull=False)
    former = shortened.order_by("-shortened_at").values_list("former_retention_days", flat=True).first()
    if former is None:
        raise Refusal("NothingToUndo", "The retention was not shortened.", "")
    apply(instance, replace(current_settings(instance), retention_days=former, expected=""), by)


# ---- the instance's own life


def release(instance: Instance, by: By) -> None:
    """The instance is gone for good: nothing new is copied, what is owed is finished, dates stay (R-2.4)."""
    with transaction.atomic():
        at = clock.now()
        won = Instance.objects.filter(pk=instance.pk, released_at=None).update(released_at=at)
        if not won:
            raise Refusal("ProductInstanceReleased", "The instance has been released already.", "")
        for policy in CopyPolicy.objects.filter(instance=instance, enabled=True):
            planning.close_coverage(policy, at)
        default_backups.cancel_all(instance)
        alerts.Alert.objects.filter(instance=instance, closed_at=None).exclude(
            code__in=("copy_failed", "copy_late")
        ).update(closed_at=at)
        events.record("instance.released", f"{instance.name} was released.", by=by, instance=instance)
        log_receiving.keep(instance)
    instance.released_at = at


def requalify(instance: Instance, by: By = FARSHORE) -> None:
    """Suspend an enabled instance that no longer qualifies, resume one that does again (R-3.4, R-6.4)."""
    with transaction.atomic():
        locked = lock_instance(instance)
        reasons = eligibility.reasons(locked)
        for policy in _lock_enabled(locked):
            policy.instance = locked
            if reasons and policy.suspended_at is None:
                _suspend(policy, reasons, by)
            elif not reasons and policy.suspended_at is not None:
                _resume(policy, by)


def _lock_enabled(instance: Instance) -> list[CopyPolicy]:
    """Lock what is enabled of an instance, of every kind; nothing of a released one changes any more."""
    if instance.released:
        return []
    rows = CopyPolicy.objects.enabled().filter(instance=instance).select_for_update(no_key=True, of=("self",))
    return list(rows.select_related("destination").order_by("pk"))


def _suspend(policy: CopyPolicy, reasons: list[Refusal], by: By) -> None:
    at = clock.now()
    CopyPolicy.objects.filter(pk=policy.pk).update(suspended_at=at)
    planning.close_coverage(policy, at)
    why = " ".join(reason.sentence for reason in reasons)
    alerts.open_alert(
        "instance_suspended",
        f"instance:{policy.instance_id}",
        f"{policy.instance.name} is suspended: no new backups are copied. {why}",
        remedy=reasons[0].remedy,
        instance=policy.instance,
    )
    events.record(
        "policy.suspended", f"{policy.get_kind_display()} backup was suspended. {why}", by=by, instance=policy.instance
    )
    log_gaps.close_alerts(policy.instance)
    log_receiving.keep(policy.instance)


def _resume(policy: CopyPolicy, by: By) -> None:
    at = clock.now()
    CopyPolicy.objects.filter(pk=policy.pk).update(suspended_at=None)
    policy.suspended_at = None
    planning.open_coverage(policy, at)
    alerts.close_alert("instance_suspended", f"instance:{policy.instance_id}")
    events.record(
        "policy.resumed", f"{policy.get_kind_display()} backup is no longer suspended.", by=by, instance=policy.instance
    )
    begin(policy, by, at)
    log_receiving.keep(policy.instance)
