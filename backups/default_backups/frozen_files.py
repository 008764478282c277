"""Reading what a snapshot hook says it has frozen: below one folder only, no link followed, plain files as large as the
server said. The hook is trusted with its storage, not with this worker's files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO

from django.conf import settings

from backups.engines.facts import DatabaseFile
from regions.refusals import Refusal

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def reading(path: str, file: DatabaseFile) -> Iterator[BinaryIO]:
    """Open one frozen file; raises Refusal, also where it changes while it is read."""
    called = file.logical_name
    try:
        with os.fdopen(_opened(path, called), "rb") as stream:
            before = _looked_at(stream, file)
            yield stream
            after = _looked_at(stream, file)
    except OSError as error:
        raise _refused(called, error.strerror or str(error)) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _refused(called, "somebody writes to it, so that it is not frozen")


def check(where: dict[int, str], files: tuple[DatabaseFile, ...]) -> None:
    """Open each once, so that what cannot be read is known while writes still wait; raises Refusal."""
    for file in files:
        with reading(where[file.file_id], file):
            pass


def _opened(path: str, called: str) -> int:
    """Go down from the root folder by folder, so that no part of the way is a link."""
    root, way = PurePosixPath(settings.SNAPSHOT_ROOT), PurePosixPath(path)
    if not way.is_relative_to(root) or ".." in way.parts or way == root:
        raise _refused(called, f"the hook names a place that is not below {root} (SNAPSHOT_ROOT)")
    *folders, name = way.relative_to(root).parts
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, FOLDER, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, FILE, dir_fd=at)
    finally:
        os.close(at)


def _looked_at(stream: BinaryIO, file: DatabaseFile) -> os.stat_result:
    found = os.fstat(stream.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise _refused(file.logical_name, "it is no plain file")
    if found.st_size != file.size_bytes:
        raise _refused(file.logical_name, f"it has {found.st_size:,} bytes, and the database's {file.size_bytes:,}")
    return found


def _refused(called: str, why: str) -> Refusal:
    return Refusal(
        "FrozenFileUnreadable",
        f"The frozen file {called} cannot be carried: {why}.",
        "See what the snapshot hook answers, and that this worker may read it.",
    )
