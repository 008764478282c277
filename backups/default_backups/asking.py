"""A default backup is asked for: by a person, by the timetable, or because something needs one (R-2.5, R-6, R-9)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from backups import bell, events, timetable
from backups.default_backups import buckets, incrementals, shares
from backups.default_backups.jobs import State, is_of_many
from backups.engines import engine_of
from backups.events import FARSHORE, By
from backups.models import Arrival, BackupJob, Edition, Instance, Kind, ServerDatabase
from backups.servers import secondaries, standings
from regions import clock
from regions.refusals import Refusal

DAY = timedelta(days=1)


# ---- what can be asked for


def can_take(instance: Instance) -> bool:
    """Whether Farshore itself can back this instance up now.

    Where the server writes its backups itself, out of turn also what somebody else's job backs up otherwise (R-6.2b).
    """
    engine = engine_of(instance.engine)
    if instance.released or not engine.capabilities.takes_backups:
        return False
    if not shares.is_needed(instance):
        return instance.arrival == Arrival.TAKEN
    return shares.is_known(instance) or buckets.is_known(instance)


def is_in_turn(instance: Instance) -> bool:
    """Whether Farshore takes the default backups of an instance, by its timetable."""
    return instance.arrival == Arrival.TAKEN and can_take(instance)


def kinds_of(instance: Instance, on: str = BackupJob.On.PRIMARY) -> list[str]:
    """Return the kinds that can be asked for; beside the backups of others only fulls, which disturb none of them."""
    able, found = engine_of(instance.engine).capabilities, [Kind.FULL]
    if not is_in_turn(instance):
        return found
    has_differentials = able.takes_differentials and on == BackupJob.On.PRIMARY
    if has_differentials or incrementals.are_taken_of(instance):
        found.append(Kind.DIFFERENTIAL)
    return [*found, Kind.LOG] if able.takes_logs else found


# ---- asking


def ask(
    instance: Instance,
    by: By,
    *,
    database: str = "",
    reason: str = "on_demand",
    on: str = BackupJob.On.PRIMARY,
    kind: str = Kind.FULL,
) -> BackupJob:
    """Ask for a backup; one queued or running already is returned instead (R-6.2). Raises Refusal.

    An incremental that is only queued becomes the full that is asked for; where none can be taken, a full is. `on` the
    secondary is refused where none is known: whether the primary then serves is for the caller to say (R-9.2).
    Where backups are of one database each, `database` "" is one of every database that can be backed up.
    """
    if instance.released:
        raise Refusal("ProductInstanceReleased", "The instance has been released.", "")
    if not can_take(instance):
        raise why_not_taken(instance)
    if on == BackupJob.On.SECONDARY:
        secondaries.require_one(instance)
    if kind not in kinds_of(instance, on):
        raise _kind_not_taken(instance, kind)
    wanted = BackupJob(instance=instance, database=database, reason=reason, on=on, kind=kind)
    wanted.is_copy_only = _is_copy_only(wanted)
    for _ in range(3):
        try:
            return _queue(wanted, by)
        except IntegrityError:  # asked for twice: the one that is active serves both, unless it ended just now
            if active := _serving(wanted):
                return active
    raise Refusal("BackupBusy", "Backups of this instance begin and end too quickly to add one.", "Ask again.")


def why_not_taken(instance: Instance) -> Refusal:
    if refusal := buckets.why_not(instance):
        return refusal
    if shares.is_needed(instance) and instance.arrival == Arrival.TAKEN:
        return Refusal(
            "ShareMissing",
            f"Farshore does not take backups of {instance.name}: no share is known that its server writes them to.",
            "Enter its host and the share.",
        )
    return Refusal(
        "BackupNotTaken",
        "Farshore does not take backups of this instance; it copies the files it finds.",
        "Run the backup job on the server itself.",
    )


def _kind_not_taken(instance: Instance, kind: str) -> Refusal:
    if kind == Kind.LOG:
        return Refusal(
            "LogNotTaken", f"Farshore takes no log backups of {instance.name}.", "Ask for a full backup.", "kind"
        )
    return Refusal(
        "IncrementalNotTaken", f"No incrementals are taken of {instance.name}.", "Ask for a full backup.", "kind"
    )


def _is_copy_only(job: BackupJob) -> bool:
    """R-6.2b, R-9.3: a full beside those of somebody else's job, and one of the secondary."""
    able = engine_of(job.instance.engine).capabilities
    if job.kind != Kind.FULL:
        return False
    if job.on == BackupJob.On.SECONDARY:
        return able.secondary_full_is_copy_only
    return able.out_of_turn_is_copy_only and job.instance.arrival == Arrival.FOUND


def side_for_logs(instance: Instance, database: str = "", in_groups: Mapping[int, Container[str]] | None = None) -> str:
    """Return where a backup is taken that logs are to follow: the primary is left alone where it can be (R-9.1, R-9.2).

    Basic Edition has no secondary; of other editions none may have been named; and where the server names its
    databases, one that is in no availability group is not on the secondary. `in_groups`: what `databases_in_groups`
    said, where it has been asked for many instances.
    """
    has_secondary = instance.edition != Edition.BASIC and bool(instance.secondary_host)
    if has_secondary and database and standings.are_told(instance):
        in_groups = databases_in_groups([instance]) if in_groups is None else in_groups
        has_secondary = database in in_groups.get(instance.pk, ())
    return BackupJob.On.SECONDARY if has_secondary else BackupJob.On.PRIMARY


def databases_in_groups(instances: Iterable[Instance]) -> dict[int, set[str]]:
    """Return the databases of each instance that are in an availability group, and so on its secondary too."""
    there = ServerDatabase.objects.present().filter(instance__in=[one.pk for one in instances])
    found: dict[int, set[str]] = defaultdict(set)
    for pk, name in there.exclude(availability_group="").order_by().values_list("instance", "name"):
        found[pk].add(name)
    return found


def _queue(job: BackupJob, by: By) -> BackupJob:
    job.pk, job.asked_by, job.asked_at = None, by.user, clock.now()
    job.due_at = job.asked_at
    with transaction.atomic():
        job.save(force_insert=True)
        if not is_of_many(job):
            said = f"{_called(job)} was asked for: {job.get_reason_display().lower()}."
            events.record("backup.asked", said, by=by, instance=job.instance, job=job.pk)
        bell.ring_backups(job.instance.region_id)
        return job


def _called(job: BackupJob) -> str:
    able = engine_of(job.instance.engine).capabilities
    words = {Kind.FULL: "A full backup", Kind.LOG: "A log backup"}
    word = words.get(job.kind, f"A backup ({able.differential_label.lower()})")
    if job.database:
        return f"{word} of {job.database}{' on the secondary' if job.on == BackupJob.On.SECONDARY else ''}"
    return f"{word} of the secondary" if job.on == BackupJob.On.SECONDARY else word


def _serving(wanted: BackupJob) -> BackupJob | None:
    """Return the active backup that serves what is wanted; nobody waits for an incremental who asked for a full, nor
    for a full that stands beside the others who asked for one of them."""
    active = BackupJob.objects.filter(
        instance=wanted.instance, database=wanted.database, state__in=BackupJob.ACTIVE, overtaken_at=None
    ).select_related("instance")
    active = active.filter(kind=Kind.LOG) if wanted.kind == Kind.LOG else active.exclude(kind=Kind.LOG)
    if wanted.kind == Kind.FULL:
        queued = active.filter(state=State.QUEUED)
        queued.exclude(kind=Kind.FULL).update(kind=Kind.FULL)
        if not wanted.is_copy_only:
            queued.filter(is_copy_only=True).update(is_copy_only=False, on=wanted.on)
    return active.first()


def cancel_all(instance: Instance) -> int:
    """Give up what is queued or running for an instance (it was released); a running child finds its lease gone."""
    active = BackupJob.objects.filter(instance=instance, state__in=BackupJob.ACTIVE)
    return active.update(state=State.CANCELLED, finished_at=clock.now(), leased_until=None)


# ---- the timetable


def ask_by_timetable(limit: int = 1000) -> int:
    """Ask for every default backup whose hour has come, once however late; return how many."""
    at, count = clock.now(), 0
    taken = Instance.objects.living().filter(arrival=Arrival.TAKEN, default_backup_enabled=True)
    for instance in taken.filter(Q(next_backup_at=None) | Q(next_backup_at__lte=at))[:limit]:
        due = instance.next_backup_at
        following = timetable.next_slot(instance.timetable_days, instance.timetable_time or timetable.USUAL_TIME, at)
        if due and can_take(instance):
            ask(instance, FARSHORE, reason="timetable", kind=_kind_due(instance, at))
            count += 1
        Instance.objects.filter(pk=instance.pk, next_backup_at=due).update(next_backup_at=following or at + 7 * DAY)
    return count


def _kind_due(instance: Instance, at: datetime) -> str:
    """Of the databases of a server each has a kind of its own, which is decided when they are known."""
    return Kind.FULL if shares.is_needed(instance) else incrementals.kind_due(instance, at)


def ask_logs_by_timetable(limit: int = 1000) -> int:
    """Ask for the logs of every instance whose minute has come, once however late; return of how many."""
    at, count = clock.now(), 0
    taken = Instance.objects.living().filter(
        arrival=Arrival.TAKEN, default_backup_enabled=True, log_every_minutes__gt=0
    )
    for instance in taken.filter(Q(next_log_at=None) | Q(next_log_at__lte=at))[:limit]:
        due = instance.next_log_at
        if due and Kind.LOG in kinds_of(instance):
            ask(instance, FARSHORE, reason="timetable", kind=Kind.LOG)
            count += 1
        following = timetable.next_step(instance.log_every_minutes, at)
        Instance.objects.filter(pk=instance.pk, next_log_at=due).update(next_log_at=following)
    return count
