"""The tab "Drills", a drill's evidence and its dialogs: read by everyone, worked by keyboard."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.models import Drill, DrillQuery, Instance
from tests.browser.conftest import Look
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_drills_can_be_read_by_everyone(live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str) -> None:
    fleet.everything()
    instance = Instance.objects.get(name="fleet-billing")
    tab = live_server.url + reverse("instances:drills", args=[instance.code])
    desk.goto(tab)
    look(f"{shown}-drills")
    if shown.startswith("wide"):
        wide = desk.locator(".table-wrap").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
        assert max(wide) <= 0
    dialog = desk.get_by_role("dialog")
    for name in ("Drill now", "Timetable", "Add a query"):
        desk.get_by_role("link", name=name, exact=True).click()
        expect(dialog).to_be_visible()
        look(f"{shown}-dialog-{name.lower().replace(' ', '-')}")
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).not_to_be_visible()
    for state in ("passed", "failed", "running"):
        drill = Drill.objects.filter(instance=instance, state=state).exclude(pick="canary").first()
        desk.goto(live_server.url + reverse("drills:page", args=[drill.pk]))
        look(f"{shown}-drill-{state}")


def test_a_query_is_added_and_a_drill_asked_for(live_server: Any, desk: Page, fleet: Fleet) -> None:
    instance = fleet.protected("shop", engine="postgresql", engine_version="16.4")
    desk.goto(live_server.url + reverse("instances:drills", args=[instance.code]))
    dialog = desk.get_by_role("dialog")
    desk.get_by_role("link", name="Add a query").click()
    dialog.get_by_label("Database").fill("shop")
    dialog.get_by_label("SQL").fill("SELECT max(id) FROM orders")
    dialog.get_by_role("button", name="OK").click()
    expect(dialog.get_by_role("alert")).to_be_focused()
    dialog.get_by_label("Expected").fill("8")
    dialog.get_by_role("button", name="OK").click()
    expect(dialog).not_to_be_visible()
    expect(desk.locator("#queries")).to_contain_text("SELECT max(id) FROM orders")
    assert DrillQuery.objects.get().expected == "8"

    desk.get_by_role("link", name="Drill now").click()
    dialog.get_by_label("What is restored").select_option("oldest")
    dialog.get_by_role("button", name="OK").press("Enter")
    expect(desk.locator("#rows")).to_contain_text("Queued")
    fleet.drill(instance, "failed", pick="random", sentence="a page is torn")
    Drill.objects.filter(pick="oldest").update(state="skipped", sentence="")
    expect(desk.locator("#rows")).to_contain_text("a page is torn", timeout=10_000)
    expect(desk.locator("#rows")).not_to_contain_text("Queued")
    desk.reload()
    desk.get_by_role("link", name="Evidence of drill").first.click()
    expect(desk.get_by_role("heading", level=1)).to_contain_text("Drill")
    desk.go_back()
    expect(desk.locator("#rows")).to_contain_text("a page is torn")
