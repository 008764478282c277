"""A signed-in browser over a live server, and what every look at a page checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Page

from tests.console.fleet import Fleet

AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
FIRST_LINE = "results => results.violations.map(v => `${v.id} x${v.nodes.length}: ${v.nodes[0].html.slice(0, 160)}`)"

# htmx complains about the requests that a page gives up by being left; nobody is there any more to read it.
LEAVE_QUIETLY = "addEventListener('pagehide', () => { console.error = () => {} })"

Look = Callable[[str], None]


@pytest.fixture
def fleet(transactional_db: None) -> Fleet:
    return Fleet()


@pytest.fixture
def desk(page: Page, live_server: Any, fleet: Fleet, console: list[str]) -> Iterator[Page]:
    """A page in which the fleet's operator has signed in."""
    sign_in(page, live_server.url, fleet.user)
    page.add_init_script(LEAVE_QUIETLY)
    yield page
    page.goto("about:blank")  # pollers stop before the database is emptied


def sign_in(page: Page, address: str, user: Any) -> None:
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": address}])


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def shown(request: pytest.FixtureRequest, page: Page) -> str:
    """Set the window and the colours; returns their name."""
    size, scheme = request.param
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    return f"{size}-{scheme}"


@pytest.fixture
def look(page: Page) -> Iterator[Look]:
    """Check what is shown now: no violation of WCAG 2.2 AA, nothing wider than the window. Keeps a picture if asked."""
    found: dict[str, list[str]] = {}

    def at(name: str) -> None:
        page.evaluate(AXE)  # runs in the page's own world, so the strict CSP stays on
        broken = page.evaluate(f"async rules => ({FIRST_LINE})(await axe.run(document, {{runOnly: rules}}))", RULES)
        keep_picture(page, name)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            broken.append("wider than the window")
        if broken:
            found[name] = broken

    yield at
    assert found == {}


def keep_picture(page: Page, name: str) -> None:
    folder = os.environ.get("FARSHORE_PICTURES")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=page.locator("dialog[open]").count() == 0)
