"""What a person sees of a server's databases: the tab, the reasons, and which certificates are missing where."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import strip_tags

from backups import alerts
from backups.logs import breaking
from backups.models import Instance, LogGap, RegisteredCertificate, ServerDatabase, ServerLook
from tests.console.crossed_logs import HOUR, copied
from tests.console.fleet import DAY, TARGET, Fleet
from tests.console.servers import erp_of, said, told

PRINT = "ab" * 20


@pytest.fixture
def erp(fleet: Fleet) -> Instance:
    return erp_of(fleet)


def page(desk: Client, instance: Instance, **asked: str) -> str:
    answer = desk.get(reverse("instances:databases", args=[instance.code]), asked)
    assert answer.status_code == 200
    return answer.content.decode()


def rows(shown: str) -> dict[str, str]:
    """Return what stands in each row, by the database it is about."""
    found = re.findall(r'<tr role="row">(<td.*?)</tr>', shown, re.S)
    lines = [" ".join(strip_tags(row.replace("<", " <")).split()) for row in found]
    return {line.split(" ")[0]: line for line in lines}


def test_each_database_says_how_it_stands_and_why_it_is_not_protected(desk: Client, erp: Instance) -> None:
    told(erp, "Orders")
    told(erp, "Simple", recovery_model="SIMPLE", has_logs=False)
    told(erp, "Away", state="RECOVERY_PENDING", is_online=False)
    told(erp, "Locked", may_back_up=False)
    told(erp, "Fresh", last_full_at=None, log_chain_position=None)
    told(erp, "Waiting")
    told(erp, "Dropped", gone_at=erp.databases_seen_at - DAY)
    told(erp, "Forgotten", gone_at=erp.databases_seen_at - 60 * DAY)
    shown = rows(page(desk, erp))
    assert sorted(shown) == ["Away", "Dropped", "Fresh", "Locked", "Orders", "Simple", "Waiting"]
    assert "Unbroken reaches until" in shown["Orders"] and shown["Orders"].endswith("Protected")
    assert "SIMPLE has none" in shown["Simple"] and "no copy yet" in shown["Simple"]
    assert "RECOVERY_PENDING" in shown["Away"] and "no backup can be taken" in shown["Away"]
    assert "db_backupoperator" in shown["Locked"]
    assert "new since the last full backup" in shown["Fresh"] and "Not begun" in shown["Fresh"]
    assert "no copy yet" in shown["Waiting"]
    assert "Gone not on the server since" in shown["Dropped"]


def test_a_broken_chain_is_told_with_whoever_broke_it(desk: Client, fleet: Fleet, erp: Instance) -> None:
    told(erp, "Orders")
    told(erp, "Other")
    alerts.open_alert(breaking.BROKEN, breaking.subject_of("log", erp, "Other"), "broken by “shrink”", instance=erp)
    LogGap.objects.create(
        instance=erp,
        store=fleet.stores[TARGET],
        database="Orders",
        reached=1020,
        begins=1030,
        from_time=fleet.now - HOUR,
        until_time=fleet.now,
        found_at=fleet.now,
        broken_by="The log backup of 10:05 UTC went to NUL.",
    )
    copied(fleet, erp, "log", 1030, 1040, fleet.now, fleet.now, "Orders")
    LogGap.objects.update(fork="1", reached_fork="1")
    assert "went to NUL" in desk.get(reverse("instances:logs", args=[erp.code])).content.decode()
    shown = rows(page(desk, erp))
    assert "Broken no log from" in shown["Orders"] and "went to NUL" in shown["Orders"]
    assert "Broken broken by “shrink”" in shown["Other"]


def test_a_certificate_that_is_missing_is_named_on_the_instance_and_its_database(
    desk: Client, fleet: Fleet, erp: Instance
) -> None:
    told(erp, "Orders", certificate_thumbprint=PRINT)
    erp.sets.update(certificate_thumbprint=PRINT)
    shown = page(desk, erp)
    assert f"needs certificate {PRINT} at the destination" in rows(shown)["Orders"]
    assert "None is registered in" in shown
    RegisteredCertificate.objects.create(region_id=TARGET, thumbprint=PRINT, registered_at=fleet.now)
    shown = page(desk, erp)
    assert rows(shown)["Orders"].endswith("Protected")
    assert "None is registered in" not in shown


def test_a_server_that_does_not_answer_says_so_and_since_when(desk: Client, fleet: Fleet, erp: Instance) -> None:
    told(erp, "Orders")
    ServerLook.objects.update(failures=3, failing_since=fleet.now - HOUR, error="Nothing listens at 10.0.0.9.")
    shown = page(desk, erp)
    assert "Its server has not answered for" in shown and "Nothing listens at 10.0.0.9." in shown
    assert "What stands here is as of" in shown


def test_what_is_not_asked_says_why_there_is_nothing(desk: Client, fleet: Fleet) -> None:
    files_only, new = fleet.protected("files"), fleet.protected("new", host="10.0.0.9")
    assert "Nothing says how to reach this server" in page(desk, files_only)
    assert "has not been asked yet" in page(desk, new)
    other = fleet.protected("pg", engine="postgresql")
    assert (
        reverse("instances:databases", args=[other.code])
        not in desk.get(reverse("instances:page", args=[other.code])).content.decode()
    )


def test_a_thousand_databases_cost_what_one_does_and_are_found_by_name(desk: Client, erp: Instance) -> None:
    told(erp, "Orders")

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            page(desk, erp)
        return len(asked)

    few = queries()
    ServerDatabase.objects.bulk_create(said(erp, f"tenant-{number:04}") for number in range(1000))
    assert queries() == few
    shown = page(desk, erp)
    assert len(rows(shown)) <= 30 and "Next" in shown
    assert list(rows(page(desk, erp, q="tenant-0777"))) == ["tenant-0777"]


# ---- certificates on the store's page


def test_who_runs_the_installation_registers_and_withdraws_a_certificate(client: Client, fleet: Fleet) -> None:
    client.force_login(User.objects.create_superuser("root"))
    store = fleet.stores[TARGET]
    where, form = reverse("stores:page", args=[store.pk]), reverse("stores:certificate", args=[store.pk])
    assert "None is registered." in client.get(where).content.decode()
    assert client.get(form).status_code == 200
    assert "is no thumbprint" in client.post(form, {"thumbprint": "hello"}).content.decode()
    client.post(form, {"thumbprint": f"0x{PRINT.upper()}", "note": "on <LANDING-1>"})
    row = RegisteredCertificate.objects.get()
    shown = client.get(where).content.decode()
    assert PRINT in shown and "on &lt;LANDING-1&gt;" in shown
    assert "registered in" in client.post(form, {"thumbprint": PRINT}).content.decode()
    withdraw = reverse("stores:withdraw", args=[store.pk, row.pk])
    assert client.get(withdraw).status_code == 200
    assert f"Certificate {PRINT} was withdrawn" in client.post(withdraw, follow=True).content.decode()
    assert PRINT not in client.get(where).content.decode()
    assert client.post(withdraw).status_code == 404


def test_others_see_certificates_and_change_none(client: Client, fleet: Fleet) -> None:
    client.force_login(User.objects.create_user("visitor"))
    store = fleet.stores[TARGET]
    shown = client.get(reverse("stores:page", args=[store.pk])).content.decode()
    form = reverse("stores:certificate", args=[store.pk])
    assert "Certificates" in shown and form not in shown
    assert client.post(form, {"thumbprint": PRINT}).status_code == 403
