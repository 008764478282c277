"""A tool that receives logs, as a child of ours: started, paused while the spool is full, ended with us."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backups.engines.confinement import tied

END_SECONDS = 10
LOOK_SECONDS = 0.2
MOST_WORDS = 4 << 10


class ReceivingTool:
    """Starts in `resume`, so call that from a thread that lives on; `pause` may be called from any.

    A command that is a function is asked for anew at every start.
    """

    def __init__(
        self,
        command: Sequence[str] | Callable[[], Sequence[str]],
        environment: Mapping[str, str],
        log: Path,
        *,
        keep: Sequence[int] = (),
        is_full: Callable[..., bool],
    ) -> None:
        self._command, self._environment, self._log, self._keep = command, environment, log, keep
        self.is_full = is_full
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.is_paused = True

    def resume(self) -> None:
        with self._lock, open(self._log, "wb") as out:
            self._child = subprocess.Popen(
                self._command() if callable(self._command) else self._command,
                env=dict(self._environment),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=self._keep,
                start_new_session=True,
                preexec_fn=tied(os.getpid()),
            )
            self.is_paused = False

    def pause(self) -> None:
        """End the tool; what it has received stays, and it goes on there. Safe to repeat."""
        with self._lock:
            self.is_paused = True
            if self._child and self._child.poll() is None:
                self._child.send_signal(signal.SIGINT)
                try:
                    self._child.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    self._child.kill()
                    self._child.wait()

    @property
    def has_ended(self) -> bool:
        """It ended by itself, which it never should."""
        return not self.is_paused and self._child is not None and self._child.poll() is not None

    def last_words(self) -> str:
        with suppress(OSError):
            return self._log.read_bytes()[-MOST_WORDS:].decode(errors="replace")
        return ""


class Guard(threading.Thread):
    """Pauses the tool as soon as the spool is full, also while a delivery takes its time."""

    def __init__(self, tool: ReceivingTool) -> None:
        super().__init__(daemon=True, name="spool-guard")
        self._tool = tool
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if not self._tool.is_paused and self._tool.is_full():
                self._tool.pause()

    def end(self) -> None:
        self._over.set()
        self.join()
