"""The tab "Bills": read by everyone, drilled down by keyboard, printed."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.browser.conftest import SIZES, Look, sign_in
from tests.console.books import a_year, reader
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def books(live_server: Any, desk: Page, fleet: Fleet) -> Page:
    """The desk of somebody who reads every team's bills."""
    a_year(fleet)
    sign_in(desk, live_server.url, fleet.root())
    return desk


def test_bills_can_be_read_by_everyone(live_server: Any, books: Page, look: Look) -> None:
    for size, (width, height) in SIZES.items():
        books.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            books.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for name, address in _addresses(books, live_server.url).items():
                books.goto(address)
                look(f"{size}-{scheme}-bills-{name}")
                wide = books.locator(".table-wrap").evaluate_all(
                    "all => all.filter(one => one.checkVisibility()).map(one => one.scrollWidth - one.clientWidth)"
                )
                assert size == "narrow" or max(wide) <= 0, (name, wide)


def _addresses(page: Page, url: str) -> dict[str, str]:
    """Each kind of page, as one comes to it."""
    page.goto(url + reverse("bills:page"))
    closed = page.locator("#month option").nth(1).get_attribute("value")
    month, lines = f"{url}{reverse('bills:page')}?month={closed}", f"{url}{reverse('bills:lines')}?month={closed}"
    page.goto(lines)
    copies = page.get_by_role("link", name="Copies behind").first.evaluate("link => link.href")
    kinds = {f"by-{kind}": f"{month}&by={kind}" for kind in ("route", "item", "group")}
    paper = f"{url}{reverse('bills:print')}?month={closed}"
    return {"open": url + reverse("bills:page"), "closed": month, "lines": lines, "copies": copies, "paper": paper} | kinds
