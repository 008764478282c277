"""The bytes of a download as they lie at the destination, and what to do when they are not what was verified."""

from __future__ import annotations

from typing import BinaryIO

from backups import presence
from backups.copying import damage
from backups.models import Download
from regions.storage import Gone, Mismatch, ObjectInfo
from regions.storage.mover import Differs, Part
from regions.storage.reading import stretch


def bytes_of(download: Download, first: int, end: int) -> BinaryIO:
    """Return the bytes [first, end) of exactly the object that was verified; parts that lie inside are compared.

    Raises StorageError when the store does not answer, or is another one. Reading raises what `stretch` does.
    """
    transfer = download.transfer
    storage = transfer.store.open()
    presence.require_ours(transfer.store, storage)
    parts = [
        Part(number=part.number, offset=part.offset, size=part.size, sha256=part.sha256)
        for part in transfer.parts.order_by("number")
    ]
    return stretch(storage, _stored(download), parts, first, end)


def etag_of(download: Download) -> str:
    """Return the validator of a download: the same for every link to the same bytes, so that one can go on where
    another ended."""
    transfer = download.transfer
    return f'"{transfer.digest or transfer.pk}"'


def internal_way(download: Download, seconds: int) -> str | None:
    """Return the store's own address of the object, good for so long; None where its kind of store has none."""
    return download.transfer.store.open().presigned(_stored(download), download.name, seconds)


def report(download: Download, error: Exception) -> None:
    """Look again at a copy that reading found changed, and mark it if that was no accident (I7)."""
    part = error.part if isinstance(error, Differs) else None
    if part is not None or isinstance(error, (Gone, Mismatch)):
        damage.examine(download.copy, part, download.transfer)


def _stored(download: Download) -> ObjectInfo:
    found = download.transfer
    return ObjectInfo(found.key, found.size, found.etag, found.uploaded_at, found.version)
