"""How far a restore is: its stages with measured times, the one it is in with rate and time left. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext, gettext_noop

from backups.models import Restore
from console.widgets import words
from console.widgets.progress import Progress

DOWNLOAD, FULL, DIFFERENTIAL, LOG, RECOVER = "download", "full", "differential", "log", "recover"
UNPACK, REPLAY, START, CHECK, COUNT, REPLACE = "unpack", "replay", "start", "check", "count", "replace"
LANDED = (DOWNLOAD, FULL, DIFFERENTIAL, LOG, RECOVER)
STAGES = {
    DOWNLOAD: gettext_noop("Bring the files to the share"),
    FULL: gettext_noop("Restore the full backup"),
    DIFFERENTIAL: gettext_noop("Restore the differential backup"),
    LOG: gettext_noop("Restore the logs"),
    RECOVER: gettext_noop("Bring the database online"),
    UNPACK: gettext_noop("Unpack the backup"),
    REPLAY: gettext_noop("Replay the logs"),
    START: gettext_noop("Start the server"),
    CHECK: gettext_noop("Check it"),
    COUNT: gettext_noop("Count its rows"),
    REPLACE: gettext_noop("Take the original's place"),
}
DOING = {
    DOWNLOAD: gettext_noop("Bringing the files"),
    FULL: gettext_noop("Restoring the full"),
    DIFFERENTIAL: gettext_noop("Restoring the differential"),
    LOG: gettext_noop("Restoring logs"),
    RECOVER: gettext_noop("Bringing it online"),
    UNPACK: gettext_noop("Unpacking"),
    REPLAY: gettext_noop("Replaying logs"),
    START: gettext_noop("Starting the server"),
    CHECK: gettext_noop("Checking"),
    COUNT: gettext_noop("Counting rows"),
    REPLACE: gettext_noop("Taking the original's place"),
}
TELLING_SECONDS = 1.0
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
    names = _of_landed(restore) if restore.landed_as else [name for name in STAGES if _belongs(name, restore)]
    names += [name for name in (*restore.seconds, restore.stage) if name and name not in names]
    reached = names.index(restore.stage) if restore.stage else -1
    return [_stage(restore, name, place, reached, at) for place, name in enumerate(names)]


def _belongs(name: str, restore: Restore) -> bool:
    return name not in LANDED and (name != REPLACE or bool(restore.onto_id))


def _of_landed(restore: Restore) -> list[str]:
    """Return the stages of the kinds of backup that it reads."""
    kinds = {source.set.kind for source in restore.sources.all()}
    return [name for name in LANDED if name in (DOWNLOAD, RECOVER) or name in kinds]


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


def seconds_outside(restore: Restore) -> float | None:
    """Return what passed outside its stages: before the first, or in an attempt that failed. None: hardly anything."""
    taken = seconds_taken(restore)
    outside = None if taken is None else taken - sum(restore.seconds.values())
    return outside if outside is not None and outside >= TELLING_SECONDS else None


def sentence_of(progress: Progress) -> str:
    """Return bytes, rate and time left as far as they are known; "" where the stage has no bytes to count."""
    if progress.total:
        return progress.sentence
    return gettext("%(done)s so far") % {"done": words.in_words(progress.done)} if progress.done else ""
