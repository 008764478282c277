"""The simulated SQL Server: backup jobs that write synthetic files where a real server's job would.

The files grow while they are written, as real ones do. One job overwrites its file (INIT), one appends to it (NOINIT),
one writes stripes; each removes its own old files after a while. What has been done is journaled beside the regions, so
that a killed process goes on where it was; a file it left unfinished is removed first.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

from backups.engines.facts import Kind
from console.runtime.places import write_private
from demo import cast, mtf

log = logging.getLogger(__name__)
MIB, PAGES_A_MIB = 2**20, 128
USUAL_PACE = 12 * MIB  # bytes a second, so that a look may find a large file still growing
LOOK_SECONDS = 2
ROOM = 1800 * MIB  # for everything below the demo's folder; copies stay for a week at least
MINUTE = timedelta(minutes=1)
NEVER = timedelta.max
DIFFERENTIAL_PAGES, LOG_BYTES = 8, 64 * 1024
KEPT = {Kind.DIFFERENTIAL: 24, Kind.LOG: 60}
SUFFIXES = {Kind.FULL: "bak", Kind.DIFFERENTIAL: "dif", Kind.LOG: "trn"}


class Style(StrEnum):
    DATED = "a file with the time in its name"
    OVERWRITTEN = "one db.bak, WITH INIT"
    APPENDED = "one file, WITH NOINIT"
    STRIPED = "three stripes"


STRIPES, MOST_APPENDED = 3, 4


@dataclass(frozen=True)
class Job:
    """How one database is backed up. The first full is large enough to be watched, the later ones are small."""

    actor: str
    database: str
    first_mib: float
    later_mib: float
    full_every: timedelta
    differential_every: timedelta = NEVER
    log_every: timedelta = NEVER
    style: Style = Style.DATED
    fulls_kept: int = 2
    pace: int = USUAL_PACE

    @property
    def name(self) -> str:
        return f"{self.actor}/{self.database}"

    @property
    def folder(self) -> str:
        actor = cast.named(self.actor)
        return f"{actor.region}/{actor.prefix}"

    def every(self, kind: Kind) -> timedelta:
        return {Kind.FULL: self.full_every, Kind.DIFFERENTIAL: self.differential_every, Kind.LOG: self.log_every}[kind]


JOBS = (
    Job("orders", "Orders", 24, 6, cast.DAY, 4 * MINUTE, 2 * MINUTE),
    Job("billing", "Billing", 4, 0.25, 20 * MINUTE, style=Style.OVERWRITTEN),
    Job("ledger", "Ledger", 1, 0.125, 30 * MINUTE, style=Style.APPENDED),
    Job("inventory", "Inventory", 12, 3, cast.DAY, log_every=3 * MINUTE, style=Style.STRIPED),
    Job("people", "People", 4, 2, cast.DAY),
    Job("customers", "Contacts", 3, 1, cast.DAY),
    Job("customers", "Consents", 2, 1, cast.DAY),
    Job("archive", "Archive", 2, 1, cast.DAY, fulls_kept=14),  # its old ones are the story of demo.history
    Job("warehouse", "Warehouse", 200, 4, cast.DAY, fulls_kept=1, pace=8 * MIB),
)


@dataclass
class Progress:
    """How far one job has come; kept as JSON. Times are ISO 8601, positions as msdb prints them."""

    reached: int = mtf.lsn(40)
    logged: int = 0  # the end of the log chain: the next log begins there, whatever full came in between
    full: dict[str, Any] = field(default_factory=dict)
    appended: list[dict[str, Any]] = field(default_factory=list)
    done_at: dict[str, str] = field(default_factory=dict)
    writing: list[str] = field(default_factory=list)


class Stopped(Exception):
    """The demo was told to stop while a file was being written."""


class Jobs:
    """All jobs of the fleet. `folder` is the demo's; pace None writes as fast as it can (tests)."""

    def __init__(self, folder: Path, stop: Event | None = None, *, paced: bool = True) -> None:
        self.folder, self.stop, self.paced = folder, stop or Event(), paced
        self.journal = folder / "jobs.json"
        self.progress = self._recalled()

    def run(self) -> None:
        """Write what is due until told to stop."""
        self.tidy_up()
        while not self.stop.wait(LOOK_SECONDS):
            try:
                if size_below(self.folder) < ROOM:
                    self.run_due(datetime.now(UTC))
            except Stopped:
                return
            except OSError as error:  # the disk is full, say: a job fails, and runs again when its time comes
                log.warning("a job failed", extra={"reason": str(error)})

    def run_due(self, at: datetime) -> list[Path]:
        """Run every job whose time has come; returns the files written."""
        written = []
        for job in JOBS:
            for kind in Kind:
                if self._is_due(job, kind, at):
                    written += self.back_up(job, kind)
        return written

    def tidy_up(self) -> None:
        """Remove what the last process was killed over."""
        for job in JOBS:
            mine = self.progress[job.name]
            for name in mine.writing:
                (self.folder / name).unlink(missing_ok=True)
                mine.appended = []
            mine.writing = []
        self._keep()

    def back_up(self, job: Job, kind: Kind) -> list[Path]:
        mine = self.progress[job.name]
        spoken = self._described(job, kind, mine)
        backup = _backup(job, spoken, mine)
        paths = self._paths(job, kind, backup)
        with self._journaled(mine, paths):
            self._write(job, kind, backup, spoken, paths)
        mine.reached = backup.last
        mine.logged = backup.last if kind is Kind.LOG or not mine.logged else mine.logged
        mine.full = spoken if kind is Kind.FULL else mine.full
        mine.done_at[kind] = datetime.now(UTC).isoformat()
        self._keep()
        self._remove_old(job, kind)
        return paths

    # What is due, and what it will say of itself

    def _is_due(self, job: Job, kind: Kind, at: datetime) -> bool:
        mine = self.progress[job.name]
        newest = max((mine.done_at.get(k, "") for k in {kind, Kind.FULL}), default="")
        if not newest:
            return kind is Kind.FULL
        return job.every(kind) is not NEVER and datetime.fromisoformat(newest) + job.every(kind) <= at

    def _described(self, job: Job, kind: Kind, mine: Progress) -> dict[str, Any]:
        """Return what must be known to describe the same backup again after a restart."""
        mib = job.later_mib if mine.full else job.first_mib
        return {
            "kind": kind,
            "first": mine.logged if kind is Kind.LOG else mine.reached,
            "last": mine.reached + 10**15,
            "started_at": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "seconds": 1 + int(mib * MIB / job.pace) if kind is Kind.FULL and self.paced else 1,
            "pages": max(1, int(mib * PAGES_A_MIB)),
        }

    def _paths(self, job: Job, kind: Kind, backup: mtf.Backup) -> list[Path]:
        folder, ending = self.folder / job.folder, SUFFIXES[kind]
        stem = f"{job.database}_{kind}_{backup.started_at:%Y%m%d_%H%M%S}"
        if job.style is Style.OVERWRITTEN:
            return [folder / "db.bak"]
        if job.style is Style.APPENDED:
            return [folder / f"{job.database}.bak"]
        if job.style is Style.STRIPED and kind is Kind.FULL:
            return [folder / f"{stem}_{number}.{ending}" for number in range(1, STRIPES + 1)]
        return [folder / f"{stem}.{ending}"]

    # Writing

    def _write(self, job: Job, kind: Kind, backup: mtf.Backup, spoken: dict[str, Any], paths: list[Path]) -> None:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        if job.style is Style.APPENDED:
            self._append(job, spoken, paths[0])
            return
        for number, path in enumerate(paths, 1):
            media = mtf.media_of(backup, families=len(paths), sequence=number)
            with open(path, "wb") as out:
                mtf.write(self._slowly(out, job), backup, media=media)

    def _append(self, job: Job, spoken: dict[str, Any], path: Path) -> None:
        mine = self.progress[job.name]
        if len(mine.appended) >= MOST_APPENDED or not path.exists():
            mine.appended = []
        mine.appended.append(spoken)
        body = mtf.file_of(*(_backup(job, one, mine) for one in mine.appended))
        begun = path.stat().st_size if len(mine.appended) > 1 else 0
        with open(path, "ab" if begun else "wb") as out:
            self._slowly(out, job).write(body[begun:])

    def _slowly(self, out: BinaryIO, job: Job) -> BinaryIO | Paced:
        return Paced(out, job.pace, self.stop) if self.paced else out

    def _remove_old(self, job: Job, kind: Kind) -> None:
        if job.style in (Style.OVERWRITTEN, Style.APPENDED):
            return
        kept = KEPT.get(kind) or job.fulls_kept * (STRIPES if job.style is Style.STRIPED else 1)
        found = sorted((self.folder / job.folder).glob(f"{job.database}_{kind}_*"))
        for path in found[:-kept]:
            path.unlink(missing_ok=True)

    # The journal

    @contextmanager
    def _journaled(self, mine: Progress, paths: list[Path]) -> Iterator[None]:
        """Write down what is being written, so that whoever comes after a kill knows it is not whole."""
        mine.writing = [str(path.relative_to(self.folder)) for path in paths]
        self._keep()
        try:
            yield
        except Exception:
            self.tidy_up()
            raise
        mine.writing = []

    def _recalled(self) -> dict[str, Progress]:
        try:
            known = json.loads(self.journal.read_text())
        except FileNotFoundError:
            known = {}
        return {job.name: Progress(**known.get(job.name, {})) for job in JOBS}

    def _keep(self) -> None:
        write_private(self.journal, json.dumps({name: vars(one) for name, one in self.progress.items()}, indent=1))


class Paced:
    """A file that is written no faster than `pace` bytes a second; raises Stopped when told to stop."""

    def __init__(self, out: BinaryIO, pace: int, stop: Event) -> None:
        self.out, self.pace, self.stop = out, pace, stop
        self.began, self.written = time.monotonic(), 0

    def write(self, data: bytes) -> int:
        self.out.write(data)
        self.written += len(data)
        ahead = self.written / self.pace - (time.monotonic() - self.began)
        if ahead > 0.05:
            self.out.flush()
            if self.stop.wait(ahead):
                raise Stopped
        return len(data)


def _backup(job: Job, spoken: dict[str, Any], mine: Progress) -> mtf.Backup:
    """Describe a backup from what is journaled of it; the same words always give the same bytes."""
    started_at, kind = datetime.fromisoformat(spoken["started_at"]), Kind(spoken["kind"])
    if kind is Kind.FULL:
        return _full(job, spoken)
    base, first = _full(job, mine.full), spoken["first"]
    length = {"finished_at": started_at + timedelta(seconds=spoken["seconds"])}
    if kind is Kind.DIFFERENTIAL:
        return mtf.differential(base, first=first, started_at=started_at, pages=DIFFERENTIAL_PAGES, **length)
    return mtf.log(base, first=first, last=spoken["last"], started_at=started_at, log_bytes=LOG_BYTES, **length)


def _full(job: Job, spoken: dict[str, Any]) -> mtf.Backup:
    return mtf.full(
        job.database,
        server=cast.named(job.actor).server,
        first=spoken["first"],
        started_at=datetime.fromisoformat(spoken["started_at"]),
        seconds=spoken["seconds"],
        pages=spoken["pages"],
        seed=job.name,
    )


def size_below(folder: Path) -> int:
    """Return the bytes of all files below the folder; one that vanishes meanwhile counts as nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
