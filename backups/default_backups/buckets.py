"""The bucket that an instance's server writes to by itself: the store of its region, where that is S3 and no share is
named. What was written is recorded where it lies; see docs/decisions/0079.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from django.conf import settings

from backups import cleaning, layout
from backups.default_backups import incrementals, shares
from backups.engines import engine_of
from backups.engines.facts import Bucket, Connection, DatabaseOrder, FullNeeded, Kind, ReadAt, SharedBackup, TakenSet
from backups.layout import Written
from backups.models import BackupFile, BackupJob, BackupSet, Instance
from backups.servers import reaching
from regions import clock
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import Gone, ObjectInfo, Storage, StorageError
from regions.storage.patience import patiently
from regions.storage.s3_signing import Bucket as Place

log = logging.getLogger(__name__)
WRITABLE = re.compile(r"[A-Za-z0-9._/-]*")
ENDED = (BackupJob.State.FAILED, BackupJob.State.CANCELLED)


# ---- what may be one


def is_known(instance: Instance) -> bool:
    """Whether the instance's server can write straight into its region's store."""
    store = _store_for(instance)
    return store is not None and _why_not(store) is None


def why_not(instance: Instance) -> Refusal | None:
    """Return why the store cannot be written to by the server; None where it can, or where there is none for that."""
    store = _store_for(instance)
    return _why_not(store) if store else None


def _store_for(instance: Instance) -> Store | None:
    able = engine_of(instance.engine).capabilities
    has_share = instance.share_called or instance.share_folder
    if not instance.host or has_share or not able.writes_to_buckets(instance.engine_version):
        return None
    store = Store.objects.attached().filter(region=instance.region_id, role=Store.Role.PRIMARY).first()
    return store if store and _is_bucket(store) else None


def _is_bucket(store: Store) -> bool:
    return store.url.startswith("s3:")


def _why_not(store: Store) -> Refusal | None:
    if urlsplit(store.options.get("endpoint") or "").scheme == "http" and not settings.FARSHORE_ALLOW_LOOPBACK:
        return Refusal(
            "StoreNotHttps",
            f"The store of {store.region_id} is reached by plain http, over which no server writes backups.",
            "Give the store's endpoint https, with a certificate that the server trusts, or name a share.",
        )
    if not WRITABLE.fullmatch(urlsplit(store.url).path):
        return Refusal(
            "BadAddressForServer",
            f"The prefix of {store.url} has characters that the server's address of a backup cannot have.",
            "Attach the bucket under a prefix of letters and digits, or name a share.",
        )
    return None


def bucket_of(store: Store) -> Bucket:
    """Return the store as a server is told of it; raises Refusal when its key cannot be handed to one."""
    options = store.storage_options()
    place = Place.of(options)
    key_id, secret, token = place.credentials.access_key, place.credentials.secret_key, place.credentials.token
    if token or ":" in key_id:
        raise Refusal(
            "BadKeyForServer",
            f"The key of the store of {store.region_id} is a temporary one, or has a colon: a server cannot use it.",
            "Give the store an access key of its own, or name a share.",
        )
    storage, prefix = store.open(), urlsplit(store.url).path.strip("/")
    address = re.sub("^https?:", "s3:", place.url)
    return Bucket(
        address,
        key_id,
        secret,
        look=partial(_look, storage),
        prefix=f"{prefix}/" if prefix else "",
        region=options.options.get("region") or "",
    )


def _look(storage: Storage, key: str) -> tuple[ReadAt, int] | None:
    try:
        found = patiently(partial(storage.head, key))
    except Gone:
        return None
    return lambda offset, length: patiently(partial(_read, storage, found, offset, length)), found.size


def _read(storage: Storage, found: ObjectInfo, offset: int, length: int) -> bytes:
    buffer, filled = memoryview(bytearray(length)), 0
    with storage.open_range(found.key, offset, length, found) as stream:
        while filled < length and (count := stream.readinto(buffer[filled:])):
            filled += count
    if filled != length:
        raise StorageError(f"The store gave {filled} of {length} bytes.", retry=True, code="ShortRead")
    return bytes(buffer)


# ---- taking


@dataclass(frozen=True)
class Found:
    """A backup that lies in the store, written by the server: what it is, and its objects."""

    taken: TakenSet
    stored: tuple[ObjectInfo, ...]


def take(
    job: BackupJob,
    where: Connection,
    store: Store,
    storage: Storage,
    *,
    journal: Callable[..., None],
    progress: Callable[[float], None],
    stop: Callable[[], bool],
) -> Found:
    """Let the server write what a job asks for; raises as the engine's verb does.

    An attempt that came to nothing is cleaned at once; where that is not certain, its key stays journaled.
    """
    bucket = bucket_of(store)

    def place(stripes: int) -> tuple[str, ...]:
        keys = layout.written_keys(job, stripes)
        journal(attempt_key=keys[0], upload_id="", sent_bytes=0, percent=None)
        job.attempt_key = keys[0]
        return keys

    try:
        order = shares.order_of(job)
        write = engine_of(job.instance.engine).write_database
        written = write(where, order, bucket, place=place, progress=progress, stop=stop)
        return _found(job, written, storage)
    except FullNeeded:
        raise
    except BaseException:
        if Written.of(job.attempt_key):
            with suppress(Refusal, StorageError):
                _look_for(job, store, storage, bucket)
        raise


def carried_on(job: BackupJob, store: Store, storage: Storage, *, renew: Callable[[], None]) -> Found | None:
    """Return the oldest backup of the job's database (logs, or fulls and differentials) that a server ended for an
    earlier attempt and nobody has recorded; None where there is none, and nothing is left of those attempts.

    Raises Refusal or StorageError while that is not certain: no log is taken behind one that may have been ended.
    """
    former = list(_former(job)) if _is_bucket(store) else []
    bucket = bucket_of(store) if former else None
    for one in former:
        renew()
        if written := _look_for(one, store, storage, bucket):
            with suppress(FullNeeded):
                return _found(job, written, storage)
    return None


def _former(job: BackupJob) -> Iterator[BackupJob]:
    """Yield the jobs of earlier attempts, this one among them, the oldest attempt first."""
    others = BackupJob.objects.filter(instance=job.instance, database=job.database, state__in=ENDED)
    others = others.filter(attempt_key__contains=f"/{layout.WRITTEN}/").exclude(pk=job.pk).select_related("instance")
    kept = [one for one in (*others, job) if Written.of(one.attempt_key)]
    same = [one for one in kept if (one.kind == Kind.LOG) == (job.kind == Kind.LOG)]
    return iter(sorted(same, key=lambda one: (Written.of(one.attempt_key).attempt.began_at, one.pk)))


def _look_for(job: BackupJob, store: Store, storage: Storage, bucket: Bucket) -> SharedBackup | None:
    """Return what the job's last attempt left whole; what came to nothing is removed, and forgotten."""
    left = Written.of(job.attempt_key)
    if BackupFile.objects.filter(store=store, key__in=left.keys).exists():
        _forget(job, left.keys)  # it was recorded: it is the backup itself that lies there
        return None
    found = engine_of(job.instance.engine).find_written(
        partial(reaching.connection_of, job.instance, job.on),
        DatabaseOrder(job.database, _kind_of(job, left), attempt=left.attempt),
        left.keys,
        bucket,
        end_uploads=partial(_end_uploads, storage, left.keys),
    )
    if found and BackupSet.objects.filter(instance=job.instance, set_guid=found.facts.set_guid).exists():
        _forget(job, left.keys)
        return None
    if found is None:
        _remove(job, storage, left.keys)
    return found


def _kind_of(job: BackupJob, left: Written) -> Kind:
    """Of the attempt: the job may have become a full since."""
    endings = engine_of(job.instance.engine).capabilities.endings_by_kind
    return next(Kind(kind) for kind, ending in endings.items() if ending == left.ending)


def _end_uploads(storage: Storage, keys: tuple[str, ...]) -> None:
    for key in keys:
        cleaning.abort_uploads(storage, key)


def _remove(job: BackupJob, storage: Storage, keys: tuple[str, ...]) -> None:
    for key in keys:
        cleaning.remove_attempt(storage, key)
    _forget(job, keys)


def _forget(job: BackupJob, keys: tuple[str, ...]) -> None:
    """Nothing of this attempt is open any more; its keys are no other's, so that no fence is needed."""
    BackupJob.objects.filter(attempt_key=keys[0]).exclude(state=BackupJob.State.SUCCEEDED).update(attempt_key="")
    if job.attempt_key == keys[0]:
        job.attempt_key = ""


def _found(job: BackupJob, written: SharedBackup, storage: Storage) -> Found:
    _require_base(job, written, storage)
    stored = tuple(patiently(partial(storage.head, key)) for key in written.files)
    times = shares.times_of(job, written, clock.now())
    return Found(TakenSet(written.facts, written.notes, times=times, shared=written), stored)


def _require_base(job: BackupJob, written: SharedBackup, storage: Storage) -> None:
    """A differential on a full that somebody else took and that is not here cannot be restored: it is not kept."""
    facts = written.facts
    if facts.kind == Kind.DIFFERENTIAL and not incrementals.has_base(job.instance, facts.base_guid):
        _remove(job, storage, written.files)
        raise FullNeeded("BaseElsewhere", "The full that the server has as its base is not among these backups.")


def settle(key: str) -> None:
    """In the transaction that records what an attempt left: whichever job that was is done with it."""
    BackupJob.objects.filter(attempt_key=key, state__in=ENDED).update(attempt_key="")
