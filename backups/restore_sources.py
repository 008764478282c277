"""The bytes a restore or a drill reads: a copy at its destination, or a default backup at its source.

Only ever read, from exactly the objects that were recorded, and held against their recorded hashes on the way (I20).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from backups.engines.facts import Kind, Method, SetFacts, Source
from backups.models import BackupFile, BackupSet, Copy, Transfer
from regions.refusals import Refusal
from regions.storage import ObjectInfo, Storage
from regions.storage.mover import Part
from regions.storage.reading import reader

Through = Callable[[Storage], Storage]


def of_copy(copy: Copy, *, through: Through | None = None, is_compared: bool = True) -> Source:
    """Return a completed copy as an engine restores from it; raises Refusal where it lies in several files.

    A drill's canary looks at its store `through` damage; not `is_compared`, the recorded hashes are left out.
    """
    carried = [place.transfer for place in copy.copied_files.select_related("transfer").order_by("pk")]
    transfer = _only(copy.set, carried)
    parts = proven(transfer) if is_compared else []
    return Source(facts_of(copy.set), lambda: _open_transfer(copy, transfer, parts, through))


def of_default_backup(found: BackupSet) -> Source:
    """Return a default backup at its own source as an engine restores from it."""
    file = _only(found, list(found.files.select_related("store__region")))
    sizes = file.integrity.get("parts") or []
    return Source(facts_of(found), lambda: _open_file(file, _parts_of(sizes)))


@dataclass(frozen=True)
class Piece:
    """One file that a set lies in, whole or as one of its stripes. Sets that were appended to one file share it: then
    their pieces have one `key`."""

    key: str
    size: int
    open: Callable[[], BinaryIO]


def pieces_of(
    found: BackupSet, copy: Copy | None, *, through: Through | None = None, is_compared: bool = True
) -> tuple[SetFacts, list[Piece]]:
    """Return a set, as it lies in its files, and those files stripe by stripe: of its copy, or (None) at its source.

    Of a copy, `through` and `is_compared` are those of `of_copy`.
    """
    places = list(found.set_files.select_related("file__store__region").order_by("family_sequence"))
    if copy:
        transfers = {one.file_id: one.transfer for one in copy.copied_files.select_related("transfer")}
        pieces = [_carried(copy, transfers[place.file_id], through, is_compared) for place in places]
    else:
        pieces = [_at_source(place.file) for place in places]
    return replace(facts_of(found), position=places[0].position, family_count=len(places)), pieces


def _carried(copy: Copy, transfer: Transfer, through: Through | None, is_compared: bool) -> Piece:
    parts = proven(transfer) if is_compared else []
    return Piece(f"transfer {transfer.pk}", transfer.size, lambda: _open_transfer(copy, transfer, parts, through))


def _at_source(file: BackupFile) -> Piece:
    sizes = file.integrity.get("parts") or []
    return Piece(f"file {file.pk}", file.size, lambda: _open_file(file, _parts_of(sizes)))


def _only(found: BackupSet, files: list) -> BackupFile | Transfer:
    if len(files) != 1:
        raise Refusal("Stripes", f"{found} lies in {len(files)} files; only its own engine can join them.", "", "set")
    return files[0]


def proven(transfer: Transfer) -> list[Part]:
    """Return the parts as they were read back."""
    return [
        Part(number=part.number, offset=part.offset, size=part.size, sha256=part.sha256)
        for part in transfer.parts.order_by("number")
    ]


def _open_transfer(copy: Copy, transfer: Transfer, parts: list[Part], through: Through | None) -> BinaryIO:
    stored = ObjectInfo(transfer.key, transfer.size, transfer.etag, transfer.uploaded_at, transfer.version)
    storage = copy.destination_store.open()
    return reader(through(storage) if through else storage, stored, parts)


def _open_file(file: BackupFile, parts: list[Part]) -> BinaryIO:
    stored = ObjectInfo(file.key, file.size, file.etag, file.modified_at, file.version)
    return reader(file.store.open(), stored, parts)


def _parts_of(recorded: list) -> list[Part]:
    parts, offset = [], 0
    for number, (size, sha256) in enumerate(recorded, 1):
        parts.append(Part(number=number, offset=offset, size=size, sha256=sha256))
        offset += size
    return parts


def facts_of(found: BackupSet) -> SetFacts:
    """Return what an engine once said of a set, from its row (the other way round: facts_of_sets.columns_of)."""
    return SetFacts(
        database=found.database,
        kind=Kind(found.kind),
        method=Method(found.method),
        started_at=found.started_at or found.finished_at,
        finished_at=found.finished_at,
        first_position=found.first_position,
        last_position=found.last_position,
        checkpoint_position=found.checkpoint_position,
        base_position=found.base_position,
        fork=found.fork,
        parent_fork=found.parent_fork,
        fork_position=found.fork_position,
        forked_at=found.forked_at,
        set_guid=found.set_guid,
        family_guid=found.family_guid,
        base_guid=found.base_guid,
        is_copy_only=found.is_copy_only,
        has_checksums=found.has_checksums,
        encrypted=found.is_encrypted,
        server=found.server,
        software_version=found.tool_version,
        size_bytes=found.size_bytes,
    )
