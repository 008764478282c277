"""A drill on a landing server of the copies' region: restored there beside whatever it has, looked into, dropped again.

Before anything is put anywhere the row says where (`evidence["landing"]`). The database and the folder in the share
carry the attempt's marker, and nothing that carries none of the drill's markers is ever touched (I20).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from backups.drilling import drill_sources, drills
from backups.drilling.drill_sources import Choice
from backups.drilling.trial import Trial
from backups.engines.facts import Connection, Kind, LandedDatabase, LandedRequest, LandedSet, SetFacts, Stopped
from backups.leases import LeaseLost
from backups.models import Copy, LandingServer
from backups.restore_sources import Piece
from backups.servers import landing_servers, landing_shares
from regions.refusals import Refusal

ISOLATION = "landing"


@dataclass(frozen=True)
class LandedServer:
    """The restored database as what looks into it takes it: `connection` names it."""

    connection: Connection
    isolation: str = ISOLATION


@dataclass(frozen=True)
class Restored:
    restored_until: datetime
    server: LandedServer


class LandedTrial(Trial):
    landing: LandingServer | None = None

    @property
    def name(self) -> str:
        """What the database is called there, whichever attempt makes it."""
        return f"farshore_drill_{self.drill.pk}"

    def marker(self, fence: int) -> str:
        return f"drill-{self.drill.pk}-{fence}"

    @property
    def standing(self) -> str:
        return f"The database {self.name} on {self.landing.name}"

    # ---- what earlier attempts left

    def clear_former(self) -> None:
        code = self.drill.evidence.get("landing")
        if landing := LandingServer.objects.living().filter(code=code).first() if code else None:
            self._clear(landing)

    def _require_trust(self, choice: Choice) -> None:
        """It is another machine's server that takes them in, under an account of its own."""

    def _clear(self, landing: LandingServer, identity: str = "") -> None:
        fences = range(1, self.drill.fence + 1)
        for fence in fences:
            landing_shares.remove(landing_shares.folder_of(landing, self.marker(fence)))
        markers = [self.marker(fence) for fence in fences]
        reached = landing_servers.connection_of(landing)
        self.engine.drop_database(reached, self.name, markers=markers, identity=identity)
        for fence in fences:
            files = landing_shares.files_folder_of(landing_shares.folder_of(landing, self.marker(fence)))
            landing_shares.remove_unless(files, partial(self.engine.lives_in, reached, [self.marker(fence)]))

    # ---- restoring

    def _watched(self, copy: Copy) -> tuple[SetFacts, list[Piece]]:
        return drill_sources.watched_pieces(copy, self.differing, self.beat.lost.is_set)

    def _clone(self, copy: Copy) -> tuple[SetFacts, list[Piece]]:
        return drill_sources.damaged_pieces(copy, self.luck)

    def _one_byte_flipped(self, copy: Copy) -> BinaryIO:
        return drill_sources.piece_with_one_byte_flipped(copy, self.luck).open()

    @contextmanager
    def _restored(self, data: list[Any], logs: list[Any]) -> Iterator[Restored]:
        """A database on a landing server; afterwards it is dropped, and its files are gone."""
        landing, began = self._land(), time.monotonic()
        try:
            sets = landing_shares.bring([*data, *logs], self._folder(landing), self._told_of_bytes)
            self.seconds["download"] = round(time.monotonic() - began, 3)
            made = self._restore(landing, sets)
            self.seconds |= {**made.seconds, "recovery": round(time.monotonic() - began, 3)}
            self.evidence["notes"] = list(made.notes)
            reached = replace(landing_servers.connection_of(landing), dbname=self.name)
            yield Restored(made.restored_until, LandedServer(reached))
        finally:
            self.evidence["removed"] = self._is_cleared(landing)

    def _land(self) -> LandingServer:
        """Choose where, and write it down before anything is put there."""
        drill = self.drill
        landing = drills.landing_for(drill.instance, drill.store)
        if landing is None:
            raise drills.no_landing(drill.instance, drill.store)
        self.landing = landing
        self.evidence |= {"landing": landing.code, "host": landing.name, "is_simulation": landing.is_simulation}
        if not drills.renew(drill, evidence=self.evidence):
            raise LeaseLost
        return landing

    def _folder(self, landing: LandingServer) -> Path:
        return landing_shares.folder_of(landing, self.marker(self.drill.fence))

    def _told_of_bytes(self, done: int, total: int) -> None:
        if self.beat.lost.is_set():
            raise Stopped("the drill is no longer wanted")
        self._progress("download", done, total)

    def _restore(self, landing: LandingServer, sets: list[LandedSet]) -> LandedDatabase:
        request = LandedRequest(
            name=self.name,
            marker=self.marker(self.drill.fence),
            share_called=landing.share_called,
            sets=tuple(one for one in sets if one.facts.kind is not Kind.LOG),
            logs=tuple(one for one in sets if one.facts.kind is Kind.LOG),
            until=self.choice.until,
            progress=self._progress,
            stop=self.beat.lost.is_set,
        )
        return self.engine.restore_database(landing_servers.connection_of(landing), request)

    def _is_cleared(self, landing: LandingServer) -> bool:
        try:
            self._clear(landing)
        except Refusal as refusal:
            self.evidence["left"] = str(refusal)
            return False
        return True
