"""What people do in the console, with a real browser: tick, read, confirm, go back, use the keyboard."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from backups import events, policies
from backups.models import Copy, CopyPolicy, Instance
from tests.backups import world as worlds
from tests.browser.conftest import LEAVE_QUIETLY, Look, sign_in
from tests.console.crossed_logs import shop_of
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_two_instances_are_protected_and_their_copies_turn_verified(
    live_server: Any, page: Page, console: list[str], look: Look, transactional_db: None, tmp_path: Path
) -> None:
    world = worlds.make(tmp_path)
    two = [world.instance("catalog"), world.instance("pricing")]
    world.store(worlds.TARGET)
    sign_in(page, live_server.url, world.user)
    page.add_init_script(LEAVE_QUIETLY)
    page.goto(live_server.url + "/backups/pending/")
    go = page.get_by_role("button", name="Backup Settings")
    expect(go).to_be_disabled()
    for name in ("catalog", "pricing"):
        page.get_by_label(f"Select {name}").check()
    expect(page.locator("[data-bulk-n]")).to_have_text("2")
    go.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 instances")
    dialog.get_by_label("Backup Region").select_option(worlds.TARGET)
    expect(dialog).to_contain_text("Nothing can be restored until the next full backup arrives")

    dialog.get_by_role("button", name="OK").click()
    expect(dialog.get_by_role("alert")).to_be_focused()
    expect(dialog.get_by_role("alert")).to_contain_text("tick the box")
    expect(dialog.get_by_label("I have read and accept")).to_have_attribute("aria-invalid", "true")
    assert not CopyPolicy.objects.exists()

    dialog.get_by_label("I have read and accept").check()
    dialog.get_by_role("button", name="OK").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("status")).to_contain_text("Saved for 2 instances")
    expect(page.get_by_role("row", name=re.compile("catalog"))).to_have_count(0)

    page.get_by_role("link", name=re.compile("^Backup Instances")).click()
    row = page.get_by_role("row", name=re.compile("catalog"))
    expect(row).to_contain_text("Waiting for a full backup")
    for instance in two:
        world.drop(instance, "full.bak", worlds.backup(instance.name))
        world.find(instance)
    page.goto(f"{live_server.url}/instances/{two[0].code}/")
    expect(page.get_by_role("row", name=re.compile("catalog")).last).to_contain_text("Waiting")
    world.carry()
    expect(page.get_by_role("row", name=re.compile("Full")).first).to_contain_text("Completed", timeout=30_000)
    expect(page.get_by_text("backup checksum")).to_be_visible()
    look("story-copied")
    page.goto(live_server.url + "/backups/instances/")
    expect(row).to_contain_text("In step")
    assert Copy.objects.filter(state="completed").count() == 2
    page.goto("about:blank")


def test_a_dialog_is_left_with_escape_and_gives_the_focus_back(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.protected("identity", days=30, copies=8)
    desk.goto(live_server.url + "/backups/instances/")
    opener = desk.get_by_role("link", name="Settings for identity")
    opener.focus()
    desk.keyboard.press("Enter")
    dialog = desk.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("radio", name="Enable").first).to_be_focused()
    dialog.get_by_label("Cross-region Retention Period").fill("7")
    expect(dialog).to_contain_text("1 of 8 backup sets")
    desk.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
    assert policies.enabled_policy(Instance.objects.get()).retention_days == 30


def test_back_and_reload_show_the_same_list(live_server: Any, desk: Page, fleet: Fleet) -> None:
    for n in range(70):
        fleet.instance(f"db-{n:02}")
    desk.goto(live_server.url + "/backups/pending/")
    desk.get_by_role("link", name="Next").click()
    expect(desk.get_by_text("db-30")).to_be_visible()
    expect(desk).to_have_url(re.compile("after="))
    desk.get_by_role("link", name="Next").click()
    expect(desk.get_by_text("db-60")).to_be_visible()
    desk.go_back()
    expect(desk.get_by_text("db-30")).to_be_visible()
    expect(desk.get_by_text("db-60")).to_have_count(0)
    desk.reload()
    expect(desk.get_by_text("db-30")).to_be_visible()
    desk.go_back()
    expect(desk.get_by_text("db-00")).to_be_visible()


def test_a_selection_survives_paging_and_search(live_server: Any, desk: Page, fleet: Fleet) -> None:
    for n in range(40):
        fleet.instance(f"db-{n:02}")
    desk.goto(live_server.url + "/backups/pending/")
    desk.get_by_label("Select db-03").check()
    desk.get_by_role("link", name="Next").click()
    desk.get_by_label("Select db-35").check()
    expect(desk.locator("[data-bulk-n]")).to_have_text("2")
    desk.get_by_label("Search by ID or name").fill("db-03")
    expect(desk.get_by_label("Select db-35")).to_have_count(0)
    expect(desk.get_by_label("Select db-03")).to_be_checked()
    desk.get_by_role("button", name="Backup Settings").click()
    chips = desk.get_by_role("dialog").get_by_role("list", name="Instances")
    expect(chips.get_by_role("listitem")).to_have_text(["db-03", "db-35"])


def test_everything_that_matches_is_selected_at_once(live_server: Any, desk: Page, fleet: Fleet) -> None:
    for n in range(45):
        fleet.instance(f"web-{n:02}")
    fleet.instance("ledger")
    desk.goto(live_server.url + "/backups/pending/?q=web")
    offer = desk.get_by_role("button", name="Select all that match")
    expect(offer).to_be_hidden()
    desk.get_by_label("Select all on this page").check()
    expect(desk.locator("[data-bulk-n]")).to_have_text("30")
    offer.click()
    expect(desk.locator("[data-bulk-n]")).to_have_text("45")
    desk.get_by_role("button", name="Backup Settings").click()
    expect(desk.get_by_role("dialog")).to_contain_text("45 instances")
    desk.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    desk.get_by_role("button", name="Clear").click()
    expect(desk.locator("[data-bulk-n]")).to_have_text("0")


def test_a_copy_moves_before_ones_eyes(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.everything()
    instance = Instance.objects.get(name="crm-core")
    loads: list[str] = []
    desk.on("request", lambda request: loads.append(request.url) if request.is_navigation_request() else None)
    desk.goto(f"{live_server.url}/instances/{instance.code}/")
    row = desk.get_by_role("row", name=re.compile("Copying"))
    expect(row).to_contain_text("Copying 52 %")
    copy = Copy.objects.get(state="copying")
    copy.copied_files.get().transfer.__class__.objects.update(bytes_sent=copy.total_bytes * 3 // 4)
    expect(row).to_contain_text("Copying 75 %", timeout=10_000)
    Copy.objects.filter(pk=copy.pk).update(
        state="completed", completed_at=fleet.now, manifest_key="m", verification="backup checksum"
    )
    expect(desk.get_by_text("Copying")).to_have_count(0, timeout=10_000)
    assert len(loads) == 1


def test_the_days_of_activity_work_at_once_and_the_export_follows(live_server: Any, desk: Page, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    events.record("copy.completed", "A copy arrived.", instance=instance)
    desk.goto(live_server.url + "/activity/")
    expect(desk.get_by_text("A copy arrived.")).to_be_visible()
    desk.get_by_label("From this day (UTC)").fill("2999-01-02")
    expect(desk.get_by_text("A copy arrived.")).to_have_count(0)
    export = desk.get_by_role("link", name="Export as CSV")
    expect(export).to_have_attribute("href", re.compile("since=2999-01-02"))
    desk.get_by_label("Up to this day (UTC)").fill("2999-01-01")
    expect(desk.get_by_role("alert")).to_contain_text("The first day lies after the last day.")
    desk.get_by_label("Kind").select_option("copy")
    with desk.expect_download() as file:
        export.click()
    assert "kind=copy" in file.value.url
    assert Path(file.value.path()).read_text().count("\n") == 1


def test_ticks_are_still_meant_after_back(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.instance("orders")
    desk.goto(live_server.url + "/backups/pending/")
    desk.get_by_label("Select orders").check()
    desk.get_by_role("link", name="Activity", exact=True).click()
    desk.go_back()
    ticked = desk.get_by_label("Select orders").is_checked()
    expect(desk.locator("[data-bulk-n]")).to_have_text("1" if ticked else "0")


def test_the_focus_stays_on_settings_after_ok(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.protected("identity", days=30)
    desk.goto(live_server.url + "/backups/instances/")
    opener = desk.get_by_role("link", name="Settings for identity")
    opener.focus()
    desk.keyboard.press("Enter")
    dialog = desk.get_by_role("dialog")
    dialog.get_by_label("Cross-region Retention Period").fill("60")
    dialog.get_by_role("button", name="OK").click()
    expect(dialog).to_be_hidden()
    expect(desk.get_by_role("row", name=re.compile("identity"))).to_contain_text("60 days")
    expect(opener).to_be_focused()


def test_a_copy_moves_in_the_list_of_sets_and_on_the_overview(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.everything()
    copy = Copy.objects.get(state="copying")
    for address in ("/backups/sets/", "/", f"/instances/{copy.set.instance.code}/default/"):
        copy.copied_files.get().transfer.__class__.objects.update(bytes_sent=copy.total_bytes // 2)
        desk.goto(live_server.url + address)
        expect(desk.get_by_text("Copying 50 %").last).to_be_visible()
        copy.copied_files.get().transfer.__class__.objects.update(bytes_sent=copy.total_bytes * 3 // 4)
        expect(desk.get_by_text("Copying 75 %").last).to_be_visible(timeout=10_000)


def test_the_region_is_found_by_typing(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.instance("orders")
    desk.goto(live_server.url + "/instances/")
    desk.get_by_role("button", name="Region:").click()
    desk.get_by_label("Search regions").fill("hangz")
    expect(desk.get_by_role("link", name=re.compile("Singapore"))).to_be_hidden()
    desk.get_by_role("link", name=re.compile("Hangzhou")).click()
    expect(desk.get_by_role("button", name="Region:")).to_contain_text("China (Hangzhou)")
    expect(desk).to_have_url(re.compile("region=cn-hangzhou"))


def test_light_and_dark_are_chosen_and_kept(live_server: Any, desk: Page, fleet: Fleet) -> None:
    desk.emulate_media(color_scheme="light")
    desk.goto(live_server.url + "/")
    desk.get_by_role("button", name="Switch between light and dark").click()
    expect(desk.locator("html")).to_have_attribute("data-theme", "dark")
    desk.goto(live_server.url + "/instances/")
    expect(desk.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_session_that_ended_leads_to_the_sign_in_page_and_back(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.instance("orders")
    desk.goto(live_server.url + "/backups/pending/")
    desk.context.clear_cookies()
    desk.get_by_role("link", name="Settings for orders").click()
    expect(desk.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(desk).to_have_url(re.compile(r"next=%2Fbackups%2Fpending"))


def test_signing_in_can_be_read_by_everyone(
    live_server: Any, page: Page, fleet: Fleet, console: list[str], look: Look
) -> None:
    page.goto(live_server.url + "/accounts/login/")
    look("sign-in")
    page.get_by_role("textbox", name="Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    look("sign-in-refused")
    page.goto(live_server.url + "/accounts/password/reset/")
    look("password-reset")


def test_without_script_a_list_is_still_a_list(live_server: Any, browser: Any, fleet: Fleet) -> None:
    for n in range(35):
        fleet.instance(f"db-{n:02}")
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    sign_in(plain, live_server.url, fleet.user)
    plain.goto(live_server.url + "/backups/pending/")
    plain.get_by_role("link", name="Next").click()
    plain.get_by_label("Select db-33").check()
    plain.get_by_role("button", name="Backup Settings").click()
    expect(plain.get_by_role("heading", name="Backup Settings")).to_be_visible()
    plain.get_by_label("Backup Region").select_option("cn-shanghai")
    plain.get_by_role("button", name="OK").click()
    plain.get_by_label("I have read and accept").check()
    plain.get_by_role("button", name="OK").click()
    expect(plain).to_have_url(re.compile("/backups/instances/"))
    expect(plain.get_by_role("row", name=re.compile("db-33"))).to_be_visible()
    context.close()


def test_a_click_in_the_picture_picks_the_moment_and_a_key_takes_the_newest(
    live_server: Any, desk: Page, fleet: Fleet
) -> None:
    shop = shop_of(fleet)
    window = shop.intervals.get()
    address = f"{live_server.url}/instances/{shop.code}/?range=day"
    desk.goto(address)
    box = desk.locator("a[data-begins]").bounding_box()
    desk.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    desk.wait_for_url(re.compile("until="))
    middle = window.began_at + (window.ended_at - window.began_at) / 2
    assert abs(_asked_for(desk) - middle) < (window.ended_at - window.began_at) / 50
    expect(desk.locator("[name=until]")).to_have_value(re.compile(f"{_asked_for(desk):%Y-%m-%dT%H:%M}"))
    desk.mouse.move(0, 0)
    desk.goto(address)
    desk.locator("a[data-begins]").focus()
    desk.keyboard.press("Enter")
    desk.wait_for_url(re.compile("until="))
    assert _asked_for(desk) == window.ended_at.replace(microsecond=0)


def _asked_for(page: Page) -> datetime:
    [until] = parse_qs(urlsplit(page.url).query)["until"]
    return datetime.fromisoformat(until)
