"""A backup set is downloaded: the dialog, its tick, the links, the file (R-16.2 to R-16.4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from backups.models import Download, DownloadLink
from tests.backups import world as worlds
from tests.backups.handing_out import body_of, completed
from tests.browser.conftest import LEAVE_QUIETLY, SIZES, Look, sign_in
from tests.house.running import soon

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WORDS = "I have learnt the billing rules for backup file download."


@pytest.fixture
def world(live_server: Any, page: Page, console: list[str], transactional_db: None, tmp_path: Path) -> worlds.World:
    world = worlds.make(tmp_path)
    sign_in(page, live_server.url, world.user)
    page.add_init_script(LEAVE_QUIETLY)
    return world


def test_a_set_is_downloaded_after_its_price_was_read(live_server: Any, page: Page, world: worlds.World) -> None:
    instance = world.instance("orders")
    world.enable(instance)
    body = body_of(300_000)
    copy = completed(world, instance, body, names=("sales.bak",))
    page.goto(f"{live_server.url}/instances/{instance.code}/")
    opener = page.get_by_role("link", name=f"Download set {copy.set_id}")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("500 GB")
    tick = dialog.get_by_label(WORDS)
    expect(tick).not_to_be_checked()
    dialog.get_by_role("button", name="Download").click()
    expect(dialog.get_by_role("alert")).to_be_focused()
    assert not DownloadLink.objects.exists()

    tick.check()
    dialog.get_by_role("button", name="Download").click()
    expect(dialog.get_by_role("status")).to_contain_text("whoever has it downloads in your name")
    with page.expect_download() as saved:
        dialog.get_by_role("link", name="Save file").click()
    assert saved.value.suggested_filename == "sales.bak" and Path(saved.value.path()).read_bytes() == body
    assert soon(lambda: Download.objects.get().whole_at)
    dialog.get_by_role("button", name="Close").last.click()
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
    page.goto(f"{live_server.url}/backups/sets/{copy.set_id}/")
    expect(page.get_by_role("region", name="Downloads")).to_contain_text("delivered, charged: $0.00")
    page.goto("about:blank")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dialogs_can_be_read_by_everyone(
    live_server: Any, page: Page, world: worlds.World, look: Look, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    instance = world.instance("orders")
    world.enable(instance)
    completed(world, instance, body_of(5000), method="snapshot")
    copy = completed(world, instance, body_of(9000), body_of(7000), names=("sales-1.bak", "sales-2.bak"))
    page.goto(f"{live_server.url}/instances/{instance.code}/")
    expect(page.get_by_text("Snapshot: cannot be downloaded, can be restored")).to_be_visible()
    look(f"{size}-{scheme}-download-tab")
    page.get_by_role("link", name=f"Download set {copy.set_id}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Billing rules for backup file download", exact=True).click()
    look(f"{size}-{scheme}-download-ask")
    dialog.get_by_label(WORDS).check()
    dialog.get_by_label(re.compile("Internal address")).check()
    dialog.get_by_role("button", name="Download").click()
    expect(dialog.get_by_role("link", name="Save file")).to_have_count(2)
    look(f"{size}-{scheme}-download-links")
    for summary in dialog.locator("summary").all():
        summary.click()
    look(f"{size}-{scheme}-download-links-open")
    page.goto(f"{live_server.url}/backups/sets/{copy.set_id}/")
    look(f"{size}-{scheme}-download-set")
    page.goto("about:blank")
