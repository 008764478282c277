from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from regions.storage import Gone, Mismatch, ObjectInfo, PartReceipt, Storage, StorageError, open_storage, patience
from regions.storage.flight import Gate
from regions.storage.mover import (
    Differs,
    Part,
    Stop,
    carry,
    digest,
    part_size_for,
    plan,
    read_back,
    resumable,
)
from regions.storage.streams import store_stream, stream_part_size
from tests.regions import fault_proxy as faults
from tests.regions.conftest import bucket_store, folder_store, make_bucket
from tests.regions.storage_stories import MIB, read
from tests.servers import S3Region

LAYOUT = [5 * MIB, 5 * MIB, 5 * MIB, 1234]
BODY = os.urandom(sum(LAYOUT))
PARTS = plan(len(BODY), LAYOUT)


def receipts(parts: list[Part]) -> list[PartReceipt]:
    return [PartReceipt(part.number, part.size, part.etag) for part in parts]


def copied(source: Storage, target: Storage, **wishes: Any) -> tuple[ObjectInfo, list[Part]]:
    """Carry BODY and complete it."""
    upload = target.create_upload("copy")
    found = source.head("db.bak")
    sent = carry(source, found, target, "copy", upload, PARTS, done={}, **{"on_part": lambda part: None, **wishes})
    assert sent is not None
    return target.complete_upload("copy", upload, receipts(sent)), sent


@pytest.fixture(params=["folder", "bucket"])
def source(request: pytest.FixtureRequest) -> Storage:
    storage = (
        request.getfixturevalue(request.param)("source")
        if request.param == "folder"
        else (request.getfixturevalue("bucket")(0))
    )
    storage.put("db.bak", BODY)
    return storage


@pytest.fixture(params=["folder", "bucket"])
def target(request: pytest.FixtureRequest) -> Storage:
    opened = request.getfixturevalue(request.param)
    return opened("target") if request.param == "folder" else opened(1)


@pytest.fixture
def far(folder: Callable[[str], Storage]) -> Storage:
    storage = folder("far")
    storage.put("db.bak", BODY)
    return storage


@pytest.fixture
def shaky(proxy: faults.FaultProxy, ceph_regions: tuple[S3Region, S3Region]) -> Storage:
    """A bucket behind the proxy, with BODY in it."""
    store = bucket_store(ceph_regions[0], make_bucket(ceph_regions[0]))
    open_storage(store).put("db.bak", BODY)
    store.options["endpoint"] = proxy.endpoint
    return open_storage(store)


# The main story


def test_a_file_arrives_byte_for_byte_between_any_two_kinds_of_store(source: Storage, target: Storage) -> None:
    heard: list[Part] = []
    stored, sent = copied(source, target, on_part=heard.append)
    assert read(target, "copy", 0, len(BODY), stored) == BODY
    assert sorted(heard) == sent
    assert [part.sha256 for part in sent] == [
        hashlib.sha256(BODY[part.offset : part.offset + part.size]).hexdigest() for part in PARTS
    ]
    assert digest(sent) == digest(reversed(sent))
    assert read_back(target, stored, sent, verified=(), on_verified=lambda part: None) is True
    assert list(target.list_uploads()) == []


def test_after_a_crash_exactly_the_missing_parts_are_sent(source: Storage, target: Storage) -> None:
    upload, found, recorded = target.create_upload("copy"), source.head("db.bak"), dict[int, Part]()

    def crash_after_two(part: Part) -> None:
        if len(recorded) == 2:
            raise Stop
        recorded[part.number] = part

    with pytest.raises(Stop):
        carry(source, found, target, "copy", upload, PARTS, done={}, on_part=crash_after_two, in_flight=1)
    done, sent = resumable(target, "copy", upload, recorded), list[Part]()
    assert sorted(done) == [1, 2]
    whole = carry(source, found, target, "copy", upload, PARTS, done=done, on_part=sent.append)
    assert sorted(part.number for part in sent) == [3, 4]
    stored = target.complete_upload("copy", upload, receipts(whole or []))
    assert read(target, "copy", 0, len(BODY), stored) == BODY


def test_a_part_that_was_recorded_otherwise_than_the_store_lists_it_is_sent_again(
    far: Storage, target: Storage
) -> None:
    upload, sent = target.create_upload("copy"), list[Part]()
    carry(far, far.head("db.bak"), target, "copy", upload, PARTS, done={}, on_part=sent.append)
    recorded = {part.number: part for part in sent}
    recorded[2] = Part(2, recorded[2].offset, recorded[2].size, recorded[2].sha256, etag="0" * 32)
    recorded[9] = Part(9, 0, 5, "00", "11")
    assert sorted(resumable(target, "copy", upload, recorded)) == [1, 3, 4]
    target.abort_upload("copy", upload)
    with pytest.raises(Gone):
        resumable(target, "copy", upload, recorded)


def test_when_the_time_is_over_what_flies_lands_and_nothing_new_starts(far: Storage, target: Storage) -> None:
    upload, heard = target.create_upload("copy"), list[Part]()
    ran_out = carry(
        far,
        far.head("db.bak"),
        target,
        "copy",
        upload,
        PARTS,
        done={},
        on_part=heard.append,
        in_flight=1,
        until=time.monotonic() + 0.0005,
    )
    assert ran_out is None and len(heard) <= 1
    assert len(resumable(target, "copy", upload, {part.number: part for part in heard})) == len(heard)
    assert (
        carry(
            far,
            far.head("db.bak"),
            target,
            "copy",
            upload,
            PARTS,
            done={},
            on_part=heard.append,
            until=time.monotonic() - 1,
        )
        is None
    )


def test_a_lost_fence_ends_the_run_at_once(far: Storage, target: Storage) -> None:
    heard: list[Part] = []

    def lost(part: Part) -> None:
        heard.append(part)
        raise Stop

    with pytest.raises(Stop):
        copied(far, target, on_part=lost)
    assert len(heard) == 1


def test_a_lease_is_kept_alive_while_parts_fly(far: Storage, target: Storage) -> None:
    beats: list[None] = []
    copied(far, target, pulse=lambda: beats.append(None))
    assert beats


KILLED = """
import os, signal, sys
from django.conf import settings
settings.configure()
from regions.storage import StoreOptions, open_storage
from regions.storage.mover import carry, plan
source, target = (open_storage(StoreOptions(url)) for url in sys.argv[1:3])
found = source.head("db.bak")
def heard(part):
    print(part.number, part.sha256, part.etag, flush=True)
    if part.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
layout = [int(size) for size in sys.argv[4:]]
carry(source, found, target, "copy", sys.argv[3], plan(found.size, layout), done={}, on_part=heard, in_flight=1)
"""


def test_kill_9_loses_no_part_that_was_acknowledged(far: Storage, folder: Any, tmp_path: Path) -> None:
    target = folder("target")
    upload = target.create_upload("copy")
    urls = [folder_store(tmp_path / name).url for name in ("far", "target")]
    child = subprocess.run(
        [sys.executable, "-c", KILLED, *urls, upload, *map(str, LAYOUT)], capture_output=True, text=True, timeout=60
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    said = [line.split() for line in child.stdout.splitlines()]
    recorded = {int(number): Part(int(number), 0, LAYOUT[0], sha256, etag) for number, sha256, etag in said}
    assert sorted(resumable(target, "copy", upload, recorded)) == [1, 2]


# Lines and stores that fail


@pytest.mark.parametrize(
    "fault",
    [
        faults.ignores_the_range,
        faults.breaks_off,
        faults.ends_early,
        faults.lies_about_the_length,
        faults.says(503, b"<Error><Code>SlowDown</Code></Error>", Retry_After="0"),
        faults.says(500),
        faults.says(429),
        faults.says(504),
    ],
)
def test_a_reading_that_fails_is_tried_again(shaky: Storage, proxy: faults.FaultProxy, folder: Any, fault: Any) -> None:
    again: list[int] = []
    target = folder("target")
    proxy.on("GET", "db.bak", fault, times=2)
    stored, _ = copied(shaky, target, on_retry=again.append)
    assert read(target, "copy", 0, len(BODY), stored) == BODY
    assert len(again) == 2


@pytest.mark.parametrize(
    "fault",
    [
        faults.loses_the_answer,
        faults.says(503),
        faults.says(500),
        faults.says(200),
        faults.says(409, b"<Error><Code>OperationAborted</Code></Error>"),
    ],
)
def test_a_part_that_is_not_acknowledged_is_sent_again_and_counts_once(
    far: Storage, shaky: Storage, proxy: faults.FaultProxy, fault: Any
) -> None:
    again: list[int] = []
    proxy.on("PUT", "partNumber=2", fault)
    stored, _ = copied(far, shaky, on_retry=again.append)
    assert read(shaky, "copy", 0, len(BODY), stored) == BODY
    assert again == [LAYOUT[1]]


def test_a_refusal_that_will_not_pass_is_not_repeated(far: Storage, shaky: Storage, proxy: faults.FaultProxy) -> None:
    proxy.on("PUT", "partNumber=1", faults.says(403, b"<Error><Code>AccessDenied</Code></Error>"), times=9)
    with pytest.raises(StorageError) as refused:
        copied(far, shaky)
    assert (refused.value.code, refused.value.retry) == ("AccessDenied", False)
    assert proxy.count("PUT", "partNumber=1") == 1


def test_patience_ends_after_eight_tries(
    far: Storage, shaky: Storage, proxy: faults.FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "pause_before", lambda attempt, error: 0)
    proxy.on("PUT", "partNumber=1", faults.says(500), times=99)
    with pytest.raises(StorageError):
        copied(far, shaky)
    assert proxy.count("PUT", "partNumber=1") == 8


def test_a_source_that_changes_on_the_way_is_not_carried(shaky: Storage, folder: Any, proxy: faults.FaultProxy) -> None:
    def overwrite(request: faults.Request, forward: faults.Forward) -> faults.Response:
        shaky.put("db.bak", BODY[::-1])
        return forward(request)

    proxy.on("GET", "db.bak", overwrite)
    with pytest.raises(Mismatch):
        copied(shaky, folder("target"))


def test_a_store_that_ignores_if_match_cannot_hand_us_another_object(
    shaky: Storage, folder: Any, proxy: faults.FaultProxy
) -> None:
    def another(request: faults.Request, forward: faults.Forward) -> faults.Response:
        kept = {name: value for name, value in request.headers.items() if name.lower() != "if-match"}
        return forward(faults.replace(request, headers=kept))

    found = shaky.head("db.bak")
    shaky.put("db.bak", BODY[::-1])
    proxy.on("GET", "db.bak", another, times=99)
    upload = folder("target").create_upload("copy")
    with pytest.raises(Mismatch):
        carry(shaky, found, folder("target"), "copy", upload, PARTS, done={}, on_part=lambda part: None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Error><Code>InternalError</Code></Error>",
        b"<html>busy</html>",
        b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>",
    ],
)
def test_a_200_without_an_etag_is_no_completion(
    far: Storage, shaky: Storage, proxy: faults.FaultProxy, body: bytes
) -> None:
    proxy.on("POST", "uploadId", faults.says(200, body))
    with pytest.raises(StorageError):
        copied(far, shaky)


# Flipped bytes


def test_a_byte_flipped_on_the_way_into_the_destination_is_found(
    far: Storage, shaky: Storage, proxy: faults.FaultProxy
) -> None:
    proxy.on("PUT", "partNumber=3", faults.flips_a_byte_going_out)
    stored, sent = copied(far, shaky)
    with pytest.raises(Differs) as found:
        read_back(shaky, stored, sent, verified=(), on_verified=lambda part: None)
    assert found.value.part.number == 3


def test_a_byte_flipped_on_the_read_back_is_found(far: Storage, shaky: Storage, proxy: faults.FaultProxy) -> None:
    stored, sent = copied(far, shaky)
    proxy.on("GET", "copy", faults.flips_a_byte_coming_in)
    with pytest.raises(Differs):
        read_back(shaky, stored, sent, verified=(), on_verified=lambda part: None)


@pytest.mark.parametrize("hides", [True, False])
def test_a_byte_flipped_at_rest_is_found(far: Storage, folder: Any, tmp_path: Path, hides: bool) -> None:
    target = folder("target")
    stored, sent = copied(far, target)
    path = tmp_path / "target" / "copy"
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(LAYOUT[0] + 7)
        file.write(bytes([BODY[LAYOUT[0] + 7] ^ 1]))
    if hides:  # as a failing disk does: nothing else tells of it
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(Differs if hides else Mismatch):
        read_back(target, stored, sent, verified=(), on_verified=lambda part: None)


def test_a_byte_flipped_between_source_and_us_shows_against_the_sources_own_digest(
    shaky: Storage, folder: Any, proxy: faults.FaultProxy
) -> None:
    target, found, whole = folder("target"), shaky.head("db.bak"), plan(len(BODY), [len(BODY)])
    upload = target.create_upload("copy")
    proxy.on("GET", "db.bak", faults.flips_a_byte_coming_in)
    flipped, honest = (
        carry(shaky, found, target, "copy", upload, whole, done={}, on_part=lambda part: None, want_md5=True)
        for _ in range(2)
    )
    assert flipped and honest
    assert flipped[0].md5 != found.etag == honest[0].md5


def test_read_back_goes_on_where_it_was(far: Storage, target: Storage) -> None:
    stored, sent = copied(far, target)
    first: list[Part] = []
    assert read_back(target, stored, sent, verified=(), on_verified=first.append, until=time.monotonic() - 1) is None
    rest: list[Part] = []
    watched = {part.number: bytearray() for part in sent}

    def watch(part: Part, before: int, chunk: memoryview) -> None:
        assert before == len(watched[part.number])
        watched[part.number] += chunk

    assert read_back(target, stored, sent, verified={1, 2}, on_verified=rest.append, watch=watch) is True
    assert sorted(part.number for part in rest) == [3, 4]
    assert [bytes(seen) for seen in watched.values()] == [b"", b"", BODY[10 * MIB : 15 * MIB], BODY[15 * MIB :]]


# Streams


def test_a_pipe_of_unknown_length_is_stored(target: Storage) -> None:
    size = 33 * MIB + 5
    upload, heard = target.create_upload("taken"), list[Part]()
    with subprocess.Popen(["head", "-c", str(size), "/dev/urandom"], stdout=subprocess.PIPE) as child:
        sent, flat = store_stream(target, "taken", child.stdout, upload_id=upload, on_part=heard.append)
    assert heard == sent and [part.size for part in sent] == [16 * MIB, 16 * MIB, MIB + 5]
    stored = target.complete_upload("taken", upload, receipts(sent))
    assert hashlib.sha256(read(target, "taken", 0, size, stored)).hexdigest() == flat
    assert read_back(target, stored, sent, verified=(), on_verified=lambda part: None) is True


def test_a_streams_part_is_sent_again_from_its_spool(shaky: Storage, proxy: faults.FaultProxy, tmp_path: Path) -> None:
    (tmp_path / "pipe").write_bytes(BODY)
    proxy.on("PUT", "partNumber=1", faults.loses_the_answer)
    upload = shaky.create_upload("taken")
    with (tmp_path / "pipe").open("rb") as pipe:
        sent, flat = store_stream(shaky, "taken", pipe, upload_id=upload, on_part=lambda part: None)
    stored = shaky.complete_upload("taken", upload, receipts(sent))
    assert hashlib.sha256(read(shaky, "taken", 0, len(BODY), stored)).hexdigest() == flat


def test_ten_thousand_parts_of_a_stream_hold_five_terabytes() -> None:
    sizes = [stream_part_size(number) for number in range(1, 10_001)]
    assert sum(sizes) > 5 << 40 and max(sizes) < 5 << 30 and sizes == sorted(sizes)


# Sums


@given(some.integers(min_value=0, max_value=50 << 40))
def test_a_plan_covers_every_byte_once_in_a_number_of_parts_that_stores_take(size: int) -> None:
    parts = plan(size)
    assert sum(part.size for part in parts) == size and len(parts) <= 9_500
    assert all(part.size == part_size_for(size) for part in parts[:-1]) and part_size_for(size) % MIB == 0
    assert [part.offset + part.size for part in parts[:-1]] == [part.offset for part in parts[1:]]


def test_a_layout_that_is_not_the_files_is_refused() -> None:
    with pytest.raises(ValueError):
        plan(10, [4, 5])


def test_the_gate_halves_on_slow_down_and_opens_again_part_by_part() -> None:
    gate = Gate(8)
    gate.slow_down()
    gate.slow_down()
    assert gate.width == 2
    for _ in range(50):
        gate.was_clean()
    assert gate.width == 3
    gate.slow_down()
    gate.slow_down()
    assert gate.width == 1


def test_the_pause_grows_has_jitter_and_honours_what_the_store_asks() -> None:
    tired = StorageError("busy", retry=True)
    pauses = [[patience.pause_before(attempt, tired) for _ in range(200)] for attempt in range(2, 9)]
    assert all(0.2 <= pause <= 20 for row in pauses for pause in row)
    assert max(pauses[0]) < 0.81 < max(pauses[3]) and len(set(pauses[3])) > 100
    assert patience.pause_before(2, StorageError("busy", retry=True, retry_after=7)) == 7
    assert patience.pause_before(2, StorageError("busy", retry=True, retry_after=9999)) == 120
