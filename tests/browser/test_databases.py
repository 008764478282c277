"""The databases of a server and the certificates of a region, as they look and as they are worked with."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.models import RegisteredCertificate
from tests.browser.conftest import Look, sign_in
from tests.console.fleet import DAY, TARGET, Fleet
from tests.console.servers import erp_of, told

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PRINT = "ab" * 20


def test_the_databases_can_be_read_by_everyone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    erp = erp_of(fleet)
    for name in ("Orders", "w" * 128, "\u202egnorw\u05d0\u05d1", "<b>&amp;\"'"):
        told(erp, name)
    told(erp, "Secret", certificate_thumbprint=PRINT, last_full_at=None)
    told(erp, "Away", state="RECOVERY_PENDING", is_online=False, recovery_model="SIMPLE", has_logs=False)
    told(erp, "Dropped", gone_at=erp.databases_seen_at - DAY)
    desk.goto(live_server.url + reverse("instances:databases", args=[erp.code]))
    expect(desk.get_by_role("link", name="Databases")).to_have_attribute("aria-current", "page")
    look(f"{shown}-instances-databases")
    desk.set_viewport_size({"width": 1440, "height": 900})
    wide = desk.locator(".table-wrap").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
    assert max(wide) <= 0


def test_a_certificate_is_registered_by_keyboard_and_withdrawn(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    sign_in(desk, live_server.url, fleet.root())
    desk.goto(live_server.url + reverse("stores:page", args=[fleet.stores[TARGET].pk]))
    desk.get_by_role("link", name="Register a certificate").press("Enter")
    expect(desk.get_by_role("dialog")).to_be_visible()
    look(f"{shown}-dialog-certificate")
    desk.get_by_label("Thumbprint").fill("hello")
    desk.get_by_role("button", name="Register").click()
    expect(desk.get_by_role("alert")).to_contain_text("is no thumbprint")
    desk.get_by_label("Thumbprint").fill(f"0x{PRINT}")
    desk.get_by_label("Thumbprint").press("Enter")
    expect(desk.locator("#certificates")).to_contain_text(PRINT)
    look(f"{shown}-stores-page-certificates")
    desk.get_by_role("link", name=f"Withdraw certificate {PRINT}").click()
    desk.get_by_role("button", name="Withdraw").click()
    expect(desk.locator("#certificates")).to_contain_text("None is registered.")
    assert RegisteredCertificate.objects.get().withdrawn_at
