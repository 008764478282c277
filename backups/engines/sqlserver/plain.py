"""Reads the sets of a plain (uncompressed) backup file, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from backups.engines.facts import DatabaseFile, SetFacts
from backups.engines.sqlserver.assembling import SetParts, facts_of
from backups.engines.sqlserver.media import RAID_SIZE, Family, SetStart, parse_family, parse_set_start
from backups.engines.sqlserver.saying_no import damaged, too_much, truncated, unknown_layout
from backups.engines.sqlserver.scin import Record, parse_files, parse_record
from backups.engines.sqlserver.walking import PlacedBlock, walk
from backups.engines.sqlserver.windows import MOST_AT_ONCE, Windows

_MOST_RECORD = 131072
_NOT_INSIDE_A_SET = {"TAPE", "SSET", "MSCI", "SFMB", "ESET"}


def sets_of(file: Windows) -> Iterator[SetFacts]:
    """Yield every set of the file; raises Refusal as soon as something is not as it should be."""
    blocks = walk(file)
    family = family_of(file, _next(blocks, "TAPE"))
    _next(blocks, "SFMB")
    for position in count(1):
        begun = next(blocks, None)
        if begun is None:
            if position == 1:
                raise truncated("no backup set is in it yet")
            return
        yield _one_set(file, begun, blocks, family, position)


def family_of(file: Windows, tape: PlacedBlock) -> Family:
    raid = tape.stream("RAID")
    if raid is None or raid.length < RAID_SIZE:
        raise damaged("the media set is not named")
    return parse_family(file.at(raid.position, RAID_SIZE))


def start_of(file: Windows, begun: PlacedBlock) -> SetStart:
    return parse_set_start(file.at(begun.block.position, begun.block.header_size))


def record_of(file: Windows, placed: PlacedBlock) -> Record:
    stream = placed.stream("MQCI")
    if stream is None:
        raise damaged(f"the {placed.kind} block holds no record")
    return parse_record(file.at(stream.position, min(stream.length, _MOST_RECORD)))


def files_of(file: Windows, placed: PlacedBlock, record: Record) -> tuple[DatabaseFile, ...]:
    stream = placed.stream("MQCI")
    if stream.length > MOST_AT_ONCE:
        raise too_much(f"a record of {stream.length} bytes")
    return parse_files(file.at(stream.position, stream.length)[record.length :])


def _one_set(
    file: Windows, begun: PlacedBlock, blocks: Iterator[PlacedBlock], family: Family, position: int
) -> SetFacts:
    _expect(begun, "SSET")
    start = start_of(file, begun)
    head = record_of(file, _first_record(blocks))
    ending = _last_record(blocks)
    tail = record_of(file, ending)
    files = files_of(file, ending, tail)
    end = _closing(blocks)
    offset = begun.block.position
    return facts_of(SetParts(family, start, head, tail, files, position, offset, end - offset, compressed=False))


def _first_record(blocks: Iterator[PlacedBlock]) -> PlacedBlock:
    placed = _next(blocks)
    while placed.kind == "VOLB":
        placed = _next(blocks)
    return _expect(placed, "MSCI")


def _last_record(blocks: Iterator[PlacedBlock]) -> PlacedBlock:
    """Go past the data, whatever its blocks are called, to the final record."""
    placed = _next(blocks)
    while placed.kind != "MSLS":
        if placed.kind in _NOT_INSIDE_A_SET:
            raise unknown_layout(f"a {placed.kind} block among the data")
        placed = _next(blocks)
    return placed


def _closing(blocks: Iterator[PlacedBlock]) -> int:
    """Go past the blocks that close a set; return where it ends. Appended sets may be closed by a single ESET."""
    _next(blocks, "SFMB")
    _next(blocks, "ESET")
    placed = _next(blocks)
    if placed.kind == "ESET":
        placed = _next(blocks)
    return _expect(placed, "SFMB").end


def _next(blocks: Iterator[PlacedBlock], kind: str = "") -> PlacedBlock:
    placed = next(blocks, None)
    if placed is None:
        raise truncated(f"its last set is not closed{f' by a {kind} block' if kind else ''}")
    return _expect(placed, kind) if kind else placed


def _expect(placed: PlacedBlock, kind: str) -> PlacedBlock:
    if placed.kind != kind:
        raise unknown_layout(f"a {placed.kind} block where {kind} belongs")
    return placed
