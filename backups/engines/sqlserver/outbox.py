"""The share as an outbox: what the server ended and nobody has fetched yet is fetched before anything else is taken.

BACKUP LOG ends the log on the server, so that a file of it must never be lost, whoever died before it was carried on.
Every file carries in its name whose attempt it is; msdb names its set, and its own header says that it is whole.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from backups.engines.facts import (
    Attempt,
    Connection,
    DatabaseOrder,
    FullNeeded,
    Inspection,
    Kind,
    Share,
    SharedBackup,
)
from backups.engines.sqlserver import history
from backups.engines.sqlserver.connecting import PROGRAM, Session, session
from backups.engines.sqlserver.server import Look, look, why_not
from backups.engines.sqlserver.taking import (
    SEEN_ONLY_BY_MSDB,
    comes_true,
    facts_of,
    inspected,
    name_of_set,
    not_shared,
    safe_name,
    sessions,
    take_watched,
)
from backups.engines.sqlserver.watching import Stop
from regions.refusals import Refusal

NAME = re.compile(r"(.*)_(full|differential|log)_(.+)\.(?:bak|dif|trn)", re.DOTALL)
ABANDONED_SECONDS = 86_400  # a file that nobody has written to for so long is written by nobody
END_SECONDS = 30.0


def take_database(
    connection: Connection,
    order: DatabaseOrder,
    share: Share,
    *,
    is_known: Callable[[str], bool],
    stop: Stop | None = None,
    **asked: Any,
) -> SharedBackup:
    """Return the oldest backup of the order's database (logs, or fulls and differentials) that an earlier attempt of
    its owner left in the share; where there is none, let the server take what is ordered, and return that.

    `is_known(guid)` says which sets are recorded: their files are removed. So are files that came to nothing. A backup
    that the server still writes for an earlier attempt of this job is ended first, for nobody waits for it. Raises
    Refusal, Stopped, or FullNeeded where there is nothing that a differential could stand on.
    """
    with session(connection) as watching:
        found = look(watching)
        why_not(found)
        is_over = _end_former(watching, found, order.attempt)
        if left := _oldest_left(watching, order, share, is_known, is_over):
            return left
        try:
            return take_watched(watching, found, order, share, stop=stop, **asked)
        except Refusal as refusal:
            if order.kind is Kind.DIFFERENTIAL and refusal.code == "FullMissing":
                raise FullNeeded(refusal.code, refusal.sentence, refusal.remedy) from refusal
            raise


# ---- a server that still works for an attempt whose worker is dead


def _end_former(watching: Session, found: Look, attempt: Attempt) -> bool:
    """End what the server still does for earlier attempts of this job; whether it is certain that nothing goes on."""
    if not found.sees_requests:
        return False
    for number in _sessions_before(watching, attempt):
        with suppress(Refusal):  # it may have ended by itself, or KILL not be allowed: then it is waited for
            watching.run(f"KILL {int(number)}")
    if not comes_true(lambda: not _sessions_before(watching, attempt), END_SECONDS):
        raise Refusal(
            "StillRunning",
            "The server still runs the backup of an earlier attempt, for which nobody waits any more.",
            "It is looked for again once it has ended; GRANT ALTER ANY CONNECTION lets Farshore end it.",
        )
    return True


def _sessions_before(watching: Session, attempt: Attempt) -> list[int]:
    """Those of earlier attempts only: whoever has lost the job to a later one leaves that one alone (I15)."""
    named = {
        number: Attempt.from_name(name.removeprefix(PROGRAM).strip()) for number, name in sessions(watching).items()
    }
    return [number for number, other in named.items() if other and other.is_before(attempt)]


# ---- what lies there


def _oldest_left(
    watching: Session, order: DatabaseOrder, share: Share, is_known: Callable[[str], bool], is_over: bool
) -> SharedBackup | None:
    for name, kind, attempt in sorted(_ours(share, order), key=lambda one: (one[2].began_at, one[2].number)):
        found = _inspected(watching, order, share, name, kind, attempt)
        if found.refusal:
            is_ended = is_over and attempt.is_before(order.attempt)
            _remove_if_nothing(share, name, kind, found.refusal, is_ended)
        elif found.sets[0].database.casefold() != order.database.casefold():
            continue  # of a database whose name looks the same in a file's
        elif is_known(found.sets[0].set_guid):
            remove(share, (name,))
        else:
            return SharedBackup(found.sets[0], (name,), left_by=attempt)
    return None


def _ours(share: Share, order: DatabaseOrder) -> Iterator[tuple[str, Kind, Attempt]]:
    """Yield the files of this owner and database, of the kinds of which one is taken at a time."""
    try:
        names = os.listdir(share.folder)
    except OSError as error:
        raise not_shared(share, f"it cannot be listed: {error.strerror}") from error
    for name in names:
        found = NAME.fullmatch(name)
        attempt = Attempt.from_name(found[3]) if found else None
        if attempt is None or attempt.owner != order.attempt.owner or found[1] != safe_name(order.database):
            continue
        if (found[2] == Kind.LOG) == (order.kind is Kind.LOG):
            yield name, Kind(found[2]), attempt


def _inspected(
    watching: Session, order: DatabaseOrder, share: Share, name: str, kind: Kind, attempt: Attempt
) -> Inspection:
    """Say what a whole file holds; refused: one that came to nothing, or is still being written.

    What msdb does not name is believed when its own end says that it is whole: another replica may have taken it.
    Raises Refusal where msdb says that the server ended it, and it is not that here: nothing is guessed, and no log is
    taken behind it before a person has looked.
    """
    remembered = history.set_named(watching, name_of_set(kind, str(attempt)), order.database)
    return Inspection((facts_of(remembered, (name,), share),)) if remembered else inspected(share, name)


def _remove_if_nothing(share: Share, name: str, kind: Kind, refusal: Refusal, is_ended: bool) -> None:
    """A log whose header is not known here may be whole: then only a person removes it."""
    if kind is Kind.LOG and refusal.code in SEEN_ONLY_BY_MSDB:
        return
    with suppress(OSError):
        path = share.folder / name
        if is_ended or time.time() - path.lstat().st_mtime > ABANDONED_SECONDS:
            path.unlink()


def remove(share: Share, names: tuple[str, ...]) -> None:
    """Remove files that are recorded; one that cannot be removed now is found again, and known."""
    for name in names:
        with suppress(OSError):
            (share.folder / name).unlink(missing_ok=True)
