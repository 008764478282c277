"""Lists by keyboard: sorting and paging leave the focus where it was and show the beginning of what they brought."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def long_list(live_server: Any, desk: Page, fleet: Fleet) -> Page:
    for n in range(70):
        fleet.instance(f"db-{n:02}")
    desk.goto(live_server.url + "/backups/pending/")
    return desk


def test_a_heading_that_sorts_keeps_the_focus(long_list: Page) -> None:
    heading = long_list.get_by_role("columnheader", name=re.compile("Instance|Name")).get_by_role("link").first
    heading.focus()
    for first in ("db-69", "db-00"):
        long_list.keyboard.press("Enter")
        expect(long_list.locator("#rows tbody tr").first).to_contain_text(first)
        expect(heading).to_be_focused()


def test_the_next_page_begins_at_its_top_and_the_pager_keeps_the_focus(long_list: Page) -> None:
    further = long_list.get_by_role("link", name="Next")
    further.focus()
    long_list.keyboard.press("Enter")
    first = long_list.locator("#rows tbody tr").first
    expect(first).to_contain_text("db-30")
    expect(first).to_be_in_viewport()
    expect(further).to_be_focused()
    long_list.keyboard.press("Enter")
    expect(first).to_contain_text("db-60")
    expect(further).to_have_count(0)
    expect(long_list.get_by_role("link", name="Previous")).to_be_focused()
