"""Parts in flight: several at a time, retried with patience, fewer when a store asks for it (transfer.md)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from regions.storage import Readable, StorageError
from regions.storage.patience import patiently

CLEAN_PARTS = 50
SLOW_CODES = {"SlowDown", "TooManyRequests", "RequestLimitExceeded"}
PULSE_SECONDS = 5.0


@dataclass(frozen=True, order=True)
class Part:
    """A stretch of a file: number from 1, offset and size in bytes; hashes in hex, etag as its store gave it."""

    number: int
    offset: int
    size: int
    sha256: str = ""
    etag: str = ""
    md5: str = ""


class Stop(Exception):
    """Raised by a callback: the fence is lost. Everything in flight ends at once and nothing more is reported."""


class _Late(Exception):
    """The time was over while a part waited for another try."""


class Gate:
    """How many parts may fly: halved when a store says slow down, one more after every 50 clean parts."""

    def __init__(self, widest: int) -> None:
        self._lock, self._widest, self._clean = threading.Lock(), widest, 0
        self.width = widest

    def slow_down(self) -> None:
        with self._lock:
            self.width, self._clean = max(1, self.width // 2), 0

    def was_clean(self) -> None:
        with self._lock:
            self._clean += 1
            if self._clean >= CLEAN_PARTS:
                self.width, self._clean = min(self._widest, self.width + 1), 0


class Flight:
    """One run of parts. `work` runs in threads; every callback is called in the thread that called `fly`.

    `until` is a moment of time.monotonic(): no part starts after it, those in flight are brought to their end.
    `pulse` is called at least every five seconds meanwhile, for a lease that must be kept alive.
    """

    def __init__(
        self,
        work: Callable[[Part, Flight], Part],
        *,
        on_done: Callable[[Part], None],
        on_retry: Callable[[int], None] | None = None,
        pulse: Callable[[], None] | None = None,
        until: float | None = None,
        in_flight: int = 4,
    ) -> None:
        self._work, self._on_done, self._on_retry, self._pulse = work, on_done, on_retry, pulse
        self._until, self._in_flight = until, in_flight
        self._gate, self._ended, self._resent = Gate(in_flight), threading.Event(), deque[int]()

    def fly(self, parts: Iterable[Part]) -> list[Part] | None:
        """Return the parts as `work` left them, None when the time was over first. Raises what a part raised.

        A part that was still failing when the time was over is an error only if nothing else got through.
        """
        waiting, flying, landed, trouble = deque(parts), set[Future[Part]](), list[Part](), None
        with ThreadPoolExecutor(self._in_flight, thread_name_prefix="part") as crew:
            try:
                while flying or (waiting and not self._is_late()):
                    while waiting and len(flying) < self._gate.width and not self._is_late():
                        flying.add(crew.submit(self._carry, waiting.popleft()))
                    for future in self._next_of(flying):
                        flying.discard(future)
                        try:
                            landed.append(self._landed(future))
                        except _Late as late:
                            trouble = late.__cause__
            finally:
                self._ended.set()
                for future in flying:
                    future.cancel()
        if trouble and not landed:
            raise trouble
        return None if waiting or trouble else landed

    def check(self) -> None:
        """Called by `work` at every buffer: ends a part whose run is over."""
        if self._ended.is_set():
            raise Stop

    def _carry(self, part: Part) -> Part:
        self.check()
        return patiently(
            lambda: self._work(part, self), wait=self._wait, on_failure=lambda error: self._failed(part, error)
        )

    def _failed(self, part: Part, error: StorageError) -> None:
        if error.code in SLOW_CODES:
            self._gate.slow_down()
        if self._is_late():
            raise _Late from error
        self._resent.append(part.size)

    def _wait(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise Stop

    def _next_of(self, flying: set[Future[Part]]) -> set[Future[Part]]:
        ready, _ = wait(flying, PULSE_SECONDS, FIRST_COMPLETED)
        if self._pulse:
            self._pulse()
        while self._resent:
            resent = self._resent.popleft()
            if self._on_retry:
                self._on_retry(resent)
        return ready

    def _landed(self, future: Future[Part]) -> Part:
        part = future.result()
        self._gate.was_clean()
        self._on_done(part)
        return part

    def _is_late(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until


class Watched:
    """Hands a stream on and shows every chunk to `see` on its way."""

    def __init__(self, source: Readable, see: Callable[[memoryview], None]) -> None:
        self._source, self._see = source, see

    def readinto(self, buffer: memoryview) -> int:
        count = self._source.readinto(buffer)
        self._see(buffer[:count])
        return count
