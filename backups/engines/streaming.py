"""A running backup tool as something to read: its end is the end of a whole backup, or there is no end."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from typing import Any, Generic, Protocol, TypeVar

from backups.engines.confinement import tied
from backups.engines.facts import Stopped
from regions.refusals import Refusal

PIPE_BYTES = 1 << 20
LOOK_UP_SECONDS = 0.5
PROGRESS_SECONDS = 1.0
MOST_WORDS = 8 << 10
END_SECONDS = 10

StoryT = TypeVar("StoryT", covariant=True)


class ArchiveDamaged(Exception):
    """What passed is not a whole backup; says why."""


class Reader(Protocol[StoryT]):
    """Reads a backup as it passes; both verbs raise ArchiveDamaged. `story` tells what a whole one said of itself."""

    size: int

    def feed(self, view: memoryview) -> None: ...

    def story(self) -> StoryT: ...


class ToolStream(io.RawIOBase, Generic[StoryT]):
    """Read it to its end, from one thread at a time; the child lives no longer than this object is open.

    Reading raises Stopped when `stop` says so, and Refusal (made by `explain` from the tool's words) when the tool
    failed or its archive is not whole: a consumer never meets the end of a backup that is none. `progress` is told
    (bytes so far, bytes expected or None) about once a second. Both are called by the thread that reads.
    `expected` is how many bytes there will be, as far as that is known beforehand.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        reader: Reader[StoryT],
        *,
        keep: Sequence[int] = (),
        expected: int | None = None,
        explain: Callable[[str], Refusal],
        progress: Callable[[int, int | None], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self._explain, self._progress, self._stop = explain, progress, stop
        self._tool = os.path.basename(command[0])
        self._archive = reader
        self._story: StoryT | None = None
        self._failure: Exception | None = None
        self._said = bytearray()
        self._talking = True
        self._expected = expected
        self._looked_up = self._told = 0.0
        self._child = _start(command, environment, keep)
        self._poll = select.poll()
        for pipe in (self._child.stdout, self._child.stderr):
            self._poll.register(pipe, select.POLLIN)

    @property
    def size(self) -> int:
        return self._archive.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the backup goes; 0 is the end of a whole backup."""
        if self._failure:
            raise self._failure
        if self._story:
            return 0
        try:
            return self._fill(memoryview(buffer).cast("B"))
        except BaseException as error:
            self._failure = error if isinstance(error, Exception) else None
            self._kill()
            raise

    def _fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            self._wait()
            count = self._child.stdout.readinto(view[filled:])
            if not count:
                self._conclude()
                break
            self._feed(view[filled : filled + count])
            filled += count
        self._tell(finished=self._story is not None)
        return filled

    def _wait(self) -> None:
        """Come back when bytes of the backup, or their end, can be read."""
        while True:
            self._look_up()
            ready = {fd for fd, _ in self._poll.poll(LOOK_UP_SECONDS * 1000)}
            if self._child.stderr.fileno() in ready:
                self._listen()
            if self._child.stdout.fileno() in ready:
                return

    def _look_up(self) -> None:
        if self._stop and time.monotonic() - self._looked_up >= LOOK_UP_SECONDS:
            self._looked_up = time.monotonic()
            if self._stop():
                raise Stopped("the backup is no longer wanted")

    def _listen(self) -> None:
        """Take in what the tool says: how much it expects, and its last words."""
        words = self._child.stderr.read(MOST_WORDS)
        if not words:
            self._talking = False
            self._poll.unregister(self._child.stderr)
        self._said += words
        del self._said[:-MOST_WORDS]
        self._expected = self._expected_from(bytes(self._said)) or self._expected

    def _expected_from(self, said: bytes) -> int | None:
        """Return how many bytes there will be, where the tool says so."""
        return None

    def _feed(self, view: memoryview) -> None:
        try:
            self._archive.feed(view)
        except ArchiveDamaged as damage:
            raise self._refusal(damage) from damage

    def _tell(self, finished: bool) -> None:
        if self._progress and (finished or time.monotonic() - self._told >= PROGRESS_SECONDS):
            self._told = time.monotonic()
            self._progress(self.size, self.size if finished else self._expected)

    def _conclude(self) -> None:
        """The tool closed its end: believe that only if it says it succeeded and the archive is whole."""
        status = self._last_status()
        if status < 0:
            raise Refusal("ToolKilled", f"{self._tool} was ended by signal {-status}.", "It is taken again.")
        if status:
            raise self._explain(self._last_words())
        try:
            self._story = self._archive.story()
        except ArchiveDamaged as damage:
            raise self._refusal(damage) from damage

    def _last_status(self) -> int:
        while self._talking:
            self._listen()
        try:
            return self._child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            return self._child.returncode

    def _last_words(self) -> str:
        lines = re.split(r"[\r\n]+", self._said.decode(errors="replace"))
        return "\n".join(line for line in lines if line and not self._is_chatter(line))

    def _is_chatter(self, line: str) -> bool:
        return False

    def _refusal(self, damage: ArchiveDamaged) -> Refusal:
        return Refusal(
            "ArchiveDamaged", f"What {self._tool} wrote is not a whole backup: {damage}.", "It is taken again."
        )

    def story(self) -> StoryT:
        """Tell what the whole backup said of itself; raises what ended it, or that nobody read it to its end."""
        if self._failure:
            raise self._failure
        if not self._story:
            raise RuntimeError("the backup was not read to its end")
        return self._story

    def close(self) -> None:
        if not self.closed:
            self._kill()
            self._child.stdout.close()
            self._child.stderr.close()
        super().close()

    def _kill(self) -> None:
        """End the tool and what it started, and wait until it is gone."""
        if self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()


def _start(command: Sequence[str], environment: Mapping[str, str], keep: Sequence[int]) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        command,
        env=dict(environment),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=keep,
        start_new_session=True,
        preexec_fn=tied(os.getpid()),
    )
    with suppress(OSError):  # a machine may allow less; then the pipe stays small
        fcntl(child.stdout, F_SETPIPE_SZ, PIPE_BYTES)
    return child
