"""What Farshore takes of an instance and when, in plain words: its timetable, and the backup that is under way."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Case, When
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext

from backups import default_backups
from backups.default_backups import shares
from backups.engines import engine_of
from backups.models import BackupJob, Instance, Kind
from backups.timetable import USUAL_TIME
from console.widgets import words
from console.widgets.effects import minute
from console.widgets.labels import translated

State = BackupJob.State


# ---- what is taken when


def told(instance: Instance) -> list[str]:
    """Return the sentences about what the server writes itself, [] where backups come over the connection."""
    if not shares.is_needed(instance) or not default_backups.can_take(instance):
        return []
    if not default_backups.is_in_turn(instance):
        return [
            gettext(
                "Its default backups are taken by a job of its own. Out of turn (nothing valid in the last 24 hours, a"
                " gap in the logs, Back up now) Farshore takes copy-only full backups, which disturb none of them."
            ),
            _through(instance),
        ]
    return [_data(instance), _logs(instance), _through(instance)]


def _data(instance: Instance) -> str:
    if not instance.default_backup_enabled:
        return gettext("No backup is taken by the timetable: its default backup is off.")
    named = {"when": _when(instance), "full": instance.full_every_days}
    if instance.full_every_days > 1:
        sentence = gettext("Each database is backed up %(when)s: a full every %(full)s days, differentials between.")
        return sentence % named
    return gettext("A full backup of each database is taken %(when)s.") % named


def _when(instance: Instance) -> str:
    days = len(instance.timetable_days)
    named = {"time": f"{instance.timetable_time or USUAL_TIME:%H:%M}", "n": days}
    if days == 7:
        return gettext("every day at %(time)s UTC") % named
    sentence = ngettext("at %(time)s UTC on %(n)s day of the week", "at %(time)s UTC on %(n)s days of the week", days)
    return sentence % named


def _logs(instance: Instance) -> str:
    if not instance.log_every_minutes:
        return gettext("No log backups are taken.")
    return gettext("Logs of each database that has them are backed up every %(n)s minutes.") % {
        "n": instance.log_every_minutes
    }


def _through(instance: Instance) -> str:
    if not instance.share_called:
        return gettext("The server writes into the store of its region by itself.")
    return gettext("The server writes to %(share)s, from where the backups are fetched.") % {
        "share": instance.share_called
    }


# ---- what is under way


@dataclass(frozen=True)
class Job:
    """A backup that is queued, running or failed; `sentence` says so."""

    sentence: SafeString
    is_moving: bool
    error: str


def job_told(instance: Instance) -> Job | None:
    """Return what to say of the newest backup, of one that is under way first; of logs the alerts tell."""
    order = Case(When(state=State.RUNNING, then=0), When(state=State.QUEUED, then=1), default=2)
    job = instance.jobs.exclude(kind=Kind.LOG).order_by(order, "-pk").first()
    if job is None or job.state not in (*BackupJob.ACTIVE, State.FAILED):
        return None
    job.instance = instance
    if job.state == State.FAILED:
        said = _said(gettext("The last default backup failed: %(error)s"), error=words.plain(job.error))
        return Job(_with_database(said, job), False, "")
    if job.waits_until and not job.attempt_key:
        return Job(_with_database(_waiting(job), job), True, job.error)
    said = _said(
        _moving(job),
        state=translated(job.get_state_display()).lower(),
        reason=translated(job.get_reason_display()).lower(),
        bytes=_written(job),
    )
    if job.on == BackupJob.On.SECONDARY:
        said = format_html("{} {}", said, gettext("It is taken from the secondary."))
    return Job(_with_database(said, job), True, job.error)


def _said(sentence: str, **named: str | SafeString) -> SafeString:
    """Put values into a sentence, each escaped unless it is HTML of ours."""
    return format_html(sentence % {name: f"{{{name}}}" for name in named}, **named)


def _written(job: BackupJob) -> str:
    """How far it is: what the server says of its own writing, and then what has been fetched of it."""
    return words.size(job.sent_bytes) if job.percent is None or job.sent_bytes else f"{job.percent} %"


def _moving(job: BackupJob) -> str:
    if job.kind == Kind.FULL:
        return gettext("A full backup is %(state)s (%(reason)s); %(bytes)s written so far.")
    if engine_of(job.instance.engine).capabilities.takes_differentials:
        return gettext("A differential backup is %(state)s (%(reason)s); %(bytes)s written so far.")
    return gettext("An incremental backup is %(state)s (%(reason)s); %(bytes)s written so far.")


def _waiting(job: BackupJob) -> SafeString:
    """What R-6.2 waits for, and what comes after it."""
    sentence = gettext(
        "A backup that somebody else's job takes is waited for until %(until)s, and used instead of a full backup of"
        " Farshore's own. If it has not arrived by then, one full backup is taken."
    )
    return _said(sentence, until=minute(job.waits_until))


def _with_database(said: SafeString, job: BackupJob) -> SafeString:
    return format_html("<bdi>{}</bdi>: {}", words.plain(job.database), said) if job.database else said


def asked_for(job: BackupJob) -> str:
    """Return what to say of a backup that was asked for just now."""
    sentence = gettext("A full backup of %(name)s is %(state)s.")
    if job.kind == Kind.LOG:
        sentence = gettext("A log backup of %(name)s is %(state)s.")
    elif job.kind == Kind.DIFFERENTIAL and engine_of(job.instance.engine).capabilities.takes_differentials:
        sentence = gettext("A differential backup of %(name)s is %(state)s.")
    elif job.kind == Kind.DIFFERENTIAL:
        sentence = gettext("An incremental backup of %(name)s is %(state)s.")
    name = f"{job.instance.name}, {words.plain(job.database)}" if job.database else job.instance.name
    return sentence % {"name": name, "state": translated(job.get_state_display()).lower()}
