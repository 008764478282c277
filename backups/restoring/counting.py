"""Counting a restored server's rows beside everything else: one huge table keeps nobody from cancelling or using it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from backups.engines.facts import RunningServer


class Counting(threading.Thread):
    """Done when it is no longer alive: `rows` by table, or `why` they could not be counted."""

    def __init__(
        self, server: RunningServer, count: Callable[..., dict[str, int]] | None, stop: Callable[[], bool]
    ) -> None:
        super().__init__(daemon=True, name="counting")
        self._server, self._count, self._stop_asked = server, count, stop
        self.rows: dict[str, int] = {}
        self.seconds = 0.0
        self.why = ""

    def run(self) -> None:
        begun = time.monotonic()
        try:
            self.rows = self._count(self._server, stop=self._stop_asked) if self._count else {}
        except Exception as error:  # a page that cannot be read, a server stopped under us: said, and no more
            self.why = " ".join(str(error).split()) or type(error).__name__
        self.seconds = round(time.monotonic() - begun, 3)
