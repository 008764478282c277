"""The catalogue of regions, brought into the database (R-10.1)."""

from __future__ import annotations

from typing import Any

from django.db import connections

from regions.catalog import CATALOG
from regions.models import Region


def load(using: str = "default") -> None:
    """Bring every region of the catalogue into the database; safe to repeat, keeps what a team has hidden."""
    Region.objects.using(using).bulk_create(
        [
            Region(id=entry.id, name=entry.name, scope=entry.scope, country=entry.country, position=position)
            for position, entry in enumerate(CATALOG, start=1)
        ],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["name", "scope", "country", "position"],
    )


def load_after_migrate(using: str = "default", **_: Any) -> None:
    """Load after every migrate: an upgrade brings new regions, and a test's flush does not lose the old ones."""
    if Region._meta.db_table in connections[using].introspection.table_names():
        load(using)
