"""Restoring: a new server out of a full backup and binary logs, up to a moment; a failure leaves nothing."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Sequence
from datetime import datetime

from backups.engines import confinement
from backups.engines.facts import RestoreRequest, RestoreResult, SetFacts, Source
from backups.engines.mariadb.chains import CHAIN_RULES
from backups.engines.mariadb.connecting import ask, session
from backups.engines.mariadb.replaying import Client, Replay
from backups.engines.mariadb.running import Daemon, basedir_of, open_doors
from backups.engines.mariadb.settling import HASTY, Home
from backups.engines.mariadb.tools import Tools, series_of, server_tools
from backups.engines.mariadb.unpacking import Unpacked, unpack_full
from backups.engines.restoring import Passing, Stages, refuse_tight, usable_logs
from backups.engines.serving import RestoredServer, discard
from regions.refusals import Refusal

PREPARE_MEMORY = "256M"
UNTIL = "It holds every change up to and with the second {until:%Y-%m-%d %H:%M:%S} UTC: MariaDB's logs tell no finer."


def restore(request: RestoreRequest) -> RestoreResult:
    """Build a new server; raises Refusal with the reason in words, Stopped when `stop` said so.

    When it raises, the server is gone and so is its folder. Call it from a thread that lives as long as the server
    should: it ends with that thread. Nothing that exists is written to; the sources are only read. What `until` means
    to the second, see replaying.
    """
    base = _only_full(request.sets)
    tools, whom = server_tools(series_of(base.software_version)), confinement.account()
    for program in ("mariadbd", "mariadb-backup", "mariadb-binlog", "mariadb"):
        if not confinement.reaches(whom, tools.program(program)):
            raise Refusal(
                "ProgramsOutOfReach",
                f"The account that restored servers run as cannot reach {tools.program(program)}.",
                "Name a copy of the programs that it can reach in MARIADB_BIN.",
            )
    logs = _usable(base, request)
    refuse_tight(request, sum(source.facts.size_bytes for source in request.sets))
    home = Home(request.place / request.name, whom)
    home.build()
    try:
        return Restoring(request, home, tools, logs).run()
    except BaseException:
        discard(home.folder)
        raise


def _only_full(sets: Sequence[Source]) -> SetFacts:
    if not sets:
        raise Refusal("NoSet", "There is no backup to restore from.", "Choose a full backup.")
    if len(sets) > 1:
        raise Refusal("NoIncrementals", "Incrementals of MariaDB are not restored yet.", "Choose a full backup.")
    return sets[0].facts


def _usable(base: SetFacts, request: RestoreRequest) -> list[Source]:
    if request.until and request.until < base.finished_at:
        raise Refusal(
            "MomentTooEarly",
            "This moment is before the end of the backup that the restore begins with.",
            "Choose a later moment, or an earlier backup.",
            "until",
        )
    if strangers := {log.facts.fork for log in request.logs} - {base.fork}:
        raise Refusal(
            "LogsBroken",
            f"The logs are of the server with server_id {', '.join(sorted(strangers))}, the backup is of "
            f"{base.fork or 'none'}.",
            "Restore from a backup and logs of one server.",
            "until",
        )
    return usable_logs(base, request.logs, request.until, CHAIN_RULES)


class Restoring(Stages):
    """One restore on its way: unpack, replay, start, check."""

    def __init__(self, request: RestoreRequest, home: Home, tools: Tools, logs: list[Source]) -> None:
        super().__init__(request)
        self.home, self.tools, self.logs = home, tools, logs
        self.password = secrets.token_urlsafe(24)

    def run(self) -> RestoreResult:
        unpacked = self.timed("unpack", self._unpack)
        last_change = self.timed("replay", lambda: self._replay(unpacked))
        server = self.timed("start", lambda: self._start(unpacked))
        try:
            self.timed("check", lambda: self._check(server))
        except BaseException:
            server.stop()
            raise
        until = self.request.until
        if until:
            self.notes.append(UNTIL.format(until=until))
        reached = until or max(source.facts.finished_at for source in (*self.request.sets, *self.logs))
        return RestoreResult(server, reached, last_change, self.seconds, tuple(self.notes))

    def _unpack(self) -> Unpacked:
        total = sum(source.facts.size_bytes for source in self.request.sets)
        with self.request.sets[0].open() as stream:
            unpacked = unpack_full(stream, self.home.data, self.home.whom, Passing(self, total))
        if unpacked.left_out:
            self.notes.append(f"The copy's own settings were left out: {', '.join(unpacked.left_out[:20])}.")
        self.tell("unpack", total, total)
        return unpacked

    def _replay(self, unpacked: Unpacked) -> datetime | None:
        """First what InnoDB wrote down while it was copied, then the binary logs."""
        self._prepare(unpacked)
        return self._replay_logs(unpacked) if self.logs else None

    def _prepare(self, unpacked: Unpacked) -> None:
        self.home.put_needed(unpacked.needed)
        child = subprocess.Popen(
            [
                str(self.tools.program("mariadb-backup")),
                "--prepare",
                f"--target-dir={self.home.data}",
                f"--tmpdir={self.home.scratch}",
                f"--use-memory={PREPARE_MEMORY}",
            ],
            cwd="/",
            env=confinement.environment(self.home.scratch),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=confinement.confined(os.getpid(), self.home.whom, alone=True),
        )
        said = self.outlast(child)
        with open(self.home.log, "a") as log:
            log.write(said)
        if child.returncode:
            raise Refusal(
                "SetDamaged", f"The backup cannot be prepared: {said.strip()[-400:]}", "Restore from another set."
            )

    def _replay_logs(self, unpacked: Unpacked) -> datetime | None:
        home, feed = self.home, self.home.folder / "feed"
        feed.mkdir(mode=0o700)
        confinement.own(feed, home.whom, 0o750, theirs=False)
        home.put_orders(self.password, network=False)
        quiet = {"skip_networking": "ON", "init_file": str(home.orders)}
        home.write_settings({**unpacked.settings, **HASTY, **quiet}, basedir=basedir_of(self.tools))
        daemon = Daemon(home, self.tools, alone=True, by=signal.SIGKILL, more=unpacked.ways.environment)
        try:
            daemon.wait(self.look_up)
            client = Client(home, self.tools, self.password, feed, self.look_up)
            replay = Replay(self.request.sets[0].facts, unpacked.story, self.request.until, feed, home.whom, client)
            with client.running():
                self._feed(replay)
            self._must_have_reached(replay)
        finally:
            daemon.stop()
        return replay.last_change_at

    def _feed(self, replay: Replay) -> None:
        total = sum(log.facts.size_bytes for log in self.logs)
        done = 0
        for log in self.logs:
            self.look_up()
            self.tell("replay", done, total)
            replay.take(log)
            done += log.facts.size_bytes
            if replay.is_over:
                break
        self.tell("replay", total, total)

    def _must_have_reached(self, replay: Replay) -> None:
        until = self.request.until
        covered = max(log.facts.finished_at for log in self.logs)
        if until and not replay.is_over and covered < until:
            raise Refusal(
                "MomentNotReached",
                f"The logs end before this moment, at {covered:%Y-%m-%d %H:%M:%S} UTC.",
                "Restore to an earlier moment.",
                "until",
            )

    def _start(self, unpacked: Unpacked) -> RestoredServer:
        wanted = self.request
        return open_doors(
            self.home,
            self.tools,
            self.password,
            unpacked.settings,
            network=wanted.network,
            address=wanted.address,
            port=wanted.port,
            stop=self.look_up,
        )

    def _check(self, server: RestoredServer) -> None:
        with session(server.connection) as opened:
            ask(opened, "SELECT COUNT(*) FROM mysql.global_priv")
