"""A claimed backup is taken, from its beginning to its record, by a worker of the source region."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from django.db import DataError, transaction
from django.db.models import Q

from backups import cleaning, events, layout, presence
from backups.default_backups import buckets, incrementals, per_database, recording, shares, snapshots, waiting
from backups.default_backups.asking import ask, can_take, why_not_taken
from backups.default_backups.jobs import LOGS, Heartbeat, claim, fail, finish, keep, renew
from backups.default_backups.taken_files import Stored
from backups.engines import engine_of
from backups.engines.facts import Connection, FullNeeded, Stopped, TakenSet
from backups.events import By
from backups.leases import LeaseLost
from backups.models import BackupJob, BackupSet, Instance, Kind
from backups.servers import reaching, secondaries, server_scripts
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import PartReceipt, Storage, StorageError, mover, streams
from regions.stores import store_of

log = logging.getLogger(__name__)


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
    if waiting.is_spared(job) or waiting.has_to_wait(job, _reach):
        return None
    try:
        return attempt(job, beat)
    except FullNeeded as why:
        note = f"No incremental could be taken, so this is a full: {why}"
        _become_full(job, note)
        return attempt(job, beat, note)


def _ask_for_each(job: BackupJob) -> None:
    """Look at the server's databases, and ask for a backup of each that can be backed up; that ends the job."""
    if shares.is_known(job.instance):
        shares.require_mounted(job.instance)
    wanted = per_database.wanted(job)
    with transaction.atomic():
        for database, kind in wanted:
            ask(job.instance, By(job.asked_by), database=database, reason=job.reason, on=job.on, kind=kind)
        finish(job)


def _become_full(job: BackupJob, note: str) -> None:
    with transaction.atomic():
        keep(job, kind=Kind.FULL)
        events.record("backup.full_instead", f"{job.instance.name}: {note}", instance=job.instance, job=job.pk)
    job.kind = Kind.FULL


def attempt(job: BackupJob, beat: Heartbeat, note: str = "") -> BackupSet:
    """Carry on what a server had written for an earlier attempt; where there is nothing, take what is asked for."""
    store = store_of(job.instance.region_id)
    storage = store.open()
    presence.require_ours(store, storage)
    if shares.is_needed(job.instance) and (found := buckets.carried_on(job, store, storage, renew=partial(keep, job))):
        return _kept(job, store, found, note)
    if snapshots.is_wanted(job):
        return _snapshotted(job, store, storage, beat, note)
    if shares.is_needed(job.instance) and not shares.is_known(job.instance):
        return _kept(job, store, _written(job, store, storage, beat), note)
    return _carried(job, store, storage, beat, note)


# ---- the ways a backup comes


def _written(job: BackupJob, store: Store, storage: Storage, beat: Heartbeat) -> buckets.Found:
    """Let the server write into the store by itself."""
    if not can_take(job.instance):
        raise why_not_taken(job.instance)
    where = _reach(job)
    cleaning.remove_journaled(storage, job.attempt_key)  # of the days when the bytes went through a worker
    asked = {"journal": partial(keep, job), "progress": _percent_of(job), "stop": beat.lost.is_set}
    return buckets.take(job, where, store, storage, **asked)


def _snapshotted(job: BackupJob, store: Store, storage: Storage, beat: Heartbeat, note: str) -> BackupSet:
    """Have the storage take it; the snapshot is released once its files are recorded, or by the sweep."""
    cleaning.remove_journaled(storage, job.attempt_key)
    found = snapshots.take(job, _reach(job), storage, journal=partial(keep, job), stop=beat.lost.is_set)
    keep(job)
    taken = replace(found.taken, notes=tuple(filter(None, [*found.taken.notes, note])))
    recorded = recording.record(job, store, found.stored, taken)
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
    keep(job)
    taken = replace(found.taken, notes=tuple(filter(None, [*found.taken.notes, note])))
    recorded = recording.record(job, store, [Stored(one) for one in found.stored], taken)
    if recorded.kind == Kind.FULL:
        server_scripts.record_if_due(job.instance)
    return recorded


def _carried(job: BackupJob, store: Store, storage: Storage, beat: Heartbeat, note: str) -> BackupSet:
    take_it = _prepared(job)
    cleaning.remove_journaled(storage, job.attempt_key)
    job.attempt_key = layout.default_backup_key(job)
    keep(job, attempt_key=job.attempt_key, upload_id="", sent_bytes=0, percent=None)
    job.upload_id = storage.create_upload(job.attempt_key)
    keep(job, upload_id=job.upload_id)
    sent: list[mover.Part] = []
    flat: list[str] = []

    def consume(stream: Any) -> None:
        parts, digest = streams.store_stream(
            storage,
            job.attempt_key,
            stream,
            upload_id=job.upload_id,
            on_part=lambda part: keep(job, sent_bytes=part.offset + part.size),
        )
        sent.extend(parts)
        flat.append(digest)

    taken = take_it(consume, stop=beat.lost.is_set)
    taken = replace(taken, notes=tuple(filter(None, [*taken.notes, note])))
    receipts = [PartReceipt(part.number, part.size, part.etag) for part in sent]
    keep(job)
    stored = storage.complete_upload(job.attempt_key, job.upload_id, receipts)
    found = recording.record(job, store, [Stored(stored, sent, flat[0])], taken)
    if taken.shared:
        shares.remove(job.instance, taken.shared)  # only now that nothing can be lost any more
    if found.kind == Kind.FULL:
        server_scripts.record_if_due(job.instance)
    return found


# ---- what is taken of whom


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
