"""The tab "Bills": read by everyone, drilled down by keyboard, printed."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.browser.conftest import SIZES, Look, sign_in
from tests.console.books import MONTHS, reader, some_months
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CLIPPED = "all => all.some(one => one.checkVisibility() && one.scrollWidth > one.clientWidth)"


@pytest.fixture
def books(live_server: Any, desk: Page, fleet: Fleet, request: pytest.FixtureRequest) -> Page:
    """The desk of somebody who reads every team's bills, the last closed month open."""
    some_months(fleet, getattr(request, "param", 2))
    sign_in(desk, live_server.url, fleet.root())
    desk.goto(live_server.url + reverse("bills:page"))
    desk.get_by_label("Month", exact=True).select_option(index=1)
    expect(desk.get_by_text("Total of the month")).to_be_visible()
    return desk


@pytest.mark.parametrize("books", [MONTHS], indirect=True, ids=["a year"])
def test_bills_can_be_read_by_everyone(books: Page, look: Look) -> None:
    addresses = _addresses(books)
    for size, (width, height) in SIZES.items():
        books.set_viewport_size({"width": width, "height": height})
        for name, address in addresses.items():
            books.goto(address)
            for scheme in ("light", "dark"):
                books.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                look(f"{size}-{scheme}-bills-{name}")
            assert size == "narrow" or not books.locator(".table-wrap").evaluate_all(CLIPPED), name


def _addresses(page: Page) -> dict[str, str]:
    """Each kind of page, as one comes to it."""
    found = {"closed": page.url}
    found["by-item"] = _href(page, "By item code")
    found["paper"] = _href(page, "Print view")
    found["lines"] = _href(page, "in 9 lines")
    page.goto(found["lines"])
    found["copies"] = _href(page, "Copies behind Cross-region storage of identity")
    found["downloads"] = _href(page, "Downloads of loyalty, one by one")
    return found


def _href(page: Page, name: str) -> str:
    return page.get_by_role("link", name=name).evaluate("link => link.href")


def test_a_bill_is_followed_down_to_a_copy_and_back(books: Page) -> None:
    books.get_by_role("link", name="By resource group").press("Enter")
    books.get_by_role("link", name="Platform", exact=True).press("Enter")
    expect(books.get_by_role("heading", level=1)).to_have_text("Platform")
    expect(books.locator("#rows")).not_to_contain_text("identity")
    books.get_by_role("link", name="Copies behind Cross-region network traffic of ledger").press("Enter")
    expect(books.get_by_text("which is the line")).to_be_visible()
    books.reload()
    books.locator("#rows .who").first.press("Enter")
    expect(books.get_by_role("heading", level=1)).to_contain_text("Backup set")
    books.go_back()
    books.go_back()
    expect(books.get_by_role("heading", level=1)).to_have_text("Platform")
    books.get_by_role("searchbox").fill("loyalty")
    books.get_by_role("searchbox").press("Enter")
    expect(books.locator("#rows")).not_to_contain_text("ledger")
    expect(books.locator("#rows")).to_contain_text("loyalty")


def test_what_is_printed_has_no_navigation(live_server: Any, books: Page, fleet: Fleet) -> None:
    sign_in(books, live_server.url, reader(fleet.group))
    books.get_by_role("link", name="Print view").click()
    books.emulate_media(media="print")
    expect(books.get_by_role("navigation")).to_have_count(0)
    expect(books.get_by_text("Print this page")).not_to_be_visible()
    expect(books.get_by_text("Payments", exact=True).first).to_be_visible()
    expect(books.locator("main")).not_to_contain_text("Platform")
