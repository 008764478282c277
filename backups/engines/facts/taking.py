"""A backup that is taken: what is asked of a server or its tools, and what they leave behind."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from backups.engines.facts.sets import Kind, ReadAt, SetFacts
from regions.refusals import Refusal


class Stopped(Exception):
    """Whoever asked no longer wants it (the lease is lost): nothing was taken or made, nothing is left behind."""


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a backup's bytes that is read again later without the rest, and its SHA-256."""

    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class TakenSet:
    """A backup that was taken whole; `notes` are sentences worth showing beside it.

    `outline`: the stretch of it that an incremental on this set needs, None where none can be taken on it. `times`:
    when it began and ended, by our own clock, where that is not when its bytes came in. `shared`: what is to be
    removed from a share once this is recorded.
    """

    facts: SetFacts
    notes: tuple[str, ...] = ()
    outline: Excerpt | None = None
    times: tuple[datetime, datetime] | None = None
    shared: SharedBackup | None = None


@dataclass(frozen=True)
class Share:
    """One folder under two names: `called` by the server (\\\\files\\sql or /var/backups), `folder` on this worker."""

    called: str
    folder: Path

    def device(self, name: str) -> str:
        """What the server calls a file in it."""
        sign = "\\" if "\\" in self.called else "/"
        return f"{self.called.rstrip(sign)}{sign}{name}"

    def open(self, name: str) -> BinaryIO:
        """Open a file in it to read; raises OSError, also for a link or anything else that is no plain file."""
        opened = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise OSError(f"{name} is no plain file")
        return os.fdopen(opened, "rb")


@dataclass(frozen=True)
class Bucket:
    """A bucket that a server writes to by itself, and calls `address` (s3://host:port/bucket), opened by a key.

    `look(key)` gives one object as it is now, to read, and its size; None where there is none. It raises when the
    store cannot say. `prefix` is what the server writes in front of a key.
    """

    address: str
    key_id: str
    secret: str = field(repr=False)
    look: Callable[[str], tuple[ReadAt, int] | None] = field(repr=False)
    prefix: str = ""
    region: str = ""

    def device(self, key: str) -> str:
        """What the server calls an object in it."""
        return f"{self.address}/{self.prefix}{key}"


@dataclass(frozen=True)
class Attempt:
    """Whose attempt a backup on a share is: its set and its files carry this in their names, so that it is found again.

    `owner` is the instance, `number` tells the attempts at one job apart; `began_at` is by our own clock.
    """

    owner: str
    job: int
    number: int
    began_at: datetime

    def __str__(self) -> str:
        return f"{self.owner}-{self.job}-{self.number}-{self.began_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    def is_before(self, other: Attempt) -> bool:
        """Whether this was an earlier attempt at the same job: what it does is nobody's any more."""
        return (self.owner, self.job) == (other.owner, other.job) and self.number < other.number

    @classmethod
    def from_name(cls, said: str) -> Attempt | None:
        """Read what `str` wrote; None for anything else."""
        found = re.fullmatch(r"(.{1,60})-(\d{1,18})-(\d{1,18})-(\d{8}T\d{6})Z", said, re.ASCII)
        if not found:
            return None
        owner, job, number, began = found.groups()
        try:
            return cls(owner, int(job), int(number), datetime.strptime(began, "%Y%m%dT%H%M%S").replace(tzinfo=UTC))
        except ValueError:
            return None


@dataclass(frozen=True)
class DatabaseOrder:
    """Which backup of one database is to be taken. `compress` is left out where the edition cannot.

    `of_secondary`: nothing is taken unless the server is a secondary of that very database (R-9.1). Without an
    `attempt` nobody will look for it again.
    """

    database: str
    kind: Kind = Kind.FULL
    copy_only: bool = False
    compress: bool = True
    stripes: int = 1
    of_secondary: bool = False
    attempt: Attempt | None = None


@dataclass(frozen=True)
class SharedBackup:
    """A backup that the server wrote whole: its facts, the names of its files in the share's folder, stripe by stripe;
    in a bucket, their keys.

    `notes` are sentences worth showing beside it. `left_by`: the earlier attempt that it was taken by, None for one
    taken just now.
    """

    facts: SetFacts
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left_by: Attempt | None = None


@dataclass(frozen=True)
class Base:
    """The full or incremental that an incremental is taken on; `open` gives its outline, verified while it is read."""

    facts: SetFacts
    open: Callable[[], BinaryIO]


@dataclass
class FullNeeded(Refusal):
    """No incremental can be taken on this base, or of this server; a full can. Nothing was taken."""


@dataclass(frozen=True)
class LogPiece:
    """A finished, zstd-compressed stretch of a server's log, in the spool of this machine until it is delivered.

    In its facts `first_position` and `last_position` are where it begins and where the next one begins, `fork` the
    timeline, `size_bytes` the raw bytes. Every change committed between `started_at` and `finished_at` is in it or
    before it; it may hold a little more than it claims, never less.
    """

    path: Path
    facts: SetFacts


LOGS_LOST = frozenset({"SlotLost", "WalRemoved", "BinlogsPurged"})
"""With these codes an engine's `receive_logs` and `receiver_lag` refuse when the server no longer has what was not
received yet: once the receiver is forgotten, receiving begins anew behind a gap."""
