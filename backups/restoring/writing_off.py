"""The machine that a restored server stood on is gone: a person says so, since no machine can know it."""

from __future__ import annotations

from django.db import transaction

from backups import alerts, events
from backups.events import By
from backups.models import Restore
from backups.restoring import pins, registering
from regions import clock
from regions.refusals import Refusal

State = Restore.State
LONGEST_REASON = 300


def why_not(restore: Restore) -> Refusal | None:
    """Return why a restore cannot be written off: only a server that nobody holds can be, and what stands on a landing
    server while that does not answer."""
    if restore.landed_as:
        return _why_not_landed(restore)
    if restore.state not in Restore.STANDING:
        return Refusal("NoServer", f"The restore is {restore.get_state_display().lower()}; it has no server.", "")
    if restore.leased_until and restore.leased_until >= clock.now():
        said = f"{restore.name} is held by {restore.leased_by} in this moment."
        return Refusal("ServerHeld", said, "Remove it instead.")
    return None


def _why_not_landed(restore: Restore) -> Refusal | None:
    if restore.state not in Restore.HELD:
        said = f"The restore is {restore.get_state_display().lower()}; it has no database."
        return Refusal("NoServer", said, "")
    if not (restore.landing.error if restore.landing else restore.error):
        said = f"{restore.landed_on} answered when it was last asked."
        return Refusal("LandingAnswers", said, "Remove the database, or cancel the restore, instead.")
    if restore.leased_until and restore.leased_until >= clock.now():
        return Refusal("ServerHeld", f"{restore.leased_by} works on it in this moment.", "Cancel it instead.")
    return None


def write_off(restore: Restore, by: By, reason: str) -> None:
    """Give up a server whose machine is gone, with what was kept aside beside it; raises Refusal.

    Its instance is released. Should the machine come back, what lies there is removed as any remains are.
    """
    reason = events.speakable(reason.strip())
    if not 1 <= len(reason) <= LONGEST_REASON:
        raise Refusal(
            "NoReason", "Say in a few words why it is given up.", "Name what became of the machine.", "reason"
        )
    with transaction.atomic():
        row = (
            Restore.objects.select_for_update(of=("self",))
            .select_related("instance", "landing", "onto")
            .get(pk=restore.pk)
        )
        if refusal := why_not(row):
            raise refusal
        beside = Restore.objects.filter(makes_room_for=row, state=State.ASIDE)
        for lost in [*beside.select_related("instance", "landing", "onto"), row]:
            _give_up(lost, by, reason)
    restore.refresh_from_db()


def _give_up(row: Restore, by: By, reason: str) -> None:
    Restore.objects.filter(pk=row.pk).update(
        state=State.REMOVED,
        removed_at=clock.now(),
        sealed_password=None,
        leased_until=None,
        error_code="WrittenOff",
        error=reason,
        fence=row.fence + 1,
    )
    pins.release(row)
    alerts.close_alert("restored_server_down", f"restore:{row.pk}")
    where = row.landed_on or row.leased_by.split(":")[0] or "its machine"
    what = "database" if row.landed_as else "server"
    said = f"The restored {what} {row.goes_by} on {where} was written off: {reason}"
    events.record("restore.written_off", said, by=by, instance=row.instance, restore=row.code)
    registering.release_result(row)
