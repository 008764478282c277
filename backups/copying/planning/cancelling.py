"""A copy that will not be made is cancelled with its reason, never dropped in silence (I3, R-5.2)."""

from __future__ import annotations

from datetime import datetime

from backups import alerts, events
from backups.events import FARSHORE, By
from backups.models import BackupSet, CancelReason, Copy, CopyPolicy, CopyState, Kind
from regions import clock


def plan_cancelled(policy: CopyPolicy, found: BackupSet, at: datetime) -> None:
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
    save_cancelled(copy, policy.end_reason or CancelReason.DISABLED, at)


def save_cancelled(copy: Copy, reason: str, at: datetime) -> None:
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
