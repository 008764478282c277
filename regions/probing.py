"""What a store can do, found out by doing it: write, read, compare, delete. Knows no models."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from regions.refusals import Refusal
from regions.storage import Mismatch, ObjectInfo, Storage

PROBES = "farshore/probe/"
MOST_VERSIONS = 2  # a probe writes one key twice at most
LEAST_PART = 5 << 20  # what S3 asks of every part but the last


def examine(storage: Storage, *, at: datetime) -> dict[str, Any]:
    """Do the round trip and return the capabilities found; `at` is our clock.

    Raises StorageError where the store fails, Refusal where what comes back is not what was written. Leaves nothing
    behind, whatever happens.
    """
    features = storage.features()
    if features["locks_all"]:
        raise _locks_all()
    key = PROBES + uuid.uuid4().hex
    body = os.urandom(4096)
    with _removed(storage, key):
        stored = storage.put(key, body)
        _require_same(storage, stored, body)
        _require_listed(storage, stored)
        found = {
            "etag_is_md5": stored.etag == hashlib.md5(body, usedforsecurity=False).hexdigest(),
            "if_match": _honours_if_match(storage, stored),
            "if_none_match": _honours_if_none_match(storage, key, body),
            "clock_skew_seconds": round((storage.clock() - at).total_seconds(), 1),
            **features,
        }
    return {**found, "list_uploads": _carries_parts(storage)}


def _carries_parts(storage: Storage) -> bool:
    """Send a small upload, its second part first; return whether it could be found while it was unfinished."""
    key = PROBES + uuid.uuid4().hex
    body = os.urandom(1 << 20) * 5 + b"the end"
    with _removed(storage, key), _upload(storage, key) as upload_id:
        last = storage.put_part(key, upload_id, 2, LEAST_PART, len(body) - LEAST_PART, io.BytesIO(body[LEAST_PART:]))
        first = storage.put_part(key, upload_id, 1, 0, LEAST_PART, io.BytesIO(body))
        if storage.list_parts(key, upload_id) != [first, last]:
            raise _unfaithful("The store does not list the parts that it acknowledged.")
        listed = upload_id in [upload.upload_id for upload in storage.list_uploads(key)]
        _require_same(storage, storage.complete_upload(key, upload_id, [first, last]), body)
    return listed


@contextmanager
def _upload(storage: Storage, key: str) -> Iterator[str]:
    upload_id = storage.create_upload(key)
    try:
        yield upload_id
    except BaseException:
        storage.abort_upload(key, upload_id)
        raise


@contextmanager
def _removed(storage: Storage, key: str) -> Iterator[None]:
    """Delete what was written, each version of it, and see that it is gone from the listing."""
    try:
        yield
    finally:
        for _ in range(MOST_VERSIONS):
            for left in list(storage.list(key)):
                storage.delete(left.key)
    if any(storage.list(key)):
        raise _unfaithful("The store still has what was deleted.")


def _require_same(storage: Storage, stored: ObjectInfo, body: bytes) -> None:
    came, buffer = bytearray(), memoryview(bytearray(64 * 1024))
    with storage.open_range(stored.key, 0, stored.size, stored) as stream:
        while count := stream.readinto(buffer):
            came += buffer[:count]
    if came != body or stored.size != len(body):
        raise _unfaithful("What was read back is not what was written.")


def _require_listed(storage: Storage, stored: ObjectInfo) -> None:
    if [(entry.key, entry.etag) for entry in storage.list(stored.key)] != [(stored.key, stored.etag)]:
        raise _unfaithful("The store does not list what was just written.")


def _honours_if_match(storage: Storage, stored: ObjectInfo) -> bool:
    other = replace(stored, etag="0" * 32, version="")
    try:
        with storage.open_range(stored.key, 0, 1, other):
            return False
    except Mismatch as mismatch:
        return mismatch.code != "IfMatchIgnored"


def _honours_if_none_match(storage: Storage, key: str, body: bytes) -> bool:
    try:
        storage.put(key, body, absent=True)
    except Mismatch:
        return True
    return False


def _locks_all() -> Refusal:
    sentence = "The bucket locks whatever it is given, so that nothing that failed halfway could be cleaned up there."
    remedy = "Take away the bucket's default retention, and lock by hand what must stay; or choose another bucket."
    return Refusal("StoreLocksAll", sentence, remedy, "url")


def _unfaithful(sentence: str) -> Refusal:
    return Refusal("StoreUnfaithful", sentence, "Such a store cannot keep backups; choose another.", "url")
