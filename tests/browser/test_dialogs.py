"""What every dialog keeps: one order per OK, the focus, a secret until it is put away, what was typed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, Route, expect

from backups.models import CopyPolicy, DrillQuery, Instance, Membership, Role
from billing.models import Budget
from console.openapi.models import AccessKey
from tests.browser.conftest import Look, sign_in
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def asked(fleet: Fleet, instance: Instance, n: int) -> DrillQuery:
    facts = {"database": "orders", "sql": f"SELECT {n}", "expected": str(n), "added_at": fleet.now}
    return DrillQuery.objects.create(instance=instance, **facts)


def opened(desk: Page, address: str, opener: str) -> Any:
    desk.goto(address)
    desk.get_by_role("link", name=opener, exact=True).click()
    dialog = desk.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


@pytest.fixture
def may_budget(fleet: Fleet) -> None:
    Membership.objects.create(user=fleet.user, group=fleet.group, role=Role.BILLING)


def test_a_double_click_on_ok_is_one_order_and_the_dialog_shows_that_it_works(
    live_server: Any, desk: Page, fleet: Fleet
) -> None:
    instance = fleet.protected("orders")
    dialog = opened(desk, live_server.url + reverse("instances:drills", args=[instance.code]), "Add a query")
    dialog.get_by_label("Database").fill("orders")
    dialog.get_by_label("SQL").fill("SELECT count(*) FROM orders")
    dialog.get_by_label("Expected").fill("3")
    slow: list[Route] = []
    desk.route(re.compile("queries"), lambda route: slow.append(route))
    ok = dialog.get_by_role("button", name="OK")
    ok.dblclick()
    expect(ok).to_have_attribute("aria-disabled", "true")
    expect(dialog.locator("form")).to_have_attribute("aria-busy", "true")
    ok.press("Enter")
    assert len(slow) == 1
    slow.pop().continue_()
    expect(dialog).to_be_hidden()
    expect(desk.get_by_text("SELECT count(*) FROM orders")).to_have_count(1)
    assert slow == []
    assert DrillQuery.objects.count() == 1


def test_what_was_refused_can_be_sent_again(live_server: Any, desk: Page, fleet: Fleet, may_budget: None) -> None:
    dialog = opened(desk, live_server.url + reverse("budgets:page"), "Add a budget")
    amount, ok = dialog.get_by_label("Amount a month (USD)"), dialog.get_by_role("button", name="OK")
    amount.fill("0")
    ok.dblclick()
    expect(dialog.get_by_role("alert")).to_be_focused()
    amount.fill("90")
    ok.dblclick()
    expect(dialog).to_be_hidden()
    assert Budget.objects.count() == 1


def test_a_secret_stays_until_it_is_put_away_and_the_list_behind_it_knows(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    desk.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog = opened(desk, live_server.url + reverse("openapi:keys"), "Create an access key")
    dialog.get_by_label("Label").fill("nightly")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_text("it is shown this once")).to_be_visible()
    key = AccessKey.objects.get()
    expect(desk.locator("#rows")).to_contain_text(key.key_id)
    for _ in range(3):
        desk.keyboard.press("Escape")
    desk.mouse.click(5, 5)
    expect(dialog).to_be_visible()
    for label, id in (("Copy the access key ID", "made-id"), ("Copy the secret", "made-secret")):
        dialog.get_by_role("button", name=label).click()
        said = dialog.locator(".copied", has=desk.locator(f"#{id}")).get_by_role("status")
        expect(said).to_have_text("Copied")
        assert desk.evaluate("navigator.clipboard.readText()") == dialog.locator(f"#{id}").inner_text()
    look(f"{shown}-secret-copied")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    expect(desk.get_by_role("link", name="Create an access key")).to_be_focused()
    desk.keyboard.press("Enter")
    expect(dialog.get_by_label("Label")).to_be_visible()
    desk.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_form_waits_for_its_first_field_and_a_question_for_nothing(
    live_server: Any, desk: Page, fleet: Fleet, may_budget: None
) -> None:
    dialog = opened(desk, live_server.url + reverse("openapi:keys"), "Create an access key")
    expect(dialog.get_by_label("Label")).to_be_focused()
    dialog = opened(desk, live_server.url + reverse("budgets:page"), "Add a budget")
    expect(dialog.get_by_role("combobox").first).to_be_focused()
    instance = fleet.protected("orders")
    dialog = opened(desk, live_server.url + reverse("instances:page", args=[instance.code]), "Release")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()


def test_what_another_tab_removed_is_said_and_the_list_is_drawn_anew(
    live_server: Any, desk: Page, console: list[str], fleet: Fleet
) -> None:
    instance = fleet.protected("orders")
    first, second = [asked(fleet, instance, n).pk for n in range(2)]
    dialog = opened(desk, live_server.url + reverse("instances:drills", args=[instance.code]), f"Remove query {first}")
    DrillQuery.objects.filter(pk=first).delete()
    dialog.get_by_role("button", name="Remove").click()
    expect(dialog).to_be_hidden()
    expect(desk.get_by_role("status")).to_contain_text("It is not there any more.")
    expect(desk.get_by_text("SELECT 0")).to_have_count(0)
    DrillQuery.objects.filter(pk=second).delete()
    desk.get_by_role("link", name=f"Remove query {second}").click()
    expect(desk.get_by_text("SELECT 1")).to_have_count(0)
    expect(dialog).to_be_hidden()
    assert len([said for said in console if said.startswith("404")]) == 2
    console.clear()


@pytest.mark.parametrize("gone", ["the session", "every cookie"])
def test_a_session_that_ends_in_a_dialog_keeps_what_was_typed_until_one_is_back(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, gone: str
) -> None:
    fleet.instance("orders")
    dialog = opened(desk, live_server.url + "/backups/pending/", "Settings for orders")
    name = re.compile("session") if gone == "the session" else None
    desk.context.clear_cookies(**({"name": name} if name else {}))
    days = dialog.get_by_label("Cross-region Retention Period")
    days.fill("41")
    said = dialog.get_by_role("alert").filter(has_text="Your session has ended")
    expect(said).to_be_visible()
    expect(days).to_have_value("41")
    look(f"session-ended-{gone.replace(' ', '-')}")
    dialog.get_by_label("Backup Region").select_option("cn-shanghai")
    dialog.get_by_role("button", name="OK").click()
    expect(said).to_have_count(1)
    with desk.context.expect_page() as other:
        said.get_by_role("link", name="Sign in again").click()
    expect(other.value.get_by_role("heading", name="Sign in")).to_be_visible()
    other.value.close()
    sign_in(desk, live_server.url, fleet.user)
    dialog.get_by_role("button", name="OK").click()
    expect(dialog.get_by_role("alert")).to_contain_text("tick the box")
    expect(days).to_have_value("41")
    dialog.get_by_label("I have read and accept").check()
    dialog.get_by_role("button", name="OK").click()
    expect(dialog).to_be_hidden()
    assert CopyPolicy.objects.get().retention_days == 41
