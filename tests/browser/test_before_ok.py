"""What is said before OK, seen and used in a browser: the change against today, 7 days, level-2, a store's space."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups import policies
from backups.level2 import policy_of
from regions.models import Store
from tests.browser.conftest import LEAVE_QUIETLY, SIZES, Look, sign_in
from tests.console.fleet import GB, TARGET, Fleet
from tests.console.test_what_is_not_taken import refuse

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def settle(page: Page, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")


def test_disabling_with_7_days_is_one_click_and_one_ok(live_server: Any, desk: Page, fleet: Fleet, look: Look) -> None:
    """R-4.6, R-15.3, R-15.5."""
    instance = fleet.protected("identity", days=30, copies=9)
    desk.goto(f"{live_server.url}/instances/{instance.code}/")
    desk.get_by_role("link", name="Settings", exact=True).click()
    dialog = desk.get_by_role("dialog")
    days = dialog.get_by_label("Cross-region Retention Period")
    expect(dialog).to_contain_text("no change")
    days.fill("60")
    expect(dialog).to_contain_text(re.compile(r"Against today\s*\+\$"))
    look("before-ok-longer")
    days.fill("30")
    dialog.get_by_role("radio", name="Disabled").first.check()
    expect(dialog).to_contain_text(re.compile(r"Against today\s*−\$"))
    look("before-ok-disabling")
    dialog.get_by_role("button", name="Disable with 7 days").click()
    expect(days).to_have_value("7")
    expect(dialog.get_by_role("radio", name="Disabled").first).to_be_checked()
    expect(dialog).to_contain_text("2 of 9 backup sets")
    look("before-ok-seven")
    assert policies.enabled_policy(instance).retention_days == 30
    dialog.get_by_role("button", name="OK").click()
    expect(dialog).to_be_hidden()
    policy = policies.latest_policy(instance)
    assert (policy.enabled, policy.retention_days) == (False, 7)


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("narrow", "dark")])
def test_level_2_is_enabled_and_disabled_from_the_keyboard(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, size: str, scheme: str
) -> None:
    """R-18.2."""
    settle(desk, size, scheme)
    fleet.second_store()
    instance = fleet.protected("orders")
    desk.goto(f"{live_server.url}/instances/{instance.code}/")
    desk.get_by_role("link", name="Change level-2 backup").press("Enter")
    dialog = desk.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing is copied, and nothing is charged.")
    dialog.get_by_role("radio", name="Enable").press("Space")
    expect(dialog).to_contain_text("no agreement is asked for")
    dialog.get_by_label("Level-2 Retention Period").fill("3")
    dialog.get_by_label("Level-2 Retention Period").press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("7 to 1825")
    dialog.get_by_label("Level-2 Retention Period").fill("14")
    expect(dialog).to_contain_text("First copy")
    look(f"{size}-{scheme}-level2-enabling")
    dialog.get_by_role("button", name="OK").press("Enter")
    expect(dialog).to_be_hidden()
    expect(desk.locator("#standing")).to_contain_text("on, 0 sets")
    assert policy_of(instance).retention_days == 14

    copy = fleet.copy_at_second_store(policy_of(instance))
    desk.reload()
    expect(desk.locator("#standing")).to_contain_text("on, 1 set, 42.0 GB")
    expect(desk.get_by_role("row").filter(has_text="level-2").first).to_be_visible()
    look(f"{size}-{scheme}-level2-shown")
    desk.get_by_role("link", name="Change level-2 backup").click()
    dialog.get_by_role("radio", name="Disabled").check()
    expect(dialog).to_contain_text("1 set is kept but hidden")
    look(f"{size}-{scheme}-level2-disabling")
    dialog.get_by_role("button", name="OK").click()
    expect(desk.locator("#standing")).to_contain_text("off; its sets are kept, hidden")
    expect(desk.get_by_role("row").filter(has_text="level-2")).to_have_count(0)
    copy.refresh_from_db()
    assert copy.state == "hidden"


@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("narrow", "light")])
def test_the_space_of_a_store_can_be_read_and_its_quota_entered(
    live_server: Any, page: Page, fleet: Fleet, console: list[str], look: Look, size: str, scheme: str
) -> None:
    settle(page, size, scheme)
    fleet.protected("orders", copies=8)
    fleet.second_store()
    sign_in(page, live_server.url, fleet.root())
    page.add_init_script(LEAVE_QUIETLY)
    page.goto(live_server.url + reverse("stores:list"))
    look(f"{size}-{scheme}-stores")
    page.get_by_role("link", name="China (Shanghai)", exact=True).click()
    expect(page.get_by_text("The store does not say; enter a quota below.")).to_be_visible()
    page.get_by_label("Quota in GB").fill("1000")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.get_by_text("of the quota of 1000 GB")).to_be_visible()
    expect(page.get_by_text("at today's rate")).to_be_visible()
    look(f"{size}-{scheme}-store-page")
    assert Store.objects.get(region=TARGET).quota_bytes == 1000 * GB
    page.goto(live_server.url + reverse("stores:attach"))
    look(f"{size}-{scheme}-stores-attach")
    page.goto("about:blank")


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("narrow", "dark")])
def test_the_dialog_for_many_stays_readable_and_names_everyone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, size: str, scheme: str
) -> None:
    """R-4.6, R-6.2, R-14.3: each warning once, with all it is true of behind it."""
    settle(desk, size, scheme)
    waiting = [fleet.instance(f"waiting-{n:02}") for n in range(41)]
    kept = [fleet.protected(f"kept-{n}", days=30, copies=9 + n) for n in range(6)]
    kept.append(fleet.protected("kept-6", days=30, copies=0))
    for age in (20, 5):
        fleet.copy(fleet.backup(kept[-1], age=timedelta(days=age)), kept[-1].policies.get())
    chosen = "&".join(f"pick={one.pk}" for one in (*waiting, *kept))
    desk.goto(f"{live_server.url}/backups/settings/?{chosen}&list=pending")
    desk.get_by_label("Backup Region").select_option("cn-shanghai")
    desk.get_by_label("Cross-region Retention Period").fill("7")
    expect(desk.locator("#effects")).to_contain_text("waiting-00, waiting-01, waiting-02 and 38 more.")
    expect(desk.locator("#effects")).to_contain_text("The restorable windows of 7 instances then begin between")
    look(f"{size}-{scheme}-many")
    every = desk.locator(".note", has_text="Nothing can be restored until").locator(".all-of")
    every.locator("summary").press("Enter")
    expect(every.get_by_text("waiting-40", exact=True)).to_be_visible()
    look(f"{size}-{scheme}-many-named")
    expect(every.get_by_text("waiting-40", exact=True)).to_be_visible()  # leaving the field asks for nothing anew
    desk.goto("about:blank")


@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("narrow", "light")])
def test_what_is_not_taken_can_be_read(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, size: str, scheme: str
) -> None:
    """R-3.4, R-3.5."""
    settle(desk, size, scheme)
    instance = fleet.protected("orders")
    desk.goto(f"{live_server.url}/instances/{instance.code}/default/")
    expect(desk.locator("#refused")).to_contain_text("No file was refused")
    look(f"{size}-{scheme}-none-refused")
    for n in range(12):
        refuse(fleet, instance, f"orders/{'k' * 90}{n}.bak")
    fleet.instance("sandbox", family="shared")
    desk.reload()
    look(f"{size}-{scheme}-refused")
    desk.get_by_role("link", name="All refused files").click()
    expect(desk.get_by_role("row")).to_have_count(13)
    look(f"{size}-{scheme}-refused-all")
    desk.goto(f"{live_server.url}/backups/pending/absent/")
    look(f"{size}-{scheme}-absent")
