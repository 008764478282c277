"""One flipped bit is found at the level that is claimed: in files of every kind the writer knows (issue 5, I1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.engines.facts import Kind
from backups.engines.sqlserver.checksums import Level, Verdict, Verifier
from demo import mtf
from demo.mtf_compressed import compressed_file
from tests.engines.sqlserver.distant import refusal_code
from tests.engines.sqlserver.forging import blocks_of, chunks_in

Span = tuple[int, int]
FULL = mtf.full(pages=11, log_bytes=3000)
LATER = {"first": mtf.lsn(41), "started_at": FULL.finished_at}
LOG = mtf.log(FULL, last=mtf.lsn(42), log_bytes=5000, **LATER)
DIFFERENTIAL = mtf.differential(FULL, pages=5, **LATER)
TWO_FILES = (mtf.DataFile("a", "D:\\a.mdf", 5), mtf.DataFile("b", "D:\\b.ndf", 4, 3))

FILES: dict[str, tuple[Level, Callable[[], bytes]]] = {
    "full": (Level.BACKUP_CHECKSUM, lambda: mtf.file_of(FULL)),
    "differential": (Level.BACKUP_CHECKSUM, lambda: mtf.file_of(DIFFERENTIAL)),
    "log": (Level.BACKUP_CHECKSUM, lambda: mtf.file_of(LOG)),
    "copy-only": (Level.BACKUP_CHECKSUM, lambda: mtf.write_full(pages=3, copy_only=True)),
    "two data files": (Level.BACKUP_CHECKSUM, lambda: mtf.write_full(files=TWO_FILES)),
    "a stripe": (Level.BACKUP_CHECKSUM, lambda: mtf.stripes_of(FULL, 3)[1]),
    "appended": (Level.BACKUP_CHECKSUM, lambda: mtf.file_of(FULL, LOG, DIFFERENTIAL)),
    "4K media": (Level.BACKUP_CHECKSUM, lambda: mtf.write_full(pages=4, block=4096)),
    "full without checksum": (Level.PAGE_CHECKSUM, lambda: mtf.write_full(pages=4, checksum=False)),
    "4K without checksum": (Level.PAGE_CHECKSUM, lambda: mtf.write_full(pages=4, block=4096, checksum=False)),
    "log without checksum": (
        Level.STRUCTURE,
        lambda: mtf.file_of(mtf.log(FULL, last=mtf.lsn(42), checksum=False, **LATER)),
    ),
    "compressed": (Level.STRUCTURE, lambda: compressed_file(FULL)),
    "compressed log": (Level.STRUCTURE, lambda: compressed_file(LOG)),
    "compressed stripe": (
        Level.STRUCTURE,
        lambda: compressed_file(FULL, media=mtf.media_of(FULL, families=2, sequence=2)),
    ),
}


@cache
def file_called(name: str) -> bytes:
    return FILES[name][1]()


def verdict_of(file: bytes) -> Verdict:
    verifier = Verifier()
    verifier.feed(file)
    return verifier.verdict()


@cache
def covered(name: str) -> list[Span]:
    """Return the byte spans that the file's level speaks for."""
    level, file = FILES[name][0], file_called(name)
    if file.startswith(b"MSSQLBAK"):
        return [span for chunk in chunks_in(file) for span in chunk.covered]
    spans = [(placed.block.position, placed.block.position + 52) for placed in blocks_of(file)]
    for stream in (stream for placed in blocks_of(file) for stream in placed.streams):
        spans.append((stream.position - 22, stream.position))
        if _speaks_for(level, stream.kind) and stream.length > 2:
            spans.append((stream.position + 2 * (stream.kind != "CSUM"), stream.position + stream.length))
    return spans


def _speaks_for(level: Level, kind: str) -> bool:
    return kind in {Level.BACKUP_CHECKSUM: ("MQDA", "MQTL", "CSUM"), Level.PAGE_CHECKSUM: ("MQDA",)}.get(level, ())


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_reaches_its_level(name):
    assert verdict_of(file_called(name)).level is FILES[name][0]
    assert refusal_code(file_called(name)) == ""


def assert_found(name: str, data: st.DataObject) -> None:
    begin, end = data.draw(st.sampled_from(covered(name)))
    bit = data.draw(st.integers(begin * 8, end * 8 - 1))
    changed = mtf.flipped(file_called(name), bit)
    verdict, whole = verdict_of(changed), verdict_of(file_called(name))
    # A page whose own mark is turned off claims no checksum, a container called encrypted no level: neither passes.
    lowered = verdict.pages_checked < whole.pages_checked or verdict.level is Level.NOT_INSPECTABLE
    assert verdict.level is Level.DAMAGED or lowered or refusal_code(changed), f"bit {bit % 8} of byte {bit // 8}"


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(FILES)), st.data())
def test_a_flipped_bit_is_found_wherever_the_level_speaks(name, data):
    assert_found(name, data)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(st.sampled_from(list(FILES)), st.data())
def test_a_flipped_bit_is_found_in_thousands_of_places(name, data):
    assert_found(name, data)


def test_all_kinds_are_there():
    assert {FULL.kind, LOG.kind, DIFFERENTIAL.kind} == set(Kind)
