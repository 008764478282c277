"""A running pg_basebackup as something to read."""

from __future__ import annotations

import re
from typing import Any

from backups.engines.facts import Excerpt
from backups.engines.postgresql.archive import ArchiveReader, Story
from backups.engines.streaming import ToolStream


class BackupStream(ToolStream[Story]):
    def __init__(self, command: Any, environment: Any, **options: Any) -> None:
        super().__init__(command, environment, ArchiveReader(), **options)

    def _expected_from(self, said: bytes) -> int | None:
        """A guess: WAL and the tar's own blocks come on top."""
        counted = re.findall(rb"\d+/(\d+) kB", said)
        return int(counted[-1]) * 1024 if counted else None

    def _is_chatter(self, line: str) -> bool:
        return " kB (" in line or line == "waiting for checkpoint"

    def outline(self) -> Excerpt:
        """Return where in the whole backup lies what an incremental on it needs."""
        self.story()
        return self._archive.outline()
