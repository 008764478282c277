"""A piece of log as a file: a tar of consecutive segments of one timeline, that timeline's history first, in zstd."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import zstandard

from backups.engines.durable import sync_folder
from backups.engines.postgresql.segments import HISTORY, LARGEST, SEGMENT
from regions.refusals import Refusal

LEVEL = 3
CHUNK = 1 << 20
MOST_HISTORY = 1 << 20
ENDING = ".tar.zst"


def pack(files: Iterable[Path], target: Path) -> int:
    """Write the files into one piece, durably and in one step; returns its size."""
    draft = target.with_suffix(".draft")
    with open(draft, "wb") as out:
        with zstandard.ZstdCompressor(LEVEL, write_checksum=True).stream_writer(out, closefd=False) as squeezed:
            _write_tar(files, squeezed)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(target)
    sync_folder(target.parent)
    return target.stat().st_size


def _write_tar(files: Iterable[Path], out: BinaryIO) -> None:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for path in files:
            member = tarfile.TarInfo(path.name)
            member.size, member.mode = path.stat().st_size, 0o600
            with open(path, "rb") as content:
                tar.addfile(member, content)


def unpack(piece: BinaryIO, wanted: Callable[[str], bool], put: Callable[[str, BinaryIO], object]) -> None:
    """Hand every wanted file of a piece to `put`; raises Refusal for anything that is no piece of log."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(piece, closefd=False) as raw:
            _read_tar(raw, wanted, put)
    except (tarfile.TarError, zstandard.ZstdError) as damage:
        raise _damaged(str(damage)) from damage


def _read_tar(raw: BinaryIO, wanted: Callable[[str], bool], put: Callable[[str, BinaryIO], object]) -> None:
    with tarfile.open(fileobj=raw, mode="r|", bufsize=CHUNK) as tar:
        for member in tar:
            _check(member)
            if wanted(member.name):
                put(member.name, tar.extractfile(member))


def _check(member: tarfile.TarInfo) -> None:
    most = LARGEST if SEGMENT.match(member.name) else MOST_HISTORY if HISTORY.match(member.name) else -1
    if not member.isreg() or member.issparse() or member.size > most:
        raise _damaged(f"it holds {member.name[:100]!r}, which is no log")


def _damaged(why: str) -> Refusal:
    return Refusal("LogDamaged", f"A piece of log cannot be read: {why}.", "Restore to a moment before it.")
