"""Replaying binary logs up to a moment: cut to whole groups by us, made into SQL by mariadb-binlog, run by mariadb.

MariaDB writes down whole seconds, of the clock when the statement that ended a group began. A restore until 14:03:22.7
has every group that says 14:03:22 or earlier, up to the first that says 14:03:23: so everything that was committed by
then is in it, as the logs' claims have it (chains.times), and it may hold what was committed later in that second, or
was begun in time and committed later, but nothing behind anything that came too late.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from backups.engines import confinement
from backups.engines.confinement import own
from backups.engines.facts import Connection, SetFacts, Source
from backups.engines.mariadb.binlog import GTID, MAGIC, BinlogDamaged, Event, Format, Groups, events, format_of, moment
from backups.engines.mariadb.chains import NUMBER, position_of
from backups.engines.mariadb.connecting import option_file
from backups.engines.mariadb.mbstream import Story, told_pairs
from backups.engines.mariadb.pieces import damaged, unpack
from backups.engines.mariadb.settling import SUPERUSER, Home
from backups.engines.mariadb.tools import Tools
from backups.engines.reasons import quoted
from regions.refusals import Refusal

STRETCH_BYTES = 64 << 20
LARGEST_PIECE = 4 << 30
CHUNK = 1 << 20
LOOK_SECONDS = 0.02

Tell = Callable[[str, int, "int | None"], None]


class Client:
    """The mariadb that runs what mariadb-binlog makes of the logs; one for all, so that temporary tables live on.

    The logs are not trusted: both run as the server's account, without a network, and mariadb obeys SQL only.
    """

    def __init__(self, home: Home, tools: Tools, password: str, folder: Path, look_up: Callable[[], None]) -> None:
        self._home, self._tools, self._folder, self._look_up = home, tools, folder, look_up
        self._connection = Connection(str(home.sockets), 0, SUPERUSER, password, tls="disable")
        self._log = folder / "said.log"

    @contextmanager
    def running(self) -> Iterator[None]:
        with option_file(self._connection, self._home.socket, self._home.whom) as (path, fd):
            command = [self._tools.program("mariadb"), f"--defaults-file={path}", "--binary-mode", "--batch"]
            self._child = self._start([*command, "--max-allowed-packet=1G", "--local-infile=1"], subprocess.PIPE, fd)
            try:
                yield
                self._child.stdin.close()
                self._wait(self._child)
                if self._child.returncode:
                    raise self._failed()
            finally:
                self._child.kill()
                self._child.wait()

    def run(self, binlog: Path) -> None:
        program = self._tools.program("mariadb-binlog")
        command = [program, "--no-defaults", "--verify-binlog-checksum", f"--local-load={self._home.scratch}", binlog]
        reader = self._start(command, subprocess.DEVNULL, to=self._child.stdin)
        try:
            self._wait(reader)
        finally:
            reader.kill()
            reader.wait()
        if self._child.poll() is not None:
            raise self._failed()
        if reader.returncode:
            raise damaged(self._said())

    def _start(self, command: list[object], given: int, *keep: int, to: BinaryIO | int = subprocess.DEVNULL):
        with open(self._log, "ab") as out:
            return subprocess.Popen(
                list(map(str, command)),
                cwd="/",
                env=confinement.environment(self._home.scratch),
                stdin=given,
                stdout=to,
                stderr=out,
                pass_fds=keep,
                preexec_fn=confinement.confined(os.getpid(), self._home.whom, alone=True),
            )

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        while child.poll() is None:
            self._look_up()
            time.sleep(LOOK_SECONDS)

    def _said(self) -> str:
        return quoted(self._log.read_text(errors="replace")) or "it said nothing"

    def _failed(self) -> Refusal:
        return Refusal("ReplayFailed", f"The server could not replay: {self._said()}", "Use another backup.")


@dataclass
class Replay:
    """Which groups of the logs are run: those behind the backup, up to the first that is too late.

    `has` is how far a replica's copy had come in each domain: the logs begin before that.
    """

    base: SetFacts
    story: Story
    until: datetime | None
    folder: Path
    whom: confinement.Account | None
    client: Client
    groups: Groups = field(default_factory=Groups)
    is_wanted: bool = False
    is_over: bool = False
    last_stamp: int = 0
    is_first: bool = True

    def __post_init__(self) -> None:
        self.has = dict(told_pairs(self.story.gtid)) if "gtid_slave_pos" in self.story.slave else {}
        self.had = dict(told_pairs(self.story.gtid)) if not self.story.slave else {}
        self.stretch = self.folder / "stretch"

    def take(self, log: Source) -> None:
        """Run what is wanted of one piece."""
        if self.until and log.facts.started_at >= self.until and not self.groups.begun:
            self.is_over = True
            return
        piece = self.folder / "piece"
        with log.open() as stream:
            unpack(stream, piece, LARGEST_PIECE)
        try:
            with open(piece, "rb") as file:
                self._read(file, log.facts)
        except BinlogDamaged as damage:
            raise damaged(str(damage)) from damage
        if self.groups.begun is None or self.is_over:
            self._run()

    def _read(self, file: BinaryIO, facts: SetFacts) -> None:
        form = format_of(file)
        if form is None:
            raise damaged("it ends before it begins")
        number, offset = divmod(facts.first_position, NUMBER)
        from_start = offset <= len(MAGIC)
        at, place = (len(MAGIC), len(MAGIC)) if from_start else (len(form.head), offset)
        ends_at = at
        with open(self.stretch, "ab") as out:
            for event in events(file, form, at, place):
                place, ends_at = event.last, event.at + event.length
                self._pass(event, number, file, form, out)
                if self.is_over:
                    return
        _must_end(file, facts, place, ends_at)

    def _pass(self, event: Event, number: int, file: BinaryIO, form: Format, out: BinaryIO) -> None:
        if position_of(number, event.first) < self.base.last_position < position_of(number, event.last):
            raise _of_another(f"the backup ends within the event at {event.first}")
        if event.kind == GTID:
            self._begin(event, position_of(number, event.first))
            if self.is_over:
                return
        in_group = self.groups.begun is not None or event.kind == GTID
        is_whole = self.groups.pass_by(event)
        if in_group and self.is_wanted:
            if not out.tell():
                out.write(form.head)
            _copy(file, event.at, event.length, out)
        if is_whole and out.tell() >= STRETCH_BYTES:
            out.flush()
            self._run()
            out.seek(0)

    def _begin(self, event: Event, position: int) -> None:
        """Decide about a group."""
        is_behind = position >= self.base.last_position
        if is_behind and self.until and event.stamp > int(self.until.timestamp()):
            self.is_over = True
            return
        domain, number = event.gtid
        self.is_wanted = is_behind and number > self.has.get(domain, 0)
        if self.is_wanted:
            self._must_follow(domain, number)
            self.last_stamp = event.stamp

    def _must_follow(self, domain: int, number: int) -> None:
        """The first group behind a backup has a later number than all that are in it."""
        if self.is_first and number <= self.had.get(domain, 0):
            raise _of_another(f"group {domain}-{number} comes behind it, and is in it")
        self.is_first = False

    @property
    def last_change_at(self) -> datetime | None:
        """The second of the newest change that was run."""
        return moment(self.last_stamp) if self.last_stamp else None

    def _run(self) -> None:
        """Run the stretch and begin a new one."""
        if self.stretch.exists() and self.stretch.stat().st_size:
            own(self.stretch, self.whom, 0o640, theirs=False)
            self.client.run(self.stretch)
        with open(self.stretch, "wb"):
            pass


def _of_another(why: str) -> Refusal:
    sentence = f"The logs are of another history than the backup: {why}."
    return Refusal("LogsBroken", sentence, "Restore from another backup.", "until")


def _must_end(file: BinaryIO, facts: SetFacts, place: int, ends_at: int) -> None:
    """Raise Refusal unless the piece holds everything that it claims, and nothing after it."""
    closes = facts.last_position % NUMBER == 0
    if not closes and place != facts.last_position % NUMBER:
        raise damaged(f"its events end at {place}, not at {facts.last_position % NUMBER}")
    if file.seek(0, os.SEEK_END) != ends_at:
        raise damaged("it ends in the middle of an event")


def _copy(file: BinaryIO, at: int, length: int, out: BinaryIO) -> None:
    file.seek(at)
    while length:
        taken = file.read(min(length, CHUNK))
        if not taken:
            raise damaged("it has become shorter")
        out.write(taken)
        length -= len(taken)
