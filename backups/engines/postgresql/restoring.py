"""Restoring: a new server out of a full backup, incrementals and logs, up to a moment; a failure leaves nothing."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from backups.engines import confinement
from backups.engines.facts import RestoreRequest, RestoreResult, Source
from backups.engines.postgresql.chains import CHAIN_RULES
from backups.engines.postgresql.checking import session_in
from backups.engines.postgresql.feeding import LogFeed
from backups.engines.postgresql.replaying import replay
from backups.engines.postgresql.running import give_password, open_doors
from backups.engines.postgresql.settling import Home, segment_bytes
from backups.engines.postgresql.tools import Tools, server_tools
from backups.engines.postgresql.unpacking import unpack_base
from backups.engines.restoring import Passing, Stages, refuse_tight, usable_logs
from backups.engines.serving import RestoredServer, discard
from regions.refusals import Refusal


def restore(request: RestoreRequest) -> RestoreResult:
    """Build a new server; raises Refusal with the reason in words, Stopped when `stop` said so.

    When it raises, the server is gone and so is its folder. Call it from a thread that lives as long as the server
    should: it ends with that thread. Nothing that exists is written to; the sources are only read.
    """
    major = _major(request.sets)
    tools, whom = server_tools(major), confinement.account()
    if not confinement.reaches(whom, tools.program("postgres")):
        raise Refusal(
            "ProgramsOutOfReach",
            f"The account that restored servers run as cannot reach {tools.folder}.",
            f"Name a copy of the programs that it can reach in PG_BIN_{major}.",
        )
    logs = usable_logs(request.sets[-1].facts, request.logs, request.until, CHAIN_RULES)
    refuse_tight(request, _room(request.sets))
    home = Home(request.place / request.name, whom)
    home.build()
    try:
        return Restoring(request, home, tools, logs).run()
    except BaseException:
        discard(home.folder)
        raise


def _major(sets: Sequence[Source]) -> int:
    if not sets:
        raise Refusal("NoSet", "There is no backup to restore from.", "Choose a full backup.")
    return int(re.match(r"\d+", sets[0].facts.software_version)[0])


def _room(sets: Sequence[Source]) -> int:
    """Incrementals are combined, which needs the room twice."""
    return sum(source.facts.size_bytes for source in sets) * (2 if len(sets) > 1 else 1)


class Restoring(Stages):
    """One restore on its way: unpack, replay, start, check."""

    def __init__(self, request: RestoreRequest, home: Home, tools: Tools, logs: list[Source]) -> None:
        super().__init__(request)
        self.home, self.tools, self.logs = home, tools, logs

    def run(self) -> RestoreResult:
        self.timed("unpack", self._unpack)
        last_change = self.timed("replay", self._replay)
        server = self.timed("start", self._start)
        try:
            self.timed("check", lambda: self._check(server))
        except BaseException:
            server.stop()
            raise
        reached = self.request.until or max(
            [source.facts.finished_at for source in (*self.request.sets, *self.logs)]
            + ([last_change] if last_change else [])
        )
        return RestoreResult(server, reached, last_change, self.seconds, tuple(self.notes))

    def _unpack(self) -> None:
        total = sum(source.facts.size_bytes for source in self.request.sets)
        passing = Passing(self, total)
        folders = self._folders()
        for source, folder in zip(self.request.sets, folders, strict=True):
            with source.open() as stream:
                left_out = unpack_base(stream, folder, self.home.whom, passing)
            if folder == folders[0]:
                self._note(left_out)
        if len(folders) > 1:
            self._combine(folders)
        self.tell("unpack", total, total)

    def _note(self, left_out: Sequence[str]) -> None:
        telling = sorted(name for name in left_out if not name.startswith("pg_wal/"))
        if telling:
            self.notes.append(f"The copy's own settings were left out: {', '.join(telling[:20])}.")

    def _folders(self) -> list[Path]:
        if len(self.request.sets) == 1:
            return [self.home.data]
        folders = [self.home.folder / f"set-{number}" for number in range(len(self.request.sets))]
        for folder in folders:
            folder.mkdir(mode=0o700)
            confinement.own(folder, self.home.whom, 0o700)
        return folders

    def _combine(self, folders: Sequence[Path]) -> None:
        """Let pg_combinebackup, as the server's account, make one folder out of a full and its incrementals."""
        child = subprocess.Popen(
            [str(self.tools.program("pg_combinebackup")), *map(str, folders), "-o", str(self.home.data)],
            cwd="/",
            env=confinement.environment(self.home.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=confinement.confined(os.getpid(), self.home.whom, alone=True),
        )
        said = self.outlast(child)
        if child.returncode:
            raise Refusal("SetDamaged", f"The incremental does not fit: {said.strip()[-400:]}", "Use another set.")
        for folder in folders:
            shutil.rmtree(folder)

    def _replay(self) -> datetime | None:
        feed = LogFeed(
            self.home.folder / "feed",
            self.logs,
            segment_bytes(self.home, self.tools),
            self.home.whom,
            lived=self._lived,
        )
        with closing(feed):
            return replay(self.home, self.tools, feed, self.request.until, self.look_up, self.tell)

    @property
    def _lived(self) -> range:
        """The timelines of others behind the one that is followed."""
        followed = int((self.logs or self.request.sets)[-1].facts.fork or 1)
        return range(followed + 1, max((int(fork) for fork in self.request.forks if fork.isdecimal()), default=0) + 1)

    def _start(self) -> RestoredServer:
        password = secrets.token_urlsafe(24)
        give_password(self.home, self.tools, password)
        wanted = self.request
        return open_doors(
            self.home,
            self.tools,
            password,
            network=wanted.network,
            address=wanted.address,
            port=wanted.port,
            stop=self.look_up,
        )

    def _check(self, server: RestoredServer) -> None:
        with closing(session_in(server, "template1")) as session:
            if session.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
                raise Refusal("NotStarted", "The restored server still replays.", f"See its log {server.log}.")
