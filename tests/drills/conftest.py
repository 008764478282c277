"""A real PostgreSQL whose full backup Farshore took and carried away; drills restore from the copy alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from backups import default_backups
from backups.copying import planning
from backups.models import Copy, CopyState, Instance
from backups.servers import reaching
from tests.backups import world as worlds
from tests.backups.world import SOURCE
from tests.engines.postgresql.clusters import PASSWORD, Cluster, running


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("drilled") as found:
        yield found


@pytest.fixture
def world(tmp_path: Path, transactional_db: None) -> worlds.World:
    """A world that the heartbeat and other processes see too."""
    settings.FARSHORE_DATA.mkdir(exist_ok=True)
    settings.FARSHORE_DATA.chmod(0o711)
    return worlds.make(tmp_path)


@pytest.fixture
def shop(world: worlds.World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    reach = {"host": "127.0.0.1", "port": cluster.port, "username": "copier"}
    row = world.instance("shop", engine="postgresql", arrival="taken", prefixes=[], **reach)
    reaching.keep_password(row, PASSWORD)
    row.save()
    return row


@pytest.fixture
def copy(world: worlds.World, shop: Instance) -> Copy:
    """Its first full backup, completed in the backup region."""
    world.enable(shop)
    assert default_backups.take(default_backups.claim(SOURCE))
    planning.weigh_due()
    [arrived] = world.carry()
    assert arrived.state == CopyState.COMPLETED, arrived.error
    return arrived
