"""A file that is cut short, or still growing, never shows a set that is not whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.engines.facts import Inspection
from demo import mtf
from demo.mtf_compressed import compressed_file
from tests.engines.sqlserver.distant import inspected, refusal_code

SECTOR = 512
PLAIN = {block: mtf.write_full(pages=30, block=block) for block in (512, 4096)}
COMPRESSED = compressed_file(mtf.full(pages=30))
APPENDED = mtf.file_of(*mtf.chain(logs=3, differentials=1, pages=10))


@pytest.mark.parametrize("block", PLAIN)
def test_a_plain_file_cut_at_any_sector_is_unfinished(block):
    file = PLAIN[block]
    codes = {refusal_code(file[:end]) for end in range(0, len(file), SECTOR)}
    assert codes == {"Truncated"}


@pytest.mark.parametrize("block", PLAIN)
def test_a_file_whose_end_is_not_written_yet_is_unfinished(block):
    """Some devices give a file its full size first and write it afterwards."""
    file = PLAIN[block]
    begun = {file[:end].ljust(len(file), b"\0") for end in range(0, len(file), SECTOR)} - {file}
    assert {refusal_code(unfinished) for unfinished in begun} <= {"Truncated", "DamagedHeader"}


def test_a_compressed_file_cut_at_any_sector_is_unfinished():
    assert all(refusal_code(COMPRESSED[:end]) for end in range(0, len(COMPRESSED), SECTOR))
    assert refusal_code(COMPRESSED[:-SECTOR]) == "Truncated"


def test_an_appended_file_is_whole_only_where_a_set_ends():
    ends = {facts.offset + facts.length for facts in inspected(APPENDED).sets}
    whole = {end for end in range(0, len(APPENDED) + 1, SECTOR) if not refusal_code(APPENDED[:end])}
    assert whole == ends


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*PLAIN.values(), COMPRESSED]), st.data())
def test_a_file_cut_at_any_byte_is_refused(file, data):
    assert refusal_code(file[: data.draw(st.integers(0, len(file) - 1))])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 70_000), st.booleans())
def test_bytes_behind_the_end_are_not_overlooked(more, zeros):
    inspection: Inspection = inspected(PLAIN[512] + (b"\0" if zeros else b"x") * more)
    assert inspection.refusal


@pytest.mark.soak
def test_a_plain_file_cut_at_any_byte_is_refused():
    file = PLAIN[512]
    assert all(refusal_code(file[:end]) for end in range(len(file)))
