"""Every page of the console, through the outer door: shown, refused, and at what cost in queries."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backups.models import BackupSet, Instance, Membership, ResourceGroup, Role
from tests.console.fleet import Fleet

PAGES = [
    "overview:page",
    "instances:list",
    "instances:add",
    "stores:list",
    "pending_instances:list",
    "pending_instances:absent",
    "backup_instances:list",
    "backup_sets:list",
    "restores:list",
    "restores:new",
    "restores:recovery",
    "agreement:page",
    "agreement:standing",
    "activity:list",
    "activity:alerts",
]
# What one page of a list costs, whole and as the fragment that paging asks for, however long the list is.
PINS = {
    "instances:list": (18, 14),
    "stores:list": (8, 4),
    "pending_instances:list": (30, 8),
    "pending_instances:absent": (15, 6),
    "backup_instances:list": (40, 19),
    "backup_sets:list": (16, 12),
    "agreement:page": (15, 9),
    "activity:list": (9, 5),
    "activity:alerts": (9, 5),
    "overview:page": (32, 32),
}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_shown(desk: Client, fleet: Fleet, name: str) -> None:
    fleet.everything()
    answer = desk.get(reverse(name))
    assert answer.status_code == 200
    assert "<h1" in answer.content.decode()


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_installation_says_what_to_do(client: Client, fleet: Fleet, name: str) -> None:
    client.force_login(fleet.user)
    assert client.get(reverse(name)).status_code == 200


@pytest.mark.parametrize("name", PINS)
def test_a_list_costs_the_same_however_long_it_is(desk: Client, fleet: Fleet, name: str) -> None:
    fleet.everything()
    whole, rows = PINS[name]
    desk.get(reverse(name))
    assert _queries(desk, name) <= whole
    assert _queries(desk, name, HTTP_HX_REQUEST="true", HTTP_HX_TARGET="rows") <= rows
    for n in range(35):
        fleet.protected(f"more-{n:02}")
        fleet.backup(fleet.instance(f"pending-{n:02}"))
    assert _queries(desk, name) <= whole
    assert _queries(desk, name, HTTP_HX_REQUEST="true", HTTP_HX_TARGET="rows") <= rows


def test_what_belongs_to_another_group_is_not_there(desk: Client, fleet: Fleet) -> None:
    theirs = fleet.protected("secret-ledger", group=ResourceGroup.objects.create(name="Elsewhere"))
    found = BackupSet.objects.filter(instance=theirs).first()
    mine = fleet.protected("ours")
    for name in ("instances:list", "backup_instances:list", "backup_sets:list", "activity:list"):
        shown = desk.get(reverse(name)).content.decode()
        assert "secret-ledger" not in shown
        assert "ours" in shown
    for name, argument in (
        ("instances:page", theirs.code),
        ("instances:default", theirs.code),
        ("instances:drills", theirs.code),
        ("instances:progress", theirs.code),
        ("backup_sets:page", found.pk),
    ):
        assert desk.get(reverse(name, args=[argument])).status_code == 404
    assert desk.get(reverse("instances:page", args=[mine.code])).status_code == 200


def test_a_viewer_looks_and_does_not_touch(client: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    Membership.objects.filter(user=fleet.user).update(role=Role.VIEWER)
    client.force_login(fleet.user)
    page = client.get(reverse("instances:page", args=[instance.code])).content.decode()
    assert "orders" in page
    assert reverse("instances:release", args=[instance.code]) not in page
    assert "Settings for" not in client.get(reverse("backup_instances:list")).content.decode()
    assert client.get(reverse("backup_settings:dialog"), {"pick": instance.pk}).status_code == 403
    assert client.post(reverse("instances:release", args=[instance.code])).status_code == 403
    assert not Instance.objects.get(pk=instance.pk).released


def test_a_region_chosen_in_the_top_bar_is_remembered(desk: Client, fleet: Fleet) -> None:
    fleet.instance("here")
    fleet.instance("far-away", region_id="ap-southeast-1")
    assert "far-away" in desk.get(reverse("instances:list")).content.decode()
    desk.get(reverse("instances:list"), {"region": "cn-hangzhou"})
    shown = desk.get(reverse("instances:list")).content.decode()
    assert "here" in shown
    assert "far-away" not in shown
    desk.get(reverse("instances:list"), {"region": "all"})
    assert "far-away" in desk.get(reverse("instances:list")).content.decode()


def test_a_region_nobody_knows_is_all_of_them(desk: Client, fleet: Fleet) -> None:
    fleet.instance("here")
    assert "here" in desk.get(reverse("instances:list"), {"region": "x" * 300}).content.decode()


def test_a_name_is_shown_as_data(desk: Client, fleet: Fleet) -> None:
    fleet.instance('<script>alert("x")</script>')
    shown = desk.get(reverse("instances:list")).content.decode()
    assert "<script>alert" not in shown
    assert "&lt;script&gt;" in shown


def test_every_answer_carries_the_strict_policy(desk: Client) -> None:
    policy = desk.get(reverse("overview:page")).headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "address",
    [
        "/instances/%00/",
        "/instances/?region=%00",
        "/instances/?q=%00",
        "/backups/sets/?q=99999999999999999999",
        "/backups/sets/99999999999999999999/",
        "/backups/settings/?pick=99999999999999999999&pick=%E0%A5%A7&pick=x",
        "/backups/sets/copy/?pick=99999999999999999999",
        "/backups/instances/progress/?i=99999999999999999999",
        "/backups/settings/?matching=engine%3D%00&list=zzz",
        "/activity/?since=9999-99-99",
        "/activity/?until=9999-12-31&since=0001-01-01",
        "/instances/?sort=%00&after=%00&before=x",
    ],
)
def test_what_makes_no_sense_is_no_surprise(desk: Client, fleet: Fleet, address: str) -> None:
    fleet.instance("orders")
    assert desk.get(address).status_code in (200, 302, 404)


def test_settings_for_nobody_change_nothing(desk: Client, fleet: Fleet) -> None:
    said = {
        "enabled": "enable",
        "destination": "cn-shanghai",
        "retention_days": "7",
        "versions": "x:1,99999999999999999999:2",
    }
    answer = desk.post(reverse("backup_settings:dialog"), said, HTTP_HX_REQUEST="true", HTTP_HX_TARGET="dialog-body")
    assert "Tick at least one instance" in answer.headers["HX-Trigger"]


def test_a_page_that_is_not_there_says_so(desk: Client) -> None:
    answer = desk.get("/no/such/page/")
    assert answer.status_code == 404
    assert "Nothing here" in answer.content.decode()


def _queries(desk: Client, name: str, **headers: Any) -> int:
    with CaptureQueriesContext(connection) as seen:
        assert desk.get(reverse(name), **headers).status_code == 200
    return len(seen)
