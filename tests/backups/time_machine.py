"""One clock for the database and the stores, which stands still until a story moves it.

The clock of a folder store moves along: the purge guard compares both (I4).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from regions import clock
from regions.storage.filesystem import FolderStorage


class TimeMachine:
    """`at` is now, for everything that decides by `regions.clock` and for every folder store."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = datetime.now(UTC).replace(microsecond=0)
        self.stores_lag = timedelta(0)
        monkeypatch.setattr(clock, "now", lambda: self.at)
        monkeypatch.setattr(FolderStorage, "clock", lambda _: self.at - self.stores_lag)

    def forward(self, **more: float) -> datetime:
        """Let time pass, said as a timedelta says it: `forward(days=7, seconds=1)`."""
        self.at += timedelta(**more)
        return self.at
