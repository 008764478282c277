"""The tab "Drills", a drill's evidence, and what an operator may do there."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from backups import alerts, events
from backups.drilling import drills
from backups.models import Copy, CopyState, Drill, DrillQuery, Instance, Membership, ResourceGroup, Role
from tests.console.fleet import DAY, Fleet

DIALOG = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


@pytest.fixture
def shop(fleet: Fleet) -> Instance:
    return fleet.protected("shop", engine="postgresql", engine_version="16.4", dbname="shop")


def tab(shop: Instance) -> str:
    return reverse("instances:drills", args=[shop.code])


def test_the_tab_lists_each_drill_with_what_its_verdict_means(desk: Client, fleet: Fleet, shop: Instance) -> None:
    fleet.drill(shop)
    fleet.drill(shop, "failed", pick="oldest", age=DAY, sentence="amcheck: a page is torn")
    fleet.drill(shop, "skipped", pick="canary", sentence="This worker cannot start a PostgreSQL 16.")
    fleet.drill(shop, "running", pick="random", sentence="replay")
    shown = desk.get(tab(shop)).content.decode()
    for words in (
        "Passed",
        "restored, checked, counted and removed again",
        "amcheck: a page is torn",
        "This worker cannot start a PostgreSQL 16.",
        "Replaying logs",
        "1,204,332",
        "41 s",
        "A damaged clone that must fail",
    ):
        assert words in shown
    assert 'hx-trigger="load delay:3s' in shown, "one is running: it looks again"


def test_a_drills_own_page_shows_its_evidence(desk: Client, fleet: Fleet, shop: Instance) -> None:
    drill = fleet.drill(shop)
    shown = desk.get(reverse("drills:page", args=[drill.pk])).content.decode()
    for words in (
        "pg_amcheck",
        "PostgreSQL 16.4 on x86_64",
        "SELECT max(id) FROM orders",
        "a network namespace of its own",
        "worker-1:4711",
        "ab" * 32,
        "1,204,000",
        "ready to accept connections",
        "its folder and every process of it were gone",
    ):
        assert words in shown, words


def test_an_empty_tab_says_what_comes(desk: Client, shop: Instance) -> None:
    shown = desk.get(tab(shop)).content.decode()
    assert "The first begins by itself when a copy has been completed." in shown
    assert "No query of your own yet." in shown


def test_drill_now_asks_for_one(desk: Client, fleet: Fleet, shop: Instance) -> None:
    where = reverse("drills:now", args=[shop.code])
    dialog = desk.get(where, **DIALOG).content.decode()
    assert "China (Shanghai)" in dialog and "without network" in dialog
    answer = desk.post(where, {"pick": "random"}, **DIALOG)
    assert answer.status_code == 204
    assert "The drill of shop is queued." in answer.headers["HX-Trigger"]
    drill = Drill.objects.get()
    assert (drill.pick, drill.asked_by, drill.store) == ("random", fleet.user, fleet.stores["cn-shanghai"])
    refused = desk.post(where, {"pick": "everything"}, **DIALOG)
    assert refused.status_code == 200 and 'role="alert"' in refused.content.decode()


def test_drill_now_says_beforehand_why_it_cannot(desk: Client, fleet: Fleet) -> None:
    simulated = fleet.protected("ledger")
    where = reverse("drills:now", args=[simulated.code])
    assert "No landing server of SQL Server in" in desk.get(where, **DIALOG).content.decode()
    fresh = fleet.instance("fresh", engine="postgresql")
    dialog = desk.get(reverse("drills:now", args=[fresh.code]), **DIALOG).content.decode()
    assert "no copy of it has been completed" in dialog


def test_the_teams_queries_come_and_go(desk: Client, fleet: Fleet, shop: Instance) -> None:
    where = reverse("drills:add_query", args=[shop.code])
    assert 'value="shop"' in desk.get(where, **DIALOG).content.decode(), "the database is known"
    said = {"database": "shop", "sql": "SELECT '<b>' || 1", "expected": "<b>1"}
    assert desk.post(where, said, **DIALOG).status_code == 204
    query = DrillQuery.objects.get()
    assert query.added_by == fleet.user
    shown = desk.get(tab(shop)).content.decode()
    assert "SELECT &#x27;&lt;b&gt;&#x27; || 1" in shown
    assert desk.post(where, said | {"expected": ""}, **DIALOG).status_code == 200
    assert desk.post(reverse("drills:remove_query", args=[query.pk]), **DIALOG).status_code == 204
    assert not DrillQuery.objects.exists()


def test_the_timetable_is_changed_in_whole_days(desk: Client, shop: Instance) -> None:
    where = reverse("drills:timetable", args=[shop.code])
    for days, status in (("30", 204), ("0", 204), ("366", 200), ("x", 200)):
        assert desk.post(where, {"days": days}, **DIALOG).status_code == status
    shop.refresh_from_db()
    assert shop.drill_every_days == 0
    assert "No drill by the timetable." in desk.get(tab(shop)).content.decode()


def test_a_stranger_sees_nothing_and_a_viewer_touches_nothing(client: Client, fleet: Fleet, shop: Instance) -> None:
    drill = fleet.drill(shop)
    query = DrillQuery.objects.create(instance=shop, database="shop", sql="SELECT 1", expected="1", added_at=fleet.now)
    pages = [tab(shop), reverse("drills:page", args=[drill.pk])]
    acts = [reverse(f"drills:{name}", args=[shop.code]) for name in ("now", "timetable", "add_query")]
    acts.append(reverse("drills:remove_query", args=[query.pk]))

    client.force_login(fleet.user)
    Membership.objects.filter(user=fleet.user).update(role=Role.VIEWER)
    assert [client.get(page).status_code for page in pages] == [200, 200]
    assert [client.get(act).status_code for act in acts] == [client.post(act).status_code for act in acts] == [403] * 4
    assert "Drill now" not in client.get(pages[0]).content.decode()

    Membership.objects.filter(user=fleet.user).update(group=ResourceGroup.objects.create(name="Elsewhere"))
    assert [client.get(where).status_code for where in (*pages, *acts)] == [404] * 6
    assert [client.post(act).status_code for act in acts] == [404] * 4
    assert (Drill.objects.count(), DrillQuery.objects.count()) == (1, 1)


def test_every_page_that_names_an_instance_says_when_its_restore_was_last_proven(
    desk: Client, fleet: Fleet, shop: Instance
) -> None:
    found = shop.sets.first()
    pages = [
        reverse("instances:list"),
        reverse("backup_instances:list"),
        reverse("instances:page", args=[shop.code]),
        reverse("instances:default", args=[shop.code]),
        reverse("backup_sets:page", args=[found.pk]),
        reverse("overview:page"),
        reverse("overview:progress"),
        reverse("activity:list"),
        reverse("activity:alerts"),
    ]
    Copy.objects.filter(set=found).update(state=CopyState.COPYING)
    events.record("set.found", "A default backup was found.", instance=shop)
    alerts.open_alert("lag", f"instance:{shop.pk}", "It is late.", instance=shop)
    for page in pages:
        assert "Restore never proven" in desk.get(page).content.decode(), page
    fleet.drill(shop)
    fleet.drill(shop, pick="canary", age=DAY)
    for page in pages:
        shown = desk.get(page).content.decode()
        assert "Last proven restore 2 d 23 h ago: 1,204,332 rows in 41 s" in shown, page
    pending = reverse("pending_instances:list")
    shop.policies.update(enabled=False)
    assert "Last proven restore 2 d 23 h ago" in desk.get(pending).content.decode()


def test_asking_again_while_one_is_queued_is_the_same_drill(desk: Client, fleet: Fleet, shop: Instance) -> None:
    for _ in range(2):
        desk.post(reverse("drills:now", args=[shop.code]), {"pick": "newest"}, **DIALOG)
    assert Drill.objects.count() == 1
    assert drills.claim("cn-shanghai") == Drill.objects.get()
