"""Snapshot backups of Cluster Edition (R-7): the server suspends a database, the site's own hook has the storage take a
snapshot, the server records it and goes on; then the frozen files are carried into the region's store.

Everything that has to be undone is written down before it is done. Whoever finds a row that nobody works at any more
sees to it that writes go on, that the storage's snapshot is released, and that no object of it is left over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO

from django.conf import settings
from django.db.models import F, Q, QuerySet

from backups import cleaning, layout, presence
from backups.default_backups import frozen_files, shares, snapshot_hook
from backups.default_backups.taken_files import Stored, pour
from backups.engines import engine_of
from backups.engines.facts import Attempt, Connection, DatabaseFile, DatabaseOrder, Kind, SharedBackup, TakenSet
from backups.leases import LeaseLost
from backups.models import BackupFile, BackupJob, BackupMethod, Edition, Instance, StorageSnapshot
from backups.servers import reaching
from regions import clock
from regions.refusals import Refusal
from regions.storage import Storage, StorageError
from regions.storage.mover import Part
from regions.stores import store_of

log = logging.getLogger(__name__)
TRIES_APART = timedelta(seconds=60)
STUCK = timedelta(minutes=5)
LONG_OVER = timedelta(days=1)  # no session of a worker that is gone lives so long, and with it no suspension
Journal = Callable[..., None]


def are_taken_of(instance: Instance) -> bool:
    """Whether the fulls that Farshore takes of an instance are snapshots (R-7.1: Cluster Edition only)."""
    able = engine_of(instance.engine).capabilities
    is_wanted = instance.backup_method == BackupMethod.SNAPSHOT and instance.edition == Edition.CLUSTER
    return is_wanted and able.can_snapshot


def is_wanted(job: BackupJob) -> bool:
    """Logs and differentials stand on a snapshot as on any full; on a secondary a copy-only full is written as ever."""
    return job.kind == Kind.FULL and job.on == BackupJob.On.PRIMARY and are_taken_of(job.instance)


# ---- taking


@dataclass(frozen=True)
class Taken:
    """A snapshot backup that lies in the store: its metadata first, then the database's files by their numbers."""

    taken: TakenSet
    stored: tuple[Stored, ...]


@dataclass
class Taking:
    """One attempt. `journal(**changes)` writes to its job under the fence, and raises LeaseLost."""

    job: BackupJob
    row: StorageSnapshot
    storage: Storage
    journal: Journal
    stop: Callable[[], bool]
    files: tuple[DatabaseFile, ...] = ()
    where: dict[int, str] | None = None
    sent_bytes: int = 0

    def take(self, where: Connection) -> Taken:
        engine, share = engine_of(self.job.instance.engine), shares.share_of(self.job.instance)
        written = engine.snapshot_database(
            where,
            shares.order_of(self.job),
            share,
            journal=self._begin,
            freeze=self._freeze,
            thawed=lambda: _write(self.row, thawed_at=clock.now()),
            seconds=settings.SNAPSHOT_SECONDS,
            stop=self.stop,
        )
        times = shares.times_of(self.job, written, clock.now())
        stored = self._carry(written)
        return Taken(TakenSet(written.facts, written.notes, times=times, shared=written), stored)

    def _begin(self, metadata: str) -> None:
        self.journal()
        self.row.metadata, self.row.began_at = metadata, clock.now()
        self.row.save(force_insert=True)

    def _freeze(self, files: tuple[DatabaseFile, ...], seconds: float) -> None:
        self.files = files
        self._keep(hook_began_at=clock.now())
        self.where = snapshot_hook.take(asked_of(self.row), files, seconds, self.stop)
        frozen_files.check(self.where, files)
        self._keep()

    def _carry(self, written: SharedBackup) -> tuple[Stored, ...]:
        keys = layout.snapshot_keys(self.job, 1 + len(self.files))
        self._keep(key=keys[0])
        self.journal(attempt_key=keys[0], upload_id="", sent_bytes=0, percent=None)
        self.job.attempt_key = keys[0]
        with shares.reading(shares.share_of(self.job.instance), written) as stream:
            stored = [self._pour(keys[0], stream)]
        for key, file in zip(keys[1:], self.files, strict=True):
            with frozen_files.reading(self.where[file.file_id], file) as stream:
                stored.append(self._pour(key, stream))
                self._require_whole(stored[-1], file)
        self._keep()
        return tuple(stored)

    def _pour(self, key: str, stream: BinaryIO) -> Stored:
        return pour(self.storage, key, stream, began=lambda upload: self.journal(upload_id=upload), sent=self._sent)

    def _sent(self, part: Part) -> None:
        self.sent_bytes += part.size
        self.journal(sent_bytes=self.sent_bytes)

    def _require_whole(self, stored: Stored, file: DatabaseFile) -> None:
        if stored.info.size != file.size_bytes:
            raise Refusal("FrozenFileUnreadable", f"{file.logical_name} was cut short.", "See the snapshot hook.")

    def _keep(self, **changes: object) -> None:
        """Go on only while nobody has given this attempt up."""
        mine = StorageSnapshot.objects.filter(pk=self.row.pk, given_up_at=None)
        if not _won(mine, self.row, changes):
            raise LeaseLost


def take(job: BackupJob, where: Connection, storage: Storage, *, journal: Journal, stop: Callable[[], bool]) -> Taken:
    """Take the snapshot backup that a job asks for. When it fails nothing is left suspended, nor held by the storage,
    as far as that can be had now; what cannot, `settle_due` sees to. Raises Refusal, Stopped, LeaseLost, StorageError.
    """
    require_ready(job.instance)
    settle_former(job)
    row = StorageSnapshot(job=job, fence=job.fence, database=job.database)
    row.attempt = str(shares.order_of(job).attempt)
    row.handle = f"farshore-{job.instance.code}-{job.pk}-{job.fence}"
    try:
        return Taking(job, row, storage, journal, stop).take(where)
    except BaseException:
        if row.pk:
            # Somebody may have undone it already, before this worker, which was only slow, had the snapshot taken.
            again = {"released_at": None, "thawed_at": row.thawed_at}  # as far as this worker saw it
            StorageSnapshot.objects.filter(pk=row.pk, recorded_at=None).update(**again)
            with suppress(Refusal, StorageError):
                settle(row)
        raise


def require_ready(instance: Instance) -> None:
    """Raise Refusal before anything is suspended for nothing."""
    if not shares.is_known(instance):
        raise Refusal(
            "ShareMissing",
            f"Snapshot backups of {instance.name} take a share, for the metadata that its server writes.",
            "Enter the share.",
            "share_called",
        )
    shares.require_mounted(instance)
    snapshot_hook.require()


def require_kept(job: BackupJob) -> None:
    """In the transaction that records a job's backup: raise LeaseLost when its snapshot has been given up meanwhile."""
    rows = StorageSnapshot.objects.filter(job=job, fence=job.fence)
    if rows.exists() and not rows.filter(given_up_at=None).update(recorded_at=clock.now()):
        raise LeaseLost


def release(job: BackupJob) -> None:
    """Once it is recorded, let the storage release it; what fails now, `settle_due` tries again."""
    for row in _open().filter(job=job, fence=job.fence):
        with suppress(Refusal, StorageError):
            settle(row)


def asked_of(row: StorageSnapshot) -> snapshot_hook.Asked:
    return snapshot_hook.Asked(row.handle, row.job.instance.code, row.database)


def _write(row: StorageSnapshot, **changes: object) -> None:
    _won(StorageSnapshot.objects.filter(pk=row.pk), row, changes)


def _won(rows: QuerySet[StorageSnapshot], row: StorageSnapshot, changes: dict[str, object]) -> bool:
    won = bool(rows.update(**changes) if changes else rows.exists())
    for name, value in changes.items():
        setattr(row, name, value)
    return won


# ---- undoing it


def settle_former(job: BackupJob) -> None:
    """Undo what earlier attempts at this database left; raises Refusal where that cannot be done."""
    former = _open().filter(job__instance=job.instance, database=job.database).exclude(job=job, fence=job.fence)
    for row in former.filter(_is_nobodys(clock.now())):
        settle(row)


def settle(row: StorageSnapshot) -> None:
    """See that writes go on, that the snapshot is released and that nothing is left over. Safe to repeat, by anybody;
    raises Refusal or StorageError, and says so in the row."""
    StorageSnapshot.objects.filter(pk=row.pk, recorded_at=None, given_up_at=None).update(given_up_at=clock.now())
    _write(row, tried_at=clock.now())
    row.refresh_from_db()
    failed: list[Refusal | StorageError] = []
    for is_open, undo in ((row.thawed_at is None, _thaw), (row.released_at is None, _release)):
        try:
            if is_open:
                undo(row)
        except (Refusal, StorageError) as error:  # a server that does not answer holds up no storage
            failed.append(error)
    _write(row, error=" ".join(map(str, failed)))
    if failed:
        raise failed[0]


def _thaw(row: StorageSnapshot) -> None:
    """See that writes go on; the server of an instance that was released may be gone, and is not asked for ever."""
    instance = row.job.instance
    if instance.released and row.began_at < clock.now() - LONG_OVER:
        _write(row, thawed_at=clock.now())
        return
    attempt = Attempt.from_name(row.attempt)
    order = DatabaseOrder(row.database, Kind.FULL, copy_only=row.job.is_copy_only, attempt=attempt)
    where = reaching.connection_of(instance, row.job.on)
    engine_of(instance.engine).thaw_database(where, order)
    _write(row, thawed_at=clock.now())


def _release(row: StorageSnapshot) -> None:
    """What is left elsewhere first: as long as the row is open somebody comes back for it."""
    if not row.job.instance.released:  # then the share may be gone for good
        shares.require_mounted(row.job.instance)
    shares.remove_file(row.job.instance, row.metadata)
    if row.recorded_at is None and row.key:
        _clean(row)
    if row.hook_began_at:
        snapshot_hook.release(asked_of(row))
    _write(row, released_at=clock.now())


def _clean(row: StorageSnapshot) -> None:
    store = store_of(row.job.instance.region_id)
    storage = store.open()
    presence.require_ours(store, storage)  # another place would say politely that nothing is left there
    for key in layout.keys_of_attempt(row.key):
        if not BackupFile.objects.filter(key=key).exists():
            cleaning.remove_attempt(storage, key)


# ---- what nobody works at any more


def _open() -> QuerySet[StorageSnapshot]:
    rows = StorageSnapshot.objects.filter(Q(thawed_at=None) | Q(released_at=None))
    return rows.select_related("job__instance__region").order_by("pk")


def _is_nobodys(at: datetime) -> Q:
    return ~Q(job__state=BackupJob.State.RUNNING, job__fence=F("fence"), job__leased_until__gt=at)


def _due(at: datetime) -> QuerySet[StorageSnapshot]:
    """A server that does not answer takes its time: in between the region's worker has other things to do."""
    is_time = Q(tried_at=None) | Q(tried_at__lte=at - TRIES_APART)
    return _open().filter(is_time, _is_nobodys(at))


def settle_due(region_id: str) -> int:
    """Settle every attempt of a region that nobody works at any more; return how many were."""
    count = 0
    for row in _due(clock.now()).filter(job__instance__region=region_id):
        try:
            settle(row)
            count += 1
        except (Refusal, StorageError) as error:
            log.warning("snapshot not settled", extra={"snapshot": row.handle, "reason": str(error)})
        except Exception:  # with its traceback; the next one is somebody else's
            log.exception("snapshot not settled", extra={"snapshot": row.handle})
    return count


def regions_to_settle() -> list[str]:
    rows = _due(clock.now()).order_by()
    return list(rows.values_list("job__instance__region", flat=True).distinct())


def stuck(at: datetime) -> dict[str, dict]:
    """Return the alerts about what could not be undone, by subject."""
    rows = _open().filter(_is_nobodys(at), began_at__lt=at - STUCK)
    return {f"snapshot:{row.pk}": _words(row) for row in rows}


def _words(row: StorageSnapshot) -> dict:
    instance = row.job.instance
    said = f"The storage may still hold the snapshot {row.handle} of {instance.name}, {row.database}."
    if row.thawed_at is None:
        said = f"{row.database} of {instance.name} may still be suspended for a snapshot: its writes wait."
    remedy = row.error or f"Is a worker of {instance.region} running?"
    return {"sentence": said, "remedy": remedy, "instance": instance}
