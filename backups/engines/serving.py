"""A restored server as a process of ours: started confined, ended with us, and proven gone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from backups.engines import confinement
from backups.engines.facts import Connection
from backups.engines.homes import Home

LAST_SECONDS = 5

Farewell = Sequence[tuple[signal.Signals, int]]


class ServerProcess:
    """One run of a server; its settings have been written. It lives no longer than the thread that starts it.

    `farewell`: the signals that end it, the kindest first, and how many seconds each may take.
    """

    farewell: Farewell = ((signal.SIGTERM, 20), (signal.SIGKILL, LAST_SECONDS))

    def __init__(
        self,
        home: Home,
        command: Sequence[object],
        *,
        alone: bool,
        by: signal.Signals,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.home = home
        self.said_from = home.log.stat().st_size if home.log.exists() else 0
        with open(home.log, "ab") as out:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd="/",
                env={**confinement.environment(home.folder), **more},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=confinement.confined(os.getpid(), home.whom, by=by, alone=alone),
            )

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        """What this run has written into the log."""
        with open(self.home.log, "rb") as log:
            log.seek(self.said_from)
            return log.read().decode(errors="replace")

    def stop(self) -> None:
        """End it with everything it started; raises RuntimeError if something of it is left. Safe to repeat."""
        for by, seconds in self.farewell:
            if self.has_ended:
                break
            self.process.send_signal(by)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        end_all_in(self.home.data)

    def isolation(self, network: bool) -> str:
        """What keeps it from the network, "" when it has an address."""
        if network:
            return ""
        return "namespace" if confinement.has_own_network(self.process.pid) else "socket"


def end_all_in(data: Path) -> None:
    """Children outlive a server that was killed by a moment; after this none is left."""
    until = time.monotonic() + LAST_SECONDS
    while left := confinement.living_in(data):
        if time.monotonic() > until:
            raise RuntimeError(f"processes {left} of the server in {data} do not end")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


@dataclass
class RestoredServer:
    """The handle of a running restored server (see RunningServer); `version` is what its tools go by."""

    connection: Connection
    isolation: str
    version: str
    run: ServerProcess = field(repr=False)

    @property
    def folder(self) -> Path:
        return self.run.home.folder

    @property
    def log(self) -> Path:
        return self.run.home.log

    @property
    def pid(self) -> int:
        return self.run.process.pid

    @property
    def is_running(self) -> bool:
        return not self.run.has_ended

    def stop(self) -> None:
        self.run.stop()


def free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def discard(folder: Path) -> None:
    """Remove a restored server with all it has, running or not; safe to repeat."""
    home = Home(folder, None)
    end_all_in(home.data)
    shutil.rmtree(home.sockets, ignore_errors=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
