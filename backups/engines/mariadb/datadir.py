"""Whether the server's files can be read from here: mariadb-backup copies them, it does not ask for them.

A folder of the right name may be another server's (a replica on this worker, say), and copying that would be a backup
of the wrong data. So we compare the checkpoint that stands in the log file with the one that the server tells of.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from backups.engines.mariadb.connecting import Session, ask
from regions.refusals import Refusal

LOOKS, LOOK_SECONDS = 10, 0.1
LOG_FILE = "ib_logfile0"
ENCRYPTED = 1 << 31
PHYS_10_8, PHYS_10_5 = 0x50687973, 0x50485953
# Where the two checkpoints stand in it, and at which byte of each their number is.
CHECKPOINTS = {PHYS_10_8: ((4096, 8192), 0), PHYS_10_5: ((512, 1536), 8)}


def must_be_here(datadir: str, log_folder: str, session: Session) -> None:
    """Raise Refusal unless this worker can read the data directory, and it is this very server's."""
    folder = Path(datadir)
    log = folder / log_folder / LOG_FILE
    try:
        unread = next(_unreadable(folder, log), None)
    except OSError:
        raise _elsewhere(folder) from None
    if unread:
        raise Refusal(
            "DataUnreadable",
            f"This worker may not read {unread}, and mariadb-backup copies the server's files.",
            "Run the worker as root or as the server's own account.",
        )
    if not _same(log, session):
        raise Refusal(
            "OtherDataHere",
            f"The {folder} of this worker is not the data directory of this server.",
            "Run a worker of this region on the server's own machine.",
        )


def _elsewhere(folder: Path) -> Refusal:
    return Refusal(
        "DataElsewhere",
        f"mariadb-backup copies the server's files, and {folder} is not on this worker.",
        "Run a worker of this region on the server's own machine, or where its data directory is mounted.",
    )


def _unreadable(folder: Path, log: Path) -> Iterator[Path]:
    """What of it may not be read, folder by folder; raises OSError when it is not there."""
    log.parent.stat()
    for path in (folder, *(entry for entry in _entries(folder) if entry.is_dir())):
        if not os.access(path, os.R_OK | os.X_OK):
            yield path
    log.stat()
    if not os.access(log, os.R_OK):
        yield log


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except PermissionError:
        return []


def _same(log: Path, session: Session) -> bool:
    """Whether both tell of one checkpoint; a busy server makes new ones, so look more than once."""
    for _ in range(LOOKS):
        before, told, after = _written(log), _told(session), _written(log)
        if told and told in (before, after):
            return True
        time.sleep(LOOK_SECONDS)
    return False


def _told(session: Session) -> int:
    found = re.search(r"Last checkpoint at\s+(\d+)", ask(session, "SHOW ENGINE INNODB STATUS")[0][2])
    return int(found[1]) if found else 0


def _written(log: Path) -> int:
    """The newest checkpoint in the file; 0 when it is none that we know."""
    with open(log, "rb") as file:
        head = file.read(16 << 10)
    kind = struct.unpack_from(">I", head)[0] & ~ENCRYPTED if len(head) >= 4 else 0
    places, at = CHECKPOINTS.get(kind, ((), 0))
    return max((struct.unpack_from(">Q", head, place + at)[0] for place in places if len(head) > place + 16), default=0)
