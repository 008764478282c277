"""Lists by keyboard: sorting and paging leave the focus where it was and show the beginning of what they brought."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from backups.models import Membership, Role
from tests.browser.conftest import Look
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def long_list(live_server: Any, desk: Page, fleet: Fleet) -> Page:
    for n in range(70):
        fleet.instance(f"db-{n:02}")
    desk.goto(live_server.url + "/backups/pending/")
    return desk


def press_enter(page: Page) -> None:
    """Press it once htmx hears the links it has just brought; sooner, they lead to a whole page like any other link."""
    expect(page.locator(".htmx-added, .htmx-settling")).to_have_count(0)
    page.keyboard.press("Enter")


def test_a_heading_that_sorts_keeps_the_focus(long_list: Page) -> None:
    heading = long_list.get_by_role("columnheader", name=re.compile("Instance|Name")).get_by_role("link").first
    heading.focus()
    for first in ("db-69", "db-00"):
        press_enter(long_list)
        expect(long_list.locator("#rows tbody tr").first).to_contain_text(first)
        expect(heading).to_be_focused()


def test_the_next_page_begins_at_its_top_and_the_pager_keeps_the_focus(long_list: Page) -> None:
    further = long_list.get_by_role("link", name="Next")
    further.focus()
    press_enter(long_list)
    first = long_list.locator("#rows tbody tr").first
    expect(first).to_contain_text("db-30")
    expect(first).to_be_in_viewport()
    expect(further).to_be_focused()
    press_enter(long_list)
    expect(first).to_contain_text("db-60")
    expect(further).to_have_count(0)
    expect(long_list.get_by_role("link", name="Previous")).to_be_focused()


def test_the_bar_of_what_is_selected_lies_above_the_buttons_of_the_rows(long_list: Page) -> None:
    """Both stay in sight: wherever the list stands, no corner of the bar's button is covered."""
    long_list.set_viewport_size({"width": 1440, "height": 900})
    long_list.get_by_label("Select db-00").check()
    at_its_edges = """button => {
        const box = button.getBoundingClientRect();
        return [box.top + 3, box.bottom - 3].every(y => [box.left + 9, box.right - 9].every(
            x => button.contains(document.elementFromPoint(x, y))));
    }"""
    button = long_list.get_by_role("button", name="Backup Settings")
    for scrolled in range(0, 700, 23):
        long_list.evaluate("y => scrollTo(0, y)", scrolled)
        assert button.evaluate(at_its_edges), scrolled


def test_who_only_looks_sees_no_bar_for_what_is_selected(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.instance("orders")
    desk.goto(live_server.url + "/backups/pending/")
    expect(desk.locator("[data-bulk]")).to_be_visible()
    Membership.objects.filter(user=fleet.user).update(role=Role.VIEWER)
    desk.reload()
    expect(desk.get_by_role("cell", name="orders")).to_be_visible()
    expect(desk.locator("[data-bulk]")).to_be_hidden()
    expect(desk.get_by_label("Select all on this page")).to_be_hidden()


def test_the_region_menu_keeps_what_the_list_was_narrowed_by_meanwhile(
    live_server: Any, desk: Page, fleet: Fleet
) -> None:
    for name in ("orders", "ledger"):
        fleet.instance(name)
    desk.goto(live_server.url + "/backups/pending/")
    desk.get_by_label("Search by ID or name").fill("led")
    expect(desk.get_by_text("orders")).to_have_count(0)
    desk.get_by_role("button", name="Region:").click()
    desk.get_by_role("link", name=re.compile("Hangzhou")).click()
    expect(desk).to_have_url(re.compile(r"q=led.*region=cn-hangzhou"))
    expect(desk.get_by_text("ledger")).to_be_visible()
    expect(desk.get_by_text("orders")).to_have_count(0)


def test_the_days_of_activity_are_labelled_and_whole_on_a_phone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    desk.goto(live_server.url + "/activity/")
    for words in ("From this day (UTC)", "Up to this day (UTC)"):
        expect(desk.get_by_text(words)).to_be_visible()
        box = desk.get_by_label(words).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= desk.viewport_size["width"]
    look(f"{shown}-activity-days")


def test_a_word_of_the_breadcrumb_is_not_broken_on_a_phone(live_server: Any, desk: Page, fleet: Fleet) -> None:
    instance = fleet.protected("a-production-instance-whose-name-is-longer-than-any-telephone-is-wide")
    desk.set_viewport_size({"width": 390, "height": 844})
    desk.goto(f"{live_server.url}/instances/{instance.code}/")
    crumb = desk.get_by_label("Breadcrumb").get_by_role("link", name="Instances")
    assert crumb.evaluate("one => one.getClientRects().length") == 1
