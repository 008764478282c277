"""The language button by hand, at both widths, and what the pages look like after it."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.browser.conftest import SIZES, Look
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(params=SIZES)
def width(request: pytest.FixtureRequest, page: Page) -> str:
    wide, high = SIZES[request.param]
    page.set_viewport_size({"width": wide, "height": high})
    return request.param


def test_chinese_is_chosen_where_one_is_and_stays(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, width: str
) -> None:
    fleet.everything()
    desk.goto(live_server.url + reverse("backup_instances:list") + "?q=or")
    look(f"chinese-{width}-before")
    if width == "narrow":
        desk.get_by_role("button", name="Signed in as mei").click()
        look(f"chinese-{width}-menu")
    desk.get_by_role("button", name="简体中文").click()
    expect(desk.get_by_role("heading", level=1)).to_have_text("备份")
    assert desk.url.endswith("?q=or")
    look(f"chinese-{width}-backup-instances")
    for name in ("overview:page", "pending_instances:list", "instances:add"):
        desk.goto(live_server.url + reverse(name))
        expect(desk.locator("html")).to_have_attribute("lang", "zh-hans")
        look(f"chinese-{width}-{name.replace(':', '-')}")
    desk.goto(live_server.url + reverse("backup_instances:list"))
    desk.get_by_role("link", name="设置 identity").click()
    expect(desk.get_by_role("dialog")).to_contain_text("跨地域保留时间")
    look(f"chinese-{width}-dialog")


def test_chinese_is_chosen_before_signing_in(
    live_server: Any, page: Page, console: list[str], look: Look, width: str
) -> None:
    page.goto(live_server.url + reverse("account_login") + "?next=/stores/")
    page.get_by_role("button", name="简体中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("登录")
    assert page.url.endswith("?next=/stores/")
    look(f"chinese-{width}-login")
