"""Binary logs as they arrive: what the tool has written so far, and where it may be cut into pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from backups.engines.mariadb.binlog import (
    GTID,
    MAGIC,
    ROTATE,
    STOP,
    Event,
    Format,
    Groups,
    events,
    format_of,
)
from backups.engines.mariadb.chains import position_of

PIECE_BYTES = 64 << 20
RUN = re.compile(r"(\d+)-(\d+)-(\d+)\Z")
BINLOG = re.compile(r".+\.(\d{6,})\Z")


@dataclass(frozen=True)
class Stretch:
    """What can leave as one piece: `first` to `last` in the server's file; `closes` when the file ends there.

    `stamp` is the second of the last group in it, 0 when there is none.
    """

    received: Received
    first: int
    last: int
    closes: bool
    stamp: int

    @property
    def end(self) -> int:
        number = self.received.number
        return position_of(number + 1) if self.closes else position_of(number, self.last)


@dataclass
class Received:
    """One binary log as one run of the tool writes it, from the place `start` on (0: its beginning).

    Everything up to `boundary` may leave; `changed` is the end of the last whole group.
    """

    path: Path
    number: int
    start: int
    form: Format | None = None
    place: int = 0
    boundary: int = 0
    changed: int = 0
    stamp: int = 0
    is_closed: bool = False
    cuts: list[tuple[int, int]] = field(default_factory=list)
    groups: Groups = field(default_factory=Groups)

    def __post_init__(self) -> None:
        self.place = self.boundary = max(self.start, len(MAGIC))

    @property
    def begins(self) -> int:
        return position_of(self.number, self.start)

    @property
    def reached(self) -> int:
        """Where what may leave ends, in the order of all logs."""
        return position_of(self.number + 1) if self._is_read() else position_of(self.number, self.boundary)

    def _is_read(self) -> bool:
        return self.is_closed and self.boundary == self.place

    def local(self, place: int) -> int:
        """Where a place of the server's file is in this one."""
        return place if self.start <= len(MAGIC) else place - self.start + len(self.form.head)

    def read_on(self, *, most: int = PIECE_BYTES) -> None:
        """Take in what has come since, about `most` bytes of it; raises BinlogDamaged."""
        with open(self.path, "rb") as file:
            self.form = self.form or format_of(file)
            if self.form is None:
                return
            until = self.place + most
            for event in events(file, self.form, self.local(self.place), self.place):
                self._take(event)
                if self.place >= until:
                    return

    def close(self) -> None:
        """Nothing more comes: the server went on to the next file."""
        self.is_closed, self.boundary = True, self.place

    def _take(self, event: Event) -> None:
        open_group = self.groups.begun
        if event.kind == GTID and open_group:  # whatever is before a group is whole
            self._ended(open_group, event.first)
        is_whole = self.groups.pass_by(event)
        self.place = event.last
        if is_whole and open_group:
            self._ended(open_group, event.last)
        elif is_whole:
            self._let_go(event.last)
        elif event.last - self.boundary >= PIECE_BYTES:  # a group larger than a piece: it is cut between two events
            self.changed = event.last
            self._let_go(event.last)
        if event.kind in (ROTATE, STOP):
            self.close()

    def _ended(self, group: Event, last: int) -> None:
        self.stamp, self.changed = group.stamp, last
        self._let_go(last)

    def _let_go(self, boundary: int) -> None:
        self.boundary = max(self.boundary, boundary)
        if self.boundary - (self.cuts[-1][0] if self.cuts else max(self.start, 0)) >= PIECE_BYTES:
            self.cuts.append((self.boundary, self.stamp))

    def stretch_from(self, first: int) -> Stretch | None:
        """Return what can leave next, at most about a piece's worth; None when there is nothing."""
        for cut, stamp in self.cuts:
            if cut > first:
                return Stretch(self, first, cut, self._is_read() and cut == self.place, stamp)
        if self.boundary > max(first, len(MAGIC)) or (self._is_read() and self.boundary >= first):
            return Stretch(self, first, self.boundary, self._is_read(), self.stamp)
        return None


class Run:
    """One run of the tool, in a folder of its own that says where it began: serial-number-place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.serial, self.number, self.start = map(int, RUN.match(folder.name).groups())
        self.is_over = False
        self.files: dict[int, Received] = {}

    def look(self) -> None:
        """See what has come since; raises BinlogDamaged."""
        for number, path in sorted(self._there()):
            if number not in self.files:
                if self.files:
                    self._finish(self.files[max(self.files)])
                self.files[number] = Received(path, number, self.start if number == self.number else 0)
        if self.files:
            self.files[max(self.files)].read_on()

    def finish(self) -> None:
        """Take in all that is there: the tool has ended."""
        self.look()
        if self.files:
            _read_all(self.files[max(self.files)])
        self.is_over = True

    def _finish(self, received: Received) -> None:
        _read_all(received)
        received.close()

    def _there(self) -> list[tuple[int, Path]]:
        found = ((BINLOG.match(entry.name), entry) for entry in self.folder.iterdir())
        return [(int(name[1]), entry) for name, entry in found if name]

    @property
    def changed(self) -> int:
        """Where the last change in it ends, in the order of all logs."""
        changed = (position_of(number, found.changed) for number, found in self.files.items() if found.changed)
        return max(changed, default=0)

    @property
    def reached(self) -> int:
        last = self.files[max(self.files)] if self.files else None
        return last.reached if last else position_of(self.number, self.start)


def _read_all(received: Received) -> None:
    while True:
        before = received.place
        received.read_on()
        if received.place == before:
            return
