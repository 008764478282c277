"""What every store can do, in one small protocol: a newcomer adds a store by writing one more driver.

A driver signs and describes; `regions.storage.mover` moves the bytes, the same for all (transfer.md). Keys are `str`
relative to the store's own prefix; bytes that are not UTF-8 come as surrogate escapes. Drivers know no models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

__all__ = [
    "Gone",
    "Mismatch",
    "ObjectInfo",
    "PartReceipt",
    "Readable",
    "Storage",
    "StorageError",
    "StoreOptions",
    "Unsupported",
    "UploadInfo",
    "open_storage",
]


class StorageError(Exception):
    """A store said no, or did not answer. `retry` says whether trying the same call again can help.

    `retry_after` holds the seconds the store asked us to wait, None where it did not say.
    """

    def __init__(self, sentence: str, *, retry: bool = False, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.sentence, self.retry, self.code, self.retry_after = sentence, retry, code, retry_after


class Gone(StorageError):
    """The object or the upload is not there."""


class Mismatch(StorageError):
    """If-Match failed: what lies under the key is not what was asked for."""


class Unsupported(StorageError):
    """This kind of store cannot do that."""


@dataclass(frozen=True)
class ObjectInfo:
    """One object as the store describes it. `etag` without quotes; `version` is "" where the store keeps none.

    `locked_until`: how long the store refuses to delete it, as `head` told; None where it is not locked.
    """

    key: str
    size: int
    etag: str
    modified_at: datetime
    version: str = ""
    locked_until: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True)
class PartReceipt:
    """What the store acknowledged for one part of a multipart upload: number from 1, size in bytes, its ETag."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True)
class UploadInfo:
    """An unfinished multipart upload that lies in the store."""

    key: str
    upload_id: str
    started_at: datetime


class Readable(Protocol):
    """An open ranged read. `readinto` fills the buffer as far as it can and returns the count; 0 is the end."""

    def readinto(self, buffer: memoryview) -> int: ...


@dataclass(frozen=True)
class StoreOptions:
    """Everything a driver needs. `url`: file:///absolute/folder or s3://bucket/prefix; secrets are never in the URL.

    options for s3: endpoint, region, addressing ("path" or "virtual"), verify ("" or a CA file).
    credentials for s3: access_key_id, secret_access_key, session_token.
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)


class Storage(Protocol):
    """The verbs. All raise StorageError (or Gone, Mismatch, Unsupported); none retries by itself but `delete`."""

    def head(self, key: str) -> ObjectInfo: ...

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield every object below the prefix in key order; raises when a page fails, it never ends early (I19)."""
        ...

    def open_range(
        self, key: str, offset: int, length: int, match: ObjectInfo | None = None
    ) -> AbstractContextManager[Readable]:
        """Read `length` bytes from `offset`, of exactly the object `match` describes when given (If-Match)."""
        ...

    def put(self, key: str, body: bytes, *, absent: bool = False) -> ObjectInfo:
        """Write one small object in one request; with `absent` refuse (Mismatch) where the key is taken already."""
        ...

    def presigned(self, found: ObjectInfo, name: str, seconds: int) -> str | None:
        """Return the store's own address of an object, good for so long, under which it is saved as `name`; None where
        this kind of store has none."""
        ...

    def create_upload(self, key: str, metadata: dict[str, str] | None = None) -> str: ...

    def put_part(self, key: str, upload_id: str, number: int, offset: int, length: int, body: Readable) -> PartReceipt:
        """Send one part read from `body`; `offset` is where it begins in the whole (a folder writes it there)."""
        ...

    def list_parts(self, key: str, upload_id: str) -> list[PartReceipt]: ...

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[PartReceipt]) -> ObjectInfo: ...

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Remove an unfinished upload and its parts; one that is gone already is no error."""
        ...

    def list_uploads(self, prefix: str = "") -> Iterator[UploadInfo]: ...

    def delete(self, key: str, match: ObjectInfo | None = None) -> None:
        """Delete the object (the named version where the store keeps versions); one that is gone is no error."""
        ...

    def clock(self) -> datetime:
        """Return the store's own idea of the time (its Date header), aware UTC."""
        ...

    def space_left(self) -> int | None:
        """Return free bytes where the store can say, None where it is unbounded or unknown."""
        ...

    def features(self) -> dict[str, bool]:
        """Return what the store says of itself: `versioning`, `object_lock`, `locks_all` (whatever it is given)."""
        ...

    def expiring_rules(self, prefix: str) -> list[str]:
        """Return, word for word, the store's own rules that would delete objects below the prefix."""
        ...


def open_storage(options: StoreOptions) -> Storage:
    """Return the driver for a store's URL; the vendor's SDK is imported only when its driver is used."""
    scheme = options.url.partition("://")[0]
    if scheme == "file":
        from regions.storage.filesystem import FolderStorage

        return FolderStorage(options)
    if scheme == "s3":
        from regions.storage.s3 import S3Storage

        return S3Storage(options)
    raise Unsupported(f"There is no driver for {scheme}:// stores.", code="UnknownStoreKind")
