"""Restoring with a real browser: the wizard, the page of one, the recovery page, and a look at each of them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.models import Restore
from tests.browser.conftest import Look, sign_in
from tests.console.brought_back import MINUTE, PASSWORD, everything, give_password, restore, streamed
from tests.console.fleet import TARGET, Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

NEW = "/backups/restores/new/"
ASKED = 20_000  # ms; every set of each instance is looked at once more, and other tests are at work beside it


def test_every_page_of_restoring_can_be_read_by_everyone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    instance = everything(fleet)
    fleet.stores[instance.region_id].__class__.objects.filter(region=instance.region_id).update(state="unreachable")
    states = {found.state: found.code for found in Restore.objects.all()}
    pages = {
        "list": reverse("restores:list"),
        "recovery": reverse("restores:recovery"),
        "pick": reverse("restores:new"),
        "newest": f"{NEW}?instance={instance.code}",
        "moment": f"{NEW}?instance={instance.code}&by=moment",
        "gap": f"{NEW}?instance={instance.code}&until={fleet.now:%Y-%m-%dT%H:%M:%SZ}",
        "set": f"{NEW}?instance={instance.code}&by=set",
        **{f"page-{state}": reverse("restores:page", args=[code]) for state, code in states.items()},
    }
    for name, address in pages.items():
        desk.goto(live_server.url + address)
        expect(desk.get_by_role("heading", level=1)).to_be_visible()
        look(f"{shown}-restores-{name}")


def test_every_dialog_of_restoring_can_be_read_by_everyone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    instance = everything(fleet)
    dialog = desk.get_by_role("dialog")
    for state, words in (("ready", "Remove"), ("running", "Cancel")):
        code = Restore.objects.get(state=state).code
        desk.goto(live_server.url + reverse("restores:page", args=[code]))
        desk.get_by_role("link", name=words, exact=True).click()
        expect(dialog).to_be_visible()
        look(f"{shown}-restores-dialog-{state}")
    desk.goto(live_server.url + reverse("restores:recovery"))
    for name in (instance.name, "ledger-eu"):
        desk.get_by_label(f"Select {name}").check()
    desk.get_by_role("button", name="Restore", exact=True).click()
    dialog.get_by_text("One moment for all").click()
    dialog.get_by_label("Moment (UTC)").fill(f"{fleet.now - 40 * MINUTE:%Y-%m-%dT%H:%M:%S}")
    expect(dialog.locator("#effects")).to_contain_text(f"as of {fleet.now - 40 * MINUTE:%Y-%m-%d %H:%M:%S}")
    look(f"{shown}-restores-dialog-many")
    dialog.get_by_role("button", name="Restore").click()
    expect(dialog).to_contain_text("2 under way, 0 refused", timeout=ASKED)
    look(f"{shown}-restores-dialog-outcomes")


def test_no_table_of_restoring_is_clipped_on_a_desk(live_server: Any, desk: Page, fleet: Fleet) -> None:
    everything(fleet)
    desk.set_viewport_size({"width": 1440, "height": 900})
    for name in ("list", "recovery", "new"):
        desk.goto(live_server.url + reverse(f"restores:{name}"))
        wide = desk.locator(".table-wrap").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
        assert max(wide) <= 0, (name, wide)


def in_field(at: datetime) -> str:
    """The value of a field of date and time, which leaves out seconds that are none."""
    return at.replace(tzinfo=None, microsecond=0).isoformat(timespec="seconds" if at.second else "minutes")


def test_the_arrow_of_a_route_covers_no_word_of_what_stands_before_it(
    live_server: Any, desk: Page, fleet: Fleet
) -> None:
    ready = restore(fleet, streamed(fleet), leased_until=None)  # "Starting again", which says most
    desk.set_viewport_size({"width": 1440, "height": 900})
    desk.goto(live_server.url + reverse("restores:page", args=[ready.code]))
    expect(desk.locator("#state")).to_contain_text("another one takes it up by itself")
    said, arrow = (desk.locator(f".r-mid > {one}").bounding_box() for one in ("#state", ".i"))
    assert said["x"] + said["width"] <= arrow["x"]


def test_a_moment_is_picked_and_the_plan_follows(live_server: Any, desk: Page, fleet: Fleet) -> None:
    instance = streamed(fleet)
    desk.goto(f"{live_server.url}/instances/{instance.code}/")
    desk.get_by_role("link", name="Restore", exact=True).click()
    plan = desk.locator("#plan")
    expect(plan).to_contain_text("5 logs without a gap")
    desk.get_by_role("radio", name="A moment").check()
    field = desk.get_by_label("Moment (UTC)")
    earlier = fleet.now - 100 * MINUTE
    field.fill(f"{earlier:%Y-%m-%dT%H:%M:%S}")
    expect(plan).to_contain_text(f"{earlier:%Y-%m-%d %H:%M:%S} UTC")
    expect(plan).to_contain_text("3 logs without a gap")
    expect(desk).to_have_url(re.compile("by=moment.*until="))
    assert "csrf" not in desk.url
    assert "token" not in desk.url

    field.fill(f"{fleet.now:%Y-%m-%dT%H:%M:%S}")
    expect(plan).to_contain_text("Cannot be brought back")
    ok = plan.get_by_role("button", name="Restore")
    expect(ok).to_be_disabled()
    plan.get_by_role("link", name=f"{fleet.now - 30 * MINUTE:%Y-%m-%d %H:%M:%S} UTC").click()
    expect(ok).to_be_enabled()
    desk.reload()
    expect(desk.get_by_label("Moment (UTC)")).to_have_value(in_field(fleet.now - 30 * MINUTE))

    desk.get_by_label("Name of the new instance").fill("telemetry-again")
    ok.dblclick()
    expect(desk.get_by_role("heading", name="telemetry-again")).to_be_visible()
    expect(desk.get_by_text("its turn comes by itself")).to_be_visible()
    assert Restore.objects.count() == 1


def test_the_place_is_changed_and_everything_follows(live_server: Any, desk: Page, fleet: Fleet) -> None:
    instance = streamed(fleet)
    desk.goto(f"{live_server.url}{NEW}?instance={instance.code}")
    place = desk.get_by_label("Restore from")
    place.focus()
    place.select_option("default")
    expect(desk.locator("#plan")).to_contain_text("No charge for restoring inside China (Hangzhou).")
    expect(place).to_be_focused()
    expect(desk.get_by_role("radio", name="The newest moment")).to_be_checked()
    expect(desk.get_by_role("radio", name=f"The original, {instance.name}")).to_be_disabled()


def test_a_restore_comes_up_before_ones_eyes(live_server: Any, desk: Page, fleet: Fleet) -> None:
    running = restore(fleet, streamed(fleet), "running")
    loads: list[str] = []
    desk.on("request", lambda request: loads.append(request.url) if request.is_navigation_request() else None)
    desk.goto(live_server.url + reverse("restores:page", args=[running.code]))
    stages = desk.locator("#stages")
    expect(stages).to_contain_text("Replay the logs 60 %")
    Restore.objects.update(done=4 * 2**20)
    expect(stages).to_contain_text("Replay the logs 80 %", timeout=10_000)
    Restore.objects.update(
        state="ready", host="10.9.0.4", port=54321, username="farshore_admin", finished_at=fleet.now, stage=""
    )
    give_password(Restore.objects.get())
    expect(desk.get_by_text("54321", exact=True)).to_be_visible(timeout=10_000)
    desk.get_by_role("button", name="Show the password").click()
    expect(desk.get_by_text(PASSWORD)).to_be_visible()
    assert len(loads) == 1


def test_without_script_a_restore_is_still_asked_for(live_server: Any, browser: Any, fleet: Fleet) -> None:
    instance = streamed(fleet)
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    sign_in(plain, live_server.url, fleet.user)
    plain.goto(live_server.url + "/backups/restores/")
    plain.get_by_role("link", name="New restore").click()
    plain.get_by_role("link", name=f"Restore {instance.name}").click()
    plain.get_by_role("radio", name="A moment").check()
    earlier = fleet.now - 100 * MINUTE
    plain.get_by_label("Moment (UTC)").fill(f"{earlier:%Y-%m-%dT%H:%M:%S}")
    plain.get_by_role("button", name="Check again").click()
    expect(plain.locator("#plan")).to_contain_text("3 logs without a gap")
    plain.get_by_role("button", name="Restore", exact=True).click()
    expect(plain.get_by_role("heading", name=f"{instance.name}-restored")).to_be_visible()
    asked = Restore.objects.get()
    assert (asked.until, asked.region_id) == (earlier.replace(microsecond=0), TARGET)
    context.close()
