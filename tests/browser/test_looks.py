"""Every page at both widths, light and dark: no violation of WCAG 2.2 AA, no word in the browser's console."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import Value
from django.db.models.functions import Concat
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.models import BackupSet, Copy, Instance
from tests.browser.conftest import Look, sign_in
from tests.console.crossed_logs import shop_of
from tests.console.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


BEYOND_ITS_EDGE = """all => all.map(wrap => [...wrap.querySelectorAll('td.act .btn')]
    .map(one => Math.round(one.getBoundingClientRect().right - wrap.getBoundingClientRect().right))
    .filter(beyond => beyond > 0).length)"""
LISTS = (
    "instances:list",
    "stores:list",
    "pending_instances:list",
    "backup_instances:list",
    "backup_sets:list",
    "agreement:page",
    "activity:list",
    "activity:alerts",
)


def test_every_page_can_be_read_by_everyone(live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str) -> None:
    fleet.everything()
    for name in (
        "overview:page",
        "instances:list",
        "instances:add",
        "stores:list",
        "pending_instances:list",
        "backup_instances:list",
        "backup_sets:list",
        "agreement:page",
        "activity:list",
        "activity:alerts",
        "account_change_password",
    ):
        desk.goto(live_server.url + reverse(name))
        look(f"{shown}-{name.replace(':', '-')}")
    instance = Instance.objects.get(name="crm-core")
    for name in ("instances:page", "instances:default"):
        desk.goto(live_server.url + reverse(name, args=[instance.code]))
        look(f"{shown}-{name.replace(':', '-')}")
    shop = shop_of(fleet)
    for name in ("instances:page", "instances:logs"):
        desk.goto(live_server.url + reverse(name, args=[shop.code]) + "?range=day")
        look(f"{shown}-{name.replace(':', '-')}-with-logs")
    found = BackupSet.objects.filter(instance=instance).order_by("-finished_at").first()
    desk.goto(live_server.url + reverse("backup_sets:page", args=[found.pk]))
    look(f"{shown}-backup_sets-page")


def test_no_table_is_clipped_on_a_desk(live_server: Any, desk: Page, fleet: Fleet) -> None:
    fleet.everything()
    Copy.objects.update(reference="taken", kept_for="last_good")
    desk.set_viewport_size({"width": 1440, "height": 900})
    code = Instance.objects.get(name="crm-core").code
    addresses = [reverse(name) for name in LISTS]
    addresses += [reverse(name, args=[code]) for name in ("instances:page", "instances:default")]
    addresses.append(reverse("instances:logs", args=[shop_of(fleet).code]))
    for address in addresses:
        desk.goto(live_server.url + address)
        wide = desk.locator(".table-wrap").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
        assert wide, address
        assert max(wide) <= 0, (address, wide)


@pytest.mark.parametrize("width", [1440, 1280, 1000])
def test_the_buttons_of_a_row_are_never_cut_off(live_server: Any, desk: Page, fleet: Fleet, width: int) -> None:
    """However much a row says: what is wider than its card scrolls beneath the buttons."""
    fleet.everything()
    long = "page checksums, walked, and digests"
    Copy.objects.update(reference="taken", kept_for="last_good", verification=long)
    Instance.objects.filter(name__in=("crm-core", "fleet-telemetry")).update(
        name=Concat("name", Value("-of-the-payments-department"))
    )
    desk.set_viewport_size({"width": width, "height": 900})
    code = Instance.objects.get(name__startswith="crm-core").code
    addresses = [reverse(name) for name in LISTS] + ["/stores/landing/"]
    addresses += [reverse(name, args=[code]) for name in ("instances:page", "instances:default")]
    seen = 0
    for address in addresses:
        desk.goto(live_server.url + address)
        cut = desk.locator(".table-wrap").evaluate_all(BEYOND_ITS_EDGE)
        assert not any(cut), (address, cut)
        seen += desk.locator("td.act .btn").count()
    assert seen > 10


def test_the_other_dialogs_can_be_read_by_everyone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    fleet.everything()
    copying = Instance.objects.get(name="crm-core")
    old = fleet.backup(copying, age=timedelta(days=9))
    sign_in(desk, live_server.url, fleet.root())
    opened = {
        "copy": ("backup_sets:list", [], f"Copy set {old.pk} now"),
        "release": ("instances:page", [copying.code], "Release"),
        "backup": ("instances:list", [], "Back up fleet-telemetry now"),
        "standing": ("agreement:page", [], "Accept for a resource group"),
        "detach": ("stores:list", [], "Detach the store of Singapore"),
        "cancel": ("backup_sets:page", [copying.sets.order_by("-finished_at").first().pk], "Cancel"),
    }
    for name, (page, arguments, words) in opened.items():
        desk.goto(live_server.url + reverse(page, args=arguments) + ("?q=crm" if name == "copy" else ""))
        desk.get_by_role("link", name=words, exact=True).click()
        expect(desk.get_by_role("dialog")).to_be_visible()
        look(f"{shown}-dialog-{name}")
    for name, address in (
        ("attach", "/stores/attach/"),
        ("settings", f"/backups/settings/?pick={copying.pk}"),
        ("version", "/backups/agreement/versions/1/"),
    ):
        desk.goto(live_server.url + address)
        look(f"{shown}-{name}")


def test_the_outcome_of_each_can_be_read_by_everyone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    fleet.protected("good")
    fleet.protected("released")
    desk.goto(live_server.url + reverse("backup_instances:list"))
    for name in ("good", "released"):
        desk.get_by_label(f"Select {name}").check()
    desk.get_by_role("button", name="Backup Settings").click()
    dialog = desk.get_by_role("dialog")
    dialog.get_by_label("Backup Region").select_option("ap-southeast-1")
    dialog.get_by_label("I have read and accept").check()
    Instance.objects.filter(name="released").update(released_at=fleet.now)
    dialog.get_by_role("button", name="OK").click()
    expect(dialog).to_contain_text("1 of 2 saved, 1 refused")
    expect(dialog.get_by_role("button", name="Retry refused")).to_be_visible()
    look(f"{shown}-dialog-outcomes")


def test_every_dialog_can_be_read_by_everyone(
    live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str
) -> None:
    fleet.everything()
    desk.goto(live_server.url + reverse("pending_instances:list"))
    for name in ("catalog", "pricing"):
        desk.get_by_label(f"Select {name}").check()
    desk.get_by_role("button", name="Backup Settings").click()
    dialog = desk.get_by_role("dialog")
    dialog.get_by_label("Backup Region").select_option("cn-shanghai")
    expect(dialog.get_by_label("I have read and accept")).to_be_visible()
    look(f"{shown}-dialog-settings")
    dialog.get_by_role("button", name="OK").click()
    expect(dialog.get_by_role("alert")).to_be_focused()
    look(f"{shown}-dialog-refused")
    desk.goto(live_server.url + reverse("backup_instances:list"))
    desk.get_by_role("link", name="Settings for identity").click()
    dialog.get_by_label("Cross-region Retention Period").fill("7")
    expect(dialog).to_contain_text("expire now")
    look(f"{shown}-dialog-shorter")
    dialog.get_by_text("Disabled").first.click()
    expect(dialog).to_contain_text("Storage left to pay")
    look(f"{shown}-dialog-disable")
    dialog.get_by_role("button", name="Cancel").click()
    desk.get_by_role("button", name="Region:").click()
    expect(desk.get_by_label("Search regions")).to_be_visible()
    look(f"{shown}-regions")


def test_who_has_no_role_yet_can_read_why(live_server: Any, desk: Page, fleet: Fleet, look: Look, shown: str) -> None:
    fleet.everything()
    sign_in(desk, live_server.url, User.objects.create_user("new"))
    for name in ("overview:page", "instances:list"):
        desk.goto(live_server.url + reverse(name))
        expect(desk.get_by_role("complementary", name="No role yet")).to_contain_text("Ask who runs this installation")
        look(f"{shown}-no-role-{name.replace(':', '-')}")
