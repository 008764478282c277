"""A statement that takes as long as it takes: one connection waits for it, another keeps watch and can end it.

A time-out of the driver would not do: it does not fire while progress messages arrive (`sqlserver.md` §3).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from backups.engines.facts import Stopped
from backups.engines.sqlserver.connecting import Session
from backups.engines.sqlserver.refusals import Said
from regions.refusals import Refusal

LOOK_SECONDS = 0.5
END_SECONDS = 60  # rolling back a backup takes a moment, never long
PERCENT = "SELECT percent_complete FROM sys.dm_exec_requests WHERE session_id = %s"

Progress = Callable[[float], None]
Stop = Callable[[], bool]


class Running(threading.Thread):
    """A statement on a connection of its own, which waits without an end."""

    def __init__(self, working: Session, statement: str, values: tuple[Any, ...], *, raises: bool = True) -> None:
        super().__init__(daemon=True, name="sqlserver-statement")
        self.working, self.statement, self.values = working, statement, values
        self.way = working.run if raises else working.hear
        self.number = working.number
        self.said: list[Said] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.said = self.way(self.statement, *self.values, seconds=None)
        except BaseException as error:  # raised again by whoever waits
            self.failure = error


def carry_out(
    working: Session,
    watching: Session,
    statement: str,
    *values: Any,
    progress: Progress | None = None,
    stop: Stop | None = None,
    seconds: float | None = None,
    raises: bool = True,
) -> list[Said]:
    """Carry out a statement and return all that the server said, its errors too where it `raises` none of them.

    Raises Refusal with its reason, also when it takes longer than `seconds`; Stopped when `stop` said so. Then the
    server has given it up. `progress(percent)` and `stop()` are called about twice a second.
    """
    running = Running(working, statement, values, raises=raises)
    until = None if seconds is None else time.monotonic() + seconds
    running.start()
    while running.is_alive():
        running.join(LOOK_SECONDS)
        is_late = until is not None and time.monotonic() > until
        try:
            is_unwanted = bool(stop and stop())
            if progress and running.is_alive():
                _tell(watching, running, progress)
        except BaseException:
            _end(watching, running)
            raise
        if running.is_alive() and (is_unwanted or is_late):
            _end(watching, running)
            if is_unwanted:
                raise Stopped
            raise Refusal("TookTooLong", f"It took longer than {seconds:.0f} s and was ended.", "Allow more time.")
    if running.failure:
        raise running.failure
    return running.said


def _tell(watching: Session, running: Running, progress: Progress) -> None:
    """Progress is worth a question, never the work: a watch that fails leaves it alone."""
    with suppress(Refusal):
        rows = watching.ask(PERCENT, running.number)
        if rows:
            progress(float(rows[0]["percent_complete"]))


def _end(watching: Session, running: Running) -> None:
    """KILL it; where that may not be, close its connection, and the server gives it up as well."""
    try:
        watching.run(f"KILL {int(running.number)}")
    except Refusal:
        running.working.shut()
    running.join(END_SECONDS)
    if running.is_alive():
        running.working.shut()
        running.join(END_SECONDS)
