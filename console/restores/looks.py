"""A restore in a cell: its state with its consequence, and the moment it brings back."""

from __future__ import annotations

from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups.models import Restore
from console.restores.stages import DOING, progress_of, sentence_of
from console.widgets.badges import INFO, WARN, Look, badge
from console.widgets.states import RESTORE, UNKNOWN

State = Restore.State
LEAVING = Look(INFO, "loader", "")
WRITTEN_OFF = "WrittenOff"
STARTING = Look(WARN, "loader", _("Starting again"))


def state_of(restore: Restore, at: datetime) -> SafeString:
    """Return the state as icon, word and consequence; a bar while bytes move."""
    look = RESTORE.get(restore.state, UNKNOWN)
    if restore.state in Restore.STANDING and restore.cancel_asked_at:
        said = gettext("its server is stopped and its data is deleted")
        if restore.landed_as:
            said = restore.error or gettext("its database is dropped")
        return badge(LEAVING, said, word=gettext("Removing"))
    if restore.state in Restore.ACTIVE and restore.cancel_asked_at:
        return badge(LEAVING, gettext("the engine is stopped and what it made is removed"), word=gettext("Cancelling"))
    if restore.state == State.READY and restore.makes_room_for_id:
        return badge(LEAVING, gettext("it stops while what was restored takes its place"), word=gettext("Making room"))
    if restore.state == State.READY and is_starting_again(restore, at):
        return badge(STARTING, restore.error or gettext("its worker has ended; another one takes it up by itself"))
    return _moving(restore, at) if restore.state == State.RUNNING else badge(look, consequence_of(restore))


def _moving(restore: Restore, at: datetime) -> SafeString:
    progress, look = progress_of(restore, at), RESTORE[State.RUNNING]
    word = gettext(DOING[restore.stage]) if restore.stage in DOING else look.word
    if not progress.total:
        return badge(look, sentence_of(progress), word=word)
    label = gettext("Progress of restore %(name)s") % {"name": restore.goes_by}
    bar = format_html('<progress max="100" value="{}" aria-label="{}"></progress>', progress.percent, label)
    return format_html(
        "{}{}<small>{}</small>", badge(look, word=f"{word} {progress.percent} %"), bar, progress.sentence
    )


def consequence_of(restore: Restore) -> str:
    """Return the one line that says what the state means for this restore."""
    if restore.state in (State.QUEUED, State.FAILED):
        return restore.error or gettext("its turn comes by itself")
    if restore.error_code == WRITTEN_OFF:
        return gettext("written off: %(why)s") % {"why": restore.error}
    return {
        State.WAITING: gettext("nothing begins before an approver has agreed"),
        State.ASIDE: gettext("stopped, and kept until what replaced it is confirmed"),
        State.READY: _standing(restore),
        State.CANCELLED: gettext("nothing of it is left"),
        State.REMOVED: gettext("it is gone") if restore.landed_as else gettext("its server and its data are gone"),
    }.get(restore.state, "")


def _standing(restore: Restore) -> str:
    if restore.landing_id:
        return gettext("a database on a landing server")
    return gettext("a database beside others") if restore.landed_as else gettext("its server answers")


def is_starting_again(restore: Restore, at: datetime) -> bool:
    """Whether nobody holds the ready server now: its worker ended, and another one starts it again."""
    is_free = restore.leased_until is None or restore.leased_until < at
    is_held = restore.state == State.READY and not restore.landed_as  # nobody need hold a database
    return is_held and is_free and restore.makes_room_for_id is None


def wish_of(restore: Restore, has_logs: bool) -> str:
    """Return what was asked for: a moment, the newest one, or a set as it was taken (which then has no logs)."""
    if restore.until:
        return gettext("a chosen moment")
    return gettext("the newest moment") if has_logs else gettext("a set as it was taken")


def moment_of(restore: Restore, has_logs: bool) -> datetime | None:
    """Return the moment that is brought back; None while only the engine will know how far the logs go."""
    of_set = restore.set.finished_at if restore.set and not has_logs else None
    return restore.restored_until or restore.until or of_set
