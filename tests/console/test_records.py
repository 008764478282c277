"""What is written down for good: the agreement's page, the activity list and its export, alerts on every page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from backups import alerts, events
from backups.events import By
from backups.models import Acceptance, ResourceGroup
from backups.terms import agreements
from tests.console.fleet import FAR, Fleet

HTMX = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def test_the_agreements_page_shows_text_versions_and_acceptances(desk: Client, fleet: Fleet) -> None:
    fleet.protected("orders")
    shown = words(desk.get("/backups/agreement/"))
    assert "The text, version 1" in shown
    assert "China (Hangzhou) → China (Shanghai)" in shown
    assert "orders" in shown
    assert "Nobody: everyone" in shown


def test_who_has_not_accepted_a_new_version_is_listed(desk: Client, fleet: Fleet) -> None:
    fleet.protected("orders")
    agreements.publish("A new text.", By(fleet.root()))
    shown = words(desk.get("/backups/agreement/"))
    assert "Version 2 is in force" in shown
    assert "<li><bdi>mei</bdi></li>" in shown
    assert "A copy holds all the data" in words(desk.get("/backups/agreement/versions/1/"))
    assert desk.get("/backups/agreement/versions/9/").status_code == 404


def test_a_standing_acceptance_is_given_with_a_tick(desk: Client, fleet: Fleet) -> None:
    said = {"group": fleet.group.pk, "source_group": "mainland", "destination_group": "SG"}
    refused = desk.post("/backups/agreement/standing/", said, **HTMX)
    assert "tick the box" in words(refused)
    assert not Acceptance.objects.exists()
    assert desk.post("/backups/agreement/standing/", said | {"agreed": "on"}, **HTMX).status_code == 204
    given = Acceptance.objects.get()
    assert (given.resource_group, given.crosses_border, given.user) == (fleet.group, True, fleet.user)
    assert "standing: all its instances" in words(desk.get("/backups/agreement/"))


def test_a_standing_acceptance_names_the_very_text_that_was_read(desk: Client, fleet: Fleet) -> None:
    """R-13.2: version, hash and language; the language that the person has chosen, or whatever was shown."""
    by = By(fleet.root())
    chinese = agreements.publish("合规协议。", by, language="zh-hans", version=agreements.current_version())
    english = agreements.current_text("en")
    said = {"group": fleet.group.pk, "source_group": "mainland", "destination_group": "SG", "agreed": "on"}
    for language, read in (("en", english), ("zh-hans", chinese)):
        desk.cookies["farshore_language"] = language
        assert f'name="text_read" value="{read.sha256}"' in words(desk.get("/backups/agreement/standing/", **HTMX))
    desk.post("/backups/agreement/standing/", said | {"text_read": english.sha256}, **HTMX)
    desk.post("/backups/agreement/standing/", said | {"text_read": chinese.sha256}, **HTMX)
    found = Acceptance.objects.order_by("pk").values_list("language", "text_sha256", "text")
    assert list(found) == [(one.language, one.sha256, one.pk) for one in (english, chinese)]
    desk.cookies["farshore_language"] = "en"
    agreements.publish("Another text.", by)
    again = words(desk.post("/backups/agreement/standing/", said | {"text_read": english.sha256}, **HTMX))
    assert "has changed since it was shown" in again and "Another text." in again
    assert Acceptance.objects.count() == 2


def test_nobody_accepts_for_a_group_they_do_not_operate(desk: Client, fleet: Fleet) -> None:
    theirs = ResourceGroup.objects.create(name="Elsewhere")
    said = {"group": theirs.pk, "source_group": "mainland", "destination_group": "SG", "agreed": "on"}
    desk.post("/backups/agreement/standing/", said, **HTMX)
    assert not Acceptance.objects.exists()


def test_activity_is_narrowed_by_word_kind_and_day(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    events.record("policy.enabled", "It was enabled.", by=By(fleet.user), instance=instance)
    events.record("copy.completed", "A copy arrived.", instance=instance)
    assert "A copy arrived." not in words(desk.get("/activity/", {"kind": "policy"}))
    assert "It was enabled." not in words(desk.get("/activity/", {"q": "arrived"}))
    assert "It was enabled." in words(desk.get("/activity/", {"q": "mei"}))
    today = fleet.now.date()
    assert "A copy arrived." in words(desk.get("/activity/", {"since": today, "until": today}))
    assert "A copy arrived." not in words(desk.get("/activity/", {"until": today - timedelta(days=1)}))
    assert "A copy arrived." in words(desk.get("/activity/", {"since": "not a day"}))


DELETED = ("copy.expired", "copy.deleted", "backup.deletion_asked", "backup.retired", "purge.approved")


def test_an_auditor_finds_what_was_deleted_and_what_was_held(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    for kind in (*DELETED, "copy.completed", "hold.placed", "restore.asked", "download.used", "access_key.created"):
        events.record(kind, f"It was {kind}.", instance=instance)
    shown = words(desk.get("/activity/", {"kind": "purge"}))
    assert all(f"It was {kind}." in shown for kind in DELETED) and "It was copy.completed." not in shown
    exported = b"".join(desk.get("/activity/export/", {"kind": "purge"}).streaming_content).decode()
    assert exported.count("It was ") == len(DELETED)
    for kind in ("hold", "restore", "download", "access_key"):
        shown = words(desk.get("/activity/", {"kind": kind}))
        assert f'<option value="{kind}" selected>' in shown
        assert f"It was {kind}." in shown and "It was copy." not in shown


def test_days_in_the_wrong_order_are_told(desk: Client, fleet: Fleet) -> None:
    events.record("copy.completed", "A copy arrived.", instance=fleet.instance("orders"))
    asked = {"since": fleet.now.date(), "until": fleet.now.date() - timedelta(days=1)}
    shown = words(desk.get("/activity/", asked))
    assert "The first day lies after the last day." in shown
    assert "A copy arrived." not in shown
    assert b"A copy arrived." not in b"".join(desk.get("/activity/export/", asked).streaming_content)


def test_the_export_runs_nothing_in_a_spreadsheet(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    for sentence in ('=HYPERLINK("https://example.com")', "+1", "-1", "@SUM(A1)", " =1", "\tx", "plain, with a comma"):
        events.record("instance.noted", sentence, instance=instance)
    answer = desk.get("/activity/export/", {"kind": "instance"})
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert lines[0].startswith("time (UTC),kind,what happened")
    cells = [line.split("instance.noted,")[1] for line in lines[1:]]
    assert all(cell.lstrip('"').startswith("'") for cell in cells[1:])
    assert cells[0].startswith('"plain, with a comma"')


def test_the_export_holds_only_what_one_may_see(desk: Client, fleet: Fleet) -> None:
    theirs = fleet.instance("secret", group=ResourceGroup.objects.create(name="Elsewhere"))
    events.record("instance.added", "secret was added", instance=theirs)
    assert b"secret" not in b"".join(desk.get("/activity/export/").streaming_content)


def test_open_alerts_stand_on_every_page_until_they_close(desk: Client, fleet: Fleet) -> None:
    instance = fleet.instance("orders")
    theirs = fleet.instance("secret", group=ResourceGroup.objects.create(name="Elsewhere"))
    for n in range(5):
        alerts.open_alert("copy_late", f"copy:{n}", f"Copy {n} is late.", instance=instance)
    alerts.open_alert("copy_late", "copy:9", "Their copy is late.", instance=theirs)
    for address in ("/", "/instances/", "/activity/", "/stores/"):
        shown = words(desk.get(address))
        assert "Copy 4 is late." in shown
        assert "Show all open alerts" in shown
        assert "Their copy" not in shown
    assert "Copy 0 is late." in words(desk.get("/activity/alerts/"))
    for n in range(5):
        alerts.close_alert("copy_late", f"copy:{n}")
    assert "Open alerts" not in words(desk.get("/"))


def test_a_store_that_is_down_alerts_who_runs_the_installation(client: Client, fleet: Fleet) -> None:
    alerts.open_alert("store_unreachable", "store:1", "The store of Singapore does not answer.")
    root: User = fleet.root()
    client.force_login(root)
    assert "does not answer" in words(client.get("/"))
    client.force_login(fleet.user)
    assert "does not answer" not in words(client.get("/"))


def test_the_strip_of_alerts_is_not_repeated_on_their_own_page(client: Client, fleet: Fleet) -> None:
    alerts.open_alert("store_unreachable", "store:1", "The store of Singapore does not answer.")
    client.force_login(fleet.root())
    assert 'class="strip"' in words(client.get("/"))
    assert '<a class="quiet" href="/stores/">Stores</a>' in words(client.get("/"))
    assert 'class="strip"' not in words(client.get("/activity/alerts/"))


def test_the_glance_shows_the_worst_route_first_and_counts_the_rest(desk: Client, fleet: Fleet) -> None:
    for region in ("cn-beijing", "cn-shenzhen", "eu-central-1"):
        fleet.stores[region] = fleet.store(region)
        fleet.protected(f"to-{region}", region)
    fleet.protected("near")
    fleet.policy(fleet.instance("waiting"), FAR)
    shown = words(desk.get("/"))
    assert shown.index("<span>Singapore</span> <svg") < shown.index("<span>China (Shanghai)</span> <svg")
    assert "and 1 more" in shown


def test_the_glance_counts_nobody_as_protected_whose_first_copy_is_still_on_its_way(desk: Client, fleet: Fleet) -> None:
    fleet.protected("orders")
    arriving = fleet.instance("arriving")
    fleet.copy(fleet.backup(arriving), fleet.policy(arriving, age=timedelta(hours=1)), "copying")
    shown = words(desk.get("/"))
    assert "<b>1</b> <span>of 2 instances</span>" in shown
    assert "1 copying" in shown and "1 in step" in shown
