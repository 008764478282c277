"""Access keys in a browser: created by keyboard, the secret read once, at both widths, light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.models import ResourceGroup, Role
from console.openapi.models import AccessKey
from tests.browser.conftest import Look
from tests.console.fleet import Fleet
from tests.openapi.conftest import key_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_access_keys_can_be_read_by_everyone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    desk.goto(live_server.url + reverse("openapi:keys"))
    look(f"{shown}-access-keys-none")
    second = ResourceGroup.objects.create(name="A second resource group with a long name")
    second.memberships.create(user=fleet.user, role=Role.OPERATOR)
    key_of(fleet.user, groups=[fleet.group, second], networks=["192.0.2.0/24", "2001:db8::/32"])
    key_of(fleet.user, accepts_rules=True)
    desk.goto(live_server.url + reverse("openapi:keys"))
    look(f"{shown}-access-keys")
    desk.get_by_role("link", name="Create an access key").click()
    expect(desk.get_by_role("dialog")).to_be_visible()
    look(f"{shown}-access-keys-create")


def test_a_key_is_created_by_keyboard_and_its_secret_shown_once(
    live_server: Any, desk: Page, fleet: Fleet, look: Look
) -> None:
    desk.goto(live_server.url + reverse("openapi:keys"))
    desk.get_by_role("link", name="Create an access key").focus()
    desk.keyboard.press("Enter")
    dialog = desk.get_by_role("dialog")
    dialog.get_by_label("Label").fill("nightly pipeline")
    dialog.get_by_label("Looks and operates").check()
    dialog.get_by_label("Only from these addresses").fill("nowhere")
    desk.get_by_role("button", name="Create").focus()
    desk.keyboard.press("Enter")
    expect(dialog.get_by_role("link", name="nowhere is no address")).to_be_visible()
    dialog.get_by_label("Only from these addresses").fill("127.0.0.1")
    desk.get_by_role("button", name="Create").focus()
    desk.keyboard.press("Enter")
    expect(dialog.get_by_text("it is shown this once")).to_be_visible()
    look("access-keys-secret")
    key = AccessKey.objects.get()
    expect(dialog.get_by_text(key.key_id)).to_be_visible()
    dialog.get_by_role("link", name="I have copied it").click()
    expect(desk.get_by_text("nightly pipeline")).to_be_visible()
    desk.get_by_role("link", name="Disable nightly pipeline").click()
    dialog.get_by_role("button", name="Disable").click()
    expect(desk.get_by_role("cell", name="Disabled", exact=True)).to_be_visible()
    key.refresh_from_db()
    assert not key.is_active
