"""Checking a file by what stands in it, on the bytes read back anyway: the engine's verifier, fed in order.

Its state after each part is journaled with the part, so that another worker takes the check up where it stood.
"""

from __future__ import annotations

from typing import Any

from backups.engines import Verdict, Verifier, engine_of
from backups.models import Transfer
from regions.storage.mover import Part

DAMAGED = "damaged"


class Inspector:
    """Feeds an engine's verifier; a part that is read again starts from the state before it."""

    def __init__(self, verifier: type[Verifier], state: dict[str, Any] | None) -> None:
        self._kind = verifier
        self._before = state
        self._verifier = verifier.from_state(state) if state else verifier()
        self._part = 0
        self._after: dict[int, dict[str, Any]] = {}

    def see(self, part: Part, seen: int, chunk: memoryview) -> None:
        """Take the next bytes; called in order, one part at a time."""
        if seen == 0:
            self._start(part)
        self._verifier.feed(chunk)
        if seen + len(chunk) == part.size:
            self._after[part.number] = self._verifier.state()

    def _start(self, part: Part) -> None:
        if part.number == self._part:
            self._verifier = self._kind.from_state(self._before) if self._before else self._kind()
        else:
            self._part, self._before = part.number, self._verifier.state()

    def state_after(self, part: Part) -> dict[str, Any] | None:
        return self._after.pop(part.number, None)

    def verdict(self) -> Verdict:
        return self._verifier.verdict()


def inspector_of(transfer: Transfer) -> Inspector | None:
    """Return the inspector of a transfer's file, taken up where it stood; None where the engine has none."""
    verifier = engine_of(transfer.file.instance.engine).verifier
    return Inspector(verifier, transfer.verifier_state) if verifier else None
