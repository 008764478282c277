"""The second person agrees to a restore onto an instance that is there; what it replaced is let go (R-2.3)."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction

from backups import access, alerts, bell, events, second_person
from backups.events import FARSHORE, By
from backups.models import BackupFile, BackupSet, Restore, Role
from backups.restoring.onto import server_of
from regions import clock
from regions.refusals import Refusal

State = Restore.State
WAITS = "restore_needs_second_person"
LAPSES_AFTER = timedelta(days=3)  # what it reads is kept for it, and the data goes on changing


def wait_for_somebody(restore: Restore) -> None:
    alerts.open_alert(
        WAITS,
        _subject(restore),
        f"A restore onto {restore.name}, asked for by {restore.asked_by}, waits for a second person.",
        remedy="An approver agrees on the restore's page, or it is cancelled.",
        instance=restore.instance,
    )


def wait_no_more(restore: Restore) -> None:
    alerts.close_alert(WAITS, _subject(restore))


def _subject(restore: Restore) -> str:
    return f"restore:{restore.pk}"


def why_not_agree(restore: Restore, by: By) -> Refusal | None:
    """Return why this person cannot be the second one: never who asked, unless nobody else is there for a day."""
    try:
        second_person.require_another(restore.asked_by, restore.asked_at, by)
    except Refusal as refusal:
        return refusal
    if by.user != restore.asked_by and not access.may(by.user, restore.instance.group_id, Role.APPROVER):
        said = f"To agree to this needs the role approver in {restore.instance.group}."
        return Refusal("Forbidden", said, "Ask an approver.")
    return None


def agree(restore: Restore, by: By) -> None:
    """A second person agrees: a worker may begin. Raises Refusal."""
    with transaction.atomic():
        row = _locked(restore)
        if row.state != State.WAITING:
            raise Refusal("NotWaiting", f"The restore is {row.get_state_display().lower()}.", "")
        if refusal := why_not_agree(row, by):
            raise refusal
        _look_again(row)
        at = clock.now()
        Restore.objects.filter(pk=row.pk).update(state=State.QUEUED, approved_by=by.user, approved_at=at, due_at=at)
        wait_no_more(row)
        _record("agreed", f"{by.name} agreed to restore {row.name} onto itself.", row, by)
        bell.ring_restores(row.region_id)
    restore.refresh_from_db()


def _look_again(row: Restore) -> None:
    sets = BackupSet.objects.filter(pk__in=row.sources.values("set"))
    if BackupFile.objects.filter(sets__in=sets).exclude(state=BackupFile.State.SETTLED).exists():
        raise Refusal("BackupGone", "What it reads is no longer at its source.", "Cancel it, and choose another.")
    if row.onto.released or server_of(row.onto) is None:
        raise Refusal("OriginalGone", f"Farshore no longer runs the server of {row.name}.", "Cancel it.")


def confirm(restore: Restore, by: By) -> None:
    """Keep the new server for good: what it replaced is discarded, bytes and all. Safe to repeat; raises Refusal."""
    with transaction.atomic():
        row = _locked(restore)
        if row.state != State.READY or row.cancel_asked_at:
            raise Refusal("NotReady", f"{row.name} does not run as it was restored.", "")
        aside = Restore.objects.filter(makes_room_for=row, state=State.ASIDE, cancel_asked_at=None)
        at = clock.now()
        if not aside.update(cancel_asked_at=at, due_at=at):
            return
        _record("confirmed", f"{row.name} is kept as it was restored; what it was before is discarded.", row, by)
        bell.ring_restores(row.region_id)


def lapse() -> None:
    """Nobody has agreed for days: what was asked for is over."""
    late = Restore.objects.filter(state=State.WAITING, asked_at__lt=clock.now() - LAPSES_AFTER)
    for row in late.select_related("instance"):
        said = f"Nobody agreed within {LAPSES_AFTER.days} days."
        ended = {"state": State.CANCELLED, "finished_at": clock.now(), "error": said, "error_code": "NobodyAgreed"}
        with transaction.atomic():
            if late.filter(pk=row.pk).update(**ended):
                wait_no_more(row)
                _record("cancelled", f"The restore onto {row.name} was cancelled: {said}", row, FARSHORE)


def _locked(restore: Restore) -> Restore:
    rows = Restore.objects.select_for_update(of=("self",))
    return rows.select_related("instance__group", "onto", "asked_by").get(pk=restore.pk)


def _record(what: str, sentence: str, restore: Restore, by: By) -> None:
    events.record(f"restore.{what}", sentence, by=by, instance=restore.instance, restore=restore.code)
