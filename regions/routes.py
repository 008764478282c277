"""Which region may back up to which (R-10.2), and whether that crosses a border (R-10.3). Pure."""

from __future__ import annotations

from typing import Protocol

from regions.catalog import FINANCE
from regions.refusals import Refusal


class Place(Protocol):
    """What a route asks of a region; regions.models.Region fits."""

    id: str
    name: str
    scope: str

    @property
    def group(self) -> str: ...


def why_not(source: Place, destination: Place) -> Refusal | None:
    """Return why backups of `source` may not go to `destination`, None when they may."""
    if source.id == destination.id:
        return _refuse(f"{source.name} cannot back up to itself.", "Choose another region.")
    if source.scope == FINANCE and destination.scope != FINANCE:
        return _refuse(
            f"Backups of {source.name} must stay in Finance Cloud; {destination.name} lies outside it.",
            "Choose another Finance Cloud region.",
        )
    if destination.scope == FINANCE and source.scope != FINANCE:
        return _refuse(
            f"{destination.name} takes backups of Finance Cloud regions only.", "Choose a region outside Finance Cloud."
        )
    return None


def crosses_border(source: Place, destination: Place) -> bool:
    return source.group != destination.group


def _refuse(sentence: str, remedy: str) -> Refusal:
    return Refusal("InvalidDestination", sentence, remedy, field="destination")
