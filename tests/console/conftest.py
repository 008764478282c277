from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client

from regions.models import Store
from tests.backups.landings import Place, place_in
from tests.backups.world import World
from tests.console.fleet import Fleet


@pytest.fixture
def fleet(db: None) -> Fleet:
    return Fleet()


@pytest.fixture
def desk(client: Client, fleet: Fleet) -> Client:
    """A browser at which an operator has signed in."""
    client.force_login(fleet.user)
    return client


@pytest.fixture
def place(fleet: Fleet, tmp_path: Path) -> Iterator[Place]:
    """Regions on real folders, and a simulated SQL Server that landing servers can be."""
    Store.objects.all().delete()  # the world makes real ones
    with place_in(World(tmp_path, fleet.root(), fleet.group)) as found:
        yield found
