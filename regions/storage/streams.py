"""Stores a pipe of unknown length: a backup that is being taken goes straight into the store.

A part's length must be known before it is sent, and a pipe cannot be read twice: so each part waits in a spool (in
memory while it is small, then in an unnamed file) until the store has acknowledged it.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import BinaryIO

from regions.storage import Storage
from regions.storage.buffers import borrowed
from regions.storage.flight import Part, Stop, Watched
from regions.storage.patience import patiently

MIB = 1 << 20
STEP_PARTS = 1000  # after so many parts of one size the next are larger


def stream_part_size(number: int) -> int:
    """Return the bytes of a stream's part: 16 MiB, growing so that 10,000 of them hold more than 5 TiB."""
    return 16 * MIB * (1 + 8 * ((number - 1) // STEP_PARTS))


def store_stream(
    target: Storage,
    key: str,
    pipe: BinaryIO,
    *,
    upload_id: str,
    on_part: Callable[[Part], None],
    in_flight: int = 2,
) -> tuple[list[Part], str]:
    """Send everything the pipe gives as parts of the upload; return them and the flat SHA-256 of the whole.

    `on_part` hears of each acknowledged part in the caller's thread; what it raises ends the run. The end of the pipe
    is not the success of whoever writes it: look at its exit code before completing the upload. An empty stream has
    no parts: abort the upload and put an empty object. Resident memory: 16 MiB for each part in flight and one more.
    """
    whole, sent, flying, offset = hashlib.sha256(), list[Part](), list[Future[Part]](), 0
    sender = _Sender(target, key, upload_id)

    def land(most: int) -> None:
        while len(flying) > most or (flying and flying[0].done()):
            sent.append(flying.pop(0).result())
            on_part(sent[-1])

    with ThreadPoolExecutor(in_flight, thread_name_prefix="stream") as crew:
        try:
            while spool := _fill(pipe, stream_part_size(len(sent) + len(flying) + 1), whole.update):
                part = Part(len(sent) + len(flying) + 1, offset, spool.tell())
                flying.append(crew.submit(sender.send, part, spool))
                offset += part.size
                land(in_flight - 1)
            land(0)
        finally:
            sender.ended.set()
    return sent, whole.hexdigest()


class _Sender:
    """Sends spooled parts of one upload until `ended`."""

    def __init__(self, target: Storage, key: str, upload_id: str) -> None:
        self._target, self._key, self._upload_id = target, key, upload_id
        self.ended = threading.Event()

    def send(self, part: Part, spool: BinaryIO) -> Part:
        with spool:
            return patiently(lambda: self._try(part, spool), wait=self._wait)

    def _try(self, part: Part, spool: BinaryIO) -> Part:
        sha256 = hashlib.sha256()

        def see(chunk: memoryview) -> None:
            self._wait(0)
            sha256.update(chunk)

        spool.seek(0)
        body = Watched(spool, see)
        receipt = self._target.put_part(self._key, self._upload_id, part.number, part.offset, part.size, body)
        return replace(part, etag=receipt.etag, sha256=sha256.hexdigest())

    def _wait(self, seconds: float) -> None:
        if self.ended.wait(seconds):
            raise Stop


def _fill(pipe: BinaryIO, size: int, see: Callable[[memoryview], None]) -> BinaryIO | None:
    """Return a spool with the next part, at its end; None when the pipe has nothing more."""
    spool = tempfile.SpooledTemporaryFile(max_size=16 * MIB)  # noqa: SIM115 - its sender closes it
    with borrowed() as buffer:
        while (left := size - spool.tell()) and (count := pipe.readinto(buffer[: min(left, len(buffer))])):
            see(buffer[:count])
            spool.write(buffer[:count])
    if spool.tell():
        return spool
    spool.close()
    return None
