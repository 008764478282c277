"""Unpacking a backup that is not trusted: plain files and folders only, and nothing that could give orders."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backups.engines.confinement import Account, own
from backups.engines.mariadb.mbstream import ChunkReader, Story, StoryTeller
from backups.engines.mariadb.ways import FILE, Ways, ways_told
from backups.engines.streaming import ArchiveDamaged
from regions.refusals import Refusal

CHUNK = 1 << 20
DEEPEST = 2  # a folder for each database, and files in it

# Settings and doors of the old server, whom it followed, and what would lead elsewhere or be run.
DISCARDED = (
    "*.cnf",
    "*.info",
    "*relay-log*",
    "*relay-bin*",
    "*.isl",
    "*.pid",
    "*.sock",
    "*.so",
    "tc.log",
    "ib_buffer_pool",
    "mysql/*.TRG",
    "mysql/*.TRN",
    FILE,
)
SETTINGS_FILE = "backup-my.cnf"
MOST_SETTINGS = 64 << 10

# What of the old server's settings its files cannot be read without, and what may stand there.
NEEDED = {
    "innodb_page_size": r"\d{4,5}",
    "innodb_undo_tablespaces": r"\d{1,3}",
    "innodb_checksum_algorithm": r"\w+",
    "innodb_data_file_path": r"\w+:\d+[KMG]?(:autoextend(:max:\d+[KMG]?)?)?(;\w+:\d+[KMG]?(:autoextend)?)*",
}
GIVES_AWAY_KEYS = re.compile(r"^\s*(plugin[-_]load|.*encrypt)", re.MULTILINE)

Passed = Callable[[int], object]


@dataclass(frozen=True)
class Unpacked:
    """What came of it besides the files.

    `story`: what the tool wrote down; `needed`: settings its files cannot be read without; `ways`: the old server's;
    `left_out`: files that could give orders.
    """

    story: Story
    needed: dict[str, str]
    ways: Ways
    left_out: list[str]

    @property
    def settings(self) -> dict[str, str]:
        return {**self.ways.settings, **self.needed}


def unpack_full(stream: BinaryIO, target: Path, whom: Account | None, passed: Passed) -> Unpacked:
    """Fill the empty folder with the backup's files, owned by the account.

    Raises Refusal for anything that wants to be elsewhere or is not whole; `passed(bytes)` may raise.
    """
    writer = _Writer(target, whom)
    chunks = ChunkReader(writer)
    try:
        while taken := stream.read(CHUNK):
            chunks.feed(memoryview(taken))
            passed(len(taken))
        chunks.finish()
    except (ArchiveDamaged, FileExistsError, NotADirectoryError, IsADirectoryError) as damage:
        raise refusal(str(damage)) from damage
    finally:
        writer.close()
    story = writer.teller.story()
    if not story.is_whole:
        raise refusal("it lacks what mariadb-backup writes last")
    needed = _needed(writer.settings.decode(errors="replace"))
    return Unpacked(story, needed, ways_told(story.server), sorted(writer.left_out - {SETTINGS_FILE, FILE}))


class _Writer:
    """Writes each file where it belongs, as its chunks come."""

    def __init__(self, target: Path, whom: Account | None) -> None:
        self._target, self._whom = target, whom
        self._open: dict[str, int] = {}
        self._written: set[str] = set()
        self.teller = StoryTeller()
        self.settings = bytearray()
        self.left_out: set[str] = set()

    def content(self, path: str, offset: int, view: memoryview) -> None:
        name = _checked(path)
        self.teller.content(name, offset, view)
        if name == SETTINGS_FILE and offset + len(view) <= MOST_SETTINGS:
            self.settings[offset : offset + len(view)] = view
        if not self._is_discarded(name):
            os.pwrite(self._file(name), view, offset)

    def ended(self, path: str) -> None:
        name = _checked(path)
        if not self._is_discarded(name):
            os.close(self._file(name))
            del self._open[name]

    def close(self) -> None:
        for fd in self._open.values():
            with suppress(OSError):
                os.close(fd)
        self._open.clear()

    def _is_discarded(self, name: str) -> bool:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in DISCARDED):
            return False
        self.left_out.add(name)
        return True

    def _file(self, name: str) -> int:
        if name not in self._open:
            again = os.O_EXCL if name not in self._written else 0  # a file may come in more than one go
            self._written.add(name)
            path = self._target / name
            if path.parent != self._target and not path.parent.exists():
                path.parent.mkdir(mode=0o700)
                own(path.parent, self._whom, 0o700)
            self._open[name] = os.open(path, os.O_WRONLY | os.O_CREAT | again | os.O_NOFOLLOW, 0o600)
            if self._whom:
                os.fchown(self._open[name], self._whom.uid, self._whom.gid)
        return self._open[name]


def _checked(path: str) -> str:
    """Return a file's name below the target; raises Refusal for one that could lie anywhere else."""
    name = path.removeprefix("./")
    parts = name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or len(parts) > DEEPEST or "\0" in name:
        raise refusal(f"{path[:100]!r} would lie outside its folder")
    return name


def _needed(settings: str) -> dict[str, str]:
    if GIVES_AWAY_KEYS.search(settings):
        raise Refusal(
            "Encrypted",
            "The backup's tables are encrypted, and Farshore does not hold their keys.",
            "Restore it by hand, where the keys are.",
        )
    found = {}
    for name, value in re.findall(r"^([a-z_]+)=(.*)$", settings, re.MULTILINE):
        if name in NEEDED:
            if not re.fullmatch(NEEDED[name], value.strip()):
                raise refusal(f"its {name} is {value[:100]!r}")
            found[name] = value.strip()
    return found


def refusal(why: str) -> Refusal:
    return Refusal("SetDamaged", f"The backup cannot be restored: {why}.", "Restore from another set.")
