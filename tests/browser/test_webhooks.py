"""Webhooks in a browser: added by keyboard, tested, their log read, at both widths, light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups import events
from console.webhooks.models import Endpoint
from tests.browser.conftest import Look
from tests.console.fleet import Fleet
from tests.webhooks.conftest import Make, make, receiver, sweep  # noqa: F401
from tests.webhooks.receiver import Receiver

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_webhooks_can_be_read_by_everyone(
    live_server: Any,
    desk: Page,
    fleet: Fleet,
    look: Look,
    shown: str,
    make: Make,  # noqa: F811
    receiver: Receiver,  # noqa: F811
) -> None:
    desk.goto(live_server.url + reverse("webhooks:list"))
    look(f"{shown}-webhooks-none")
    endpoint = make(fleet.user, groups=[fleet.group]).endpoint
    make(fleet.user, name="a chat with a name that is rather long", kinds=["drill.failed", "copy.late"])
    instance = fleet.instance("an-instance-with-a-long-name-of-its-own-in-production")
    events.record("copy.completed", "The copy arrived.", instance=instance)
    sweep()
    receiver.answers = [500]
    events.record("drill.failed", "The drill failed.", instance=instance)
    sweep()
    desk.reload()
    look(f"{shown}-webhooks")
    desk.goto(live_server.url + reverse("webhooks:page", args=[endpoint.code]))
    look(f"{shown}-webhook")
    desk.get_by_role("link", name="Look at the delivery").first.click()
    expect(desk.get_by_role("dialog").get_by_text("It answered 500.").first).to_be_visible()
    look(f"{shown}-webhook-delivery")
    desk.goto(live_server.url + reverse("webhooks:change", args=[endpoint.code]))
    look(f"{shown}-webhook-settings")


def test_a_webhook_is_added_by_keyboard_and_a_test_arrives(
    live_server: Any,
    desk: Page,
    fleet: Fleet,
    look: Look,
    receiver: Receiver,  # noqa: F811
) -> None:
    desk.goto(live_server.url + reverse("webhooks:list"))
    desk.get_by_role("link", name="Add a webhook").focus()
    desk.keyboard.press("Enter")
    dialog = desk.get_by_role("dialog")
    dialog.get_by_label("Name").fill("pager")
    dialog.get_by_label("URL").fill("https://169.254.169.254/")
    desk.keyboard.press("Enter")
    expect(dialog.get_by_role("link", name="which is link-local")).to_be_visible()
    look("webhook-refused")
    dialog.get_by_label("URL").fill(receiver.url)
    desk.keyboard.press("Enter")
    expect(dialog.get_by_text("it is shown this once")).to_be_visible()
    look("webhook-secret")
    secret = dialog.locator("code.keyed").inner_text()
    dialog.get_by_role("link", name="I have copied it").click()
    expect(desk.get_by_role("heading", name="pager")).to_be_visible()
    desk.get_by_role("link", name="Send a test").click()
    dialog.get_by_role("button", name="Send", exact=True).click()
    expect(desk.get_by_role("cell", name="Waiting")).to_be_visible()
    sweep()
    expect(desk.get_by_role("cell", name="Delivered")).to_be_visible(timeout=15_000)  # the page looks by itself
    assert receiver.messages[0].is_signed_with(secret)
    desk.get_by_role("combobox", name="State").select_option("failed")
    expect(desk.get_by_text("Nothing matches")).to_be_visible()
    desk.get_by_role("link", name="Remove").click()
    dialog.get_by_role("button", name="Remove").click()
    expect(desk.get_by_text("No webhook yet")).to_be_visible()
    assert Endpoint.objects.get().removed_at
