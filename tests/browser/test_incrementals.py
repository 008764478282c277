"""Incrementals and secondaries, looked at: the dialog with its choices, the pages that name them, the form, a note."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from backups.models import BackupJob, BackupSet, Instance
from regions.models import Store
from tests.browser.conftest import Look, sign_in
from tests.console.fleet import DAY, TARGET, Fleet
from tests.console.test_incrementals import chained

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def chain_in(fleet: Fleet) -> tuple[Instance, BackupSet]:
    """A PostgreSQL with a full and two incrementals, the last one from its secondary."""
    instance = fleet.instance(
        "fleet-telemetry",
        engine="postgresql",
        engine_version="18.1",
        arrival="taken",
        host="10.0.0.8",
        secondary_host="10.0.0.9",
    )
    policy = fleet.policy(instance)
    full = chained(fleet, instance, age=2 * DAY)
    first = chained(fleet, instance, full, age=DAY)
    last = chained(fleet, instance, first, age=timedelta(hours=2))
    at = fleet.now
    done = {"instance": instance, "reason": "log_gap", "asked_at": at, "due_at": at}
    BackupJob.objects.create(**done, on="secondary", kind="differential", state="succeeded", result=last)
    for found in (full, first, last):
        fleet.copy(found, policy)
    Store.objects.filter(region=TARGET).update(capabilities={"startable": {"postgresql": ["15", "17"]}})
    return instance, last


def test_incrementals_can_be_read_by_everyone(
    live_server: Any,
    desk: Page,
    fleet: Fleet,
    look: Look,
    shown: str,
) -> None:
    instance, last = chain_in(fleet)
    sign_in(desk, live_server.url, fleet.root())
    for name, arguments in (
        ("instances:page", [instance.code]),
        ("instances:default", [instance.code]),
        ("backup_sets:page", [last.pk]),
        ("instances:add", []),
        ("stores:list", []),
    ):
        desk.goto(live_server.url + reverse(name, args=arguments))
        look(f"{shown}-incrementals-{name.replace(':', '-')}")
    desk.goto(live_server.url + reverse("instances:page", args=[instance.code]))
    desk.get_by_role("link", name="Back up now", exact=True).click()
    dialog = desk.get_by_role("dialog")
    expect(dialog.get_by_label("Full", exact=True)).to_be_checked()
    expect(dialog.get_by_label("The primary")).to_be_checked()
    look(f"{shown}-incrementals-dialog")
    dialog.get_by_label("Incremental", exact=True).check()
    dialog.get_by_label("The secondary").check()
    dialog.get_by_role("button", name="OK").click()
    expect(desk.locator("#standing")).to_contain_text("An incremental backup is queued")
    expect(desk.locator("#standing")).to_contain_text("It is taken from the secondary.")
    look(f"{shown}-incrementals-asked")


def test_enabling_warns_that_nothing_there_can_start_it(live_server: Any, desk: Page, fleet: Fleet, look: Look) -> None:
    instance, _ = chain_in(fleet)
    instance.policies.all().update(enabled=False, ended_at=fleet.now, end_reason="disabled")
    desk.goto(f"{live_server.url}{reverse('backup_settings:dialog')}?pick={instance.pk}")
    desk.get_by_label("Enable", exact=True).first.check()
    desk.get_by_label("Backup Region").select_option(TARGET)
    expect(desk.locator("#effects")).to_contain_text("cannot start a PostgreSQL 18.1 yet (versions there: 15, 17)")
    look("incrementals-enabling")
