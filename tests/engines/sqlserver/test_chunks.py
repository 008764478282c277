"""A compressed backup is walked from chunk to chunk: what is cut, lost, added or moved in it is found."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backups.engines.sqlserver.checksums import Level, Verdict, Verifier
from demo import mtf
from demo.mtf_compressed import chunks_of, compressed_file
from tests.engines.sqlserver.forging import chunks_in

FILE = compressed_file(mtf.full(pages=12))
MANY_NAMES = compressed_file(mtf.full(files=tuple(mtf.DataFile(f"f{n}", f"D:\\{n}.ndf", 1, n) for n in range(1, 60))))
CHUNKS = list(chunks_in(FILE))
FIRST = CHUNKS[0].position
NO_CLAIM = (Level.NOT_INSPECTABLE, Level.DAMAGED)  # what does not fit is no damage yet: see docs/decisions/0073


def verdict_of(file: bytes, *, piece: int = 1 << 20) -> Verdict:
    verifier = Verifier()
    for start in range(0, len(file), piece):
        verifier.feed(memoryview(file)[start : start + piece])
    return verifier.verdict()


def test_a_whole_file_proves_its_structure_and_says_what_that_leaves_open():
    verdict = verdict_of(FILE)
    assert verdict.level is Level.STRUCTURE
    assert verdict.sentence == (
        "All 7 chunks follow each other to the end, and the headers in them are in order; the compressed data in them"
        " carries checksums of an unknown kind, which are not compared."
    )


@pytest.mark.parametrize("file", [FILE, MANY_NAMES])
@pytest.mark.parametrize("piece", [1, 13, 511, 4096])
def test_the_size_of_the_pieces_makes_no_difference(file, piece):
    assert verdict_of(file, piece=piece) == verdict_of(file)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([FILE, MANY_NAMES]), st.data())
def test_an_interrupted_walk_goes_on_where_it_was(file, data):
    cuts = data.draw(st.lists(st.integers(1, len(file) - 1), max_size=12))
    edges = sorted({0, *cuts, len(file)})
    verifier = Verifier()
    for start, end in zip(edges, edges[1:], strict=False):
        verifier = Verifier.from_state(json.loads(json.dumps(verifier.state())))
        assert verifier.position == start
        verifier.feed(file[start:end])
    assert verifier.verdict() == verdict_of(file)


def test_the_state_between_pieces_stays_small():
    """Only a cut inside a chunk of blocks keeps more than a few hundred bytes: what has come of that chunk."""
    verifier, most = Verifier(), 0
    for start in range(0, len(FILE), 97):
        verifier.feed(FILE[start : start + 97])
        most = max(most, len(json.dumps(verifier.state())))
    assert most < 4096


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(FILE) - 1))
def test_a_file_cut_short_is_damaged(end):
    assert verdict_of(FILE[:end]).level is Level.DAMAGED


@settings(max_examples=150, deadline=None)
@given(st.integers(FIRST, len(FILE) - 1), st.integers(1, 600))
def test_bytes_that_are_lost_are_missed(at, count):
    assert verdict_of(FILE[:at] + FILE[at + count :]).level in NO_CLAIM


@settings(max_examples=150, deadline=None)
@example(CHUNKS[2].position, b"\x27\0\0\0\0")
@given(st.integers(FIRST, len(FILE) - 1), st.binary(min_size=1, max_size=600))
def test_bytes_that_are_added_are_noticed(at, more):
    assert verdict_of(FILE[:at] + more + FILE[at:]).level in NO_CLAIM


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([chunk for chunk in CHUNKS if not chunk.is_filemark]), st.integers(0, 0xFFFF))
def test_a_chunk_that_lies_about_its_size_breaks_the_chain(chunk, size):
    if size != chunk.size:
        lie = FILE[: chunk.position + 2] + struct.pack("<H", size) + FILE[chunk.position + 4 :]
        assert verdict_of(lie).level in NO_CLAIM


@pytest.mark.parametrize("chunk", [CHUNKS[0], CHUNKS[2], CHUNKS[3]])
def test_a_size_that_leads_to_what_looks_like_padding_is_no_way_past_other_chunks(chunk):
    """One byte in 128 looks like padding, which is not looked at; the chunks behind it are missed all the same."""
    begin = chunk.position + 28
    ends = [end for end in range(begin + 260, min(begin + 0x10000, CHUNKS[-1].position)) if FILE[end] in (0x24, 0x2C)]
    for size in [end - begin for end in ends if end != begin + chunk.size][::5]:
        lie = FILE[: chunk.position + 2] + struct.pack("<H", size) + FILE[chunk.position + 4 :]
        assert verdict_of(lie).level is not Level.STRUCTURE, size


def test_a_first_chunk_without_the_tape_block_is_not_as_known():
    pages = chunks_of(b"\1" * 512)
    assert verdict_of((FILE[:FIRST] + pages).ljust(0x400, b"\x24") + FILE[0x400:]).level in NO_CLAIM


def test_a_byte_lost_in_the_padding_moves_the_filemark_behind_it():
    """However much follows: it is not taken for padding of an unknown kind."""
    filemark = CHUNKS[1].position
    assert verdict_of(FILE[: filemark - 1] + FILE[filemark:] + bytes(3 << 20)).level in NO_CLAIM


@pytest.mark.parametrize("kind", ["SSET", "VOLB", "MSCI", "MSDA", "MSTL", "MSLS", "ESET"])
def test_a_wrong_header_inside_a_chunk_is_found(kind, monkeypatch):
    """The block is changed before it is compressed, so that only its own checksum is wrong."""
    spoiled = []

    def spoil(data: bytes) -> bytes:
        at = data.find(kind.encode())
        if at % 512 == 0 and not spoiled:
            spoiled.append(at)
            data = data[: at + 20] + bytes([data[at + 20] ^ 4]) + data[at + 21 :]
        return chunks_of(data)

    monkeypatch.setattr("demo.mtf_compressed.chunks_of", spoil)
    verdict = verdict_of(compressed_file(mtf.full(pages=12)))
    assert spoiled
    assert verdict.level is Level.DAMAGED
    assert "fails its checksum" in verdict.sentence


def test_a_record_of_a_kind_never_seen_is_not_called_damage():
    stored = struct.pack("<BBH20sI", 0x20, 128, 0, b"", 7) + b"x" * 65536
    at = CHUNKS[3].position
    verdict = verdict_of(FILE[:at] + stored + FILE[at:])
    assert verdict.level is Level.NOT_INSPECTABLE
    assert verdict.sentence == f"The record at byte {at} is of a kind not known here (0x20)."


@pytest.mark.parametrize(("flags", "word"), [(6, "encrypted"), (4, "encrypted"), (0x12, "not known here")])
def test_a_container_that_cannot_be_looked_into_is_called_so(flags, word):
    verdict = verdict_of(FILE[:12] + struct.pack("<I", flags) + FILE[16:])
    assert verdict.level is Level.NOT_INSPECTABLE
    assert word in verdict.sentence


def test_padding_may_be_long_and_hold_anything():
    """What lies between the last chunk of a set and its filemark is nobody's business, but it ends somewhere."""
    at = CHUNKS[1].position
    padding = (b"\x2c" + b"old bytes" * 8000)[:65536]
    assert verdict_of(FILE[:at] + padding + FILE[at:]).level is Level.STRUCTURE
    endless = b"\x24" + bytes(3 << 20)
    assert verdict_of(FILE[:at] + endless + FILE[at:]).level is Level.NOT_INSPECTABLE


@pytest.mark.parametrize("size", [0, 5, 700, 9999])
def test_padding_may_be_a_record_with_a_size_of_its_own(size):
    """Also in the middle, between two chunks that are on no sector; what follows stays on its sectors."""
    one, other = CHUNKS[3].position, CHUNKS[4].position
    record = padding_record(0x24, size)
    more = padding_record(0x2C, -(len(record) + 28) % 512 + 512)
    assert verdict_of(FILE[:one] + record + FILE[one:other] + more + FILE[other:]) == verdict_of(FILE)


def padding_record(mark: int, size: int) -> bytes:
    return struct.pack("<BBH20sI", mark, 0, size, b"", 0) + b"\xaa" * size


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, len(FILE)))
def test_noise_never_breaks_the_walk(noise, at):
    verdict_of(FILE[:at] + noise + FILE[at + len(noise) :], piece=777)
