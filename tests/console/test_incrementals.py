"""Incrementals and secondaries on the pages: offered where they can be had, named in the engine's own word."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from backups.engines.postgresql import tools
from backups.models import BackupJob, BackupSet, Instance, Kind
from backups.oversight.watch import probe_stores
from regions.models import Store
from tests.console.fleet import DAY, TARGET, Fleet
from tests.console.test_joining import HTMX, TEST, found, words
from tests.console.test_settings import PREVIEW, said
from tests.engines.postgresql.clusters import PASSWORD, Cluster, running, started_from


@pytest.fixture
def shop(fleet: Fleet) -> Instance:
    return fleet.instance("shop", engine="postgresql", engine_version="18.1", arrival="taken", host="10.0.0.8")


def chained(fleet: Fleet, instance: Instance, base: BackupSet | None = None, **facts: object) -> BackupSet:
    """A taken set on another; two of one instance's differ by their identity only."""
    made = {"database": "", "origin": "taken", "set_guid": f"guid-{BackupSet.objects.count()}", **facts}
    if base:
        made |= {"kind": Kind.DIFFERENTIAL, "base_guid": base.set_guid}
    return fleet.backup(instance, **made)


# ---- asking


def test_the_dialog_offers_what_there_is_a_choice_of(desk: Client, fleet: Fleet, shop: Instance) -> None:
    address = f"/instances/{shop.code}/backup/"
    shown = words(desk.get(address, **HTMX))
    assert "Incremental" in shown and "The secondary" not in shown
    Instance.objects.update(secondary_host="10.0.0.9")
    assert "The secondary" in words(desk.get(address, **HTMX))
    Instance.objects.update(secondary_host="", engine_version="16.4")
    shown = words(desk.get(address, **HTMX))
    assert "radio" not in shown and "A full backup is taken now" in shown


def test_an_incremental_of_the_secondary_is_asked_for_and_shown(desk: Client, fleet: Fleet, shop: Instance) -> None:
    Instance.objects.update(secondary_host="10.0.0.9")
    address = f"/instances/{shop.code}/backup/"
    answer = desk.post(address, {"kind": "differential", "on": "secondary"}, **HTMX)
    assert "An incremental backup of shop is queued" in answer.headers["HX-Trigger"]
    job = BackupJob.objects.get()
    assert (job.kind, job.on, job.asked_by) == ("differential", "secondary", fleet.user)
    page = words(desk.get(f"/instances/{shop.code}/"))
    assert "An incremental backup is queued" in page and "It is taken from the secondary." in page


@pytest.mark.parametrize("wanted", [{"kind": "log"}, {"on": "elsewhere"}])
def test_what_is_not_offered_is_not_taken(desk: Client, shop: Instance, wanted: dict[str, str]) -> None:
    Instance.objects.update(secondary_host="10.0.0.9")
    answer = desk.post(f"/instances/{shop.code}/backup/", wanted, **HTMX)
    assert answer.status_code == 200 and 'role="alert"' in words(answer)
    assert not BackupJob.objects.exists()
    Instance.objects.update(secondary_host="")
    assert desk.post(f"/instances/{shop.code}/backup/", {"on": "secondary"}, **HTMX).status_code == 204
    assert BackupJob.objects.get().on == "primary", "there is no other"


# ---- shown


def test_each_engine_has_its_own_word_for_what_stands_on_another(desk: Client, fleet: Fleet, shop: Instance) -> None:
    policy = fleet.policy(shop)
    full = chained(fleet, shop, age=2 * DAY)
    incremental = chained(fleet, shop, full, age=DAY)
    at = fleet.now
    BackupJob.objects.create(
        instance=shop, on="secondary", reason="log_gap", state="succeeded", asked_at=at, due_at=at, result=incremental
    )
    fleet.copy(incremental, policy)
    for address in (f"/instances/{shop.code}/", f"/instances/{shop.code}/default/", "/backups/sets/"):
        page = words(desk.get(address))
        assert "Incremental<small>Physical · from the secondary" in page, address
        assert "Differential<" not in page
    orders = fleet.instance("orders")
    chained(fleet, orders, chained(fleet, orders), database="Sales")
    assert "Differential<small>Physical<" in words(desk.get(f"/instances/{orders.code}/default/"))


def test_the_page_of_a_set_says_what_it_stands_on_and_where_it_was_taken(
    desk: Client, fleet: Fleet, shop: Instance
) -> None:
    full = chained(fleet, shop, age=2 * DAY)
    first = chained(fleet, shop, full, age=DAY)
    second = chained(fleet, shop, first)
    page = words(desk.get(f"/backups/sets/{second.pk}/"))
    assert f'href="/backups/sets/{first.pk}/">set {first.pk} (Incremental)' in page
    assert "taken by Farshore<" in page
    at = fleet.now
    BackupJob.objects.create(
        instance=shop, on="secondary", reason="log_gap", state="succeeded", asked_at=at, due_at=at, result=second
    )
    assert "taken by Farshore from the secondary" in words(desk.get(f"/backups/sets/{second.pk}/"))
    assert "Stands on" not in words(desk.get(f"/backups/sets/{full.pk}/"))
    BackupSet.objects.filter(pk=second.pk).update(base_guid="of-nobody")
    assert "of-nobody" in words(desk.get(f"/backups/sets/{second.pk}/"))


def test_an_incremental_of_today_is_a_backup_of_today(desk: Client, fleet: Fleet, shop: Instance) -> None:
    """R-6.1: it counts with its full, however old; the list's hint says what the dialog will do."""
    full = chained(fleet, shop, age=5 * DAY)
    hint = "a full backup runs first"
    assert hint in words(desk.get("/backups/pending/"))
    chained(fleet, shop, full, age=timedelta(hours=2))
    assert hint not in words(desk.get("/backups/pending/"))


# ---- what a region can start


def test_a_region_says_what_it_can_start_and_enabling_warns_where_nothing_fits(
    desk: Client, fleet: Fleet, shop: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    warning = "cannot start a PostgreSQL 18.1 yet (versions there: none)"
    monkeypatch.setattr(tools, "PACKAGED", ())

    def previewed() -> str:
        return words(desk.post(PREVIEW, said(shop), **HTMX))

    def looked(embedded: str) -> list[str]:
        """Look as a worker of the region does, with or without the programs of PostgreSQL 18."""
        monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", embedded)
        probe_stores(TARGET)
        Store.objects.update(state=Store.State.OK)  # the folder itself is made up
        return Store.objects.get(region=TARGET).capabilities["startable"]["postgresql"]

    assert "cannot start" not in previewed(), "its worker has not said yet"
    assert looked("0") == [] and warning in previewed()
    assert looked("1") == ["18"] and "cannot start" not in previewed()


def test_the_stores_page_lists_what_each_region_can_start(client: Client, fleet: Fleet) -> None:
    client.force_login(fleet.root())
    Store.objects.filter(region=TARGET).update(
        capabilities={"startable": {"postgresql": ["17", "18"], "mariadb": [], "newcomer": ["1"]}}
    )
    page = words(client.get("/stores/"))
    assert "PostgreSQL 17, 18" in page and "newcomer 1" in page and "MariaDB" not in page


# ---- joining


@pytest.mark.parametrize(
    ("changes", "days", "refused"),
    [
        ({"engine": "postgresql", "engine_version": "16"}, "7", True),
        ({}, "7", True),
        ({}, "0", True),
        ({}, "32", True),
        ({}, "", False),
        ({}, "1", False),
    ],
)
def test_incrementals_are_asked_for_only_where_they_are_taken(
    desk: Client, fleet: Fleet, changes: dict[str, Any], days: str, refused: bool
) -> None:
    answer = desk.post("/instances/add/", found(fleet, full_every_days=days, **changes))
    assert ('href="#id_full_every_days"' in words(answer)) == refused
    assert Instance.objects.filter(full_every_days=1).exists() != refused


@pytest.fixture(scope="module")
def primary() -> Iterator[Cluster]:
    with running("joining-primary") as cluster:
        yield cluster


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_an_instance_joins_with_its_secondary_only_if_that_is_its_own(
    desk: Client, fleet: Fleet, primary: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARSHORE_EMBEDDED_TOOLS", "1")
    reach = {"host": "127.0.0.1", "port": primary.port, "username": "copier", "password": PASSWORD}
    described = found(fleet, engine="postgresql", arrival="taken", full_every_days="7", **reach)

    def tried(**secondary: Any) -> str:
        return words(
            desk.post("/instances/add/test/", described | {"secondary_host": "127.0.0.1", **secondary}, **TEST)
        )

    assert "It answers: version 18" in tried(secondary_host="")
    assert "it follows no primary" in tried(secondary_port=primary.port)
    assert "Its secondary: Nothing listens" in tried(secondary_port=1)
    refused = desk.post("/instances/add/", described | {"secondary_host": "127.0.0.1", "secondary_port": 1})
    assert 'href="#id_secondary_port"' in words(refused) and not Instance.objects.exists()

    from tests.engines.postgresql.test_incrementals import taken_full

    with started_from(taken_full(primary).archive, "joining-second", of=primary) as standby:
        assert "Its secondary answers: version 18" in tried(secondary_port=standby.port)
        desk.post("/instances/add/", described | {"secondary_host": "127.0.0.1", "secondary_port": standby.port})
    row = Instance.objects.get()
    assert (row.secondary_host, row.secondary_port, row.full_every_days) == ("127.0.0.1", standby.port, 7)
