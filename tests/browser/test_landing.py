"""Landing servers with a real browser: registered, restored onto, and a look at each page."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups import restoring
from backups.models import Instance, LandingServer, Restore
from regions.models import Store
from tests.backups.landings import PASSWORD, SHARE, Place, chain, copied, place_in
from tests.backups.world import TARGET, World
from tests.browser.conftest import Look, sign_in
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

NEW = "/backups/restores/new/"


@pytest.fixture
def place(fleet: Fleet, tmp_path: Path) -> Iterator[Place]:
    Store.objects.all().delete()  # the world makes real ones, on folders
    with place_in(World(tmp_path, fleet.root(), fleet.group)) as found:
        yield found


@pytest.fixture
def orders(place: Place) -> Instance:
    found = place.world.instance("orders")
    copied(place.world, found, *(chain(name) for name in ("Sales", "Wages")))
    return found


def work() -> None:
    """Do what the region's worker would."""
    while restore := restoring.claim(TARGET):
        restoring.run(restore, threading.Event())


def test_every_page_can_be_read_by_everyone(
    live_server: Any, desk: Page, place: Place, orders: Instance, look: Look, shown: str
) -> None:
    place.machine.certificates["Vault"] = bytes.fromhex("ab12" * 10)
    row = place.register()
    names = {"Sales": "Sales-restored", "Wages": "w" * 90}
    first, _ = restoring.ask_databases(orders, place.world.by, landing=row, names=names)
    work()
    broken = place.register(name="landing-2")
    LandingServer.objects.filter(pk=broken.pk).update(
        error="Nothing listens at 10.0.0.7, port 1433.", remedy="Start it."
    )
    sign_in(desk, live_server.url, place.world.user)
    pages = {
        "landing-list": reverse("stores:landing_list"),
        "landing-register": reverse("stores:landing_register"),
        "landing-page": reverse("stores:landing_page", args=[row.code]),
        "landing-broken": reverse("stores:landing_page", args=[broken.code]),
        "landing-wizard": f"{NEW}?instance={orders.code}&also=Wages",
        "landing-wizard-refused": f"{NEW}?instance={orders.code}&name=master&landing={broken.code}",
        "landing-restored": reverse("restores:page", args=[first.code]),
        "landing-restores": reverse("restores:list"),
    }
    for name, address in pages.items():
        desk.goto(live_server.url + address)
        expect(desk.get_by_role("heading", level=1)).to_be_visible()
        look(f"{name}-{shown}")


def test_a_server_is_registered_and_two_databases_come_back_on_it(
    live_server: Any, page: Page, place: Place, orders: Instance, console: list[str]
) -> None:
    sign_in(page, live_server.url, place.world.user)
    page.goto(live_server.url + "/stores/")
    page.get_by_role("link", name="Landing servers").click()
    page.get_by_role("link", name="Register a landing server").click()
    page.get_by_label("Name").fill("landing-1")
    page.get_by_label("Region", exact=True).select_option(TARGET)
    page.get_by_label("Host").fill("127.0.0.1")
    page.get_by_label("Port").fill(str(place.server.port))
    page.get_by_label("User").fill("farshore")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("as the server calls it").fill(SHARE)
    page.get_by_label("workers see it").fill(str(place.share.parent))
    page.get_by_label("Payments").check()
    page.get_by_role("button", name="Test the connection").click()
    expect(page.locator("#test")).to_contain_text("does not find under")
    page.get_by_label("workers see it").fill(str(place.share))
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("landing-1")

    page.goto(f"{live_server.url}{NEW}?instance={orders.code}")
    plan = page.locator("#plan")
    page.get_by_label("Name of the new database", exact=True).fill("master")
    expect(plan).to_contain_text("has a database master already")
    expect(plan.get_by_role("button", name="Restore", exact=True)).to_be_disabled()
    page.get_by_label("Name of the new database", exact=True).fill("Sales back")
    page.get_by_role("checkbox", name="Wages").check()
    expect(plan).to_contain_text("Wages as Wages-restored")
    page.reload()
    expect(page.get_by_role("checkbox", name="Wages")).to_be_checked()
    expect(page.get_by_label("Name of the new database", exact=True)).to_have_value("Sales back")
    plan.get_by_role("button", name="Restore", exact=True).click()
    expect(page).to_have_url(re.compile(r"/backups/restores/$"))

    work()
    page.get_by_role("link", name="Sales back").click()
    expect(page.get_by_role("heading", name="The new database")).to_be_visible()
    expect(page.get_by_text("no instance of its own")).to_be_visible()
    assert place.names == {"Sales back", "Wages-restored"}
    page.get_by_role("link", name="Remove").click()
    expect(page.get_by_role("dialog")).to_contain_text("is dropped on landing-1")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#state")).to_contain_text("Removing")
    work()
    page.reload()
    expect(page.locator("#state")).to_contain_text("Removed")
    assert place.names == {"Wages-restored"}
    assert Restore.objects.count() == 2 and console == []
    page.goto("about:blank")
