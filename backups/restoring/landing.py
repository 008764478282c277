"""What the machine on which a region's restores are built can do: its workers say so every minute (design.md §5).

It is a hint that ages within minutes, so it lies in the cache and not in a table. Where no worker has spoken, the
machine that asks looks at itself: on one machine that is the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from django.core.cache import cache

from backups.engines import ENGINES
from backups.restoring import places

HEARD_SECONDS = 300


@dataclass(frozen=True)
class Landing:
    """`versions`: engine -> the versions a server of which can be started, for engines that know."""

    bytes_free: int
    versions: Mapping[str, list[str]]

    def can_start(self, engine: str, version: str) -> bool:
        """Whether a server of this version is there; where nobody knows, the worker will find out."""
        known = self.versions.get(engine)
        return known is None or not version or any(f"{version}.".startswith(f"{one}.") for one in known)


def look_around() -> Landing:
    """Look at this machine; raises Refusal where restored servers cannot stand on it at all."""
    asked = {name: engine.startable_versions for name, engine in ENGINES.items()}
    versions = {name: list(verb()) for name, verb in asked.items() if verb}
    return Landing(shutil.disk_usage(places.room()).free, versions)


def announce(region_id: str) -> None:
    """Say for a region what this machine, whose worker serves it, can do."""
    cache.set(_key(region_id), asdict(look_around()), HEARD_SECONDS)


def landing_of(region_id: str) -> Landing:
    said = cache.get(_key(region_id))
    return Landing(**said) if said else look_around()


def _key(region_id: str) -> str:
    return f"landing:{region_id}"
