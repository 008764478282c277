"""Keeping children alive: start them, start again what dies, stop them in order. Standard library only.

Children are started from the main thread and tied to it (see lifeline): when this process ends in any way, they end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.runtime import places
from console.runtime.lifeline import tied_to

FIRST_WAIT, LONGEST_WAIT, SETTLED_SECONDS = 0.2, 10.0, 30.0
LOG_ROOM = 16 * 2**20
LOOK_SECONDS, LOOK_AT_LOGS_SECONDS = 0.1, 60.0

Say = Callable[[str], None]


@dataclass
class Child:
    """One program to keep alive. `ends_by` is what it gets when we end without a word, `stops_by` when we say so."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    ends_by: signal.Signals = signal.SIGKILL
    stops_by: signal.Signals = signal.SIGTERM
    grace_seconds: float = 5.0
    options: Mapping[str, Any] = field(default_factory=dict)

    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    wait_seconds: float = FIRST_WAIT
    again_at: float | None = None

    def start(self) -> None:
        self.again_at, self.started_at = None, time.monotonic()
        settled = {
            "env": dict(self.environment),
            "start_new_session": True,
            "preexec_fn": tied_to(os.getpid(), self.ends_by),
            **self.options,
        }
        with places.open_log(self.log) as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **settled
            )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def look_after(self, say: Say) -> None:
        """Start it again when it has died, sooner the first time than the tenth."""
        if self.is_running or self.process is None:
            return
        if self.again_at is None:
            settled = time.monotonic() - self.started_at > SETTLED_SECONDS
            self.wait_seconds = FIRST_WAIT if settled else min(self.wait_seconds * 2, LONGEST_WAIT)
            self.again_at = time.monotonic() + self.wait_seconds
            self._end_what_it_left()
            ending = _ending(self.process.returncode)
            say(f"{self.name} ended ({ending}): {self.last_words()} Starting it again; its log: {self.log}")
        elif time.monotonic() >= self.again_at:
            self.start()

    def last_words(self) -> str:
        """The last line of its log, which for most deaths is the reason."""
        with suppress(OSError), open(self.log, "rb") as log:
            log.seek(-min(2000, log.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            return f"{lines[-1][:300]}." if lines else "it said nothing."
        return "it said nothing."

    def ask_to_stop(self) -> None:
        if self.process and self.is_running:
            self.process.send_signal(self.stops_by)

    def wait_until_stopped(self) -> None:
        """Give it its grace, then end it and whatever it started in its session."""
        if self.process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(self.grace_seconds)
        self._end_what_it_left()
        self.process.wait()

    def _end_what_it_left(self) -> None:
        """Its process group goes with it, so that nothing of it works on beside its successor."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def keep_log_small(self) -> None:
        """Keep the last stretch beside it and begin again; the child goes on appending to the same file."""
        with suppress(OSError):
            if self.log.stat().st_size > LOG_ROOM:
                shutil.copy(self.log, self.log.with_suffix(".log.1"))  # with its permissions
                os.truncate(self.log, 0)


def _ending(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


class Supervisor:
    def __init__(self, say: Say) -> None:
        self.say = say
        self.children: list[Child] = []
        self.told_to_stop = threading.Event()
        self.logs_seen_at = time.monotonic()
        for told in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if told != signal.SIGHUP or signal.getsignal(told) != signal.SIG_IGN:  # nohup means it
                signal.signal(told, lambda *_: self.told_to_stop.set())

    def add(self, child: Child) -> Child:
        self.children.append(child)
        child.start()
        return child

    def wait_for(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Look after the children until something is so; False when the time is over or we were told to stop."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.told_to_stop.is_set():
            if ready():
                return True
            self.look_around()
        return False

    def run(self) -> None:
        while not self.told_to_stop.is_set():
            self.look_around()

    def look_around(self) -> None:
        for child in self.children:
            child.look_after(self.say)
        if time.monotonic() - self.logs_seen_at > LOOK_AT_LOGS_SECONDS:
            self.logs_seen_at = time.monotonic()
            for child in self.children:
                child.keep_log_small()
        self.told_to_stop.wait(LOOK_SECONDS)

    def stop(self) -> None:
        """Stop those started last first; what the others stand on (database, broker) goes when they are gone."""
        last = [child for child in self.children if child.name in FOUNDATIONS]
        first = [child for child in self.children if child not in last]
        for group in (first, *([child] for child in reversed(last))):
            for child in group:
                child.ask_to_stop()
            for child in group:
                child.wait_until_stopped()


FOUNDATIONS = ("postgresql", "valkey")
