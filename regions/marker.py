"""The marker object says whose a place is: which installation's, and which of its stores."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

from regions.refusals import Refusal
from regions.storage import Gone, Mismatch, Storage

KEY = "farshore/marker.json"
FORMAT = 1


class Marker(NamedTuple):
    installation: UUID
    store: UUID

    def body(self) -> bytes:
        said = {"format": FORMAT, "installation": str(self.installation), "store": str(self.store)}
        return json.dumps(said, indent=1).encode()


def read(storage: Storage) -> Marker | None:
    """Return the marker of a place, None where there is none; raises Refusal for one we cannot read."""
    try:
        found = storage.head(KEY)
    except Gone:
        return None
    buffer = memoryview(bytearray(min(found.size, 4096)))
    with storage.open_range(KEY, 0, len(buffer), found) as stream:
        filled = 0
        while count := stream.readinto(buffer[filled:]):
            filled += count
    try:
        said = json.loads(bytes(buffer))
        return Marker(UUID(said["installation"]), UUID(said["store"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(
            "StoreTaken",
            f"{KEY} in this place was not written by this version of Farshore.",
            "Choose another place.",
            "url",
        ) from error


def claim(storage: Storage, wanted: Marker) -> Marker:
    """Put our marker where there is none; return the marker that stands there afterwards, ours or another's."""
    with suppress(Mismatch):  # somebody was quicker
        storage.put(KEY, wanted.body(), absent=True)
    return read(storage) or wanted
