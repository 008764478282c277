"""Reads the set of a compressed backup file: only the chunks at either end are expanded (`sqlserver.md` §1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from backups.engines.facts import SetFacts
from backups.engines.sqlserver.assembling import SetParts, facts_of
from backups.engines.sqlserver.blocks import BLOCK_HEADER, parse_block
from backups.engines.sqlserver.chunks import CHUNK_HEADER, CHUNK_MARK, FIRST_CHUNK
from backups.engines.sqlserver.media import Family, SetStart
from backups.engines.sqlserver.plain import family_of, files_of, record_of, start_of
from backups.engines.sqlserver.saying_no import damaged, encrypted, too_much, truncated, unknown_layout
from backups.engines.sqlserver.scin import Record
from backups.engines.sqlserver.walking import PlacedBlock, block_at
from backups.engines.sqlserver.windows import END_WINDOW, Windows
from backups.engines.sqlserver.xca import TABLE_SIZE, expand, is_table
from regions.refusals import Refusal

MAGIC = b"MSSQLBAK"
VERSION, COMPRESSED, ENCRYPTED = 2, 0x2, 0x4
_SECOND_CHUNK = 0x600
_MOST_CANDIDATES, _MOST_EXPANSIONS = 2000, 8


@dataclass(frozen=True)
class _Ending:
    """The final record, found in the expanded bytes of the tail."""

    blocks: Windows
    placed: PlacedBlock


def set_of(file: Windows) -> SetFacts:
    """Return the one set of the file; raises Refusal when it is encrypted, unfinished or not as known."""
    _check_container(file)
    head = file.at(0, min(END_WINDOW, file.size))
    family = _family(head)
    ending = _ending(file)  # before the head, which a file that is still being written may lack
    start, first = _start(head)
    last = record_of(ending.blocks, ending.placed)
    if (first.database, first.started) != (last.database, last.started):
        raise unknown_layout("head and tail of the compressed file describe different sets")
    files = files_of(ending.blocks, ending.placed, last)
    length = file.size - _SECOND_CHUNK
    return facts_of(SetParts(family, start, first, last, files, 1, _SECOND_CHUNK, length, compressed=True))


def _check_container(file: Windows) -> None:
    version, flags = struct.unpack_from("<II", file.at(0, 16), 8)
    if flags & ENCRYPTED:
        raise encrypted()
    if version != VERSION or flags != COMPRESSED:
        raise unknown_layout(f"a container of version {version} with flags {flags:#x}")


def _family(head: bytes) -> Family:
    blocks = _expanded(head, FIRST_CHUNK)
    return family_of(blocks, _placed(blocks, 0, "TAPE"))


def _start(head: bytes) -> tuple[SetStart, Record]:
    if _chunk_at(head, _SECOND_CHUNK) is None:
        raise unknown_layout(f"no chunk begins at byte {_SECOND_CHUNK} of the compressed file")
    blocks = _expanded(head, _SECOND_CHUNK)
    begun = _placed(blocks, 0, "SSET")
    volume = _placed(blocks, begun.end, "VOLB")
    return start_of(blocks, begun), record_of(blocks, _placed(blocks, volume.end, "MSCI"))


def _placed(blocks: Windows, position: int, kind: str) -> PlacedBlock:
    placed = block_at(blocks, position)
    if placed.kind != kind:
        raise unknown_layout(f"a {placed.kind} block where {kind} belongs")
    return placed


def _expanded(data: bytes, offset: int) -> Windows:
    body, size = _chunk_at(data, offset) or (None, 0)
    if body is None:
        if offset + CHUNK_HEADER > len(data) or not any(data[offset : offset + CHUNK_HEADER]):
            raise truncated(f"no chunk is written at byte {offset} yet")
        raise damaged(f"the chunk at byte {offset} cannot be expanded")
    try:
        return _windows(expand(body, size))
    except ValueError as wrong:
        raise damaged(f"the chunk at byte {offset} cannot be expanded: {wrong}") from wrong


def _chunk_at(data: bytes, offset: int) -> tuple[bytes, int] | None:
    """Return the body of the chunk at `offset` and its expanded size, None when there is none, whole."""
    if offset + CHUNK_HEADER > len(data):
        return None
    mark, sectors, size = struct.unpack_from("<BBH", data, offset)
    body = data[offset + CHUNK_HEADER : offset + CHUNK_HEADER + size]
    if mark != CHUNK_MARK or not sectors or len(body) != size or not is_table(body[:TABLE_SIZE]):
        return None
    return body, sectors * 512


def _ending(file: Windows) -> _Ending:
    """Scan the tail backwards for the final record; the set must be closed behind it up to the last byte."""
    start = max(0, file.size - END_WINDOW)
    tail = file.at(start, file.size - start)
    if not _ends_with_filemark(tail):
        raise truncated("the filemark that closes a backup is missing")
    closed, following = False, b""
    for expanded in _expansions_backwards(tail):
        blocks = _windows(expanded + following)
        placed = _find(blocks, expanded, "MSLS")
        closed = closed or _find(blocks, expanded, "ESET") is not None
        if placed is not None and closed:
            return _Ending(blocks, placed)
        following = expanded
    if not closed:
        raise truncated("the block that closes its set is missing")
    raise unknown_layout("the final record is not in the last 64 KiB")


def _ends_with_filemark(tail: bytes) -> bool:
    return any(_is_filemark(tail[-size:][:BLOCK_HEADER], size) for size in (0x200, 0x1000))


def _is_filemark(header: bytes, size: int) -> bool:
    try:
        block = parse_block(header, 0)
    except Refusal:
        return False
    return block.is_filemark and block.first_stream == size


def _expansions_backwards(tail: bytes) -> Iterator[bytes]:
    expansions, offset = 0, len(tail)
    for _ in range(_MOST_CANDIDATES):
        offset = tail.rfind(CHUNK_MARK, 0, offset)
        if offset < 0:
            return
        chunk = _chunk_at(tail, offset)
        if chunk is None:
            continue
        expansions += 1
        if expansions > _MOST_EXPANSIONS:
            break
        try:
            yield expand(*chunk)
        except ValueError:
            continue
    raise too_much("no final record among its last chunks")


def _find(blocks: Windows, expanded: bytes, kind: str) -> PlacedBlock | None:
    """Return the first valid block of this kind that begins in `expanded`."""
    position = expanded.find(kind.encode())
    while position >= 0:
        try:
            return block_at(blocks, position)
        except Refusal:
            position = expanded.find(kind.encode(), position + 1)
    return None


def _windows(data: bytes) -> Windows:
    return Windows(lambda offset, length: data[offset : offset + length], len(data))
