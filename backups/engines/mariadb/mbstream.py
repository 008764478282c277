"""Reading an mbstream as it passes: its files in chunks, each with its own checksum.

The format (MariaDB: extra/mariabackup/xbstream.h): XBSTCK01, flags, type, length of the path, the path; a chunk with
content ('P') goes on with its length, its offset in the file and the CRC-32 of what follows. 'E' ends a file.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from backups.engines.streaming import ArchiveDamaged

MAGIC = b"XBSTCK01"
HEAD = struct.Struct("<8sBcI")
BODY = struct.Struct("<QQI")
CONTENT, ENDS = b"P", b"E"
LONGEST_PATH = 512
LARGEST_CHUNK = 1 << 30

# What the tool writes down of the backup, by the names before and since MariaDB 11.
TOLD = {
    "xtrabackup_binlog_info": "binlog",
    "mariadb_backup_binlog_info": "binlog",
    "xtrabackup_slave_info": "slave",
    "mariadb_backup_slave_info": "slave",
    "xtrabackup_checkpoints": "checkpoints",
    "mariadb_backup_checkpoints": "checkpoints",
    "xtrabackup_info": "info",
    "mariadb_backup_info": "info",
    "farshore_server.json": "server",
}
MOST_TOLD = 64 << 10


class Taker(Protocol):
    """Told of every file in the stream, in order."""

    def content(self, path: str, offset: int, view: memoryview) -> None: ...

    def ended(self, path: str) -> None: ...


class ChunkReader:
    """Feed it every byte in order; memory stays small whatever the size. Raises ArchiveDamaged."""

    def __init__(self, taker: Taker) -> None:
        self.size = 0
        self._taker = taker
        self._waiting = bytearray()
        self._wanted = HEAD.size
        self._reading = self._head
        self._path = ""
        self._left = self._offset = self._sum = self._promised = 0
        self._open: dict[str, int] = {}  # how much has come of each file
        self._files = 0

    def feed(self, view: memoryview) -> None:
        self.size += len(view)
        while len(view):
            view = self._pass_on(view) if self._left else self._collect(view)

    def _collect(self, view: memoryview) -> memoryview:
        taken = view[: self._wanted - len(self._waiting)]
        self._waiting += taken
        if len(self._waiting) == self._wanted:
            told = bytes(self._waiting)
            self._waiting.clear()
            self._reading(told)
        return view[len(taken) :]

    def _next(self, reading, wanted: int) -> None:
        self._reading, self._wanted = reading, wanted

    def _head(self, told: bytes) -> None:
        magic, _, kind, length = HEAD.unpack(told)
        if magic != MAGIC or kind not in (CONTENT, ENDS) or not 0 < length <= LONGEST_PATH:
            raise ArchiveDamaged(f"after {self.size} bytes comes something that is no chunk of an mbstream")
        self._next(lambda path: self._named(path, kind), length)

    def _named(self, path: bytes, kind: bytes) -> None:
        self._path = path.decode("utf-8", "surrogateescape")
        if kind == CONTENT:
            self._open.setdefault(self._path, 0)
            self._next(self._body, BODY.size)
            return
        self._open.pop(self._path, None)
        self._files += 1
        self._taker.ended(self._path)
        self._next(self._head, HEAD.size)

    def _body(self, told: bytes) -> None:
        self._left, self._offset, self._promised = BODY.unpack(told)
        if self._left > LARGEST_CHUNK:
            raise ArchiveDamaged(f"after {self.size} bytes comes a chunk of {self._left} bytes")
        if self._offset != self._open[self._path]:  # heads have no checksum
            raise ArchiveDamaged(f"{self._path[:100]!r} has a hole at {self._open[self._path]}")
        self._sum = 0
        if not self._left:
            self._next(self._head, HEAD.size)

    def _pass_on(self, view: memoryview) -> memoryview:
        taken = view[: self._left]
        self._sum = zlib.crc32(taken, self._sum)
        self._taker.content(self._path, self._offset, taken)
        self._left -= len(taken)
        self._offset += len(taken)
        self._open[self._path] = self._offset
        if not self._left:
            if self._sum != self._promised:
                raise ArchiveDamaged(f"a part of {self._path[:100]!r} does not agree with its checksum")
            self._next(self._head, HEAD.size)
        return view[len(taken) :]

    def finish(self) -> None:
        """Raise ArchiveDamaged unless every file came to its end, and the last chunk too."""
        if self._left or self._waiting or self._reading != self._head:
            raise ArchiveDamaged("it ends in the middle of a chunk")
        if self._open:
            raise ArchiveDamaged(f"{sorted(self._open)[0][:100]!r} has no end")
        if not self._files:
            raise ArchiveDamaged("it is empty")


@dataclass(frozen=True)
class Story:
    """What a whole backup said of itself: texts as the tool wrote them, "" what it had no reason to write."""

    binlog: str = ""
    slave: str = ""
    checkpoints: str = ""
    info: str = ""
    server: str = ""

    @property
    def place(self) -> tuple[str, int] | None:
        """File and offset in the binary log of the server that was copied."""
        found = re.match(r"(\S+)\t(\d+)", self.binlog)
        return (found[1], int(found[2])) if found else None

    @property
    def gtid(self) -> str:
        """The last transaction of each domain in it: as a replica has it of its primary, else of its own log."""
        if found := re.search(r"gtid_slave_pos = '([^']*)'", self.slave):
            return found[1]
        return self.binlog.split("\t")[2].strip() if self.binlog.count("\t") >= 2 else ""

    @property
    def primary_place(self) -> tuple[str, int] | None:
        """Where a replica that follows by file and offset was in its primary's log, to the byte."""
        found = re.search(r"MASTER_LOG_FILE\s*=\s*'([^']+)',\s*MASTER_LOG_POS\s*=\s*(\d+)", self.slave, re.IGNORECASE)
        return (found[1], int(found[2])) if found else None

    @property
    def is_whole(self) -> bool:
        return bool(self.info) and "full-backuped" in self.checkpoints


@dataclass
class StoryTeller:
    """Keeps what the tool wrote down, and lets everything else pass."""

    texts: dict[str, bytearray] = field(default_factory=dict)

    def content(self, path: str, offset: int, view: memoryview) -> None:
        what = TOLD.get(path.removeprefix("./"))
        if what and offset + len(view) <= MOST_TOLD:
            self.texts.setdefault(what, bytearray())[offset : offset + len(view)] = view

    def ended(self, path: str) -> None:
        pass

    def story(self) -> Story:
        return Story(**{what: text.decode(errors="replace") for what, text in self.texts.items()})


class BackupReader:
    """Reads a backup on its way into a store (see streaming.Reader)."""

    def __init__(self) -> None:
        self._teller = StoryTeller()
        self._chunks = ChunkReader(self._teller)

    @property
    def size(self) -> int:
        return self._chunks.size

    def feed(self, view: memoryview) -> None:
        self._chunks.feed(view)

    def story(self) -> Story:
        self._chunks.finish()
        story = self._teller.story()
        if not story.is_whole:
            raise ArchiveDamaged("it lacks what mariadb-backup writes last")
        return story


def one_file(path: str, content: bytes) -> bytes:
    """One small file as a part of an mbstream."""
    name = path.encode()
    head = HEAD.pack(MAGIC, 0, CONTENT, len(name)) + name + BODY.pack(len(content), 0, zlib.crc32(content)) + content
    return head + HEAD.pack(MAGIC, 0, ENDS, len(name)) + name


def told_pairs(gtid: str) -> Iterator[tuple[int, int]]:
    """The domains of a GTID position, each with its last sequence number."""
    for domain, _, number in (part.strip().split("-") for part in gtid.split(",") if part.strip()):
        yield int(domain), int(number)
