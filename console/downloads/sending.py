"""The body of one answer: read from the store, handed to the web server, told to the meter. Memory is one chunk.

While it runs no database connection is held: each look at the meter opens one and lets it go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from django.db import DatabaseError, connection

from backups import downloads
from backups.models import Download
from billing.downloads import Meter
from console.downloads.wire import Wire
from regions.storage import StorageError
from regions.storage.mover import Differs

log = logging.getLogger(__name__)
CHUNK_BYTES = 256 << 10
TELLING_SECONDS = 10


class Sending:
    """Iterated by the web server, which calls `close` whatever happens; a class, because a generator that was never
    begun does not clean up."""

    def __init__(
        self, download: Download, body: BinaryIO, meter: Meter, wire: Wire, first: int, let_go: Callable[[], object]
    ) -> None:
        self._download, self._body, self._meter, self._wire, self._let_go = download, body, meter, wire, let_go
        self._first = self._sent = first
        self._handed = first  # with the chunk that the server has and may not have sent
        self._told_at, self._is_over = time.monotonic(), False

    def __iter__(self) -> Sending:
        return self

    def __next__(self) -> bytes:
        """Give the next chunk; being asked for it says that the one before was sent."""
        if self._sent == self._handed:
            let_connection_go()  # the first one: nothing that happened before it needs the database any more
        self._sent = self._handed
        is_due = self._sent + CHUNK_BYTES > self._meter.handed  # nothing is sent that was not written down before
        if is_due or time.monotonic() - self._told_at > TELLING_SECONDS:
            self._tell(or_later=not is_due)
        chunk = self._read()
        if not chunk:
            missing = self._wire.drain()
            self._end(self._arrived(missing))
            raise StopIteration
        self._handed = self._sent + len(chunk)
        return chunk

    def _read(self) -> bytes:
        try:
            return self._body.read(CHUNK_BYTES)
        except (StorageError, Differs) as error:
            log.warning("download broken off", extra={"download": self._download.pk, "reason": str(error)})
            with suppress(StorageError):
                downloads.report(self._download, error)
            raise

    def _arrived(self, missing: int) -> int:
        return max(self._first, self._sent - missing)

    def _tell(self, *, or_later: bool) -> None:
        self._told_at = time.monotonic()
        try:
            self._meter.count(self._arrived(self._wire.waiting()), self._sent)
        except DatabaseError as error:
            log.warning("a download was not counted", extra={"download": self._download.pk, "reason": str(error)})
            if not or_later:
                raise
        finally:
            let_connection_go()

    def _end(self, arrived: int) -> None:
        self._is_over = True
        try:
            self._meter.end(arrived, self._handed)
        except Exception:  # with its traceback: Django forgets what is raised while an answer is closed
            log.exception("the end of a download was not told", extra={"download": self._download.pk})
        finally:
            let_connection_go()

    def close(self) -> None:
        """Safe to call at any moment, and again."""
        if self._let_go is None:
            return
        let_go, self._let_go = self._let_go, None
        try:
            if not self._is_over:
                self._end(self._arrived(self._wire.waiting()))
            self._body.close()
        finally:
            let_go()


def let_connection_go() -> None:
    """A slow reader must not hold a connection; inside a transaction (a test's) it is not ours to close."""
    if not connection.in_atomic_block:
        connection.close()
