"""The expander follows [MS-XCA]: the specification's own example, our writer's bodies, and nothing invalid."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backups.engines.sqlserver.xca import expand, first_symbol, is_table
from demo.mtf_compressed import compress


def table(lengths: dict[int, int]) -> bytes:
    return bytes(lengths.get(2 * i, 0) | lengths.get(2 * i + 1, 0) << 4 for i in range(256))


THREE_LETTERS = table({ord("a"): 3, ord("b"): 3, ord("c"): 2, 256: 2, 256 + 0x1F: 2})
HUNDRED_ABC = THREE_LETTERS + bytes.fromhex("a8dc0000ff2601")


def test_the_example_of_the_specification():
    """A hundred times "abc" ([MS-XCA] §3.2): three literals, then one match that overlaps itself."""
    assert expand(HUNDRED_ABC, 300) == b"abc" * 100


def test_a_match_of_middling_length_has_one_byte_for_it():
    assert expand(THREE_LETTERS + bytes.fromhex("a8dc000063"), 4096) == b"abc" * 40


def test_no_more_is_expanded_than_asked_for():
    assert expand(HUNDRED_ABC, 7) == b"abcabca"
    assert expand(HUNDRED_ABC, 4096) == b"abc" * 100


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=4000) | st.text("ab ", min_size=1, max_size=4000).map(str.encode))
def test_what_the_writer_compresses_comes_back(data):
    assert expand(compress(data), len(data)) == data


@settings(max_examples=60, deadline=None)
@example(b"a" * 300)
@given(st.binary(min_size=1, max_size=400))
def test_the_first_symbol_is_known_without_expanding(data):
    assert first_symbol(compress(data)) == data[0]


def test_the_first_symbol_may_be_a_match_and_needs_a_code():
    assert first_symbol(THREE_LETTERS + bytes.fromhex("00a0000000000000")) >= 256
    for body in (bytes(300), HUNDRED_ABC[:257], b"\x11" * 300):
        with pytest.raises(ValueError):
            first_symbol(body)


def test_a_whole_chunk_comes_back():
    data = bytes(random.Random(3).choices(range(20), k=65536))
    assert expand(compress(data), 65536) == data


def test_a_match_before_the_data_is_not_valid():
    match_first = THREE_LETTERS + bytes.fromhex("00a0000000000000")
    with pytest.raises(ValueError):
        expand(match_first, 300)


@pytest.mark.parametrize("codes", [bytes(256), b"\xff" * 256, b"\x11" * 256, b"", HUNDRED_ABC[:255]])
def test_an_incomplete_code_is_not_valid(codes):
    assert not is_table(codes)
    with pytest.raises(ValueError):
        expand(codes + b"body!" * 4, 300)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 5000))
def test_any_body_ends_within_its_size(body, size):
    with suppress(ValueError):
        assert len(expand(THREE_LETTERS + body, size)) <= size
