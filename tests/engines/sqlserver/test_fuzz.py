"""Valid files, mutated in every way one can think of: reader and verifier end in time, in bounded memory, in words.

The header checksums are put right again in most of them, so that the lies are read and not only found.
"""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import count

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from backups.engines.sqlserver import inspect
from backups.engines.sqlserver.checksums import Level, Verifier
from backups.engines.sqlserver.windows import MOST_BYTES, MOST_READS
from backups.engines.sqlserver.xca import expand
from demo import mtf
from demo.mtf_compressed import chunks_of, compressed_file, encrypted_file
from regions.refusals import Refusal
from tests.engines.sqlserver.forging import blocks_of, chunks_in, mended

FULL = mtf.full(pages=6, log_bytes=1024)
SMALL = mtf.full(pages=1, log_bytes=512)
PLAIN = [
    mtf.file_of(FULL),
    mtf.file_of(*mtf.chain(logs=3, pages=2)),
    mtf.write_full(pages=2, block=4096),
    mtf.write_full(pages=2, version=(9, 0, 5000), checksum=False),
    mtf.stripes_of(FULL, 2)[1],
]
COMPRESSED = [compressed_file(FULL), compressed_file(mtf.full(pages=1, version=(13, 0, 5026)))]
WHOLE = [*PLAIN, *COMPRESSED, encrypted_file(4096)]
LONGEST_CPU_SECONDS, MOST_MEMORY = 10, 48 << 20
FUZZ_SECONDS = 600
lies = st.sampled_from([0, 1, 2, 511, 512, 2**15, 2**16 - 1, 2**31, 2**32 - 4, 2**63, 2**64 - 1]) | st.integers(
    0, 2**64
)


@cache
def header_places(file: bytes) -> list[int]:
    """Return where headers of blocks and streams stand, as far as the blocks are whole."""
    places = []
    with suppress(Refusal):
        for placed in blocks_of(file):
            places += [placed.block.position, *(stream.position - 22 for stream in placed.streams)]
    return places or [0]


def overwritten(data: st.DataObject, file: bytes) -> bytes:
    form = data.draw(st.sampled_from("BHIQ"))
    size = struct.calcsize(form)
    at = data.draw(st.integers(0, max(0, len(file) - size)))
    return file[:at] + struct.pack(f"<{form}", data.draw(lies) % 256**size) + file[at + size :]


def header_overwritten(data: st.DataObject, file: bytes) -> bytes:
    """Let a field of a header or record lie, and put every header checksum right."""
    starts = header_places(file)
    form = data.draw(st.sampled_from("BHIQ"))
    size = struct.calcsize(form)
    at = min(data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, 300)), len(file) - size)
    lie = struct.pack(f"<{form}", data.draw(lies) % 256**size)
    return mended(file[:at] + lie + file[at + size :], starts)


def without(data: st.DataObject, file: bytes) -> bytes:
    at = data.draw(st.integers(0, len(file)))
    return file[:at] + file[at + data.draw(st.integers(1, 2000)) :]


def with_more(data: st.DataObject, file: bytes) -> bytes:
    at = data.draw(st.integers(0, len(file)))
    return file[:at] + data.draw(st.binary(min_size=1, max_size=600)) + file[at:]


def spliced(data: st.DataObject, file: bytes) -> bytes:
    other = data.draw(st.sampled_from(WHOLE))
    sectors = st.integers(0, min(len(file), len(other)) // 512)
    return file[: data.draw(sectors) * 512] + other[data.draw(sectors) * 512 :]


def cut(data: st.DataObject, file: bytes) -> bytes:
    return file[: data.draw(st.integers(0, len(file)))]


def repeated(data: st.DataObject, file: bytes) -> bytes:
    begin, end = sorted((data.draw(st.integers(0, len(file))), data.draw(st.integers(0, len(file)))))
    return file[:end] + file[begin:end] * data.draw(st.integers(1, 3)) + file[end:]


def chunk_changed(data: st.DataObject, file: bytes) -> bytes:
    """Change what a chunk of a compressed file expands to, header checksums put right, and compress it again."""
    chunk = data.draw(st.sampled_from([chunk for chunk in chunks_in(file) if not chunk.is_filemark]))
    body = file[chunk.position + 28 : chunk.position + 28 + chunk.size]
    inside = expand(body, min(file[chunk.position + 1] * 512, 8192))
    changed = overwritten(data, inside)
    if inside[:4].isalpha():
        changed = header_overwritten(data, inside)
    return file[: chunk.position] + chunks_of(changed) + file[chunk.position + 28 + chunk.size :]


ANY = [overwritten, without, with_more, spliced, cut, repeated]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A file that was valid once; first a change that only its kind has, then up to four of any."""
    data = draw(st.data())
    kind = draw(st.sampled_from(["plain", "compressed", "any"]))
    if kind == "plain":
        file = header_overwritten(data, draw(st.sampled_from(PLAIN)))
    elif kind == "compressed":
        file = chunk_changed(data, draw(st.sampled_from(COMPRESSED)))
    else:
        file = draw(st.sampled_from(WHOLE))
    for change in draw(st.lists(st.sampled_from(ANY), min_size=kind == "any", max_size=4)):
        file = change(data, file)
    return file


class Stretched:
    """A file that claims to be longer than what is there: the rest is zeros, as of a sparse file, or its own bytes."""

    def __init__(self, file: bytes, more: int, *, loops: bool) -> None:
        self.file, self.size, self.loops = file, len(file) + more, loops
        self.reads = self.bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self.reads += 1
        self.bytes_read += length
        if self.loops and self.file:
            start = offset % len(self.file)
            return (self.file[start:] + self.file * (length // len(self.file) + 1))[:length]
        return self.file[offset : offset + length].ljust(length, b"\0")


def measured(work: Callable[[], None]) -> None:
    """Do it in bounded time and memory."""
    begun = time.process_time()
    tracemalloc.start()
    try:
        work()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < MOST_MEMORY
    assert time.process_time() - begun < LONGEST_CPU_SECONDS


def assert_read(file: Stretched) -> None:
    inspection = inspect(file.read, file.size)
    assert file.reads <= MOST_READS
    assert file.bytes_read <= MOST_BYTES
    if inspection.refusal:
        assert inspection.refusal.code and inspection.refusal.sentence
    for facts in inspection.sets:
        assert facts.database and facts.set_guid
        assert facts.started_at <= facts.finished_at
        assert 0 < facts.first_position <= facts.last_position
        assert 0 <= facts.offset < facts.offset + facts.length <= file.size


def assert_verified(file: bytes, piece: int) -> None:
    verifier = Verifier()
    for start in range(0, len(file), piece):
        verifier.feed(file[start : start + piece])
    verdict = verifier.verdict()
    assert verdict.level in Level
    assert verdict.sentence


def assert_harmless(file: bytes, more: int, loops: bool, piece: int) -> None:
    measured(lambda: assert_read(Stretched(file, more, loops=loops)))
    measured(lambda: assert_verified(file, piece))


lengths_told = st.sampled_from([0, 0, 0, 1, 511, 1 << 20, 1 << 40, 1 << 60])
fuzz = given(mutants(), lengths_told, st.booleans(), st.integers(97, 70_000))
many_ways = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@settings(max_examples=250, deadline=None, suppress_health_check=many_ways)
@fuzz
def test_a_mutated_file_never_harms(file, more, loops, piece):
    assert_harmless(file, more, loops, piece)


@pytest.mark.soak
def test_ten_minutes_of_mutated_files_never_harm():
    until = time.monotonic() + FUZZ_SECONDS
    for number in count():
        if time.monotonic() > until:
            break
        round_of = settings(max_examples=500, deadline=None, database=None, suppress_health_check=many_ways)
        seed(number)(round_of(fuzz(assert_harmless)))()
    print(f"{number * 500} files")
    assert number > 5
