"""What is taken of each database of a server, where backups are of one database each (R-6.1, R-9.3)."""

from __future__ import annotations

from backups.copying import planning
from backups.default_backups import incrementals, shares
from backups.models import BackupJob, Kind, ServerDatabase
from backups.servers import standings
from regions import clock


def is_for_each(job: BackupJob) -> bool:
    """Whether a job is of every database of its server: it only asks for one of each."""
    return not job.database and shares.is_needed(job.instance)


def wanted(job: BackupJob) -> list[tuple[str, str]]:
    """Look at the server, and return (database, kind) for each of its databases of which a backup is to be taken.

    What cannot be backed up is left out: it is no error of the others. Raises Refusal where the server does not answer.
    """
    found = [(one.name, _kind_for(job, one)) for one in standings.refresh(job.instance)]
    return [(name, kind) for name, kind in found if kind]


def _kind_for(job: BackupJob, database: ServerDatabase) -> str:
    """Return what is taken of one database; "": nothing."""
    is_elsewhere = job.on == BackupJob.On.SECONDARY and not database.availability_group
    if not database.is_online or not database.may_back_up or is_elsewhere:
        return ""
    if job.kind == Kind.LOG:
        return _log_for(job, database)
    if job.reason == BackupJob.Reason.TIMETABLE:
        return incrementals.kind_due_of(job.instance, database.name, clock.now())
    is_valid = job.reason == BackupJob.Reason.TWENTY_FOUR_HOURS and planning.has_valid(
        job.instance, database.name, clock.now()
    )
    return "" if is_valid else job.kind


def _log_for(job: BackupJob, database: ServerDatabase) -> str:
    """Of a database that is new here a full comes first. A chain that was broken on the server is mended by a person,
    or by the next full of the timetable, never by us in between (R-9.3)."""
    if not database.has_logs:
        return ""
    if database.log_chain_position is not None:
        return Kind.LOG
    fulls = job.instance.sets.filter(kind=Kind.FULL, database=database.name, is_copy_only=False)
    return "" if fulls.exists() else Kind.FULL
