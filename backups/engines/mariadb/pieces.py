"""A piece of log as a file: a binary log of its own in zstd, with the events from one place of the server's to another.

`zstd -d` and mariadb-binlog read it without us.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import zstandard

from backups.engines.durable import sync_folder
from backups.engines.mariadb.arriving import Received
from backups.engines.mariadb.binlog import MAGIC
from regions.refusals import Refusal

LEVEL = 3
CHUNK = 1 << 20
ENDING = ".binlog.zst"


def pack(received: Received, first: int, last: int, target: Path) -> None:
    """Write a stretch into one piece, durably and in one step."""
    draft = target.with_suffix(".draft")
    with open(draft, "wb") as out:
        with zstandard.ZstdCompressor(LEVEL, write_checksum=True).stream_writer(out, closefd=False) as squeezed:
            _write(received, first, last, squeezed)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(target)
    sync_folder(target.parent)


def _write(received: Received, first: int, last: int, out: BinaryIO) -> None:
    from_start = first <= len(MAGIC)
    with open(received.path, "rb") as file:
        if not from_start:
            out.write(received.form.head)
        file.seek(0 if from_start else received.local(first))
        left = received.local(last) - file.tell()
        while left:
            taken = file.read(min(left, CHUNK))
            if not taken:
                raise OSError(f"{received.path} has become shorter")
            out.write(taken)
            left -= len(taken)


def unpack(piece: BinaryIO, target: Path, most: int) -> None:
    """Write a piece's binary log into a file; raises Refusal when it is not whole, or more than `most` bytes."""
    try:
        with (
            zstandard.ZstdDecompressor().stream_reader(piece, closefd=False) as raw,
            open(target, "wb") as out,
        ):
            while taken := raw.read(CHUNK):
                out.write(taken)
                if out.tell() > most:
                    raise damaged("it holds more than it claims")
    except zstandard.ZstdError as error:
        raise damaged(str(error)) from error


def damaged(why: str) -> Refusal:
    return Refusal("LogDamaged", f"A piece of log cannot be read: {why}.", "Restore to a moment before it.")
