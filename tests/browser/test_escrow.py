"""The one question the Stores page asks who runs the installation: can it be read, and answered from the keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.self_recovery import escrow
from regions import secrets
from tests.browser.conftest import SIZES, Look, sign_in
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_key_ring_is_asked_for_and_the_answer_stays(
    page: Page,
    live_server: Any,
    fleet: Fleet,
    console: list[str],
    look: Look,
    settings: Any,
    tmp_path: Path,
    size: str,
    scheme: str,
) -> None:
    settings.FARSHORE_KEYS = tmp_path / "keys"
    secrets.seal(b"", "first start")
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    sign_in(page, live_server.url, fleet.root())
    page.goto(live_server.url + reverse("stores:list"))
    look(f"{size}-{scheme}-stores-escrow")
    page.get_by_role("button", name="I keep a copy elsewhere").press("Enter")
    expect(page.get_by_text("you keep a copy of the key ring elsewhere")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="I keep a copy elsewhere")).to_have_count(0)
    assert escrow.is_escrowed()
    page.goto("about:blank")
