"""Our own database, dumped nightly into a store, sealed with the key ring: bills, agreements, events, credentials.

What a store's manifests cannot bring back. A dump is read back and opened to its last byte before it counts as kept.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, time, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce

from backups import cleaning, events, layout, presence, seals
from backups.events import FARSHORE, By
from backups.models import Copy, SelfBackup
from backups.self_recovery import own_tools
from backups.timetable import last_slot
from regions import clock
from regions.models import Installation, Store
from regions.refusals import Refusal
from regions.sealed_streams import Opening, Sealing
from regions.storage import ObjectInfo, PartReceipt, Storage, StorageError, streams
from regions.storage.mover import Part
from regions.storage.reading import reader
from regions.stores import store_of

FORMAT = "farshore-self/1"
NIGHTLY = time(1, 30)  # UTC
OLD = timedelta(hours=26)
KEPT_DUMPS = 7
LOCK = 730_004
LEFT_OUT = ("django_session", "console_cache")  # who is signed in, and what can be worked out again
State = SelfBackup.State


# ---- when, and where to


def is_due(at: datetime) -> bool:
    """Whether the hour of the night has come since the newest dump; at once where there is none."""
    newest = _newest()
    slot = last_slot(list(range(7)), NIGHTLY, at)
    return Store.objects.attached().exists() and (newest is None or (slot is not None and newest.began_at < slot))


def too_old(at: datetime) -> dict[str, dict]:
    """Return the alert there should be, as `alerts.keep` takes it."""
    newest, since = _newest(), at - OLD
    if not Store.objects.attached().filter(attached_at__lte=since).exists() or (newest and newest.began_at > since):
        return {}
    said = f"is of {newest.began_at:%Y-%m-%d %H:%M} UTC" if newest else "does not exist"
    failed = SelfBackup.objects.filter(state=State.FAILED).order_by("-began_at").first()
    return {
        "installation": {
            "sentence": f"The newest dump of Farshore's own database {said}: bills, agreements and history since"
            " would be lost with it.",
            "remedy": f"The last attempt said: {failed.error}" if failed else "Run manage.py backup_self.",
        }
    }


def _newest() -> SelfBackup | None:
    return SelfBackup.objects.filter(state=State.KEPT).order_by("-began_at").first()


def chosen_store(region_id: str = "") -> Store:
    """Return the store of the region named, else of SELF_BACKUP_REGION, else the one that keeps most copies.

    Who has lost the other places goes there anyway. Of those that keep as many, the first one attached that is there.
    """
    if named := region_id or settings.SELF_BACKUP_REGION:
        return store_of(named)
    kept = Copy.objects.present().filter(destination_store=OuterRef("pk")).order_by().values("destination_store")
    number = Coalesce(Subquery(kept.annotate(number=Count("pk")).values("number")), 0)
    attached = (
        Store.objects.attached()
        .filter(role=Store.Role.PRIMARY)
        .annotate(kept=number)
        .order_by("-kept", "attached_at", "pk")
    )
    store = attached.filter(state=Store.State.OK).first() or attached.first()
    if store is None:
        raise Refusal("StoreMissing", "No store is attached.", "Attach one on the Stores page.")
    return store


# ---- taking it


def take(by: By = FARSHORE, region_id: str = "") -> SelfBackup:
    """Dump our own database into a store; raises Refusal, and then the row says why. One at a time."""
    with _alone():
        store = chosen_store(region_id)
        SelfBackup.objects.filter(state=State.TAKING).update(state=State.FAILED, error="It was interrupted.")
        seals.seal_events(everything=True)
        at = clock.now()
        row = SelfBackup.objects.create(store=store, key=layout.self_backup_key(at), began_at=at)
        try:
            _take(row, store.open(), by)
        except (Refusal, StorageError, OSError) as error:
            why = error.sentence if isinstance(error, StorageError) else str(error)
            SelfBackup.objects.filter(pk=row.pk).update(state=State.FAILED, error=why, finished_at=clock.now())
            raise error if isinstance(error, Refusal) else Refusal("SelfBackupFailed", why, "Try again.") from error
        finally:
            _tidy()
    row.refresh_from_db()
    return row


@contextmanager
def _alone() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            raise Refusal("SelfBackupRunning", "A dump is being taken in this moment.", "Wait until it is done.")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _take(row: SelfBackup, storage: Storage, by: By) -> None:
    presence.require_ours(row.store, storage)
    stored, parts = _send(row, storage)
    with Opening(reader(storage, stored, parts), row.key) as opened:
        while opened.read(1 << 20):
            pass
    sequence, digest = seals.head()
    document = {
        "format": FORMAT,
        "installation": str(Installation.current().uuid),
        "began_at": row.began_at.isoformat(),
        "key": stored.key,
        "size": stored.size,
        "etag": stored.etag,
        "version": stored.version,
        "parts": [[part.number, part.size, part.sha256] for part in parts],
        "sealed_events": {"sequence": sequence, "hash": digest},
    }
    storage.put(manifest_key(row.key), json.dumps(document, sort_keys=True, indent=1).encode())
    SelfBackup.objects.filter(pk=row.pk).update(state=State.KEPT, size=stored.size, finished_at=clock.now())
    said = f"Farshore's own database was dumped into the store of {row.store.region}."
    events.record("self.kept", said, by=by, dump=row.pk, bytes=stored.size)


def _send(row: SelfBackup, storage: Storage) -> tuple[ObjectInfo, list[Part]]:
    """Stream pg_dump's output, sealed, into the store; it counts only when the program ended well."""
    left_out = [f"--exclude-table-data={table}" for table in LEFT_OUT]
    upload_id = storage.create_upload(row.key)
    with tempfile.TemporaryFile() as words:
        dump = own_tools.start(
            "pg_dump",
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            *left_out,
            stdout=subprocess.PIPE,
            stderr=words,
        )
        try:
            sealed = Sealing(dump.stdout, row.key)
            parts, _ = streams.store_stream(storage, row.key, sealed, upload_id=upload_id, on_part=lambda part: None)
        except BaseException:
            dump.kill()
            raise
        finally:
            dump.stdout.close()
            dump.wait()
        if dump.returncode:
            words.seek(0)
            said = words.read()[-500:].decode(errors="replace").strip()
            raise Refusal("SelfBackupFailed", f"pg_dump failed: {said}", "Correct this and try again.")
    receipts = [PartReceipt(part.number, part.size, part.etag) for part in parts]
    return storage.complete_upload(row.key, upload_id, receipts), parts


def manifest_key(key: str) -> str:
    return f"{key.removesuffix('.dump.enc')}.json"


# ---- keeping a few


def _tidy() -> None:
    """Delete what is older than the newest few, and what failed attempts left; a store that is away waits."""
    kept = SelfBackup.objects.filter(state=State.KEPT).order_by("-began_at").values_list("pk", flat=True)[:KEPT_DUMPS]
    SelfBackup.objects.filter(state=State.KEPT).exclude(pk__in=list(kept)).update(state=State.DELETED)
    over = SelfBackup.objects.filter(state__in=(State.FAILED, State.DELETED), cleaned_at=None)
    for row in over.filter(store__detached_at=None).select_related("store__region"):
        try:
            storage = row.store.open()
            presence.require_ours(row.store, storage)
            storage.delete(manifest_key(row.key))
            cleaning.remove_attempt(storage, row.key)
        except StorageError:
            continue
        SelfBackup.objects.filter(pk=row.pk).update(cleaned_at=clock.now())
