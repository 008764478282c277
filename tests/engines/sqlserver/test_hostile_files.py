"""Files that lie: they are refused with a reason, in bounded reads, and never give a single field away."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backups.engines.facts import Inspection
from backups.engines.sqlserver import inspect
from backups.engines.sqlserver.windows import MOST_BYTES, MOST_READS
from demo import mtf
from demo.mtf_compressed import compressed_file
from tests.engines.sqlserver.distant import Distant, refusal_code
from tests.engines.sqlserver.forging import (
    block_of,
    blocks_of,
    record_at,
    with_block_field,
    with_field,
    with_stream_length,
    without_end,
)

GOOD = mtf.write_full(pages=12)
COMPRESSED = compressed_file(mtf.full(pages=12))
HEAD, TAIL = record_at(GOOD, "MSCI"), record_at(GOOD, "MSLS")
RAID = block_of(GOOD, "TAPE").stream("RAID").position
START = block_of(GOOD, "SSET").block.position
STREAMS = [stream.position - 22 for placed in blocks_of(GOOD) for stream in placed.streams]
FILES = GOOD.index(b"SFIN", TAIL)
REFUSALS = {
    "DamagedHeader",
    "InconsistentHeader",
    "MarkedDamaged",
    "Truncated",
    "TooManyBlocks",
    "UnknownKind",
    "UnknownLayout",
    "UnknownTimeZone",
    "UnknownVersion",
    "NotASqlServerBackup",
    "EncryptedHeader",
}


def inspect_bounded(file: bytes) -> Inspection:
    """Inspect and check that it took no more than the reader promises; what is told must make sense."""
    distant = Distant(file)
    inspection = distant.inspect()
    assert distant.reads <= MOST_READS
    assert distant.bytes_read <= MOST_BYTES
    if inspection.refusal:
        assert inspection.refusal.code in REFUSALS
        assert inspection.refusal.remedy
    for facts in inspection.sets:
        assert facts.database and facts.set_guid
        assert 0 <= facts.offset < facts.offset + facts.length <= len(file)
        assert facts.started_at <= facts.finished_at
        assert 0 < facts.first_position <= facts.last_position
        assert 1 <= facts.family_sequence <= facts.family_count
    return inspection


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, len(GOOD), 0xFFFFFFF0])
def test_a_stream_longer_than_its_file(stream, length):
    assert inspect_bounded(with_stream_length(GOOD, stream, length)).refusal.code == "Truncated"


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_that_hides_what_it_holds(stream):
    was = struct.unpack_from("<Q", GOOD, stream + 8)[0]
    if was:
        assert inspect_bounded(with_stream_length(GOOD, stream, 0)).refusal
        assert inspect_bounded(with_stream_length(GOOD, stream, was + 256)).refusal


@pytest.mark.parametrize("kind", ["TAPE", "SFMB", "SSET", "VOLB", "MSCI", "MSDA", "MSTL", "MSLS", "ESET"])
@pytest.mark.parametrize("first_stream", [0, 4, 48, 51, 53, 0xFFFC, 0xFFFF])
def test_a_block_that_points_into_itself_or_far_away(kind, first_stream):
    assert inspect_bounded(with_block_field(GOOD, kind, 8, "H", first_stream)).refusal


@pytest.mark.parametrize("kind", ["TAPE", "SFMB", "SSET", "MSCI", "MSLS", "ESET"])
@pytest.mark.parametrize("name", [b"ZZZZ", b"TAPE", b"MSLS", b"SFMB", b"\xff\0\xff\0"])
def test_a_block_called_by_another_name(kind, name):
    if name.decode("latin1") != kind:
        assert inspect_bounded(with_block_field(GOOD, kind, 0, "4s", name)).refusal


@pytest.mark.parametrize("pointer", [(16, 0), (16, 0xFFFF), (0xFFFF, 100), (0, 0), (15, 100), (0xFFFF, 0xFFFF)])
def test_the_identity_of_a_set_outside_its_block(pointer):
    assert inspect_bounded(with_block_field(GOOD, "SSET", 44, "HH", *pointer)).refusal.code == "DamagedHeader"


@pytest.mark.parametrize("record", [HEAD, TAIL])
@pytest.mark.parametrize("length", [0, 7, 343, 399, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_record_that_lies_about_its_length(record, length):
    assert inspect_bounded(with_field(GOOD, record + 4, "I", length)).refusal.code == "DamagedHeader"


@pytest.mark.parametrize("record", [HEAD, TAIL])
@pytest.mark.parametrize("field", [0x68, 0x6C])
@pytest.mark.parametrize("pointer", [(2, 0), (3, 400), (0xFFFE, 400), (2, 0xFFFF), (0xFFFF, 0xFFFF)])
def test_a_name_outside_its_record(record, field, pointer):
    assert inspect_bounded(with_field(GOOD, record + field, "HH", *pointer)).refusal.code == "DamagedHeader"


@pytest.mark.parametrize("length", [0, 1, 7, 8, 0x37, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_file_record_that_would_never_end(length):
    assert inspect_bounded(with_field(GOOD, FILES + 4, "I", length)).refusal.code == "DamagedHeader"


@pytest.mark.parametrize(("count", "sequence"), [(0, 0), (1, 0), (1, 2), (65, 1), (0xFFFF, 0xFFFF), (0, 1)])
def test_a_stripe_that_cannot_be(count, sequence):
    file = with_field(GOOD, RAID + 20, "HHH", count, 1, sequence)
    assert inspect_bounded(file).refusal.code == "DamagedHeader"


@pytest.mark.parametrize("date", [b"\xff" * 5, b"\0\0\0\0\1", bytes.fromhex("1fab420000")])
@pytest.mark.parametrize("at", [START + 88, TAIL + 0x48, TAIL + 0x4D, TAIL + 0x52])
def test_a_date_that_does_not_exist(at, date):
    assert inspect_bounded(with_field(GOOD, at, "5s", date)).refusal


def test_a_final_record_without_a_finish_date_is_not_final():
    assert inspect_bounded(with_field(GOOD, TAIL + 0x52, "5s", bytes(5))).refusal.code == "Truncated"


def test_positions_that_run_backwards():
    assert inspect_bounded(with_field(GOOD, TAIL + 0x2A, "IIH", 1, 1, 1)).refusal.code == "DamagedHeader"
    assert inspect_bounded(with_field(GOOD, TAIL + 0x20, "IIH", 0, 0, 0)).refusal.code == "DamagedHeader"


@pytest.mark.parametrize("letter", [b"F", b"G", b"P", b"Q", b"\0", b"\xff"])
def test_a_type_of_backup_not_known_here(letter):
    file = with_field(with_field(GOOD, TAIL + 0x57, "c", letter), HEAD + 0x57, "c", letter)
    assert inspect_bounded(file).refusal.code == "UnknownKind"


def test_a_full_that_poses_as_a_differential():
    file = with_field(with_field(GOOD, TAIL + 0x57, "c", b"I"), HEAD + 0x57, "c", b"I")
    assert inspect_bounded(file).refusal.code == "InconsistentHeader"


@pytest.mark.parametrize(("field", "size"), [(0x18, 4), (0x48, 5), (0x4D, 5), (0x57, 1), (0xC8, 16), (0xE0, 16)])
@pytest.mark.parametrize("record", [HEAD, TAIL])
def test_a_flipped_bit_in_what_is_written_twice_is_noticed(record, field, size):
    for bit in range((record + field) * 8, (record + field + size) * 8):
        assert refusal_code(mtf.flipped(GOOD, bit)), f"bit {bit % 8} of byte {bit // 8}"


@pytest.mark.parametrize(
    ("blocks", "streams", "code"), [(1, 210_000, "TooManyBlocks"), (5000, 0, "Truncated"), (2, 1, "Truncated")]
)
def test_blocks_and_streams_without_end(blocks, streams, code):
    begin = GOOD[: block_of(GOOD, "MSDA").block.position]
    assert inspect_bounded(without_end(b"MSDA", blocks, streams, begin)).refusal.code == code


def test_a_set_closed_by_anything_but_a_filemark():
    volume = without_end(b"VOLB", 1, 0, b"")
    assert inspect_bounded(GOOD[:-512] + volume).refusal.code == "UnknownLayout"


def test_a_file_that_wants_a_read_for_every_block():
    """Each block lies so far from the last that no window holds two of them."""
    begin = GOOD[: block_of(GOOD, "MSDA").block.position]
    apart, reads = 1 << 20, []
    block = with_stream_length(without_end(b"MSDA", 1, 0, b""), 52, (1 << 20) - 52 - 22)[:74]

    def read(offset: int, length: int) -> bytes:
        reads.append(length)
        if offset < len(begin):
            return (begin + block)[offset : offset + length].ljust(length, b"\0")
        assert (offset - len(begin)) % apart in (0, 52), "only headers are worth a read"
        return block[(offset - len(begin)) % apart :].ljust(length, b"\0")

    assert inspect(read, 1 << 40).refusal.code == "TooManyBlocks"
    assert len(reads) <= MOST_READS


forged_at = st.integers(0, 0x1400) | st.integers(max(0, TAIL - 200), len(GOOD) - 8)


def assert_harmless(at: int, form: str, value: int) -> None:
    size = struct.calcsize(form)
    file = with_field(GOOD, min(at, len(GOOD) - size), form, value % 256**size)
    inspect_bounded(file)
    for placed in blocks_of(GOOD):
        if placed.block.position <= at < placed.block.position + 48:
            offset = min(at - placed.block.position, 50 - size)
            inspect_bounded(with_block_field(GOOD, placed.kind, offset, form, value % 256**size))


@settings(max_examples=300, deadline=None)
@example(0x600 + 8, "H", 0xFFFF)
@given(forged_at, st.sampled_from("BHIQ"), st.sampled_from([0, 1, 2**64 - 1, 2**31, 2**16 - 2]) | st.integers(0, 2**64))
def test_any_field_may_lie(at, form, value):
    assert_harmless(at, form, value)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(forged_at, st.sampled_from("BHIQ"), st.sampled_from([0, 1, 2**64 - 1, 2**31, 2**16 - 2]) | st.integers(0, 2**64))
def test_any_field_may_lie_thousands_of_times(at, form, value):
    assert_harmless(at, form, value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=4096), st.sampled_from([b"TAPE", b"MSSQLBAK" + struct.pack("<II", 2, 2), b""]))
def test_noise_gives_nothing_away(noise, magic):
    assert inspect_bounded(magic + noise).refusal


@settings(max_examples=150, deadline=None)
@given(st.integers(0x1E0, len(COMPRESSED) - 1), st.binary(min_size=1, max_size=40))
def test_a_compressed_file_with_foreign_bytes_in_it_never_harms(at, noise):
    inspect_bounded((COMPRESSED[:at] + noise + COMPRESSED[at + len(noise) :])[: len(COMPRESSED)])


@pytest.mark.parametrize("field", [(0x1E1, "B", 0), (0x1E2, "H", 0xFFFF), (0x1E2, "H", 0), (0x602, "H", 300)])
def test_a_chunk_that_lies_about_its_size(field):
    at, form, value = field
    assert inspect_bounded(with_field(COMPRESSED, at, form, value)).refusal.code in {"DamagedHeader", "Truncated"}


def test_a_tail_full_of_chunk_marks_does_not_keep_the_reader_busy():
    marks = COMPRESSED[:-65536] + b"\x21" * 65024 + COMPRESSED[-512:]
    assert inspect_bounded(marks).refusal
    noise = random.Random(7).randbytes(1 << 18)
    assert inspect_bounded(COMPRESSED[:0x4000] + noise + COMPRESSED[-512:]).refusal


def test_compressed_media_of_4k_blocks_were_never_seen():
    """Such a file is whole: to call it damaged, or still being written, would send somebody the wrong way."""
    backup = mtf.full(pages=12)
    file = compressed_file(backup, media=mtf.media_of(backup, block=4096))
    assert inspect_bounded(file).refusal.code == "UnknownLayout"


def test_two_sets_in_one_compressed_file_are_not_guessed_apart():
    first, second = mtf.chain(logs=1, differentials=0, pages=12)
    appended = compressed_file(first) + compressed_file(second)[0x600:]
    assert inspect_bounded(appended).refusal.code == "UnknownLayout"


@pytest.mark.parametrize(("at", "value"), [(8, 1), (8, 3), (12, 0), (12, 1), (12, 0x12)])
def test_a_container_never_seen_is_refused(at, value):
    assert inspect_bounded(with_field(COMPRESSED, at, "I", value)).refusal.code == "UnknownLayout"
