"""Files laid into a landing server's share, in a folder of the attempt that lays them, and gone again with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from backups.engines.facts import LandedSet, SetFacts
from backups.models import Instance, LandingServer
from backups.restore_sources import Piece
from regions.refusals import Refusal

BLOCK = 1 << 20
READABLE_FOLDER, READABLE_FILE = 0o755, 0o644  # the server reads them under another account

Told = Callable[[int, int], None]


def folder_of(landing: LandingServer | Instance, marker: str) -> Path:
    return Path(landing.share_folder) / f"farshore-{marker}"


def bring(sources: Sequence[tuple[SetFacts, list[Piece]]], folder: Path, told: Told) -> list[LandedSet]:
    """Bring every file into the share, verified on its way, once even where several sets lie in it.

    `told(done, total)` hears of every block, in bytes, and may raise to end it. Raises Refusal where there is no room.
    """
    pieces = {piece.key: piece for _, found in sources for piece in found}
    names = {key: f"{number}.bak" for number, key in enumerate(pieces, 1)}
    total, done = sum(piece.size for piece in pieces.values()), 0
    told(0, total)
    make(folder, total)
    for key, piece in pieces.items():
        with piece.open() as stream, (folder / names[key]).open("xb") as file:
            os.fchmod(file.fileno(), READABLE_FILE)
            while block := stream.read(BLOCK):
                file.write(block)
                done += len(block)
                told(done, total)
    return [LandedSet(facts, tuple(f"{folder.name}/{names[piece.key]}" for piece in found)) for facts, found in sources]


def make(folder: Path, size: int) -> None:
    """Make the folder where there is room for so many bytes; raises Refusal."""
    try:
        free = shutil.disk_usage(folder.parent).free
        if size > free:
            said = f"The files take {size:,} bytes, and in {folder.parent} are {free:,} free."
            raise Refusal("NoSpace", said, "Make room in the share.")
        folder.mkdir()
        folder.chmod(READABLE_FOLDER)
    except OSError as error:
        raise _share_lost(folder, error) from error


def remove(folder: Path) -> None:
    """Remove it with all that is in it; raises Refusal when the share is not there, or does not let go."""
    try:
        if not folder.parent.is_dir():
            raise FileNotFoundError(0, "it is not there")
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
    except OSError as error:
        raise _share_lost(folder, error) from error


def _share_lost(folder: Path, error: OSError) -> Refusal:
    said = f"This worker cannot write into the share at {folder.parent}: {error.strerror}."
    return Refusal("ShareNotHere", said, "Mount the share there, writable for Farshore.")
