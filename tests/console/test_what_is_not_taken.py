"""What the console leaves out says so: instances that fail a requirement, files that are no backups (R-3.4, R-3.5)."""

from __future__ import annotations

import re

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backups.models import BackupFile, Instance, ResourceGroup
from tests.console.fleet import GB, SOURCE, Fleet

PENDING, ABSENT = "/backups/pending/", "/backups/pending/absent/"
REFUSAL = "Its header cannot be read: the file is encrypted. Give Farshore access to msdb of its server."


def words(desk: Client, address: str) -> str:
    return " ".join(desk.get(address).content.decode().split())


def all_pages(desk: Client, address: str) -> str:
    shown = ""
    while address:
        page = desk.get(address).content.decode()
        shown += page
        older = re.search(r'href="([^"]*)" hx-get="[^"]*" rel="next"', page)
        address = older[1].replace("&amp;", "&") if older else ""
    return shown


def test_as_many_are_said_to_be_absent_as_are_and_the_reasons_of_all_can_be_read(desk: Client, fleet: Fleet) -> None:
    """R-3.4: beyond a hundred neither was so once."""
    for n in range(103):
        fleet.instance(f"s{n:03}", family="shared", billing_method="serverless" if n == 102 else "subscription")
    shown = words(desk, PENDING)
    assert "103 instances are not listed: see why" in shown
    assert f'<a href="{ABSENT}">All 103, page by page</a>' in shown
    everyone = all_pages(desk, ABSENT)
    assert all(f"<bdi>s{n:03}</bdi>" in everyone for n in range(103))
    assert everyone.count("Shared instance types are not supported.") == 103
    assert "Serverless instances are not supported." in everyone
    Instance.objects.filter(name__in=["s000", "s001", "s002"]).update(family="dedicated")
    assert "100 instances are not listed" in words(desk, PENDING)
    assert ABSENT not in words(desk, PENDING)


def test_what_is_listed_is_not_among_the_absent(desk: Client, fleet: Fleet) -> None:
    fleet.instance("good")
    assert "Every instance here meets the requirements." in words(desk, ABSENT)


def refuse(fleet: Fleet, instance: Instance, key: str, **facts: object) -> BackupFile:
    """As discovery leaves a file that it does not take for a backup."""
    usual = {"size": GB, "etag": key, "modified_at": fleet.now, "first_seen_at": fleet.now, "settled_at": fleet.now}
    usual |= {"state": "refused", "refusal_code": "NotInspectable", "refusal": REFUSAL}
    return BackupFile.objects.create(instance=instance, store=fleet.stores[SOURCE], key=key, **{**usual, **facts})


def test_a_refused_file_is_listed_beside_the_default_backups_with_the_reason(desk: Client, fleet: Fleet) -> None:
    """R-3.5."""
    instance, other = fleet.protected("orders"), fleet.protected("ledger")
    page = f"/instances/{instance.code}/default/"
    assert "No file was refused" in words(desk, page)
    refuse(fleet, instance, "orders/<secret>.bak")
    refuse(fleet, other, "ledger/other.bak")
    shown = words(desk, page)
    assert "orders/&lt;secret&gt;.bak" in shown
    assert REFUSAL in shown and "NotInspectable" in shown
    assert f"{fleet.now:%Y-%m-%d %H:%M} UTC" in shown.split('id="refused"')[1]
    assert "ledger/other.bak" not in shown
    assert "No file was refused" not in shown


def test_many_refused_files_are_paged_and_cost_what_one_does(desk: Client, fleet: Fleet) -> None:
    instance = fleet.protected("orders")
    page = f"/instances/{instance.code}/default/"
    refuse(fleet, instance, "orders/0.bak")
    desk.get(page)
    few = _statements(desk, page)
    for n in range(1, 65):
        refuse(fleet, instance, f"orders/{n}.bak")
    assert _statements(desk, page) == few
    everything = f"{page}refused/"
    assert everything in words(desk, page)
    shown = all_pages(desk, everything)
    assert all(f"orders/{n}.bak" in shown for n in range(65))
    assert "orders/64.bak" in words(desk, f"{everything}?q=64")
    assert "orders/63.bak" not in words(desk, f"{everything}?q=64")


def test_refused_files_of_another_group_are_not_there(desk: Client, fleet: Fleet) -> None:
    theirs = fleet.instance("theirs", group=ResourceGroup.objects.create(name="Elsewhere"))
    refuse(fleet, theirs, "theirs/1.bak")
    assert desk.get(f"/instances/{theirs.code}/default/refused/").status_code == 404


def _statements(desk: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as seen:
        assert desk.get(address).status_code == 200
    return len(seen)
