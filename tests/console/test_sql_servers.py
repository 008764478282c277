"""A SQL Server (the simulation) joins through the console, says what is taken of it when, and is backed up now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from backups.models import BackupJob, Instance
from backups.servers import reaching
from demo.tds import SimulatedMachine, SimulatedServer
from regions.models import Store
from tests.console.fleet import Fleet
from tests.console.test_joining import HTMX, TEST, words

CALLED, PASSWORD = "\\\\files\\sql", "pä]ss'wörd ☂"


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


@pytest.fixture
def server(share: Path) -> Iterator[SimulatedServer]:
    machine = SimulatedMachine("SQL-SIM-1")
    machine.login("farshore", PASSWORD)
    machine.share(CALLED, share)
    for name in ("Orders", "Stock"):
        machine.add(name, pages=8)
    with SimulatedServer(machine) as running:
        yield running


def described(fleet: Fleet, server: SimulatedServer, share: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "sql",
        "group": fleet.group.pk,
        "region": "cn-hangzhou",
        "engine": "sqlserver",
        "edition": "high_availability",
        "family": "general_purpose",
        "billing_method": "subscription",
        "backup_method": "physical",
        "arrival": "taken",
        "timetable_days": ["0", "1", "2", "3", "4", "5", "6"],
        "timetable_time": "02:30",
        "default_retention_days": "7",
        "full_every_days": "7",
        "log_every_minutes": "15",
        "host": "127.0.0.1",
        "port": server.port,
        "username": "farshore",
        "password": PASSWORD,
        "tls": "prefer",
        "share_called": CALLED,
        "share_folder": str(share),
        **more,
    }


def test_it_is_added_and_its_page_says_what_is_taken_when(
    desk: Client, fleet: Fleet, server: SimulatedServer, share: Path
) -> None:
    answer = desk.post("/instances/add/", described(fleet, server, share), follow=True)
    instance = Instance.objects.get()
    assert answer.redirect_chain[-1][0] == f"/instances/{instance.code}/"
    shown = words(answer)
    assert "Each database is backed up every day at 02:30 UTC: a full every 7 days" in shown
    assert "Logs of each database that has them are backed up every 15 minutes." in shown
    assert CALLED in shown and PASSWORD not in shown
    assert sorted(instance.databases.values_list("name", flat=True)) == ["Orders", "Stock"]
    assert reaching.connection_of(instance).password == PASSWORD


def test_the_test_prints_the_script_of_its_login(
    desk: Client, fleet: Fleet, server: SimulatedServer, share: Path
) -> None:
    shown = words(desk.post("/instances/add/test/", described(fleet, server, share), **TEST))
    assert "It answers" in shown and "USE [Stock];" in shown and "CREATE LOGIN [farshore]" in shown
    assert PASSWORD not in shown and not list(share.iterdir()), "what was written to prove the share is gone"
    shown = words(desk.post("/instances/add/test/", described(fleet, server, share, password="no"), **TEST))
    assert "does not accept this password" in shown and "CREATE LOGIN [farshore]" in shown


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("sql", "absolute path"),
        ("{share}/../share", "absolute path"),
        ("{share}/missing", "is no folder here"),
        ("{link}", "through a link"),
        ("{store}/backups", "one within the other"),
        ("/", "one within the other"),
        ("{data}", "one within the other"),
    ],
)
def test_a_folder_that_cannot_be_the_share_is_refused_beside_its_field(
    desk: Client, fleet: Fleet, server: SimulatedServer, share: Path, settings: Any, folder: str, reason: str
) -> None:
    store = share.with_name("store")
    (store / "backups").mkdir(parents=True)
    Store.objects.filter(region="cn-hangzhou").update(url=store.as_uri())
    link = share.with_name("link")
    link.symlink_to(share)
    said = folder.format(share=share, link=link, store=store, data=settings.FARSHORE_DATA)
    shown = words(desk.post("/instances/add/", described(fleet, server, share, share_folder=said)))
    assert reason in shown and not Instance.objects.exists()


@pytest.mark.parametrize("called", ["sql", "..\\sql", "\\\\files", "/var/../etc", "/var\\backups"])
def test_a_share_is_called_as_a_server_calls_one(
    desk: Client, fleet: Fleet, server: SimulatedServer, share: Path, called: str
) -> None:
    shown = words(desk.post("/instances/add/", described(fleet, server, share, share_called=called)))
    assert "no folder as a server calls one" in shown and not Instance.objects.exists()


def test_one_database_or_all_are_backed_up_now(
    desk: Client, fleet: Fleet, server: SimulatedServer, share: Path
) -> None:
    desk.post("/instances/add/", described(fleet, server, share))
    instance = Instance.objects.get()
    address = f"/instances/{instance.code}/backup/"
    shown = words(desk.get(address, **HTMX))
    assert "All databases" in shown and "Stock" in shown and "Differential" in shown and "Log" in shown
    answer = desk.post(address, {"database": "Stock", "kind": "log"}, **HTMX)
    assert "A log backup of sql, Stock is queued" in answer.headers["HX-Trigger"]
    answer = desk.post(address, {"database": "Orders", "kind": "differential"}, **HTMX)
    assert "A differential backup of sql, Orders is queued" in answer.headers["HX-Trigger"]
    assert "<bdi>Orders</bdi>: A differential backup is queued" in words(desk.get(f"/instances/{instance.code}/"))
    desk.post(address, {"database": "", "kind": "full"}, **HTMX)
    assert BackupJob.objects.filter(database="", kind="full").count() == 1
    assert "Select a valid choice" in words(desk.post(address, {"database": "master", "kind": "full"}, **HTMX))


def test_beside_somebody_elses_job_only_a_copy_only_full_is_offered(
    desk: Client, fleet: Fleet, server: SimulatedServer, share: Path
) -> None:
    found = {"arrival": "found", "prefixes": "sql/", "full_every_days": "1", "log_every_minutes": "0"}
    desk.post("/instances/add/", described(fleet, server, share, **found))
    instance = Instance.objects.get()
    shown = words(desk.get(f"/instances/{instance.code}/backup/", **HTMX))
    assert "It is copy-only" in shown and "Differential" not in shown
    assert "which disturb none of them" in words(desk.get(f"/instances/{instance.code}/"))
    desk.post(f"/instances/{instance.code}/backup/", {"database": "Stock"}, **HTMX)
    assert BackupJob.objects.get().is_copy_only


def test_without_a_share_the_server_says_whether_it_can_do_without(
    desk: Client, fleet: Fleet, server: SimulatedServer, share: Path
) -> None:
    """Whatever version was typed in, and only where its region's store is a bucket (docs/decisions/0079)."""
    no_share = {"share_called": "", "share_folder": "", "engine_version": "2022"}
    shown = words(desk.post("/instances/add/", described(fleet, server, share, **no_share)))
    assert "has no share, and its server, version 15.0.4430.1, cannot write into the store" in shown
    assert not Instance.objects.exists()
    server.machine.version = (16, 0, 1000)
    assert "cannot write into the store" in words(
        desk.post("/instances/add/", described(fleet, server, share, **no_share))
    )
    options = {"endpoint": "https://s3.shop.test", "addressing": "path"}
    Store.objects.filter(region="cn-hangzhou").update(url="s3://backups/hangzhou", options=options)
    desk.post("/instances/add/", described(fleet, server, share, **no_share))
    assert Instance.objects.get().engine_version == "16.0.1000.1"


def test_its_page_says_how_far_the_server_is(desk: Client, fleet: Fleet, server: SimulatedServer, share: Path) -> None:
    desk.post("/instances/add/", described(fleet, server, share))
    instance = Instance.objects.get()
    usual = {"instance": instance, "database": "Orders", "reason": "on_demand", "state": "running"}
    job = BackupJob.objects.create(**usual, asked_at=fleet.now, due_at=fleet.now, percent=43)
    assert "43 % written so far" in words(desk.get(f"/instances/{instance.code}/"))
    BackupJob.objects.filter(pk=job.pk).update(sent_bytes=3 << 20)
    assert "43 %" not in words(desk.get(f"/instances/{instance.code}/")), "by now it is fetched"
