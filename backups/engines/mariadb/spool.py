"""The spool of one receiver: what was received and not yet delivered, with a journal that survives kill -9.

raw/       a folder for each run of mariadb-binlog, with the server's binary logs as it writes them
pieces/    the piece on its way
journal    whose history it is, how far was delivered, and the piece that may have been delivered already
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from backups.engines.durable import write_durably
from backups.engines.mariadb.arriving import RUN, Received, Run, Stretch
from backups.engines.mariadb.binlog import BinlogDamaged
from backups.engines.mariadb.chains import NUMBER, position_of
from backups.engines.mariadb.pieces import ENDING, pack
from backups.engines.marks import Marks
from regions.refusals import Refusal


@dataclass(frozen=True)
class Pending:
    """A piece that was decided on: from here on its limits do not change, however often it is delivered."""

    guid: str
    run: str
    number: int
    first: int
    last: int
    closes: bool
    started_at: datetime
    finished_at: datetime

    @property
    def begins(self) -> int:
        return position_of(self.number, self.first)

    @property
    def end(self) -> int:
        return position_of(self.number + 1) if self.closes else position_of(self.number, self.last)

    @property
    def file(self) -> str:
        return f"{self.begins:020d}-{self.end:020d}{ENDING}"


@dataclass(frozen=True)
class Journal:
    """`delivered` is where the next piece begins; `covered` is the last moment a piece has claimed.

    `born` is the second in which the server began the binary log that was last delivered from: another one of the same
    number is another history's.
    """

    fork: str = ""
    server: str = ""
    version: str = ""
    name: str = ""
    delivered: int = 0
    born: int = 0
    covered: datetime | None = None
    pending: Pending | None = None

    @property
    def number(self) -> int:
        return self.delivered // NUMBER

    @property
    def offset(self) -> int:
        return self.delivered % NUMBER


class Spool:
    """Open it from one process at a time; everything lies in `folder`, which becomes private."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.raw, self.pieces = folder, folder / "raw", folder / "pieces"
        for part in (folder, self.raw, self.pieces):
            part.mkdir(mode=0o700, parents=part is folder, exist_ok=True)
            part.chmod(0o700)
        self.journal = self._read() or Journal()
        self.marks = Marks(folder / "marks")
        self.runs = sorted((Run(path) for path in self.raw.iterdir() if RUN.match(path.name)), key=_serial)
        for run in list(self.runs):
            self._look(run, is_over=True)
        if self.journal.pending and not self._has(self.journal.pending):
            self.write(pending=None)
        self.settle()

    def _read(self) -> Journal | None:
        with suppress(FileNotFoundError):
            return _journal_from(json.loads((self.folder / "journal").read_text()))
        return None

    def write(self, **changes: Any) -> None:
        """Change the journal durably, in one step."""
        self.journal = replace(self.journal, **changes)
        write_durably(self.folder / "journal", json.dumps(asdict(self.journal), default=datetime.isoformat))

    # ---- receiving

    @property
    def reached(self) -> int:
        """Where the next run begins: behind everything that can still leave."""
        return max([self.journal.delivered, *(run.reached for run in self.runs)])

    def new_run(self) -> Path:
        """Make the folder of a run that begins where everything received so far ends."""
        serial = 1 + max((run.serial for run in self.runs), default=0)
        folder = self.raw / f"{serial:06d}-{self.reached // NUMBER}-{self.reached % NUMBER}"
        folder.mkdir(mode=0o700)
        self.runs.append(Run(folder))
        return folder

    def look(self) -> None:
        """See what has come since; raises Refusal when it is not what it should be."""
        for run in list(self.runs):
            if not run.is_over:
                self._look(run, is_over=False)

    def end_run(self) -> None:
        """The tool has ended: what it wrote stays, as far as it is whole."""
        for run in list(self.runs):
            if not run.is_over:
                self._look(run, is_over=True)
        self.settle()

    def _look(self, run: Run, *, is_over: bool) -> None:
        try:
            run.finish() if is_over else run.look()
            self._must_be_ours(run)
        except BinlogDamaged as damage:
            self._throw_away(run)
            raise Refusal(
                "LogDamaged",
                f"What was received of the binary log is damaged: {damage}.",
                "It is received again; if that does not help, look at the server's disk.",
            ) from damage

    def _must_be_ours(self, run: Run) -> None:
        received = run.files.get(self.journal.number)
        if not received or not received.form or not self.journal.born or not self.journal.offset:
            return
        if received.form.stamp != self.journal.born:
            self._throw_away(run)
            raise begun_anew(self.journal.fork)

    def _throw_away(self, run: Run) -> None:
        self.runs.remove(run)
        shutil.rmtree(run.folder, ignore_errors=True)

    def size(self) -> int:
        """How many bytes the spool takes up on disk."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += os.stat(os.path.join(folder, name)).st_blocks * 512
        return total

    # ---- leaving

    @property
    def has_changes(self) -> bool:
        """Something was changed on the server that was received and not yet delivered."""
        return any(run.changed > self.journal.delivered for run in self.runs)

    def next_stretch(self) -> Stretch | None:
        """Return what follows what was delivered without hole."""
        for received in self._received():
            if received.reached > self.journal.delivered:
                return received.stretch_from(self.journal.offset if received.number == self.journal.number else 0)
        return None

    def _received(self) -> list[Received]:
        return [run.files[number] for run in self.runs for number in sorted(run.files)]

    def packed(self) -> Path:
        """Return the pending piece as a file, made anew from what was received if it is not there whole."""
        piece = self.journal.pending
        target = self.pieces / piece.file
        if not target.exists():
            pack(self._source_of(piece), piece.first, piece.last, target)
        return target

    def _has(self, piece: Pending) -> bool:
        return any(run.folder.name == piece.run and piece.number in run.files for run in self.runs)

    def _source_of(self, piece: Pending) -> Received:
        return next(run for run in self.runs if run.folder.name == piece.run).files[piece.number]

    def delivered(self) -> None:
        """The pending piece has arrived: write that down, then forget it."""
        piece = self.journal.pending
        born = self._source_of(piece).form.stamp
        self.write(delivered=piece.end, born=born, covered=piece.finished_at, pending=None)
        self.marks.forget(before=piece.end)
        self.settle()

    def settle(self) -> None:
        """Remove what the journal says is over; safe to repeat, wherever a kill left it."""
        pending = self.journal.pending
        for entry in os.scandir(self.pieces):
            if not pending or entry.name != pending.file:
                os.unlink(entry)
        if pending:
            return
        for run in list(self.runs):
            if run.is_over and run.changed <= self.journal.delivered:
                self._throw_away(run)
            else:
                self._drop_files(run)

    def _drop_files(self, run: Run) -> None:
        """Remove whole files that have left; the newest one may still be written to."""
        for number in [number for number in run.files if number < min(self.journal.number, max(run.files))]:
            run.files.pop(number).path.unlink()

    def begin_at(self, position: int, **whose: Any) -> None:
        """Forget how far it was: the next piece begins here."""
        for run in list(self.runs):
            self._throw_away(run)
        self.write(delivered=position, born=0, covered=None, pending=None, **whose)
        self.marks.forget()


def begun_anew(fork: str) -> Refusal:
    return Refusal(
        "HistoryBegunAnew",
        f"The binary logs of the server with server_id {fork} were begun anew (RESET MASTER, or it was restored in "
        "place): their places were used before, and must not be taken for those.",
        "Give the server another server_id (SET GLOBAL server_id = …, and in its configuration): its logs then count "
        "as a history of their own. Take a full backup after that.",
    )


def _serial(run: Run) -> int:
    return run.serial


def _journal_from(told: dict[str, Any]) -> Journal:
    pending = told.pop("pending")
    if pending:
        times = {name: datetime.fromisoformat(pending[name]) for name in ("started_at", "finished_at")}
        pending = Pending(**{**pending, **times})
    covered = told.pop("covered")
    return Journal(**told, covered=datetime.fromisoformat(covered) if covered else None, pending=pending)
