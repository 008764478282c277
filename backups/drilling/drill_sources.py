"""What a drill reads: the copies of a moment, held against their hashes to the last byte, or a damaged clone.

The clone is the copy seen through damage: bytes are changed on their way from the store, nothing is ever written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, BinaryIO

from backups import restore_sources
from backups.chains import windows
from backups.chains.log_chain import Interval
from backups.engines.facts import SetFacts, Source, Stopped
from backups.leases import LeaseLost
from backups.models import Copy, Drill, Kind
from backups.restore_sources import Piece, Through
from regions.refusals import Refusal
from regions.storage import ObjectInfo, Readable, Storage, StorageError
from regions.storage.mover import MIB, Differs, Part

Pick = Drill.Pick
# What bytes are changed by, never 0. Checksums of XORed words are blind to an even number of words changed alike, as
# are SQL Server's to whole sectors inverted; so it neither repeats within a run nor in step with sectors and pages.
CHANGES = bytes(Random(20).choices(range(1, 256), k=8191))
RUN_BYTES = 32 << 10  # two of InnoDB's pages, four of PostgreSQL's: one whole page at least is nothing but damage
LEFT_ALONE = (Stopped, StorageError, LeaseLost, Differs)


# ---- which moment, which copies


@dataclass(frozen=True)
class Choice:
    """The moment picked and the copies that bring it back, in the order of applying."""

    moment: datetime
    copies: tuple[Copy, ...]

    @property
    def data(self) -> list[Copy]:
        return [copy for copy in self.copies if copy.set.kind != Kind.LOG]

    @property
    def logs(self) -> list[Copy]:
        return [copy for copy in self.copies if copy.set.kind == Kind.LOG]

    @property
    def until(self) -> datetime | None:
        """What the engine is asked to stop at: without logs a set is as it was taken."""
        return self.moment if self.logs else None


def choose(drill: Drill, luck: Random) -> Choice:
    """Pick by the copies as they are now; raises Refusal when there is nothing to restore."""
    intervals = windows.chain_of(drill.instance, drill.store, drill.database).window()
    if not intervals:
        raise Refusal(
            "NothingToRestore", "No completed copy can be restored.", "Wait until a full backup has been copied."
        )
    moment = moment_of(intervals, drill.pick, luck)
    found = Choice(moment, tuple(windows.copies_for(drill.instance, drill.store, drill.database, moment)))
    return Choice(moment, tuple(found.data)) if drill.pick == Pick.CANARY else found


def moment_of(intervals: Sequence[Interval], pick: str, luck: Random) -> datetime:
    """Return the newest, the oldest or any moment inside the intervals; a single point is worth a second. Pure."""
    if pick == Pick.OLDEST:
        return min(found.start for found in intervals)
    if pick != Pick.RANDOM:
        return max(found.end for found in intervals)
    lengths = [(found.end - found.start + timedelta(seconds=1)).total_seconds() for found in intervals]
    [found] = luck.choices(intervals, lengths)
    return found.start + luck.random() * (found.end - found.start)


# ---- reading to the last byte


def watched(copy: Copy, differing: dict[int, Part], stop: Callable[[], bool]) -> Source:
    """Return a copy to restore from; a part that does not hash to what was recorded of it is noted in `differing`.

    An engine stops at the end that its format has, or at the first nonsense it meets. What lies behind is read too:
    the last part is only compared at its end, and nonsense is told from damage that way.
    """
    source = restore_sources.of_copy(copy)
    return replace(source, open=lambda: _ToTheEnd(_Noting(source.open(), copy.pk, differing), stop))


def watched_pieces(copy: Copy, differing: dict[int, Part], stop: Callable[[], bool]) -> tuple[SetFacts, list[Piece]]:
    """The same of each of a copy's files."""
    facts, pieces = restore_sources.pieces_of(copy.set, copy)
    return facts, [_watched_piece(piece, copy.pk, differing, stop) for piece in pieces]


def _watched_piece(piece: Piece, copy: int, differing: dict[int, Part], stop: Callable[[], bool]) -> Piece:
    return replace(piece, open=lambda: _ToTheEnd(_Noting(piece.open(), copy, differing), stop))


class _Noting(io.RawIOBase):
    """Remembers what differed: an engine may put its own words for it."""

    def __init__(self, stream: BinaryIO, copy: int, differing: dict[int, Part]) -> None:
        self._stream, self._copy, self._differing = stream, copy, differing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self._stream.readinto(buffer)
        except Differs as differs:
            self._differing[self._copy] = differs.part
            raise

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _ToTheEnd(io.BufferedReader):
    def __init__(self, noting: _Noting, stop: Callable[[], bool]) -> None:
        super().__init__(noting, MIB)
        self._stop = stop

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        try:
            if kind is None or (issubclass(kind, Exception) and not issubclass(kind, LEFT_ALONE)):
                self._drain()
        finally:
            self.close()

    def _drain(self) -> None:
        while self.read(MIB):
            if self._stop():
                raise Stopped("the drill is no longer wanted")


# ---- a damaged clone


@dataclass(frozen=True)
class Damage:
    """`length` bytes changed at `first`, and again every so many bytes (0: once)."""

    first: int
    length: int
    every: int = 0

    def within(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the damaged stretches of the bytes from `start` to before `stop`."""
        at = self.first
        if self.every and start > at + self.length:
            at += (start - at - self.length) // self.every * self.every
        while at < stop:
            if at + self.length > start:
                yield max(at, start), min(at + self.length, stop)
            if not self.every:
                return
            at += self.every


class Flipping:
    """A store seen through damage; it can be read, and that is all."""

    def __init__(self, storage: Storage, damage: Damage) -> None:
        self._storage, self._damage = storage, damage

    @contextmanager
    def open_range(self, key: str, offset: int, length: int, match: ObjectInfo) -> Iterator[Readable]:
        with self._storage.open_range(key, offset, length, match) as stream:
            yield _Flipped(stream, offset, self._damage)


class _Flipped:
    def __init__(self, stream: Readable, at: int, damage: Damage) -> None:
        self._stream, self._at, self._damage = stream, at, damage

    def readinto(self, buffer: memoryview) -> int:
        count = self._stream.readinto(buffer)
        start, self._at = self._at, self._at + count
        for begin, end in self._damage.within(start, self._at):
            hit = slice(begin - start, end - start)
            buffer[hit] = changed(bytes(buffer[hit]), begin)
        return count


def changed(stretch: bytes, at: int) -> bytes:
    """Return the bytes that lie at `at`, every one of them another. Pure; damage twice is none."""
    first = at % len(CHANGES)
    by = (CHANGES * ((first + len(stretch)) // len(CHANGES) + 1))[first : first + len(stretch)]
    return (int.from_bytes(stretch) ^ int.from_bytes(by)).to_bytes(len(stretch))


def one_byte_flipped(copy: Copy, luck: Random) -> Source:
    """One byte of the first part is changed; the recorded hashes must notice."""
    return restore_sources.of_copy(copy, through=_one_byte(copy, luck))


def piece_with_one_byte_flipped(copy: Copy, luck: Random) -> Piece:
    """The same of the first of a copy's files."""
    return restore_sources.pieces_of(copy.set, copy, through=_one_byte(copy, luck))[1][0]


def _one_byte(copy: Copy, luck: Random) -> Through:
    part = copy.copied_files.order_by("pk").first().transfer.parts.order_by("number").first()
    damage = Damage(luck.randrange(part.size if part else max(1, copy.stored_bytes)), 1)
    return lambda storage: Flipping(storage, damage)


def damaged_clone(copy: Copy, luck: Random) -> Source:
    """Runs of bytes are changed in every MiB, and the hashes are not asked: the engine must notice by itself."""
    return restore_sources.of_copy(copy, through=_many_runs(copy, luck), is_compared=False)


def damaged_pieces(copy: Copy, luck: Random) -> tuple[SetFacts, list[Piece]]:
    """The same of each of a copy's files."""
    return restore_sources.pieces_of(copy.set, copy, through=_many_runs(copy, luck), is_compared=False)


def _many_runs(copy: Copy, luck: Random) -> Through:
    size = min(place.transfer.size for place in copy.copied_files.select_related("transfer"))
    damage = Damage(luck.randrange(max(1, min(size, MIB) - RUN_BYTES)), RUN_BYTES, MIB)
    return lambda storage: Flipping(storage, damage)
