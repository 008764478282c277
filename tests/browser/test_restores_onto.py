"""Onto the original with a real browser: its name typed in, two people, the old one kept aside and put back (R-2.3)."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from backups.models import Instance, Membership, Restore, Role
from tests.browser.conftest import SIZES, Look, sign_in
from tests.console.brought_back import HOUR, give_password, restore, streamed
from tests.console.fleet import SOURCE, Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

NEW = "/backups/restores/new/"
SERVER = {"host": "10.9.0.4", "port": 54321, "username": "farshore_restore"}


@pytest.fixture
def original(fleet: Fleet) -> Instance:
    """An instance whose server is a restored one that Farshore runs."""
    instance = streamed(fleet)
    give_password(restore(fleet, instance, name=instance.name, result=instance, region_id=SOURCE))
    return instance


@pytest.fixture
def approver(fleet: Fleet) -> User:
    user = User.objects.create_user("second")
    Membership.objects.create(user=user, group=fleet.group, role=Role.APPROVER)
    return user


def as_the_worker_leaves_it(found: Restore) -> None:
    replaced = Restore.objects.filter(result=found.onto)
    replaced.update(state="aside", makes_room_for=found, leased_until=None)
    Restore.objects.filter(pk=found.pk).update(
        state="ready", result=found.onto, leased_until=found.asked_at + HOUR, finished_at=found.asked_at, **SERVER
    )
    give_password(found)


def test_two_people_replace_the_original_and_one_puts_it_back(
    live_server: Any, desk: Page, browser: Browser, fleet: Fleet, original: Instance, approver: User
) -> None:
    desk.goto(f"{live_server.url}{NEW}?instance={original.code}&place=default")
    desk.get_by_role("radio", name=f"The original, {original.name}").check()
    plan = desk.locator("#plan")
    expect(plan).to_contain_text("an approver who did not ask has to agree")
    desk.get_by_label("Name of the original instance, typed in").fill("Fleet-telemetry")
    expect(plan).to_contain_text("What was typed in is not the name")
    expect(plan.get_by_role("button", name="Ask a second person")).to_be_disabled()
    desk.get_by_label("Name of the original instance, typed in").fill(original.name)
    expect(plan).not_to_contain_text("What was typed in is not the name")
    plan.get_by_role("button", name="Ask a second person").click()
    expect(desk.get_by_text("You asked for this yourself.")).to_be_visible()
    expect(desk.get_by_role("link", name="Agree")).to_have_count(0)
    found = Restore.objects.get(onto=original)

    context = browser.new_context()
    other = context.new_page()
    sign_in(other, live_server.url, approver)
    other.goto(desk.url)
    other.get_by_role("link", name="Agree").click()
    other.get_by_role("dialog").get_by_role("button", name="Agree").click()
    expect(other.get_by_text("You agreed; the restore begins.")).to_be_visible()
    context.close()
    found.refresh_from_db()
    assert (found.state, found.approved_by) == ("queued", approver)

    as_the_worker_leaves_it(found)
    expect(desk.get_by_text("What it held before is kept aside.")).to_be_visible(timeout=15_000)
    desk.get_by_role("link", name="Put the old one back").click()
    desk.get_by_role("dialog").get_by_role("button", name="Put it back").click()
    expect(desk.locator("#state")).to_contain_text("Removing")
    found.refresh_from_db()
    assert found.cancel_asked_at and Restore.objects.filter(state="aside", cancel_asked_at=None).count() == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_of_it_can_be_read_by_everyone(
    live_server: Any, desk: Page, fleet: Fleet, original: Instance, approver: User, look: Look, size: str, scheme: str
) -> None:
    desk.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))
    desk.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    shown = f"{size}-{scheme}-onto"
    for name, more in (("original", "&target=original"), ("new", "")):
        desk.goto(f"{live_server.url}{NEW}?instance={original.code}&place=default{more}")
        look(f"{shown}-wizard-{name}")
    desk.goto(f"{live_server.url}{NEW}?instance={streamed(fleet, 'reached-only').code}&place=default")
    look(f"{shown}-wizard-refused")

    dialog = desk.get_by_role("dialog")
    found = restore(fleet, original, "waiting", name=original.name, onto=original, region_id=SOURCE, origin="default")
    Restore.objects.filter(pk=found.pk).update(asked_by=approver, started_at=None)
    Membership.objects.create(user=fleet.user, group=fleet.group, role=Role.APPROVER)
    address = live_server.url + reverse("restores:page", args=[found.code])
    desk.goto(address)
    look(f"{shown}-waiting")
    desk.get_by_role("link", name="Agree").click()
    expect(dialog).to_be_visible()
    look(f"{shown}-agree")

    as_the_worker_leaves_it(found)
    desk.goto(address)
    look(f"{shown}-ready")
    for words, name in (("Put the old one back", "put-back"), ("Keep the new one", "keep")):
        desk.get_by_role("link", name=words).click()
        expect(dialog).to_be_visible()
        look(f"{shown}-{name}")
        desk.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
    desk.goto(live_server.url + reverse("restores:page", args=[Restore.objects.get(state="aside").code]))
    look(f"{shown}-aside")
    Restore.objects.update(leased_until=fleet.now - HOUR)
    desk.goto(address)
    desk.get_by_role("link", name="Its machine is gone").click()
    expect(dialog).to_be_visible()
    look(f"{shown}-write-off")
    desk.goto(live_server.url + reverse("restores:list"))
    look(f"{shown}-list")
