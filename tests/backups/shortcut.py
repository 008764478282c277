"""The far side of the wire in memory, so that a model can take thousands of steps.

Only two things are replaced: the stores, and the moving of bytes between them. Planning, claiming, committing, dating,
expiring and deleting are the real ones, on the real database.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from backups import layout, presence
from backups.copying import carrying
from backups.models import BackupFile, CopiedFile, Copy, Transfer
from regions import clock
from regions.models import Store
from regions.storage import Gone, ObjectInfo
from regions.storage.filesystem import FolderStorage


class MemoryStorage:
    """One store's objects by key; the verbs that committing and deleting use.

    `lock_for`: how long what comes from now on is locked, as a bucket's default retention says it.
    """

    def __init__(self) -> None:
        self.objects: dict[str, ObjectInfo] = {}
        self.lock_for: timedelta | None = None

    def put(self, key: str, body: bytes, *, absent: bool = False) -> ObjectInfo:
        at = clock.now()
        locked_until = at + self.lock_for if self.lock_for else None
        self.objects[key] = ObjectInfo(key, len(body), f"etag of {key}", at, locked_until=locked_until)
        return self.objects[key]

    def head(self, key: str) -> ObjectInfo:
        if key not in self.objects:
            raise Gone(f"There is no {key}.")
        return self.objects[key]

    def delete(self, key: str, match: ObjectInfo | None = None) -> None:
        found = self.objects.get(key)
        assert not (found and found.locked_until and found.locked_until > clock.now()), f"{key} is locked"
        self.objects.pop(key, None)

    def list_uploads(self, prefix: str = "") -> list:
        return []

    def clock(self) -> datetime:
        return FolderStorage.clock(self)  # as the time machine sets it


def take(monkeypatch: pytest.MonkeyPatch) -> dict[int, MemoryStorage]:
    """Put every store into memory and let files arrive at once; returns the storages by their store's id."""
    storages: dict[int, MemoryStorage] = {}
    monkeypatch.setattr(Store, "open", lambda store: storages.setdefault(store.pk, MemoryStorage()))
    monkeypatch.setattr(presence, "require_ours", lambda store, storage: None)
    monkeypatch.setattr(carrying, "bring_files", _bring_at_once)
    return storages


def _bring_at_once(copy: Copy, until: float) -> list[Transfer]:
    carrying.renew(copy)
    return [_brought(copy, file) for file in copy.set.files.all()]


def _brought(copy: Copy, file: BackupFile) -> Transfer:
    if file.state != BackupFile.State.SETTLED:
        raise carrying.SourceGone
    transfer = Transfer.objects.filter(file=file, store=copy.destination_store, state=Transfer.State.VERIFIED).first()
    if transfer is None:
        stored = copy.destination_store.open().put(layout.object_key(copy, file), b"." * file.size)
        transfer = Transfer.objects.create(
            file=file,
            store=copy.destination_store,
            key=stored.key,
            size=file.size,
            etag=stored.etag,
            fence=copy.fence,
            state=Transfer.State.VERIFIED,
            started_at=clock.now(),
        )
    CopiedFile.objects.update_or_create(copy=copy, file=file, defaults={"transfer": transfer})
    return transfer
