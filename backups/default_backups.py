"""Default backups Farshore takes: asked for, taken by a worker of the source region, recorded (R-2.5, R-6).

The row is the job; whoever claims it holds a lease and renews it while the engine's own tool streams into the store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest

from backups import (
    bell,
    buckets,
    cleaning,
    events,
    incrementals,
    layout,
    per_database,
    presence,
    reaching,
    secondaries,
    server_scripts,
    shares,
    snapshots,
    standings,
    timetable,
)
from backups.engines import engine_of
from backups.engines.facts import Connection, FullNeeded, Stopped, TakenSet
from backups.events import FARSHORE, By
from backups.facts_of_sets import columns_of
from backups.leases import LeaseLost, next_lease
from backups.models import (
    Arrival,
    BackupFile,
    BackupJob,
    BackupSet,
    Edition,
    Instance,
    Kind,
    SetFile,
    SetStatus,
)
from backups.taken_files import Stored
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import ObjectInfo, PartReceipt, Storage, StorageError, mover, streams
from regions.stores import store_of

log = logging.getLogger(__name__)
DAY = timedelta(days=1)
MOST_ATTEMPTS = 5
State = BackupJob.State


# ---- asking


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
        raise _not_taken(instance)
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


def _not_taken(instance: Instance) -> Refusal:
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


def side_for_logs(instance: Instance, database: str = "") -> str:
    """Return where a backup is taken that logs are to follow: the primary is left alone where it can be (R-9.1, R-9.2).

    Basic Edition has no secondary; of other editions none may have been named; and where the server names its
    databases, one that is in no availability group is not on the secondary.
    """
    has_secondary = instance.edition != Edition.BASIC and bool(instance.secondary_host)
    if has_secondary and database and standings.are_told(instance):
        has_secondary = instance.databases.present().filter(name=database).exclude(availability_group="").exists()
    return BackupJob.On.SECONDARY if has_secondary else BackupJob.On.PRIMARY


def _queue(job: BackupJob, by: By) -> BackupJob:
    job.pk, job.asked_by, job.asked_at = None, by.user, clock.now()
    job.due_at = job.asked_at
    with transaction.atomic():
        job.save(force_insert=True)
        if not _is_of_many(job):
            said = f"{_called(job)} was asked for: {job.get_reason_display().lower()}."
            events.record("backup.asked", said, by=by, instance=job.instance, job=job.pk)
        bell.ring_backups(job.instance.region_id)
        return job


def _is_of_many(job: BackupJob) -> bool:
    """A backup of the log that nobody asked for: of thousands a day no event tells, only that one failed."""
    return job.kind == Kind.LOG and job.reason == BackupJob.Reason.TIMETABLE


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
        instance=wanted.instance, database=wanted.database, state__in=BackupJob.ACTIVE
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


# ---- one job for each database


def _ask_for_each(job: BackupJob) -> None:
    """Look at the server's databases, and ask for a backup of each that can be backed up; that ends the job."""
    if shares.is_known(job.instance):
        shares.require_mounted(job.instance)
    wanted = per_database.wanted(job)
    with transaction.atomic():
        for database, kind in wanted:
            ask(job.instance, By(job.asked_by), database=database, reason=job.reason, on=job.on, kind=kind)
        _finish(job)


def _finish(job: BackupJob, **changes: Any) -> datetime:
    at = clock.now()
    won = BackupJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING).update(
        **{"state": State.SUCCEEDED, "finished_at": at, "leased_until": None, "error": ""} | changes
    )
    if not won:
        raise LeaseLost
    return at


# ---- taking


LOGS, DATA = Q(kind=Kind.LOG), ~Q(kind=Kind.LOG)  # they wait for each other nowhere: a full may take hours


def claim(region_id: str, which: Q | None = None) -> BackupJob | None:
    """Take the next due job of a region, of those that are `which`, under a new fence and a lease."""
    with transaction.atomic():
        at = clock.now()
        job = (
            BackupJob.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(
                which or Q(),
                Q(leased_until=None) | Q(leased_until__lt=at),
                state__in=BackupJob.ACTIVE,
                due_at__lte=at,
                instance__region=region_id,
            )
            .select_related("instance__region")
            .order_by("due_at", "pk")
            .first()
        )
        if job is None:
            return None
        job.fence, job.attempts, job.state = job.fence + 1, job.attempts + 1, State.RUNNING
        job.started_at, job.leased_until = at, next_lease(at)
        job.save(update_fields=["fence", "attempts", "state", "started_at", "leased_until"])
        return job


class Heartbeat(threading.Thread):
    """Renews a job's lease beside the work; `lost` says that somebody else holds the job now, or nobody wants it."""

    def __init__(self, job: BackupJob) -> None:
        super().__init__(daemon=True, name=f"heartbeat-{job.pk}")
        self.job, self.lost, self._over = job, threading.Event(), threading.Event()

    def run(self) -> None:
        while not self._over.wait(settings.LEASE_SECONDS / 4):
            try:
                if not renew(self.job):
                    self.lost.set()
            except Exception:  # the database is away: the lease decides, not we
                log.exception("lease not renewed", extra={"job": self.job.pk})
            finally:
                connection.close()

    def end(self) -> None:
        self._over.set()


def renew(job: BackupJob, **changes: Any) -> bool:
    """Renew the lease and write `changes`, both only while the fence is ours."""
    mine = BackupJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING)
    return bool(mine.update(leased_until=next_lease(clock.now()), **changes))


def take_and_go_on(job: BackupJob) -> None:
    """Take a claimed backup, and after a log those of the same instance that are due: a process for each would cost
    more than the logs of a quiet server."""
    take(job)
    its_logs = LOGS & Q(instance=job.instance)
    while job.kind == Kind.LOG and (following := claim(job.instance.region_id, its_logs)):
        take(following)


def take(job: BackupJob) -> BackupSet | None:
    """Take a claimed backup, from its beginning to its record; None when the lease was lost, or it was of each of the
    server's databases. Failures are written."""
    beat = Heartbeat(job)
    beat.start()
    try:
        return _take(job, beat)
    except (LeaseLost, Stopped):
        return None
    except (Refusal, StorageError) as error:
        fail(job, str(error))
        return None
    except (DataError, ValueError):  # a NUL in a name, a size beyond every disk: it is tried again, and not for ever
        log.exception("backup not storable", extra={"job": job.pk})
        fail(job, "What the backup says of itself cannot be written down; see the worker's log.")
        return None
    finally:
        beat.end()


def _take(job: BackupJob, beat: Heartbeat) -> BackupSet | None:
    """Take what was asked for; a full where an incremental cannot be had, and say so."""
    if per_database.is_for_each(job):
        _ask_for_each(job)
        return None
    try:
        return _attempt(job, beat)
    except FullNeeded as why:
        note = f"No incremental could be taken, so this is a full: {why}"
        _become_full(job, note)
        return _attempt(job, beat, note)


def _become_full(job: BackupJob, note: str) -> None:
    with transaction.atomic():
        _keep(job, kind=Kind.FULL)
        events.record("backup.full_instead", f"{job.instance.name}: {note}", instance=job.instance, job=job.pk)
    job.kind = Kind.FULL


def _attempt(job: BackupJob, beat: Heartbeat, note: str = "") -> BackupSet:
    """Carry on what a server had written for an earlier attempt; where there is nothing, take what is asked for."""
    store = store_of(job.instance.region_id)
    storage = store.open()
    presence.require_ours(store, storage)
    if shares.is_needed(job.instance) and (found := buckets.carried_on(job, store, storage, renew=partial(_keep, job))):
        return _kept(job, store, found, note)
    if snapshots.is_wanted(job):
        return _snapshotted(job, store, storage, beat, note)
    if shares.is_needed(job.instance) and not shares.is_known(job.instance):
        return _kept(job, store, _written(job, store, storage, beat), note)
    return _carried(job, store, storage, beat, note)


def _written(job: BackupJob, store: Store, storage: Storage, beat: Heartbeat) -> buckets.Found:
    """Let the server write into the store by itself."""
    if not can_take(job.instance):
        raise _not_taken(job.instance)
    where = _reach(job)
    cleaning.remove_journaled(storage, job.attempt_key)  # of the days when the bytes went through a worker
    asked = {"journal": partial(_keep, job), "progress": _percent_of(job), "stop": beat.lost.is_set}
    return buckets.take(job, where, store, storage, **asked)


def _snapshotted(job: BackupJob, store: Store, storage: Storage, beat: Heartbeat, note: str) -> BackupSet:
    """Have the storage take it; the snapshot is released once its files are recorded, or by the sweep."""
    cleaning.remove_journaled(storage, job.attempt_key)
    found = snapshots.take(job, _reach(job), storage, journal=partial(_keep, job), stop=beat.lost.is_set)
    _keep(job)
    taken = replace(found.taken, notes=tuple(filter(None, [*found.taken.notes, note])))
    recorded = _record(job, store, found.stored, taken)
    snapshots.release(job)
    server_scripts.record_if_due(job.instance)
    return recorded


def _percent_of(job: BackupJob) -> Callable[[float], None]:
    """Return what writes down how far the server is, each whole percent once; whose job it is, others notice."""
    known: list[int] = []

    def tell(percent: float) -> None:
        if int(percent) not in known[-1:]:
            known.append(int(percent))
            renew(job, percent=known[-1])

    return tell


def _kept(job: BackupJob, store: Store, found: buckets.Found, note: str) -> BackupSet:
    _keep(job)
    taken = replace(found.taken, notes=tuple(filter(None, [*found.taken.notes, note])))
    recorded = _record(job, store, [Stored(one) for one in found.stored], taken)
    if recorded.kind == Kind.FULL:
        server_scripts.record_if_due(job.instance)
    return recorded


def _carried(job: BackupJob, store: Store, storage: Storage, beat: Heartbeat, note: str) -> BackupSet:
    take_it = _prepared(job)
    cleaning.remove_journaled(storage, job.attempt_key)
    job.attempt_key = layout.default_backup_key(job)
    _keep(job, attempt_key=job.attempt_key, upload_id="", sent_bytes=0, percent=None)
    job.upload_id = storage.create_upload(job.attempt_key)
    _keep(job, upload_id=job.upload_id)
    sent: list[mover.Part] = []
    flat: list[str] = []

    def consume(stream: Any) -> None:
        parts, digest = streams.store_stream(
            storage,
            job.attempt_key,
            stream,
            upload_id=job.upload_id,
            on_part=lambda part: _keep(job, sent_bytes=part.offset + part.size),
        )
        sent.extend(parts)
        flat.append(digest)

    taken = take_it(consume, stop=beat.lost.is_set)
    taken = replace(taken, notes=tuple(filter(None, [*taken.notes, note])))
    receipts = [PartReceipt(part.number, part.size, part.etag) for part in sent]
    _keep(job)
    stored = storage.complete_upload(job.attempt_key, job.upload_id, receipts)
    found = _record(job, store, [Stored(stored, sent, flat[0])], taken)
    if taken.shared:
        shares.remove(job.instance, taken.shared)  # only now that nothing can be lost any more
    if found.kind == Kind.FULL:
        server_scripts.record_if_due(job.instance)
    return found


def _prepared(job: BackupJob) -> Callable[..., TakenSet]:
    """Return the engine's verb for a job, its server and base found; raises Refusal before anything is begun."""
    engine, where = engine_of(job.instance.engine), _reach(job)
    if engine.capabilities.writes_to_a_share:
        return shares.taking(job, where, _percent_of(job))
    if job.kind == Kind.FULL:
        return partial(engine.take_full, where)
    return partial(engine.take_incremental, where, incrementals.base_for(job.instance, job.database))


def _reach(job: BackupJob) -> Connection:
    """Return how to reach the server that a job is taken of; a secondary only if it is this instance's own."""
    where = reaching.connection_of(job.instance, job.on)
    if job.on == BackupJob.On.SECONDARY:
        probe = engine_of(job.instance.engine).probe
        secondaries.require_own(probe(where), _identity_of_primary(job.instance))
    return where


def _identity_of_primary(instance: Instance) -> str:
    try:
        return engine_of(instance.engine).probe(reaching.connection_of(instance)).identity
    except Refusal:  # it may be down, which is no reason not to back up its secondary
        if known := secondaries.last_identity(instance):
            return known
        raise


def _keep(job: BackupJob, **changes: Any) -> None:
    if not renew(job, **changes):
        raise LeaseLost


def _record(job: BackupJob, store: Store, files: Sequence[Stored], taken: TakenSet) -> BackupSet:
    """Write the fact: files, set, finished job, in one transaction under the fence.

    What a server wrote by itself has no parts of ours.
    """
    size = sum(one.info.size for one in files)
    with transaction.atomic():
        if taken.facts.base_guid:  # a set before its instance, as weighing does
            incrementals.require_base(job.instance, taken.facts.base_guid)
        most = Greatest(F("data_bytes"), size)
        Instance.objects.filter(pk=job.instance_id).update(data_bytes=most)  # before the job, as everybody locks it
        is_done = taken.shared is None or shares.fits(job, taken.shared)
        at = _finish(job) if is_done else _begin_again(job)
        snapshots.require_kept(job)
        found = _new_set(job, taken, at)
        for sequence, one in enumerate(files, 1):
            file = _new_file(job, store, one.info, one.integrity(taken.outline), at)
            SetFile.objects.create(set=found, file=file, family_sequence=sequence)
        buckets.settle(files[0].info.key)
        if is_done:
            BackupJob.objects.filter(pk=job.pk).update(result=found)
        if not _is_of_many(job):
            said = " ".join([f"The backup {found} was taken.", *taken.notes])
            events.record("backup.taken", said, set=found, job=job.pk, bytes=size)
        bell.ring_planning()
        return found


def _begin_again(job: BackupJob) -> datetime:
    """What was carried on had been left by an earlier job: this one is still to do, at once, under another key."""
    bell.ring_backups(job.instance.region_id)
    again = {"state": State.QUEUED, "due_at": clock.now(), "attempts": 0, "attempt_key": "", "upload_id": ""}
    return _finish(job, finished_at=None, **again)


def _new_set(job: BackupJob, taken: TakenSet, at: datetime) -> BackupSet:
    began_at, ended_at = taken.times or (job.started_at, at)  # the database's clock
    return BackupSet.objects.create(
        instance=job.instance,
        database=taken.facts.database,
        kind=taken.facts.kind,
        method=taken.facts.method,
        origin="taken",
        status=SetStatus.SUCCEEDED,
        discovered_at=at,
        run_id=f"job-{job.pk}",
        **columns_of(taken.facts) | {"started_at": began_at, "finished_at": ended_at},
    )


def _new_file(job: BackupJob, store: Store, stored: ObjectInfo, integrity: dict[str, Any], at: datetime) -> BackupFile:
    return BackupFile.objects.create(
        instance=job.instance,
        store=store,
        key=stored.key,
        size=stored.size,
        etag=stored.etag,
        version=stored.version,
        modified_at=stored.modified_at,
        state=BackupFile.State.SETTLED,
        is_ours=True,
        integrity=integrity,
        first_seen_at=at,
        settled_at=at,
    )


def fail(job: BackupJob, why: str) -> None:
    """This attempt failed: try again later, or give up after several; the alert watch says that no backup arrives."""
    with transaction.atomic():
        at = clock.now()
        over = job.attempts >= MOST_ATTEMPTS
        won = BackupJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING).update(
            state=State.FAILED if over else State.QUEUED,
            error=why,
            leased_until=None,
            due_at=at + _pause_after(job),
            finished_at=at if over else None,
        )
        if won and (over or not _is_of_many(job)):
            events.record(
                "backup.failed", f"The backup of {job.instance.name} failed: {why}", instance=job.instance, job=job.pk
            )


def _pause_after(job: BackupJob) -> timedelta:
    """A log is tried again soon: the next one is due in a few minutes."""
    return timedelta(minutes=1 if job.kind == Kind.LOG else 2**job.attempts)


def regions_with_work() -> list[str]:
    at = clock.now()
    due = BackupJob.objects.filter(
        Q(leased_until=None) | Q(leased_until__lt=at), state__in=BackupJob.ACTIVE, due_at__lte=at
    )
    return list(due.values_list("instance__region", flat=True).distinct())
