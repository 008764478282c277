"""Is this place the store we think it is? In any other place absence proves nothing, and writing is lost (I19)."""

from __future__ import annotations

from regions import marker
from regions.models import Installation, Store
from regions.refusals import Refusal
from regions.storage import Storage, StorageError


def require_ours(store: Store, storage: Storage) -> None:
    """Raise StorageError unless the place carries the marker of this very store.

    An unmounted folder, two mounts that changed places, credentials of another bucket: each answers politely that
    nothing is there, and takes what it is given.
    """
    try:
        found = marker.read(storage)
    except Refusal as refusal:
        raise StorageError(str(refusal), retry=True, code="NotOurs") from refusal
    if found != marker.Marker(Installation.current().uuid, store.uuid):
        what = "carries no marker of ours" if found is None else "carries the marker of another store"
        said = f"The store of {store.region_id} {what}: is the right one mounted?"
        raise StorageError(said, retry=True, code="NotOurs")
