"""Files laid into a landing server's share, in a folder of the attempt that lays them, and gone again with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from backups.engines.facts import LandedSet, Method, SetFacts
from backups.models import Instance, LandingServer
from backups.restore_sources import Piece
from regions.refusals import Refusal

BLOCK = 1 << 20
BEGINS = "farshore-"
READABLE_FOLDER, READABLE_FILE = 0o755, 0o644  # the server reads them under another account
OPEN_FOLDER, OPEN_FILE = 0o777, 0o666  # and in these it writes

Told = Callable[[int, int], None]


def folder_of(landing: LandingServer | Instance, marker: str) -> Path:
    return Path(landing.share_folder) / f"{BEGINS}{marker}"


def files_folder_of(folder: Path) -> Path:
    """Return where the files lie, beside an attempt's folder, that a database restored from a snapshot lives in."""
    return folder.with_name(f"{folder.name}-files")


def bring(sources: Sequence[tuple[SetFacts, list[Piece]]], folder: Path, told: Told) -> list[LandedSet]:
    """Bring every file into the share, verified on its way, once even where several sets lie in it.

    `told(done, total)` hears of every block, in bytes, and may raise to end it. Raises Refusal where there is no room.
    """
    pieces = {piece.key: piece for _, found in sources for piece in found}
    data = [piece.key for facts, found in sources for piece in files_in(facts, found)]
    names = {key: f"{folder.name}/{number}.bak" for number, key in enumerate(pieces, 1)}
    names |= {key: _name_of_data(folder, number) for number, key in enumerate(data, 1)}
    total, done = sum(piece.size for piece in pieces.values()), 0
    told(0, total)
    make(folder, total)
    if data:
        make(files_folder_of(folder), 0, OPEN_FOLDER)
    for key, piece in pieces.items():
        with piece.open() as stream, (folder.parent / names[key]).open("xb") as file:
            os.fchmod(file.fileno(), OPEN_FILE if key in data else READABLE_FILE)
            while block := stream.read(BLOCK):
                file.write(block)
                done += len(block)
                told(done, total)
    return [_landed(facts, found, names) for facts, found in sources]


def files_in(facts: SetFacts, found: list[Piece]) -> list[Piece]:
    """Return those of a set's files that are the database's own: of a snapshot all behind its metadata."""
    return found[1:] if facts.method is Method.SNAPSHOT else []


def _name_of_data(folder: Path, number: int) -> str:
    """With the attempt's marker, by which a database is known again."""
    return f"{files_folder_of(folder).name}/database_{folder.name.removeprefix(BEGINS)}_{number}.dat"


def _landed(facts: SetFacts, found: list[Piece], names: dict[str, str]) -> LandedSet:
    data = files_in(facts, found)
    backup = found[: len(found) - len(data)]
    return LandedSet(facts, tuple(names[one.key] for one in backup), tuple(names[one.key] for one in data))


def make(folder: Path, size: int, mode: int = READABLE_FOLDER) -> None:
    """Make the folder where there is room for so many bytes; raises Refusal."""
    try:
        free = shutil.disk_usage(folder.parent).free
        if size > free:
            said = f"The files take {size:,} bytes, and in {folder.parent} are {free:,} free."
            raise Refusal("NoSpace", said, "Make room in the share.")
        folder.mkdir()
        folder.chmod(mode)
    except OSError as error:
        raise _share_lost(folder, error) from error


def remove_unless(folder: Path, is_used: Callable[[], bool]) -> None:
    """Remove it as `remove` does, but for what a database still lives in, which is asked only where it is there."""
    if not folder.is_dir() or not is_used():
        remove(folder)


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
