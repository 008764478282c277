"""How far a restore is: its stages with measured times, the one it is in with rate and time left. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext, gettext_noop

from backups.models import Restore
from console.widgets import words
from console.widgets.progress import Progress

UNPACK, REPLAY, START, CHECK, COUNT, REPLACE = "unpack", "replay", "start", "check", "count", "replace"
STAGES = {
    UNPACK: gettext_noop("Unpack the backup"),
    REPLAY: gettext_noop("Replay the logs"),
    START: gettext_noop("Start the server"),
    CHECK: gettext_noop("Check it"),
    COUNT: gettext_noop("Count its rows"),
    REPLACE: gettext_noop("Take the original's place"),
}
DOING = {
    UNPACK: gettext_noop("Unpacking"),
    REPLAY: gettext_noop("Replaying logs"),
    START: gettext_noop("Starting the server"),
    CHECK: gettext_noop("Checking"),
    COUNT: gettext_noop("Counting rows"),
    REPLACE: gettext_noop("Taking the original's place"),
}
DONE, NOW, WAITS, STOPPED = "done", "now", "waits", "stopped"


@dataclass(frozen=True)
class Stage:
    """One stage; `seconds` measured (None: not, or not yet), `progress` while it is under way."""

    name: str
    state: str
    seconds: float | None = None
    progress: Progress | None = None

    @property
    def word(self) -> str:
        return gettext(STAGES[self.name]) if self.name in STAGES else self.name.replace("_", " ").capitalize()

    @property
    def doing(self) -> str:
        return gettext(DOING[self.name]) if self.name in DOING else self.word

    @property
    def taken(self) -> str:
        return words.measured(self.seconds)

    @property
    def sentence(self) -> str:
        return sentence_of(self.progress) if self.progress else ""


def stages_of(restore: Restore, at: datetime) -> list[Stage]:
    """Return the stages in their order; one that only this engine has stands where it was met."""
    names = [name for name in STAGES if name != REPLACE or restore.onto_id]
    names += [name for name in (*restore.seconds, restore.stage) if name and name not in names]
    reached = names.index(restore.stage) if restore.stage else -1
    return [_stage(restore, name, place, reached, at) for place, name in enumerate(names)]


def _stage(restore: Restore, name: str, place: int, reached: int, at: datetime) -> Stage:
    seconds = restore.seconds.get(name)
    if restore.state in (*Restore.STANDING, Restore.State.REMOVED):
        return Stage(name, DONE, seconds)
    if place == reached and restore.state == Restore.State.RUNNING:
        return Stage(name, NOW, _elapsed(restore, at), progress_of(restore, at))
    if place == reached and restore.state != Restore.State.QUEUED:
        return Stage(name, STOPPED)
    is_past = place < reached and restore.state != Restore.State.QUEUED
    return Stage(name, DONE if is_past else WAITS, seconds)


def progress_of(restore: Restore, at: datetime) -> Progress:
    """Return the bytes of the stage it is in; the rate is that of the stage so far."""
    elapsed = _elapsed(restore, at) or 0
    rate = restore.done / elapsed if restore.done and elapsed >= 1 else None
    return Progress(total=restore.total or 0, sent=restore.done, rate=rate)


def _elapsed(restore: Restore, at: datetime) -> float | None:
    return max(0.0, (at - restore.stage_began_at).total_seconds()) if restore.stage_began_at else None


def seconds_taken(restore: Restore) -> float | None:
    """Return what the whole restore took, from its first claim to its end; None while it is under way."""
    if restore.started_at is None or restore.finished_at is None:
        return None
    return (restore.finished_at - restore.started_at).total_seconds()


def sentence_of(progress: Progress) -> str:
    """Return bytes, rate and time left as far as they are known; "" where the stage has no bytes to count."""
    if progress.total:
        return progress.sentence
    return gettext("%(done)s so far") % {"done": words.in_words(progress.done)} if progress.done else ""
