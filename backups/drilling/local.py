"""A drill in a throw-away server of this machine, without network: it ends with the thread that started it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from backups.drilling import drill_sources
from backups.drilling.drill_sources import Choice
from backups.drilling.trial import Trial
from backups.engines import confinement
from backups.engines.facts import RestoreRequest, Source
from backups.events import speakable
from backups.models import Copy
from backups.servers.places_for_servers import place_for
from regions.refusals import Refusal

PLACE = "drills"
LAST_WORDS = 8_000  # bytes of the server's log that are kept


class LocalTrial(Trial):
    """Restored into a folder that no other attempt ever uses."""

    @property
    def folder(self) -> Path:
        return place_for(PLACE) / f"{self.drill.pk}-{self.drill.fence}"

    def clear_former(self) -> None:
        """A server ends with its worker; the folders of all that died are cleared at once (`clear_leftovers`)."""

    @property
    def standing(self) -> str:
        return f"The throw-away server in {self.folder}"

    def _watched(self, copy: Copy) -> Source:
        return drill_sources.watched(copy, self.differing, self.beat.lost.is_set)

    def _clone(self, copy: Copy) -> Source:
        return drill_sources.damaged_clone(copy, self.luck)

    def _one_byte_flipped(self, copy: Copy) -> BinaryIO:
        return drill_sources.one_byte_flipped(copy, self.luck).open()

    def _require_trust(self, choice: Choice) -> None:
        """Where uids cannot be changed a restored server is as mighty as we are: no files that somebody else wrote."""
        if confinement.account() is None and any(copy.set.origin == "found" for copy in choice.copies):
            raise Refusal(
                "NotTrusted",
                "Its backups were written by somebody else, and as an ordinary user a restored server would be as"
                " mighty as this worker.",
                "Run the worker as root, or restore it by hand.",
            )

    @contextmanager
    def _restored(self, data: list[Source], logs: list[Source]) -> Iterator[Any]:
        """A running throw-away server; afterwards it is gone, and that it is has been looked at."""
        folder = self.folder
        request = RestoreRequest(
            place=folder.parent,
            name=folder.name,
            sets=tuple(data),
            logs=tuple(logs),
            until=self.choice.until,
            network=False,
            progress=self._progress,
            stop=self.beat.lost.is_set,
        )
        begun = time.monotonic()
        try:
            restored = self.engine.restore(request)
            self.seconds |= {**restored.seconds, "recovery": round(time.monotonic() - begun, 3)}
            self.evidence["notes"] = list(restored.notes)
            try:
                yield restored
            finally:
                self.evidence["server_log"] = _last_words(restored.server.log)
                restored.server.stop()
        finally:
            self.engine.discard(folder)
            self.evidence["removed"] = not folder.exists() and not confinement.living_in(folder)


def _last_words(log_file: Path) -> str:
    try:
        with open(log_file, "rb") as said:
            said.seek(max(0, log_file.stat().st_size - LAST_WORDS))
            return speakable(said.read().decode(errors="replace"))
    except OSError as error:
        return f"Its log cannot be read: {error.strerror}"
