"""One received piece of log on its way into the store of its own region: a default backup of kind log, that is ours.

The file's row is written before the first byte and settled with the set, under the stream's fence: a kill anywhere
leaves a row by which the object is found and removed, and a repeated delivery makes no second set (R-5.2, I2, I15).
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from django.db import transaction

from backups import alerts, bell, cleaning, layout, presence
from backups.engines.facts import LogPiece
from backups.facts_of_sets import columns_of
from backups.leases import LeaseLost
from backups.logs.log_receiving.claims import mine
from backups.models import BackupFile, BackupSet, Instance, LogStream, SetFile, SetStatus
from regions import clock
from regions.models import Store
from regions.storage import ObjectInfo, PartReceipt, Storage, streams
from regions.stores import store_of

AT_ONCE = threading.BoundedSemaphore(2)  # uploads of one process: each may hold three parts in memory
SMALL_BYTES = 4 << 20
Integrity = dict[str, Any]


def deliver(stream: LogStream, piece: LogPiece) -> None:
    """Store one piece and record it; raises StorageError, Refusal, or LeaseLost when the stream is no longer ours."""
    instance = stream.instance
    if BackupSet.objects.filter(instance=instance, set_guid=piece.facts.set_guid).exists():
        return
    store, storage = remove_unfinished(instance)
    with AT_ONCE:
        file = _journal(stream, store, piece)
        stored, integrity = _upload(storage, file.key, piece)
        try:
            _record(stream, file, stored, integrity, piece)
        except LeaseLost:
            cleaning.remove_attempt(storage, file.key)
            raise


def remove_unfinished(instance: Instance) -> tuple[Store, Storage]:
    """Remove what deliveries left that came to nothing, and return the store, which is ours and there.

    Only one goes on at a time, so all that is not finished is over.
    """
    store = store_of(instance.region_id)
    storage = store.open()
    presence.require_ours(store, storage)
    for file in BackupFile.objects.filter(instance=instance, store=store, is_ours=True, state=BackupFile.State.SEEN):
        cleaning.remove_attempt(storage, file.key)
        BackupFile.objects.filter(pk=file.pk, state=BackupFile.State.SEEN).update(
            state=BackupFile.State.DELETED, ended_at=clock.now()
        )
    return store, storage


def _journal(stream: LogStream, store: Store, piece: LogPiece) -> BackupFile:
    if not mine(stream).exists():
        raise LeaseLost
    at = clock.now()
    return BackupFile.objects.create(
        instance=stream.instance,
        store=store,
        key=layout.log_key(stream, piece),
        size=piece.path.stat().st_size,
        modified_at=at,
        first_seen_at=at,
        is_ours=True,
    )


def _upload(storage: Storage, key: str, piece: LogPiece) -> tuple[ObjectInfo, Integrity]:
    if piece.path.stat().st_size <= SMALL_BYTES:
        body = piece.path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()
        return storage.put(key, body), {"parts": [[len(body), digest]], "sha256": digest}
    upload_id = storage.create_upload(key)
    with open(piece.path, "rb") as pipe:
        parts, digest = streams.store_stream(storage, key, pipe, upload_id=upload_id, on_part=lambda part: None)
    receipts = [PartReceipt(part.number, part.size, part.etag) for part in parts]
    stored = storage.complete_upload(key, upload_id, receipts)
    return stored, {"parts": [[part.size, part.sha256] for part in parts], "sha256": digest}


def _record(stream: LogStream, file: BackupFile, stored: ObjectInfo, integrity: Integrity, piece: LogPiece) -> None:
    """Write the fact: file, set, how far the stream is, in one transaction under the fence."""
    facts, instance = piece.facts, stream.instance
    with transaction.atomic():
        at = clock.now()
        reached = {"position": facts.last_position, "fork": facts.fork, "heard_at": facts.finished_at}
        if not mine(stream).update(**reached, failures=0, error=""):
            raise LeaseLost
        BackupFile.objects.filter(pk=file.pk).update(
            size=stored.size,
            etag=stored.etag,
            version=stored.version,
            modified_at=stored.modified_at,
            integrity=integrity,
            state=BackupFile.State.SETTLED,
            settled_at=at,
        )
        found = BackupSet.objects.create(
            instance=instance,
            database=facts.database,
            kind=facts.kind,
            method=facts.method,
            origin="taken",
            status=SetStatus.SUCCEEDED,
            discovered_at=at,
            **columns_of(facts),
        )
        SetFile.objects.create(set=found, file=file)
        alerts.close_alert("logs_lost", f"instance:{instance.pk}")  # the gap, if there is one, is told with its limits
        bell.ring_planning()
