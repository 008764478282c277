"""What every restore does: whether the logs lead there, whether there is room, and telling how far it is."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from backups.engines.chains import ChainRules, chain_set
from backups.engines.facts import RestoreRequest, SetFacts, Source, Stopped
from regions.refusals import Refusal

LOOK_SECONDS = 0.2
TELL_BYTES = 16 << 20
T = TypeVar("T")


def refuse_tight(request: RestoreRequest, needed: int) -> None:
    free = shutil.disk_usage(request.place).free
    if needed > free:
        raise Refusal(
            "NoSpace", f"The restore needs {needed} bytes in {request.place}, and {free} are free.", "Make room."
        )


def usable_logs(base: SetFacts, logs: Sequence[Source], until: datetime | None, rules: ChainRules) -> list[Source]:
    """The logs that follow the backup without hole, by position; raises Refusal where a hole comes before `until`."""
    reached, covered, fork, usable = base.last_position, base.finished_at, base.fork, []
    needed = rules.logs_from(chain_set(0, base, rules))
    for log in logs:
        first, last = rules.span(chain_set(0, log.facts, rules))
        if needed is None or last <= needed:
            continue
        if log.facts.parent_fork and log.facts.fork != fork:  # what the former fork has beyond does not count
            reached, covered = min(reached, log.facts.fork_position), min(covered, log.facts.forked_at)
        if first > reached:
            if until and until <= covered:
                break
            raise Refusal(
                "LogsBroken",
                f"The logs have a gap after {covered:%Y-%m-%d %H:%M:%S} UTC: the next one begins at position "
                f"{first}, not at {reached}.",
                "Restore to a moment before the gap.",
                "until",
            )
        reached, covered, fork = max(reached, last), max(covered, log.facts.finished_at), log.facts.fork
        usable.append(log)
    if until and not usable and until > base.finished_at:
        raise Refusal("MomentNotReached", "No log reaches this moment.", "Restore to an earlier one.", "until")
    return usable


@dataclass
class Stages:
    """How far a restore is: its stages timed and told, and whether anybody still wants it."""

    request: RestoreRequest
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    looked: float = float("-inf")

    def timed(self, stage: str, work: Callable[[], T]) -> T:
        begun = time.monotonic()
        self.tell(stage, 0, None)
        try:
            return work()
        finally:
            self.seconds[stage] = round(time.monotonic() - begun, 3)

    def tell(self, stage: str, done: int, total: int | None) -> None:
        if self.request.progress:
            self.request.progress(stage, done, total)

    def look_up(self) -> None:
        """Raise Stopped when nobody wants the restore any more."""
        if self.request.stop and time.monotonic() - self.looked >= LOOK_SECONDS:
            self.looked = time.monotonic()
            if self.request.stop():
                raise Stopped("the restore is no longer wanted")

    def outlast(self, child: subprocess.Popen[bytes]) -> str:
        """Wait for a tool and return what it said; whoever stops waiting ends it."""
        try:
            while True:
                self.look_up()
                try:
                    said = child.communicate(timeout=LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
                return b"".join(filter(None, said)).decode(errors="replace")
        finally:
            child.kill()
            child.wait()


class Passing:
    """Told of every stretch of bytes that was unpacked."""

    def __init__(self, stages: Stages, total: int) -> None:
        self._stages, self._total = stages, total
        self._done = self._told = 0

    def __call__(self, count: int) -> None:
        self._stages.look_up()
        self._done += count
        if self._done - self._told >= TELL_BYTES:
            self._told = self._done
            self._stages.tell("unpack", self._done, self._total)
