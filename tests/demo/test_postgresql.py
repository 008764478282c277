"""The demo's PostgreSQL is a real one: it is probed, backed up and copied like anybody's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from backups import default_backups
from backups.copying import planning, replication
from backups.models import Copy, CopyState, Instance, Transfer
from console.runtime import places
from demo import cast, fleet
from demo.postgresql import FIRST_ORDERS, MOST_ORDERS, Shop
from regions import clock
from tests.room import ROOM


@pytest.fixture
def data(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that the server's account reaches, with the two regions of its route."""
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    User.objects.create_superuser("admin", "admin@example.com", "open sesame")
    data = ROOM / "demo"
    for region in (cast.HANGZHOU, cast.SHANGHAI):
        fleet.attach(region, fleet.folder_of(data, region), fleet.administrator())
    fleet.accept(cast.POSTGRESQL, fleet.administrator())
    yield data
    shutil.rmtree(data)
    shutil.rmtree(places.socket_folder("demo", data))


def test_the_shop_joins_the_fleet_and_its_backup_arrives(data: Path) -> None:
    shop = Shop(data)
    shop.start()
    try:
        shop.join(fleet.administrator())
        shop.change()
        job = default_backups.claim(cast.HANGZHOU)
        taken = default_backups.take(job)
        job.refresh_from_db()
        assert taken is not None, job.error
        assert orders_in(shop) <= MOST_ORDERS
    finally:
        shop.stop()
    planning.weigh_due()
    replication.carry_slice(replication.claim(cast.SHANGHAI))

    copy = Copy.objects.get()
    assert copy.state == CopyState.COMPLETED, copy.error
    transfer = Transfer.objects.select_related("file").get()
    stored = fleet.folder_of(data, cast.SHANGHAI) / transfer.key
    assert stored.read_bytes() == (fleet.folder_of(data, cast.HANGZHOU) / transfer.file.key).read_bytes()


def test_the_shop_comes_back_with_its_data_and_joins_once(data: Path) -> None:
    began = clock.now()
    for _ in range(2):
        shop = Shop(data)
        shop.start()
        try:
            shop.join(fleet.administrator())
            placed = orders_in(shop)
        finally:
            shop.stop()
    assert placed == FIRST_ORDERS
    instance = Instance.objects.get()
    assert instance.created_at >= began
    assert not instance.is_simulation
    assert instance.policies.count() == 1
    assert instance.jobs.count() == 1


def orders_in(shop: Shop) -> int:
    with shop._session() as session:
        return session.execute("SELECT count(*) FROM orders").fetchone()[0]
