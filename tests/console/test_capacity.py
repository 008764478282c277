"""The page of a store: what lies there, the space left, the day it fills; and the second store of a region (R-18.2)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from backups import level2
from backups.events import By
from backups.level2 import Terms
from backups.models import Instance, ResourceGroup, Role
from regions.models import Store
from tests.console.fleet import GB, TARGET, Fleet

HTMX = {"headers": {"HX-Request": "true", "HX-Target": "dialog-body"}}


def words(answer: object) -> str:
    return " ".join(strip_tags(answer.content.decode().replace("<", " <")).split())


@pytest.fixture
def root(client: Client, fleet: Fleet) -> Client:
    client.force_login(fleet.root())
    return client


def shown(browser: Client, store: Store) -> str:
    return words(browser.get(reverse("stores:page", args=[store.pk])))


def test_a_new_destination_knows_nothing_and_says_so(desk: Client, fleet: Fleet) -> None:
    said = shown(desk, fleet.stores[TARGET])
    assert "No completed copy lies here" in said
    assert "Space left not known" in said and "Growth not known yet" in said and "Full not known" in said


def test_the_page_says_what_lies_there_whose_it_is_and_when_it_is_full(desk: Client, fleet: Fleet) -> None:
    fleet.protected("orders", days=30, copies=8)
    store = fleet.stores[TARGET]
    Store.objects.filter(pk=store.pk).update(capabilities={"space_left": 100 * GB})
    said = shown(desk, store)
    assert "Copies stored 336 GB" in said
    assert "orders 336 GB 8 sets" in said
    assert "Space left 100 GB as the store said" in said
    assert "a day over the last 7 days" in said
    assert "at today's rate" in said.replace("&#x27;", "'")
    assert "Quota" not in said


def test_what_one_may_not_see_is_counted_without_a_name(desk: Client, fleet: Fleet) -> None:
    fleet.protected("orders", copies=1)
    fleet.protected("payroll", copies=2)
    elsewhere = ResourceGroup.objects.create(name="Board")
    Instance.objects.filter(name="payroll").update(group=elsewhere)
    said = shown(desk, fleet.stores[TARGET])
    assert "payroll" not in said
    assert "Others 84.0 GB" in said


def test_a_quota_is_entered_where_the_store_cannot_say(root: Client, fleet: Fleet) -> None:
    store = fleet.stores[TARGET]
    where = reverse("stores:quota", args=[store.pk])
    assert "Ensure this value" in words(root.post(where, {"quota": "0"}))
    root.post(where, {"quota": "500"})
    store.refresh_from_db()
    assert store.quota_bytes == 500 * GB
    assert "Space left 500 GB of the quota of 500 GB" in shown(root, store)
    root.post(where, {"quota": ""})
    assert "Space left not known" in shown(root, store)


def test_a_quota_is_for_who_runs_the_installation(desk: Client, fleet: Fleet) -> None:
    store = fleet.stores[TARGET]
    assert "Quota in GB" not in shown(desk, store)
    assert desk.post(reverse("stores:quota", args=[store.pk]), {"quota": "5"}).status_code == 403
    store.refresh_from_db()
    assert store.quota_bytes is None


def test_a_page_costs_the_same_however_much_lies_there(
    desk: Client, fleet: Fleet, django_assert_num_queries: object
) -> None:
    fleet.protected("orders", copies=2)
    store = fleet.stores[TARGET]
    with django_assert_num_queries(QUERIES):
        shown(desk, store)
    for number in range(5):
        fleet.protected(f"more-{number}", copies=3)
    with django_assert_num_queries(QUERIES):
        shown(desk, store)


QUERIES = 15


# ---- the second store


def test_a_second_store_is_attached_beside_the_first(root: Client, tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()

    def attach(name: str, role: str) -> str:
        place = {"place": "cn-beijing", "url": (tmp_path / name).as_uri(), "role": role}
        return words(root.post("/stores/attach/", place, follow=True))

    assert "Attach its own first" in attach("second", "second")
    attach("first", "primary")
    assert "has a store already" in attach("second", "primary")
    assert "The store of China (Beijing), level-2 is attached" in attach("second", "second")
    assert "China (Beijing), level-2" in words(root.get("/stores/"))
    assert {store.role for store in Store.objects.filter(region="cn-beijing")} == {"primary", "second"}


def test_level_2_is_enabled_and_disabled_on_the_instances_page(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    fleet.backup(instance)
    where, page = (reverse(f"instances:{name}", args=[instance.code]) for name in ("level2", "page"))
    assert "Level-2" not in words(desk.get(page))
    refused = words(desk.post(where, {"enabled": "enable", "retention_days": "7", "expected": "none"}, **HTMX))
    assert "no reachable second store" in refused

    fleet.second_store()
    assert "Level-2 backup in China (Hangzhou): off." in words(desk.get(page))
    opened = words(desk.get(where, **HTMX))
    assert "Nothing is copied, and nothing is charged." in opened
    preview = words(
        desk.post(
            reverse("instances:level2_preview", args=[instance.code]),
            {"enabled": "enable", "retention_days": "7", "expected": "none"},
        )
    )
    assert "Kept 294 GB" in preview and "Traffic none" in preview and "First copy 42.0 GB" in preview
    assert "no agreement is asked for" in preview
    said = desk.post(where, {"enabled": "enable", "retention_days": "7", "expected": "none"}, **HTMX)
    assert (said.status_code, "is on, kept 7 days" in said.headers["HX-Trigger"]) == (204, True)
    assert "Level-2 backup in China (Hangzhou): on, 0 sets" in words(desk.get(page))
    late = words(desk.post(where, {"enabled": "disabled", "retention_days": "7", "expected": "none"}, **HTMX))
    assert "changed while this was open" in late
    now = desk.get(where, **HTMX).context["form"].initial["expected"]
    desk.post(where, {"enabled": "disabled", "retention_days": "7", "expected": now}, **HTMX)
    assert "off; its sets are kept, hidden" in words(desk.get(page))


def test_of_a_disabled_level_2_nothing_is_listed(desk: Client, fleet: Fleet) -> None:
    """R-18.2: not in the lists, not on the set's page, and no copy of it is reached by its number."""
    instance = fleet.instance("orders")
    found = fleet.backup(instance)
    fleet.second_store()
    by = By(fleet.user)
    level2.apply(instance, Terms(True), by)
    copy = fleet.copy_at_second_store(level2.policy_of(instance))
    pages = [
        reverse("backup_sets:page", args=[found.pk]),
        reverse("backup_sets:list"),
        *(reverse(f"instances:{name}", args=[instance.code]) for name in ("page", "default")),
    ]
    for page in pages:
        assert "China (Hangzhou), level-2" in words(desk.get(page)), page
    level2.apply(instance, Terms(False), by)
    for page in pages:
        assert "China (Hangzhou), level-2" not in words(desk.get(page)), page
    assert desk.post(reverse("backup_sets:retry", args=[copy.pk])).status_code == 404


def test_what_a_retention_expires_at_the_second_store_is_said_before_ok(desk: Client, fleet: Fleet) -> None:
    """R-14.3: shortening, and enabling again under a shorter one."""
    instance = fleet.instance("orders")
    fleet.backup(instance, age=timedelta(days=9))
    fleet.second_store()
    by = By(fleet.user)
    level2.apply(instance, Terms(True, 30), by)
    fleet.copy_at_second_store(level2.policy_of(instance))
    fleet.copy(
        fleet.backup(instance), level2.policy_of(instance), destination_store=level2.second_store(instance.region)
    )

    def preview(days: int, enabled: str = "enable") -> str:
        asked = {"enabled": enabled, "retention_days": str(days)}
        return words(desk.post(reverse("instances:level2_preview", args=[instance.code]), asked))

    assert "1 of 2 backup sets" in preview(7)
    assert "expire now" not in preview(10)
    level2.apply(instance, Terms(False, 30), by)
    assert "2 sets ( 84.0 GB ) are kept and hidden" in preview(30, "disabled")
    assert "2 hidden sets ( 84.0 GB ) come back" in preview(30)
    assert "1 hidden set ( 42.0 GB ) comes back" in preview(7)
    assert "1 hidden set is older than that and expires now" in preview(7)


def test_level_2_needs_the_role_operator_and_days_that_can_be_read(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    fleet.second_store()
    where = reverse("instances:level2", args=[instance.code])
    for days in ("6", "1826", "x", "", "7.0"):
        said = words(desk.post(where, {"enabled": "enable", "retention_days": days}, **HTMX))
        assert "Enter a whole number of days from 7 to 1825." in said
        assert "to see the cost" in said
    fleet.user.memberships.update(role=Role.VIEWER)
    assert "Change level-2" not in words(desk.get(reverse("instances:page", args=[instance.code])))
    for name in ("level2", "level2_preview"):
        assert desk.post(reverse(f"instances:{name}", args=[instance.code]), {"enabled": "enable"}).status_code == 403
    assert not instance.policies.exists()
