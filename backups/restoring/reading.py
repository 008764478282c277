"""The bytes a restore reads, to their last one, and which copy they were of when they were not what was verified."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

from backups import presence, restore_sources
from backups.engines.facts import SetFacts, Source
from backups.models import Kind, Restore, RestoreSource
from backups.restore_sources import Piece
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import Gone, Mismatch
from regions.storage.mover import Differs, Part

BLOCK = 1 << 20


class SourceDamaged(Exception):
    """What was read is not what was recorded: at `part`, or (None) the whole object."""

    def __init__(self, source: RestoreSource, part: Part | None, why: Exception) -> None:
        super().__init__(str(why))
        self.source, self.part = source, part


def sources_of(restore: Restore) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """Return what a restore reads as its engine takes it: fulls and differentials, then logs, in order.

    Raises StorageError when a store is not there or is another one, Refusal where a set cannot be read.
    """
    found = [(row, _source(row)) for row in _rows_of(restore)]
    data = tuple(source for row, source in found if row.set.kind != Kind.LOG)
    return data, tuple(source for row, source in found if row.set.kind == Kind.LOG)


def pieces_of(restore: Restore) -> list[tuple[SetFacts, list[Piece]]]:
    """Return the sets a restore reads, in order, and the files of each; raises as `sources_of`."""
    found = [(row, restore_sources.pieces_of(row.set, row.copy)) for row in _rows_of(restore)]
    return [(facts, [_to_the_end(piece, row) for piece in pieces]) for row, (facts, pieces) in found]


def _to_the_end(piece: Piece, row: RestoreSource) -> Piece:
    return replace(piece, open=lambda: ToTheEnd(piece.open(), row))


def _rows_of(restore: Restore) -> list[RestoreSource]:
    rows = list(restore.sources.select_related("set__instance", "copy__destination_store__region", "copy__set"))
    at_source = Store.objects.filter(files__sets__in=[row.set_id for row in rows if row.copy is None])
    for store in {row.copy.destination_store for row in rows if row.copy} | set(at_source.select_related("region")):
        presence.require_ours(store, store.open())
    return rows


def _source(row: RestoreSource) -> Source:
    source = restore_sources.of_copy(row.copy) if row.copy else restore_sources.of_default_backup(row.set)
    return replace(source, open=lambda: ToTheEnd(source.open(), row))


def _vanished(row: RestoreSource) -> Refusal:
    """A default backup is its owner's: somebody else's job may delete the files that were found (R-2.4)."""
    return Refusal(
        "SourceGone",
        f"A file of {row.set} vanished from {row.set.instance.region} while it was read.",
        "Restore from a copy of it in the backup region, or from another default backup.",
        "set",
    )


class ToTheEnd(io.BufferedIOBase):
    """A source's stream. Left without an error it is read to its end: engines stop at the end of an archive, and the
    hash of the last part would go unasked."""

    def __init__(self, stream: BinaryIO, row: RestoreSource) -> None:
        self._stream, self._row = stream, row

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._told(lambda: self._stream.read(-1 if size is None else size))

    def read1(self, size: int = -1, /) -> bytes:
        return self._told(lambda: self._stream.read1(size))

    def _told(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except Differs as differs:
            raise SourceDamaged(self._row, differs.part, differs) from differs
        except Gone as gone:
            if self._row.copy is None:
                raise _vanished(self._row) from gone
            raise SourceDamaged(self._row, None, gone) from gone
        except Mismatch as other:
            raise SourceDamaged(self._row, None, other) from other

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            while self.read(BLOCK):
                pass
        super().__exit__(kind, error, trace)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
