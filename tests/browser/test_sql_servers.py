"""A SQL Server (the simulation) that Farshore takes backups of, looked at: its form, its page, the dialog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.models import BackupJob
from demo.tds import SimulatedMachine, SimulatedServer
from tests.browser.conftest import Look
from tests.console.fleet import Fleet

CALLED = "\\\\files\\sql"
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SimulatedServer]:
    machine = SimulatedMachine("SQL-SIM-1")
    machine.login("farshore", "open sesame")
    (tmp_path / "share").mkdir()
    machine.share(CALLED, tmp_path / "share")
    for name in ("Orders", "Stock"):
        machine.add(name, pages=8)
    with SimulatedServer(machine) as running:
        yield running


def test_it_is_tested_added_and_backed_up(
    live_server: Any, desk: Page, fleet: Fleet, server: SimulatedServer, tmp_path: Path, look: Look, shown: str
) -> None:
    desk.goto(live_server.url + reverse("instances:add"))
    for label, said in (
        ("Name", "sql-orders"),
        ("Time (UTC)", "02:30"),
        ("Days from one full backup to the next", "7"),
        ("Host", "127.0.0.1"),
        ("Port", str(server.port)),
        ("User", "farshore"),
        ("Password", "open sesame"),
        ("Share, as the server calls it", CALLED),
        ("The same share, as Farshore's worker sees it", str(tmp_path / "share")),
    ):
        desk.get_by_label(label, exact=True).fill(said)
    desk.get_by_label("Engine", exact=True).select_option("sqlserver")
    desk.get_by_label("Default backups are", exact=True).select_option("taken")
    desk.get_by_label("Log backups that Farshore takes").select_option("15")
    desk.get_by_role("button", name="Test the connection").click()
    expect(desk.locator("#test")).to_contain_text("It answers")
    desk.get_by_text("The script that makes its login").click()
    expect(desk.locator("#test pre")).to_contain_text("USE [Stock];")
    look(f"{shown}-sql-add")
    desk.get_by_role("button", name="Add", exact=True).click()
    expect(desk.locator("#standing")).to_contain_text("a full every 7 days, differentials between")
    look(f"{shown}-sql-page")

    desk.get_by_role("link", name="Back up now", exact=True).click()
    dialog = desk.get_by_role("dialog")
    dialog.get_by_label("Database", exact=True).select_option("Stock")
    dialog.get_by_label("Differential", exact=True).check()
    look(f"{shown}-sql-dialog")
    dialog.get_by_role("button", name="OK").click()
    expect(desk.locator("#standing")).to_contain_text("Stock: A differential backup is queued")
    assert BackupJob.objects.get().database == "Stock"
