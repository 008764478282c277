"""Budgets and forecast: read by everyone, worked by keyboard; a budget is made, passed and removed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.events import By
from backups.models import Membership, ResourceGroup, Role
from billing import budgets
from billing.budgets import Wish
from billing.models import Budget
from tests.browser.conftest import Look
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def answers_for(fleet: Fleet, *groups: ResourceGroup) -> None:
    for group in (fleet.group, *groups):
        Membership.objects.create(user=fleet.user, group=group, role=Role.BILLING)


def test_budgets_can_be_read_by_everyone(live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str) -> None:
    fleet.everything()
    quiet = ResourceGroup.objects.create(name="Quiet")
    answers_for(fleet, quiet)
    fleet.protected("library", group=quiet)
    budgets.create(None, Wish(Decimal("1000.00")), By(fleet.user))
    budgets.create(fleet.group, Wish(Decimal("90000.00"), (50, 80, 100)), By(fleet.user))
    budgets.create(quiet, Wish(Decimal("0.50"), (100,)), By(fleet.user))
    desk.goto(live_server.url + reverse("budgets:page"))
    look(f"{shown}-budgets")
    if shown.startswith("wide"):
        wide = desk.locator(".table-wrap").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
        assert max(wide) <= 0
    dialog = desk.get_by_role("dialog")
    for name in ("Add a budget", "Change the budget of Payments", "Remove the budget of Payments"):
        desk.get_by_role("link", name=name, exact=True).click()
        expect(dialog).to_be_visible()
        look(f"{shown}-dialog-{name.split()[0].lower()}")
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).not_to_be_visible()
    desk.get_by_label("Whose costs").select_option("Quiet")
    expect(desk).to_have_url(f"{live_server.url}{reverse('budgets:page')}?group={quiet.pk}")
    look(f"{shown}-budgets-of-a-group")


def test_a_budget_is_made_passed_and_removed(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.protected("orders")
    answers_for(fleet)
    desk.goto(live_server.url + reverse("budgets:page"))
    expect(desk.locator("#rows")).to_contain_text("No budget yet")
    dialog = desk.get_by_role("dialog")
    desk.get_by_role("link", name="Add a budget").click()
    dialog.get_by_label("Amount a month (USD)").fill("0")
    dialog.get_by_role("button", name="OK").click()
    expect(dialog.get_by_role("alert")).to_be_focused()
    expect(dialog).to_contain_text("A budget is more than nothing.")
    dialog.get_by_label("Amount a month (USD)").fill("90000")
    dialog.get_by_role("button", name="OK").press("Enter")
    expect(dialog).not_to_be_visible()
    expect(desk.locator("#rows")).to_contain_text("Within it")
    expect(desk.locator("#panel")).to_contain_text("Budget of a month")

    desk.get_by_role("link", name="Change the budget of The whole fleet").click()
    dialog.get_by_label("Amount a month (USD)").fill("0.01")
    dialog.get_by_role("button", name="OK").click()
    expect(desk.locator("#rows .st")).to_have_text("Spent")
    budgets.keep_alerts()
    desk.goto(live_server.url + reverse("overview:page"))
    desk.get_by_label("Open alerts").get_by_role("link", name="Budgets and forecast").first.click()
    expect(desk.get_by_role("heading", level=1)).to_have_text("Budgets and forecast")

    desk.get_by_role("link", name="Remove the budget of The whole fleet").click()
    dialog.get_by_role("button", name="Remove").click()
    expect(desk.locator("#rows")).to_contain_text("No budget yet")
    assert not Budget.objects.exists()
    desk.reload()
    expect(desk.locator(".strip")).to_have_count(0)
