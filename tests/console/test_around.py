"""What stands on every page and in every form: regions that keep the address, alerts with remedies, ids used once."""

from __future__ import annotations

import logging
import re
from collections import Counter
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse

from backups import alerts
from backups.models import DrillQuery, Instance, Membership, Role
from console.logs import Lines
from tests.console.fleet import FAR, SOURCE, Fleet
from tests.console.test_settings import said

FORMS = [
    ("instances:add", ""),
    ("stores:attach", ""),
    ("stores:landing_register", ""),
    ("backup_settings:dialog", "pick"),
    ("openapi:create", ""),
    ("webhooks:create", ""),
    ("agreement:standing", ""),
    ("drills:now", "code"),
    ("drills:timetable", "code"),
    ("instances:defaults", "code"),
    ("budgets:add", ""),
]


def shown(client: Client, address: str, **asked: object) -> str:
    answer = client.get(address, asked)
    assert answer.status_code == 200, address
    return unescape(answer.content.decode())


def address_of(name: str, by: str, instance: Instance) -> str:
    return reverse(name, args=[instance.code] if by == "code" else [])


@pytest.mark.parametrize(("name", "by"), FORMS)
def test_no_id_is_used_twice_in_a_form_fresh_or_refused(client: Client, fleet: Fleet, name: str, by: str) -> None:
    instance = fleet.instance("orders")
    client.force_login(fleet.root())
    address = address_of(name, by, instance)
    asked = said(instance, agreed=None) if by == "pick" else {}
    for page in (client.get(address, {by: instance.pk}), client.post(address, asked)):
        assert page.status_code == 200
        ids = Counter(re.findall(r'\bid="([^"]+)"', page.content.decode()))
        assert [one for one, n in ids.items() if n > 1] == []


def test_a_refusal_leads_to_the_first_choice_of_its_field_and_reads_as_one_sentence(
    client: Client, fleet: Fleet
) -> None:
    pending = fleet.instance("orders")
    client.force_login(fleet.user)
    asked = said(pending, enabled="disabled", destination="", logs_enabled="enable", agreed=None)
    page = client.post(reverse("backup_settings:dialog"), asked).content.decode()
    summary = re.search(r'<div class="errors".*?</div>', page, re.DOTALL)[0]
    for target in re.findall(r'href="#([^"]+)"', summary):
        assert f'id="{target}"' in page
    assert 'href="#id_logs_enabled_0"' in summary
    asked = said(pending, agreed=None)
    summary = client.post(reverse("backup_settings:dialog"), asked).content.decode().partition('class="errors"')[2]
    assert ">I have read and accept the agreement: The cross-border compliance agreement has not" in summary


def test_another_region_keeps_what_the_page_is_asked_for_but_not_where_its_list_was_open(
    client: Client, fleet: Fleet
) -> None:
    fleet.protected("orders")
    fleet.protected("far", region_id=FAR)
    client.force_login(fleet.user)
    page = shown(client, "/backups/sets/", q="ord", after="x", region=FAR)
    links = re.findall(r'href="(\?[^"]*region=[^"]*)"', page)
    assert f"?q=ord&region={SOURCE}" in links and "?q=ord&region=all" in links
    assert not [link for link in links if "after" in link or link.count("region=") != 1]
    assert f'href="?region={SOURCE}"' in shown(client, "/backups/sets/")


def test_the_copies_of_a_bill_stay_open_in_another_region(client: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    client.force_login(fleet.root())
    page = shown(client, reverse("bills:lines"))
    line = re.search(r'href="([^"]*/copies/[^"]*)"', page)
    assert line, "a bill has lines"
    copies = shown(client, line[1])
    [link] = re.findall(rf'href="(\?[^"]*region={SOURCE})"', copies)
    assert client.get(reverse("bills:copies") + link).status_code == 200
    assert instance.name in shown(client, reverse("bills:copies") + link)


def test_an_alert_says_what_to_do_and_leads_there(client: Client, fleet: Fleet) -> None:
    alerts.open_alert("keys_not_escrowed", "installation", "Nobody keeps the key ring.", remedy="Keep it elsewhere.")
    alerts.open_alert("landing_server_down", "landing:cn-shanghai", "It is down.", remedy="Start it.")
    client.force_login(fleet.root())
    strip = re.search(r'<aside class="strip".*?</aside>', shown(client, "/"), re.DOTALL)[0]
    for words in ("Keep it elsewhere.", "Start it."):
        assert f"<summary>What to do</summary><p>{words}</p>" in strip
    for name in ("stores:list", "stores:landing_list"):
        assert f'href="{reverse(name)}"' in strip
        assert f'href="{reverse(name)}"' in shown(client, "/activity/alerts/").split('id="rows"')[1]


def test_what_a_person_may_not_do_is_one_line_in_the_log(
    client: Client, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    instance = fleet.protected("orders")
    Membership.objects.filter(user=fleet.user).update(role=Role.VIEWER)
    client.force_login(fleet.user)
    with caplog.at_level(logging.WARNING, "django.request"):
        assert client.post(reverse("instances:release", args=[instance.code])).status_code == 403
    [record] = caplog.records
    assert "\n" not in Lines().format(record) and instance.code in Lines().format(record)


def test_a_signed_out_fragment_says_so_whatever_is_left_of_its_cookies(fleet: Fleet) -> None:
    query = DrillQuery.objects.create(
        instance=fleet.protected("orders"), database="o", sql="SELECT 1", expected="1", added_at=fleet.now
    )
    strict = Client(enforce_csrf_checks=True)
    facts = {"HX-Request": "true", "HX-Target": "dialog-body", "HX-Current-URL": "http://testserver/drills/"}
    address = reverse("drills:remove_query", args=[query.pk])
    answer = strict.post(address, headers=facts)
    assert (answer.status_code, answer.headers["X-Signed-Out"]) == (200, "1")
    assert answer.headers["HX-Redirect"] == "/accounts/login/?next=%2Fdrills%2F"
    strict.force_login(fleet.user)
    assert strict.post(address, headers=facts).status_code == 403
    assert DrillQuery.objects.exists()
