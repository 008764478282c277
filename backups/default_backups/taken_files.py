"""A file of a backup that is being taken, poured into the store part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from backups.engines.facts import Excerpt
from regions.storage import ObjectInfo, PartReceipt, Storage, mover, streams


@dataclass(frozen=True)
class Stored:
    """One file as it lies in the store; `parts` and `sha256` as they were sent, none where a server wrote it itself."""

    info: ObjectInfo
    parts: Sequence[mover.Part] = ()
    sha256: str = ""

    def integrity(self, outline: Excerpt | None = None) -> dict[str, Any]:
        """Return what is kept of it, to hold copies against: nothing where there are no parts of ours."""
        if not self.parts:
            return {}
        found: dict[str, Any] = {"parts": [[part.size, part.sha256] for part in self.parts], "sha256": self.sha256}
        if outline:
            found["outline"] = [outline.offset, outline.length, outline.sha256]
        return found


def pour(
    storage: Storage, key: str, stream: BinaryIO, *, began: Callable[[str], None], sent: Callable[[mover.Part], None]
) -> Stored:
    """Store all that the stream gives; `began(upload_id)` and `sent(part)` journal, and may raise to end it."""
    upload_id = storage.create_upload(key)
    began(upload_id)
    parts, digest = streams.store_stream(storage, key, stream, upload_id=upload_id, on_part=sent)
    receipts = [PartReceipt(part.number, part.size, part.etag) for part in parts]
    return Stored(storage.complete_upload(key, upload_id, receipts), parts, digest)
