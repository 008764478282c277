"""Default backups Farshore takes: asked for, taken by a worker of the source region, recorded (R-2.5, R-6).

The row is the job; whoever claims it holds a lease and renews it while the engine's own tool streams into the store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest

from backups import (
    bell,
    cleaning,
    events,
    incrementals,
    layout,
    presence,
    reaching,
    secondaries,
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
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import ObjectInfo, PartReceipt, StorageError, mover, streams
from regions.stores import store_of

log = logging.getLogger(__name__)
DAY = timedelta(days=1)
MOST_ATTEMPTS = 5
State = BackupJob.State


# ---- asking


def can_take(instance: Instance) -> bool:
    """Whether Farshore itself can back this instance up now."""
    engine = engine_of(instance.engine)
    return instance.arrival == Arrival.TAKEN and engine.capabilities.takes_backups and not instance.released


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
    """
    if instance.released:
        raise Refusal("ProductInstanceReleased", "The instance has been released.", "")
    if not can_take(instance):
        raise Refusal(
            "BackupNotTaken",
            "Farshore does not take backups of this instance; it copies the files it finds.",
            "Run the backup job on the server itself.",
        )
    if on == BackupJob.On.SECONDARY:
        secondaries.require_one(instance)
    if kind != Kind.FULL and not incrementals.are_taken_of(instance):
        raise Refusal(
            "IncrementalNotTaken", f"No incrementals are taken of {instance.name}.", "Ask for a full backup.", "kind"
        )
    wanted = BackupJob(instance=instance, database=database, reason=reason, on=on, kind=kind)
    for _ in range(3):
        try:
            return _queue(wanted, by)
        except IntegrityError:  # asked for twice: the one that is active serves both, unless it ended just now
            if active := _serving(wanted):
                return active
    raise Refusal("BackupBusy", "Backups of this instance begin and end too quickly to add one.", "Ask again.")


def side_for_logs(instance: Instance) -> str:
    """Return where a backup is taken that logs are to follow: the primary is left alone where it can be (R-9.1, R-9.2).

    Basic Edition has no secondary; of other editions none may have been named.
    """
    has_secondary = instance.edition != Edition.BASIC and bool(instance.secondary_host)
    return BackupJob.On.SECONDARY if has_secondary else BackupJob.On.PRIMARY


def _queue(job: BackupJob, by: By) -> BackupJob:
    job.pk, job.asked_by, job.asked_at = None, by.user, clock.now()
    job.due_at = job.asked_at
    with transaction.atomic():
        job.save(force_insert=True)
        said = f"{_called(job)} was asked for: {job.get_reason_display().lower()}."
        events.record("backup.asked", said, by=by, instance=job.instance, job=job.pk)
        bell.ring_backups(job.instance.region_id)
        return job


def _called(job: BackupJob) -> str:
    able = engine_of(job.instance.engine).capabilities
    word = "A full backup" if job.kind == Kind.FULL else f"A backup ({able.differential_label.lower()})"
    return f"{word} of the secondary" if job.on == BackupJob.On.SECONDARY else word


def _serving(wanted: BackupJob) -> BackupJob | None:
    """Return the active backup that serves what is wanted; nobody waits for an incremental who asked for a full."""
    active = BackupJob.objects.filter(
        instance=wanted.instance, database=wanted.database, state__in=BackupJob.ACTIVE
    ).select_related("instance")
    if wanted.kind == Kind.FULL:
        active.filter(state=State.QUEUED).update(kind=Kind.FULL)
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
            ask(instance, FARSHORE, reason="timetable", kind=incrementals.kind_due(instance, at))
            count += 1
        Instance.objects.filter(pk=instance.pk, next_backup_at=due).update(next_backup_at=following or at + 7 * DAY)
    return count


# ---- taking


def claim(region_id: str) -> BackupJob | None:
    """Take the next due job of a region, under a new fence and a lease."""
    with transaction.atomic():
        at = clock.now()
        job = (
            BackupJob.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(
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


def take(job: BackupJob) -> BackupSet | None:
    """Take a claimed backup, from its beginning to its record; None when the lease was lost. Failures are written."""
    beat = Heartbeat(job)
    beat.start()
    try:
        return _take(job, beat)
    except (LeaseLost, Stopped):
        return None
    except (Refusal, StorageError) as error:
        fail(job, str(error))
        return None
    finally:
        beat.end()


def _take(job: BackupJob, beat: Heartbeat) -> BackupSet:
    """Take what was asked for; a full where an incremental cannot be had, and say so."""
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
    take_it = _prepared(job)
    store = store_of(job.instance.region_id)
    storage = store.open()
    presence.require_ours(store, storage)
    if job.attempt_key:
        cleaning.remove_attempt(storage, job.attempt_key)
    job.attempt_key = layout.default_backup_key(job)
    _keep(job, attempt_key=job.attempt_key, upload_id="", sent_bytes=0)
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
    return _record(job, store, stored, taken, sent, flat[0])


def _prepared(job: BackupJob) -> Callable[..., TakenSet]:
    """Return the engine's verb for a job, its server and base found; raises Refusal before anything is begun."""
    engine, where = engine_of(job.instance.engine), _reach(job)
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


def _record(
    job: BackupJob, store: Store, stored: ObjectInfo, taken: TakenSet, parts: list[mover.Part], flat: str
) -> BackupSet:
    """Write the fact: file, set, finished job, in one transaction under the fence."""
    with transaction.atomic():
        if taken.facts.base_guid:  # a set before its instance, as weighing does
            incrementals.require_base(job.instance, taken.facts.base_guid)
        size = Greatest(F("data_bytes"), stored.size)
        Instance.objects.filter(pk=job.instance_id).update(data_bytes=size)  # before the job, as everybody locks it
        at = clock.now()
        won = BackupJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING).update(
            state=State.SUCCEEDED, finished_at=at, leased_until=None, error=""
        )
        if not won:
            raise LeaseLost
        found = _new_set(job, taken, at)
        integrity = _integrity(taken, parts, flat)
        SetFile.objects.create(set=found, file=_new_file(job, store, stored, integrity, at))
        BackupJob.objects.filter(pk=job.pk).update(result=found)
        said = " ".join([f"The backup {found} was taken.", *taken.notes])
        events.record("backup.taken", said, set=found, job=job.pk, bytes=stored.size)
        bell.ring_planning()
        return found


def _new_set(job: BackupJob, taken: TakenSet, at: datetime) -> BackupSet:
    return BackupSet.objects.create(
        instance=job.instance,
        database=taken.facts.database,
        kind=taken.facts.kind,
        method=taken.facts.method,
        origin="taken",
        status=SetStatus.SUCCEEDED,
        discovered_at=at,
        run_id=f"job-{job.pk}",
        **columns_of(taken.facts) | {"started_at": job.started_at, "finished_at": at},  # the database's clock
    )


def _integrity(taken: TakenSet, parts: list[mover.Part], flat: str) -> dict[str, Any]:
    found: dict[str, Any] = {"parts": [[part.size, part.sha256] for part in parts], "sha256": flat}
    if taken.outline:
        found["outline"] = [taken.outline.offset, taken.outline.length, taken.outline.sha256]
    return found


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
            due_at=at + timedelta(minutes=2**job.attempts),
            finished_at=at if over else None,
        )
        if won:
            events.record(
                "backup.failed", f"The backup of {job.instance.name} failed: {why}", instance=job.instance, job=job.pk
            )


def regions_with_work() -> list[str]:
    at = clock.now()
    due = BackupJob.objects.filter(
        Q(leased_until=None) | Q(leased_until__lt=at), state__in=BackupJob.ACTIVE, due_at__lte=at
    )
    return list(due.values_list("instance__region", flat=True).distinct())
