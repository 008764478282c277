"""What every kind of store must do. A newcomer's driver is right when these pass (style.md: Stores and engines)."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from regions.storage import Gone, Mismatch, ObjectInfo, PartReceipt, Storage, StorageError

MIB = 1 << 20
PART = 5 * MIB  # the least an S3 store takes for a part that is not the last


def read(storage: Storage, key: str, offset: int, length: int, match: ObjectInfo | None = None) -> bytes:
    whole, buffer = bytearray(), memoryview(bytearray(64 * 1024))
    with storage.open_range(key, offset, length, match) as stream:
        while count := stream.readinto(buffer):
            whole += buffer[:count]
    return bytes(whole)


def send(storage: Storage, key: str, upload: str, parts: Sequence[tuple[int, int, bytes]]) -> list[PartReceipt]:
    receipts = [
        storage.put_part(key, upload, number, offset, len(body), io.BytesIO(body)) for number, offset, body in parts
    ]
    return sorted(receipts, key=lambda receipt: receipt.number)


class StorageStories:
    def test_what_was_put_is_read_back(self, storage: Storage) -> None:
        put = storage.put("a/b/note.txt", b"good morning")
        found = storage.head("a/b/note.txt")
        assert (found.size, found.etag, found.key) == (12, put.etag, "a/b/note.txt")
        assert abs(datetime.now(UTC) - found.modified_at) < timedelta(minutes=1)
        assert read(storage, "a/b/note.txt", 0, 12, put) == b"good morning"

    def test_a_range_is_exactly_what_was_asked_for(self, storage: Storage) -> None:
        body = os.urandom(3 * MIB + 17)
        stored = storage.put("ranges", body)
        assert read(storage, "ranges", 0, 1, stored) == body[:1]
        assert read(storage, "ranges", 70_001, 2 * MIB, stored) == body[70_001 : 70_001 + 2 * MIB]
        assert read(storage, "ranges", len(body) - 5, 5, stored) == body[-5:]
        assert read(storage, "ranges", 4, 0, stored) == b""

    def test_a_range_past_the_end_is_an_error_and_not_a_short_file(self, storage: Storage) -> None:
        stored = storage.put("short", b"12345")
        with pytest.raises(StorageError):
            read(storage, "short", 3, 5, stored)
        with pytest.raises(StorageError):
            read(storage, "short", 9, 5, stored)

    def test_an_empty_object_is_an_object(self, storage: Storage) -> None:
        stored = storage.put("empty", b"")
        assert storage.head("empty").size == 0
        assert read(storage, "empty", 0, 0, stored) == b""

    def test_what_is_missing_is_gone(self, storage: Storage) -> None:
        with pytest.raises(Gone):
            storage.head("nowhere/at/all")
        with pytest.raises(Gone):
            read(storage, "nowhere", 0, 4)

    def test_an_object_that_changed_is_another_object(self, storage: Storage) -> None:
        old = storage.put("db.bak", b"monday monday")
        new = storage.put("db.bak", b"tuesday night")
        assert old.etag != new.etag
        with pytest.raises(Mismatch):
            read(storage, "db.bak", 0, 13, old)
        assert read(storage, "db.bak", 0, 13, new) == b"tuesday night"

    def test_a_key_that_is_taken_is_not_written_over_when_it_must_be_absent(self, storage: Storage) -> None:
        storage.put("marker", b"first", absent=True)
        with pytest.raises(Mismatch):
            storage.put("marker", b"second", absent=True)
        assert read(storage, "marker", 0, 5) == b"first"

    def test_a_listing_has_every_key_in_order(self, storage: Storage) -> None:
        keys = ["a-b", "a/1", "a/b/2", "a/b!", "a0", "b+c d/ü.bak", "b/%41", "z"]
        for key in keys:
            storage.put(key, key.encode())
        found = list(storage.list())
        assert [entry.key for entry in found] == sorted(keys, key=str.encode)
        assert {entry.key: entry.etag for entry in found} == {key: storage.head(key).etag for key in keys}
        assert [entry.key for entry in storage.list("a/b")] == ["a/b!", "a/b/2"]
        assert [entry.key for entry in storage.list("", "a/b/2")] == ["a0", "b+c d/ü.bak", "b/%41", "z"]
        assert [entry.key for entry in storage.list("a", "a/1")] == ["a/b!", "a/b/2", "a0"]
        assert list(storage.list("nothing-here/")) == []

    def test_deleting_twice_is_no_error(self, storage: Storage) -> None:
        stored = storage.put("farshore/v1/x/file", b"x")
        storage.delete("farshore/v1/x/file", stored)
        storage.delete("farshore/v1/x/file", stored)
        assert list(storage.list()) == []

    def test_an_object_that_changed_is_not_deleted(self, storage: Storage) -> None:
        old = storage.put("kept", b"one")
        storage.put("kept", b"another")
        with pytest.raises(Mismatch):
            storage.delete("kept", old)
        assert storage.head("kept").size == 7

    def test_parts_in_any_order_become_one_object(self, storage: Storage) -> None:
        body = os.urandom(2 * PART + 1234)
        upload = storage.create_upload("big.bak", {"attempt": "7"})
        receipts = send(
            storage,
            "big.bak",
            upload,
            [
                (3, 2 * PART, body[2 * PART :]),
                (1, 0, body[:PART]),
                (2, PART, body[PART : 2 * PART]),
            ],
        )
        assert storage.list_parts("big.bak", upload) == receipts
        stored = storage.complete_upload("big.bak", upload, receipts)
        assert stored == storage.head("big.bak")
        whole = read(storage, "big.bak", 0, len(body), stored)
        assert hashlib.sha256(whole).digest() == hashlib.sha256(body).digest()
        assert list(storage.list_uploads()) == []

    def test_nothing_is_seen_under_the_key_before_the_upload_is_complete(self, storage: Storage) -> None:
        upload = storage.create_upload("later")
        send(storage, "later", upload, [(1, 0, b"body")])
        with pytest.raises(Gone):
            storage.head("later")
        assert list(storage.list()) == []

    def test_a_part_sent_again_counts_once_and_the_last_one_stands(self, storage: Storage) -> None:
        upload = storage.create_upload("again")
        send(storage, "again", upload, [(1, 0, b"wrong")])
        receipts = send(storage, "again", upload, [(1, 0, b"right")])
        assert storage.list_parts("again", upload) == receipts
        storage.complete_upload("again", upload, receipts)
        assert read(storage, "again", 0, 5) == b"right"

    def test_a_part_that_is_not_there_does_not_complete(self, storage: Storage) -> None:
        upload = storage.create_upload("holes")
        first = send(storage, "holes", upload, [(1, 0, b"x" * PART)])
        with pytest.raises(StorageError):
            storage.complete_upload("holes", upload, [*first, PartReceipt(2, 4, "0" * 32)])
        with pytest.raises(Gone):
            storage.head("holes")

    def test_a_source_that_ends_early_leaves_no_part(self, storage: Storage) -> None:
        upload = storage.create_upload("early")
        with pytest.raises(StorageError) as refused:
            storage.put_part("early", upload, 1, 0, 100, io.BytesIO(b"too short"))
        assert refused.value.retry
        assert storage.list_parts("early", upload) == []

    def test_an_abandoned_upload_is_found_and_removed(self, storage: Storage) -> None:
        upload = storage.create_upload("farshore/v1/left")
        storage.create_upload("elsewhere")
        send(storage, "farshore/v1/left", upload, [(1, 0, b"half")])
        found = list(storage.list_uploads("farshore/"))
        assert [(one.key, one.upload_id) for one in found] == [("farshore/v1/left", upload)]
        assert abs(datetime.now(UTC) - found[0].started_at) < timedelta(minutes=1)
        storage.abort_upload("farshore/v1/left", upload)
        storage.abort_upload("farshore/v1/left", upload)
        assert [one.key for one in storage.list_uploads()] == ["elsewhere"]
        with pytest.raises(Gone):
            storage.list_parts("farshore/v1/left", upload)
        with pytest.raises(Gone):
            send(storage, "farshore/v1/left", upload, [(1, 0, b"half")])

    def test_completing_twice_says_that_the_upload_is_gone_or_gives_the_same_object(self, storage: Storage) -> None:
        upload = storage.create_upload("twice")
        receipts = send(storage, "twice", upload, [(1, 0, b"once")])
        first = storage.complete_upload("twice", upload, receipts)
        try:
            assert storage.complete_upload("twice", upload, receipts).etag == first.etag
        except Gone:
            assert storage.head("twice").etag == first.etag

    def test_two_prefixes_of_one_store_do_not_see_each_other(self, storage: Storage, neighbour: Storage) -> None:
        storage.put("same/key", b"ours")
        neighbour.put("same/key", b"theirs!")
        assert [(entry.key, entry.size) for entry in storage.list()] == [("same/key", 4)]
        neighbour.delete("same/key")
        assert storage.head("same/key").size == 4

    def test_the_stores_clock_agrees_with_ours(self, storage: Storage) -> None:
        assert abs(storage.clock() - datetime.now(UTC)) < timedelta(seconds=10)
