"""The checksums inside a backup file find what went wrong with its bytes, without a server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.engines.sqlserver.checksums import Level, Verdict, Verifier
from demo import mtf
from demo.mtf_compressed import encrypted_file
from tests.engines.sqlserver.distant import backups, refusal_code
from tests.engines.sqlserver.forging import block_of, blocks_of

MIDNIGHT = mtf.full().started_at
FILE = mtf.write_full(pages=5)
CHAIN = mtf.file_of(*mtf.chain(logs=2, pages=9))
UNSUMMED = mtf.write_full(pages=5, checksum=False)


def verdict_of(file: bytes, *, piece: int = 1 << 20) -> Verdict:
    verifier = Verifier()
    for start in range(0, len(file), piece):
        verifier.feed(memoryview(file)[start : start + piece])
    return verifier.verdict()


def found(file: bytes, bit: int) -> bool:
    """Say whether turning this bit over is noticed, by reading the headers or by verifying the bytes."""
    changed = mtf.flipped(file, bit)
    return verdict_of(changed).level is Level.DAMAGED or bool(refusal_code(changed))


def header_bytes(file: bytes) -> Iterator[int]:
    """Yield every byte that a header checksum covers."""
    for placed in blocks_of(file):
        yield from range(placed.block.position, placed.block.position + 52)
        for stream in placed.streams:
            yield from range(stream.position - 22, stream.position)


def test_a_file_written_with_checksum_reaches_the_highest_level():
    verdict = verdict_of(CHAIN)
    assert verdict.level is Level.BACKUP_CHECKSUM
    assert (verdict.streams_checked, verdict.pages_checked) == (6, 9 + 16)


def test_without_it_the_pages_still_speak():
    assert verdict_of(UNSUMMED) == Verdict(
        Level.PAGE_CHECKSUM, "5 pages match their own checksums; the log carries none.", 0, 5
    )


def test_a_log_without_checksum_proves_its_structure_only():
    log = mtf.log(mtf.full(), first=mtf.lsn(41), last=mtf.lsn(42), started_at=MIDNIGHT, checksum=False)
    assert verdict_of(mtf.file_of(log)).level is Level.STRUCTURE


@pytest.mark.parametrize(
    ("file", "word"),
    [(encrypted_file(), "encrypted"), (b"PGDMP" * 99, "not a native"), (b"a short note", "not a native")],
)
def test_what_cannot_be_looked_into_is_called_so(file, word):
    verdict = verdict_of(file)
    assert verdict.level is Level.NOT_INSPECTABLE
    assert word in verdict.sentence


@settings(max_examples=60, deadline=None)
@given(backups(), st.integers(1, 70_000))
def test_every_written_file_is_in_order(backup, piece):
    expected = {Level.BACKUP_CHECKSUM} if backup.checksum else {Level.PAGE_CHECKSUM, Level.STRUCTURE}
    verdict = verdict_of(mtf.file_of(backup), piece=piece)
    if backup.pages == 0 and backup.log_bytes == 0:
        expected = {Level.STRUCTURE}
    assert verdict.level in expected


def test_a_flipped_bit_in_any_header_is_found():
    for byte in header_bytes(FILE):
        assert found(FILE, byte * 8 + byte % 8), f"byte {byte}"


@pytest.mark.soak
def test_every_flipped_bit_in_every_header_is_found():
    for byte in header_bytes(CHAIN):
        assert all(found(CHAIN, byte * 8 + bit) for bit in range(8)), f"byte {byte}"


def data_bits(file: bytes, *kinds: str) -> st.SearchStrategy[int]:
    """Draw a bit of the data itself, behind each stream's two leading bytes."""
    streams = [s for placed in blocks_of(file) for s in placed.streams if s.kind in kinds and s.length > 2]
    spans = [st.integers((s.position + 2) * 8, (s.position + s.length) * 8 - 1) for s in streams]
    return st.one_of(spans)


@settings(max_examples=300, deadline=None)
@given(data_bits(CHAIN, "MQDA", "MQTL"))
def test_a_flipped_bit_in_the_data_is_found_by_the_backup_checksum(bit):
    assert verdict_of(mtf.flipped(CHAIN, bit)).level is Level.DAMAGED


@settings(max_examples=100, deadline=None)
@given(data_bits(CHAIN, "CSUM"))
def test_a_flipped_bit_in_the_checksum_is_found(bit):
    assert verdict_of(mtf.flipped(CHAIN, bit)).level is Level.DAMAGED


@settings(max_examples=100, deadline=None)
@given(data_bits(UNSUMMED, "MQDA"))
def test_a_flipped_bit_in_a_page_is_found_by_its_own_checksum(bit):
    verdict = verdict_of(mtf.flipped(UNSUMMED, bit))
    # Turning off the page's own mark leaves a page that claims no checksum: the format can say no more.
    assert verdict.level is Level.DAMAGED or verdict.pages_checked == 4


def test_the_page_that_is_wrong_is_named():
    data = next(s for s in block_of(UNSUMMED, "MSDA").streams if s.kind == "MQDA")
    third = data.position + 2 + 2 * mtf.PAGE
    sentence = verdict_of(mtf.flipped(UNSUMMED, (third + 5000) * 8), piece=1000).sentence
    assert sentence == f"The page at byte {third} does not match its own checksum."


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(FILE) - 1))
def test_a_file_cut_short_is_damaged(end):
    assert verdict_of(FILE[:end]).level is Level.DAMAGED


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, len(CHAIN) - 1), max_size=12))
def test_an_interrupted_verification_goes_on_where_it_was(cuts):
    edges = sorted({0, *cuts, len(CHAIN)})
    verifier = Verifier()
    for start, end in zip(edges, edges[1:], strict=False):
        kept = json.dumps(verifier.state())
        assert len(kept) < 2048
        verifier = Verifier.from_state(json.loads(kept))
        assert verifier.position == start
        verifier.feed(CHAIN[start:end])
    assert verifier.verdict() == verdict_of(CHAIN)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, len(FILE)))
def test_noise_never_breaks_the_verifier(noise, at):
    verdict = verdict_of(FILE[:at] + noise + FILE[at:], piece=777)
    assert noise == b"" or verdict.level is not Level.NOT_INSPECTABLE or at < 4


def test_verifying_is_fast():
    """The figure is printed (`-s`), not asserted: machines differ."""
    file = mtf.write_full(pages=16384)
    for piece in (1 << 18, 1 << 20, 16 << 20):
        begun = time.process_time()
        assert verdict_of(file, piece=piece).level is Level.BACKUP_CHECKSUM
        spent = time.process_time() - begun
        print(f"verify in pieces of {piece >> 10} KiB: {len(file) / spent / 2**20:.0f} MiB/s of one core")
