"""How often and how long to try again: full jitter, what the store asks for honoured, never for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from regions.storage import StorageError

MOST_TRIES = 8
SHORTEST_SECONDS, LONGEST_SECONDS = 0.2, 20.0
LONGEST_ASKED_SECONDS = 120.0

Result = TypeVar("Result")


def pause_before(attempt: int, error: StorageError) -> float:
    """Return the seconds to wait before try number `attempt` (2 is the first repetition)."""
    if error.retry_after is not None:
        return min(error.retry_after, LONGEST_ASKED_SECONDS)
    return random.uniform(SHORTEST_SECONDS, min(LONGEST_SECONDS, SHORTEST_SECONDS * 2**attempt))


def patiently(
    call: Callable[[], Result],
    *,
    wait: Callable[[float], object] = time.sleep,
    on_failure: Callable[[StorageError], None] = lambda error: None,
) -> Result:
    """Call until it succeeds, fails for good, or has failed `MOST_TRIES` times; `on_failure` hears of each retry."""
    for attempt in range(2, MOST_TRIES + 2):
        try:
            return call()
        except StorageError as error:
            if not error.retry or attempt > MOST_TRIES:
                raise
            on_failure(error)
            wait(pause_before(attempt, error))
    raise AssertionError("unreachable")
