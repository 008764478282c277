"""What the receiving of an instance's logs is doing, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext

from backups.models import Instance, LogStream
from console.widgets import words

State = LogStream.State


@dataclass(frozen=True)
class Told:
    """The sentences to show, in order; `is_bad` when something keeps logs from being received."""

    sentences: list[str]
    is_bad: bool


def told(instance: Instance, at: datetime) -> Told | None:
    """Return what to say of an instance's stream, None when it has none or it has ended."""
    stream = LogStream.objects.filter(instance=instance).exclude(state=State.ENDED).first()
    if stream is None:
        return None
    said = [_doing(stream, at), _heard(stream), _last_error(stream), *stream.notes]
    return Told([sentence for sentence in said if sentence], bool(stream.error) or _is_lost(stream, at))


def _doing(stream: LogStream, at: datetime) -> str:
    if stream.state == State.ENDING:
        return gettext("Logs are no longer wanted; the server is told to keep none for Farshore.")
    if _is_lost(stream, at):
        return _with_waiting(gettext("Logs are not received at the moment"), stream)
    if stream.state == State.WANTED:
        return gettext("Logs will be received as soon as a worker of the source region begins.")
    return _with_waiting(gettext("Logs are received"), stream)


def _is_lost(stream: LogStream, at: datetime) -> bool:
    """Whether they were received before, and nobody holds the lease now."""
    if stream.state not in LogStream.ACTIVE or stream.started_at is None:
        return False
    return stream.leased_until is None or stream.leased_until <= at


def _with_waiting(said: str, stream: LogStream) -> str:
    if stream.waiting_bytes is None:
        return f"{said}."
    if stream.waiting_bytes == 0:
        return gettext("%(said)s; nothing waits at the server.") % {"said": said}
    size = words.in_words(stream.waiting_bytes)
    return gettext("%(said)s; %(size)s wait at the server.") % {"said": said, "size": size}


def _heard(stream: LogStream) -> str:
    if stream.heard_at is None or stream.state == State.ENDING:
        return ""
    return gettext("Everything until %(moment)s has been received.") % {"moment": words.stamp(stream.heard_at)}


def _last_error(stream: LogStream) -> str:
    return gettext("The last attempt said: %(error)s") % {"error": stream.error} if stream.error else ""
