"""The worker's part of a restore on a landing server: the files go into the share, the server reads them from there.

What comes of it is a database, which nobody need hold. Before anything is put anywhere the row says where: a folder of
the attempt's own in the share, and its marker, which the database's files carry. Whoever claims next removes both by
these, proves it, and begins anew; a database that carries none of the restore's markers is never touched (I20).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from django.db import transaction

from backups.engines.facts import Connection, Kind, LandedDatabase, LandedRequest, LandedSet
from backups.leases import LeaseLost
from backups.models import Instance, LandingServer, Restore
from backups.restoring import pins
from backups.restoring.attempts import FREE, Attempt
from backups.restoring.reading import pieces_of
from backups.restoring.watching import Progress, mine
from backups.servers import landing_servers, landing_shares, reaching, server_scripts
from regions import clock
from regions.refusals import Refusal

log = logging.getLogger(__name__)
State = Restore.State
PAUSE = timedelta(seconds=30)
DOWNLOAD = "download"


@dataclass(frozen=True)
class Place:
    """The server a database is restored on: a landing server, or (R-2.3) an instance that is there."""

    on: LandingServer | Instance

    @property
    def name(self) -> str:
        return self.on.name

    @property
    def share_called(self) -> str:
        return self.on.share_called

    @property
    def share(self) -> Path:
        return Path(self.on.share_folder)

    def reached(self) -> Connection:
        """Raises Refusal."""
        if isinstance(self.on, Instance):
            return reaching.connection_of(self.on)
        return landing_servers.connection_of(self.on)

    @property
    def why_not(self) -> str:
        """Return why it takes no database any more, "" while it does."""
        is_over = self.on.released if isinstance(self.on, Instance) else self.on.retired_at
        return f"{self.name} is no longer there." if is_over else ""


def marker_of(restore: Restore, fence: int | None = None) -> str:
    """Return the word by which what an attempt makes is known again."""
    return f"{restore.code}-{restore.fence if fence is None else fence}"


@dataclass
class Landed(Attempt):
    """An attempt at a database on a landing server."""

    made: ClassVar[str] = "database"
    nothing_left: ClassVar[dict[str, Any]] = {"folder": ""}
    was_there: bool = True

    @property
    def place(self) -> Place:
        return Place(self.restore.landing or self.restore.onto)

    def _folder(self, fence: int) -> Path:
        return landing_shares.folder_of(self.place.on, marker_of(self.restore, fence))

    def carry_out(self) -> None:
        """Build the database, or remove it where that was asked for; whoever does not hold the restore does nothing."""
        if not mine(self.restore).exists():
            return
        if self.restore.cancel_asked_at:
            self.end_as_asked()
        elif self.cleared() and not self.is_tried_too_often():
            self.attempt(self._build)

    # -- clearing

    def cleared(self) -> bool:
        """Remove files and database of this attempt and of those before it; while the server cannot be asked whether
        they are gone, nothing is called over, and it is tried again later."""
        restore = self.restore
        try:
            for fence in range(1, restore.fence + 1) if restore.folder else ():
                landing_shares.remove(self._folder(fence))
            if restore.folder or restore.state == State.READY:
                self.was_there = self._drop()
                self._remove_files()
        except Refusal as refusal:
            self._try_later(refusal)
            return False
        restore.folder = ""
        return True

    def _drop(self) -> bool:
        restore = self.restore
        markers = [marker_of(restore, fence) for fence in range(1, restore.fence + 1)]
        reached = self.place.reached()
        return self.engine.drop_database(reached, restore.landed_as, markers=markers, identity=restore.landed_identity)

    def _remove_files(self) -> None:
        """Remove the files that a database restored from a snapshot lived in, unless one, renamed perhaps, does."""
        restore = self.restore
        for fence in range(1, restore.fence + 1):
            folder = landing_shares.files_folder_of(self._folder(fence))
            landing_shares.remove_unless(folder, partial(self._lives_in, marker_of(restore, fence)))

    def _lives_in(self, marker: str) -> bool:
        return self.engine.lives_in(self.place.reached(), [marker])

    def _try_later(self, refusal: Refusal) -> None:
        """It was not the restore's fault; why it does not go on stands in the row."""
        restore = self.restore
        log.warning("not cleared", extra={"restore": restore.code, "reason": refusal.sentence})
        mine(restore).update(
            state=State.READY if restore.state == State.READY else State.QUEUED,
            stage="",
            attempts=max(restore.attempts - 1, 0),
            due_at=clock.now() + PAUSE,
            error=refusal.sentence,
            remedy=refusal.remedy,
            **FREE,
        )

    @property
    def disk(self) -> str:
        return str(self.place.share)

    @property
    def _removed(self) -> str:
        restore = self.restore
        if self.was_there:
            return f"The restored database {restore.landed_as} was removed from {restore.landed_on}."
        return (
            f"The restored database {restore.landed_as} was no longer on {restore.landed_on};"
            " what has that name there now, if anything, was left alone."
        )

    # -- building

    def _build(self) -> None:
        restore = self.restore
        if why := self.place.why_not:
            raise Refusal("LandingRetired", why, "Choose another landing server.")
        self._look_first()
        folder = self._folder(restore.fence)
        restore.folder = str(folder)  # from here on there may be something to clear
        self._keep(folder=restore.folder, stage="", done=0, error_code="", error="", remedy="")
        told, began = Progress(restore), time.monotonic()
        sets = self._bring(folder, told)
        downloaded = round(time.monotonic() - began, 3)
        self._keep()
        result = self._restore(sets, told)
        landing_shares.remove(folder)
        result = replace(result, notes=(*result.notes, *self._lacking()))
        self._ready(result, {DOWNLOAD: downloaded, **result.seconds})

    def _look_first(self) -> None:
        """Before anything is brought anywhere: the server answers, sees the share, and has no database of that name."""
        place, name = self.place, self.restore.landed_as
        found = self.engine.inspect_landing(place.reached(), share_called=place.share_called, share_folder=place.share)
        if name.casefold() in {one.casefold() for one in found.databases}:
            said = f"{place.name} has a database {name} already."
            raise Refusal("NameTaken", said, "Restore it under another name.", "name")

    def _lacking(self) -> list[str]:
        """Say what stood beside the database and is not on the landing server: no backup brings it along."""
        recorded = server_scripts.of_set(self.restore.set)
        if recorded is None:
            return []
        try:
            there = self.engine.look_around(self.place.reached())
        except Refusal as refusal:
            return [f"Which of its logins and jobs are missing here could not be seen: {refusal.sentence}"]
        return server_scripts.missing_in_words(recorded, there.names)

    def _bring(self, folder: Path, told: Progress) -> list[LandedSet]:
        def tell(done: int, total: int) -> None:
            self._look_up()
            told(DOWNLOAD, done, total)

        return landing_shares.bring(pieces_of(self.restore), folder, tell)

    def _restore(self, sets: Sequence[LandedSet], told: Progress) -> LandedDatabase:
        restore = self.restore
        logs = tuple(one for one in sets if one.facts.kind is Kind.LOG)
        request = LandedRequest(
            name=restore.landed_as,
            marker=marker_of(restore),
            share_called=self.place.share_called,
            sets=tuple(one for one in sets if one.facts.kind is not Kind.LOG),
            logs=logs,
            until=restore.until if logs else None,  # without logs a set is what it was when it was taken
            progress=told,
            stop=self.watch.asks_to_stop,
        )
        return self.engine.restore_database(self.place.reached(), request)

    def _ready(self, result: LandedDatabase, seconds: dict[str, float]) -> None:
        """Write the fact; raises LeaseLost when it is not ours, and then whoever has it now removes what is there."""
        restore, server = self.restore, self.place.on
        with transaction.atomic():
            wanted = mine(restore).filter(state=State.RUNNING, cancel_asked_at=None)
            won = wanted.update(
                state=State.READY,
                stage="",
                attempts=0,
                finished_at=clock.now(),
                host=server.host,
                port=server.port or self.engine.capabilities.default_port,
                landed_identity=result.identity,
                restored_until=result.restored_until,
                seconds=seconds,
                notes=list(result.notes),
                **FREE,
                **self.nothing_left,
            )
            if not won:
                raise LeaseLost
            pins.release(restore)
            said = f"The database {restore.landed_as} is ready on {restore.landed_on}."
            self._record("ready", said, seconds=round(sum(seconds.values()), 1))
        restore.refresh_from_db()
