"""A person keeps a copy beyond its date, under a case number, until a person releases it (R-14.3, I4).

What a held copy needs to be restored is held with it; both are charged as long as that lasts.
"""

from __future__ import annotations

from django.db import transaction

from backups import events
from backups.events import By
from backups.keeping import retention
from backups.models import Copy, CopyState, Hold
from regions import clock
from regions.refusals import Refusal

KEEPABLE = (CopyState.COMPLETED, CopyState.DAMAGED, CopyState.EXPIRED)
LONGEST = Hold._meta.get_field("case_number").max_length


def why_not(copy: Copy) -> Refusal | None:
    """Return why a copy cannot be held, None when it can: its bytes are there, and nobody has begun to delete them."""
    if copy.state in KEEPABLE and copy.deleting_since is None:
        return None
    if copy.state in (CopyState.EXPIRED, CopyState.DELETED):
        return Refusal("HoldTooLate", f"The copy of {copy.set} is deleted.", "Hold another copy.", "copy")
    said = f"The copy of {copy.set} is {copy.get_state_display().lower()}; what is held has arrived."
    return Refusal("HoldTooEarly", said, "Wait until it is completed.", "copy")


def place(copy: Copy, case_number: str, by: By) -> Hold:
    """Keep a copy until `release`. One in its grace is completed again, charged from now on. Raises Refusal."""
    case_number = case_number.strip()
    if not 0 < len(case_number) <= LONGEST or not case_number.isprintable():
        said = f"The case number has 1 to {LONGEST} characters, all of them visible."
        raise Refusal("InvalidCaseNumber", said, "Enter what the case is known by.", "case_number")
    _require_person(by)
    with transaction.atomic():
        locked = _locked(copy)
        if refusal := why_not(locked):
            raise refusal
        if locked.holds.filter(case_number=case_number, released_at=None).exists():
            said = f"The copy of {locked.set} is held under {case_number} already."
            raise Refusal("HeldAlready", said, "Enter another case number.", "case_number")
        hold = Hold.objects.create(copy=locked, case_number=case_number, placed_by=by.user, placed_at=clock.now())
        retention.reschedule(locked.set.instance_id, locked.destination_store_id, by)
        _record("placed", f"The copy of {locked.set} is held under {case_number}.", hold, by)
    return hold


def release(hold: Hold, by: By) -> None:
    """Let the copy go by its own date again, and what nothing else needs; a second time changes nothing.

    What is past its date is free of charge from now on, and its grace begins. Raises Refusal.
    """
    _require_person(by)
    with transaction.atomic():
        copy = _locked(hold.copy)
        released = {"released_at": clock.now(), "released_by": by.user}
        if not Hold.objects.filter(pk=hold.pk, released_at=None).update(**released):
            return
        retention.reschedule(copy.set.instance_id, copy.destination_store_id, by)
        _record("released", f"The hold of the copy of {copy.set} under {hold.case_number} was released.", hold, by)


def _locked(copy: Copy) -> Copy:
    """Lock it behind those whose dates hang together with its own, in their one order; the deletion locks it too."""
    retention.lock_copies(copy.set.instance_id, copy.destination_store_id)
    rows = Copy.objects.select_for_update(no_key=True, of=("self",)).select_related("set__instance")
    return rows.get(pk=copy.pk)


def _require_person(by: By) -> None:
    if by.user is None:
        raise Refusal("PersonNeeded", "A hold is placed and released by a person.", "Say who does it.", "user")


def _record(what: str, sentence: str, hold: Hold, by: By) -> None:
    events.record(f"hold.{what}", sentence, by=by, set=hold.copy.set, copy=hold.copy_id, case_number=hold.case_number)
