"""A real server is restored through the console's pages alone: wizard, stages, password, a query, Remove (R-17.1)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.test import Client

from backups import default_backups, tasks
from backups.copying import planning
from backups.models import CopyState, Instance, Restore
from backups.restoring import places
from backups.servers import reaching
from tests.backups.world import SOURCE, TARGET, World
from tests.engines.postgresql.clusters import PASSWORD, Cluster, running

pytestmark = pytest.mark.long
NEW = "/backups/restores/new/"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("restoring-pages") as found:
        yield found


@pytest.fixture
def instance(world: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    """An instance with a copy, taken and carried by the real code; no child and no server is left behind."""
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    row = world.instance(
        "shop",
        engine="postgresql",
        arrival="taken",
        prefixes=[],
        host="127.0.0.1",
        port=cluster.port,
        username="copier",
    )
    reaching.keep_password(row, PASSWORD)
    row.save()
    world.enable(row)
    found = default_backups.take(default_backups.claim(SOURCE))
    planning.weigh_due()
    world.carry()
    assert found.copies.get().state == CopyState.COMPLETED
    yield row
    for child in tasks._holding:
        child.kill()
        child.wait()
    tasks._holding.clear()
    for restore in Restore.objects.select_related("instance"):
        restore.fence += 1
        places.clear(restore)


def eventually(true: Callable[[], Any], seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def test_a_server_is_restored_reached_and_removed_by_pages_alone(
    client: Client, world: World, instance: Instance
) -> None:
    client.force_login(world.user)
    shown = words(client.get(NEW, {"instance": instance.code}))
    assert "All parts are there" in shown
    assert "Engine and version fit" in shown
    said = dict(re.findall(r'name="(token|name)" value="([^"]+)"', shown)) | {"instance": instance.code, "by": "newest"}
    place = re.search(r'<option value="(\d+)" selected', shown)[1]
    answer = client.post(NEW, said | {"place": place})
    page = answer.url
    tasks.run_restores(TARGET)
    assert eventually(lambda: "Show the password" in words(client.get(page)))
    shown = words(client.get(page))
    assert "rows counted in 1 table<" in shown
    restore = Restore.objects.get()
    password = re.search(r'id="shown-password"[^>]*>([^<]+)<', words(client.post(f"{page}password/")))[1]
    where = {"host": restore.host, "port": restore.port, "user": restore.username, "dbname": "postgres"}
    with psycopg.connect(**where, password=password, connect_timeout=5) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert restore.result.name in shown
    client.post(f"{page}remove/")
    assert eventually(lambda: "its server and its data are gone" in words(client.get(page)))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**where, password=password, connect_timeout=5)
