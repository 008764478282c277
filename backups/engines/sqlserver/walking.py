"""Walks a plain backup file from block to block, jumping over the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from backups.engines.sqlserver.blocks import BLOCK_HEADER, STREAM_HEADER, Block, Stream, parse_block, parse_stream
from backups.engines.sqlserver.saying_no import truncated
from backups.engines.sqlserver.windows import Windows


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A block with all its streams; the next block begins at `end`."""

    block: Block
    streams: tuple[Stream, ...]
    end: int

    @property
    def kind(self) -> str:
        return self.block.kind

    def stream(self, kind: str) -> Stream | None:
        return next((stream for stream in self.streams if stream.kind == kind), None)


def walk(file: Windows) -> Iterator[PlacedBlock]:
    """Yield every block up to the end of the file; refuses when lengths do not add up to it."""
    position = 0
    while position < file.size:
        placed = block_at(file, position)
        yield placed
        position = placed.end


def block_at(file: Windows, position: int) -> PlacedBlock:
    block = parse_block(file.at(position, BLOCK_HEADER), position)
    if block.is_filemark:
        streams, end = (), block.first_stream
    else:
        streams = tuple(_streams_of(file, block))
        end = streams[-1].end
    if end > file.size:
        raise truncated(f"its {block.kind} block ends at byte {end} and the file at byte {file.size}")
    return PlacedBlock(block, streams, end)


def _streams_of(file: Windows, block: Block) -> Iterator[Stream]:
    position = block.first_stream
    while True:
        stream = parse_stream(file.at(position, STREAM_HEADER), position)
        yield stream
        if stream.kind == "SPAD":
            return
        position = stream.end
