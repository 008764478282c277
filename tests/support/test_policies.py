"""No way around the rules: what the settings dialog refuses, the admin refuses beside the same field (R-2 to R-14)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from backups import policies
from backups.models import Acceptance, Copy, CopyPolicy, CopyState, Event, Family, Instance
from regions import clock
from tests.billing.facts import DAY, GB, START, backup_of, copy_of, instance_in, store_in

pytestmark = pytest.mark.django_db

ADD = "admin:backups_copypolicy_add"
WANTED = {
    "status": "enable",
    "destination": "ap-southeast-1",
    "retention_days": "30",
    "agreed": "on",
    "expected": "",
}


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    return client


@pytest.fixture
def orders() -> Instance:
    for region in ("cn-beijing", "ap-southeast-1", "cn-shanghai", "cn-hangzhou-finance"):
        store_in(region)
    return instance_in("cn-beijing")


@pytest.fixture
def protected(root: Client, orders: Instance) -> CopyPolicy:
    assert add(root, orders).status_code == 302
    return CopyPolicy.objects.get()


def add(client: Client, instance: Instance, **changes: Any) -> HttpResponse:
    return save(client, reverse(ADD), WANTED | {"instance": instance.pk} | changes)


def save(client: Client, address: str, data: dict[str, Any]) -> HttpResponse:
    """Save as a person does, who confirms what it costs where that is asked."""
    answer = client.post(address, data)
    return client.post(address, data | {"confirmed": answer.context["token"]}) if is_step(answer) else answer


def is_step(answer: HttpResponse) -> bool:
    return "support/confirm_policy.html" in [template.name for template in answer.templates]


def change(client: Client, policy: CopyPolicy, **changes: Any) -> HttpResponse:
    policy.refresh_from_db()
    data = {
        "status": "enable" if policy.enabled else "disabled",
        "destination": policy.destination_id,
        "retention_days": policy.retention_days,
        "expected": policy.version,
    } | changes
    return save(client, reverse("admin:backups_copypolicy_change", args=[policy.pk]), data)


def errors_of(answer: HttpResponse) -> dict[str, list[str]]:
    assert answer.status_code == 200
    return answer.context["adminform"].form.errors


def test_with_the_tick_it_is_enabled_through_the_verb(root: Client, orders: Instance) -> None:
    assert add(root, orders).status_code == 302
    policy = CopyPolicy.objects.get()
    assert (policy.enabled, policy.destination_id, policy.retention_days) == (True, "ap-southeast-1", 30)
    assert policy.acceptance.user.username == "root"
    said = Event.objects.filter(kind="policy.enabled").get()
    assert (said.actor_name, said.address) == ("root", "127.0.0.1")


@pytest.mark.parametrize("days", ["6", "1826", "7.5", "", "1e3", "-30", "1_000", "\uff17", "0x1e", "thirty"])
def test_a_wrong_retention_is_refused_beside_its_field(root: Client, orders: Instance, days: str) -> None:
    assert "retention_days" in errors_of(add(root, orders, retention_days=days))
    assert not CopyPolicy.objects.exists() and not Acceptance.objects.exists() and not Event.objects.exists()


@pytest.mark.parametrize("days", ["6", "1826", "7.5", "", "1e3"])
def test_a_wrong_retention_changes_nothing_either(root: Client, protected: CopyPolicy, days: str) -> None:
    assert "retention_days" in errors_of(change(root, protected, retention_days=days))
    protected.refresh_from_db()
    assert protected.retention_days == 30


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("destination", {"destination": "cn-beijing"}),
        ("destination", {"destination": "cn-hangzhou-finance"}),
        ("destination", {"destination": "eu-west-1"}),  # no store is attached there
        ("destination", {"destination": ""}),
        ("destination", {"destination": "atlantis"}),
        ("agreed", {"agreed": ""}),
        ("status", {"status": "disabled"}),
        ("status", {"status": "perhaps"}),
    ],
)
def test_what_is_not_allowed_is_refused_beside_its_field(
    root: Client, orders: Instance, field: str, wanted: dict[str, str]
) -> None:
    assert field in errors_of(add(root, orders, **wanted))
    assert not CopyPolicy.objects.exists() and not Acceptance.objects.exists() and not Event.objects.exists()


@pytest.mark.parametrize(
    "facts",
    [
        {"family": Family.SHARED},
        {"billing_method": "serverless"},
        {"backup_method": "snapshot", "edition": "basic"},
        {"released_at": START},
    ],
    ids=["shared", "serverless", "snapshot", "released"],
)
def test_an_instance_that_cannot_be_protected_is_refused(root: Client, orders: Instance, facts: dict) -> None:
    Instance.objects.filter(pk=orders.pk).update(**facts)
    assert "status" in errors_of(add(root, orders))
    assert not CopyPolicy.objects.exists() and not Event.objects.exists()


def test_the_agreement_is_never_ticked_beforehand_and_can_be_read(root: Client, protected: CopyPolicy) -> None:
    for address in (reverse(ADD), reverse("admin:backups_copypolicy_change", args=[protected.pk])):
        page = root.get(address)
        assert not page.context["adminform"].form["agreed"].initial
        assert "Read the text" in page.content.decode()


def test_another_destination_asks_for_the_agreement_again(root: Client, protected: CopyPolicy) -> None:
    assert "agreed" in errors_of(change(root, protected, destination="cn-shanghai"))
    assert policies.enabled_policy(protected.instance) == protected
    assert change(root, protected, destination="cn-shanghai", agreed="on").status_code == 302
    assert policies.enabled_policy(protected.instance).destination_id == "cn-shanghai"
    protected.refresh_from_db()
    assert (protected.enabled, protected.end_reason) == (False, "destination_changed")


def test_a_former_policy_is_history(root: Client, protected: CopyPolicy) -> None:
    change(root, protected, destination="cn-shanghai", agreed="on")
    assert change(root, protected, retention_days=9).status_code == 403
    assert root.get(reverse("admin:backups_copypolicy_change", args=[protected.pk])).status_code == 200


def test_disabling_and_the_retention_in_one_go(root: Client, protected: CopyPolicy) -> None:
    assert change(root, protected, status="disabled", retention_days="7").status_code == 302
    protected.refresh_from_db()
    assert (protected.enabled, protected.retention_days) == (False, 7)


def test_of_a_released_instance_only_the_retention_changes(root: Client, protected: CopyPolicy) -> None:
    policies.release(protected.instance, policies.FARSHORE)
    assert "status" in errors_of(change(root, protected, status="disabled"))
    assert "status" in errors_of(change(root, protected, destination="cn-shanghai", agreed="on"))
    assert change(root, protected, retention_days="60").status_code == 302
    protected.refresh_from_db()
    assert (protected.enabled, protected.destination_id, protected.retention_days) == (True, "ap-southeast-1", 60)


def test_the_second_of_two_editors_is_told(root: Client, protected: CopyPolicy) -> None:
    before = protected.version
    assert change(root, protected, retention_days="40").status_code == 302
    refused = change(root, protected, retention_days="50", expected=before)
    assert "changed while this was open" in str(errors_of(refused)["__all__"])
    protected.refresh_from_db()
    assert protected.retention_days == 40


def test_a_shortening_that_deletes_says_what_before_it_does(root: Client, protected: CopyPolicy) -> None:
    now = clock.now()
    for days_ago in (1, 12, 20):
        copy_of(backup_of(protected.instance, now - days_ago * DAY, GB), protected)
    refused = errors_of(change(root, protected, retention_days="10"))
    assert refused["understood"] == ["2 of 3 backup sets (2.00 GB) would expire at once. Tick this box to go on."]
    assert Copy.objects.filter(state=CopyState.COMPLETED).count() == 3
    assert change(root, protected, retention_days="10", understood="on").status_code == 302
    assert Copy.objects.filter(state=CopyState.EXPIRED).count() == 2


def test_the_page_says_what_it_costs(root: Client, protected: CopyPolicy) -> None:
    copy_of(backup_of(protected.instance, clock.now(), 100 * GB), protected)
    page = root.get(reverse("admin:backups_copypolicy_change", args=[protected.pk])).content.decode()
    assert "Disabling now leaves 14.40 USD to pay, 3.36 USD with 7 days." in page


# ---- what it costs, and does, before it is saved


def text(answer: HttpResponse) -> str:
    return " ".join(answer.content.decode().split())


def test_enabling_says_what_it_costs_at_the_retention_typed_and_saves_once_confirmed(
    root: Client, orders: Instance
) -> None:
    for days_ago in range(14):
        backup_of(orders, clock.now() - days_ago * DAY, 100 * GB)
    wanted = WANTED | {"instance": orders.pk}
    week, month = (root.post(reverse(ADD), wanted | {"retention_days": days}) for days in ("7", "30"))
    assert is_step(week) and is_step(month)
    assert "100.80 USD" in text(week) and "432.00 USD" in text(month)
    assert "Traffic, 30 days</th><td>570.00 USD" in text(month)
    assert "First copy, traffic</th><td>19.00 USD" in text(month)
    assert "crosses a border" in text(month)
    assert not CopyPolicy.objects.exists() and not Acceptance.objects.exists()
    for token in ("", "anything", week.context["token"]):
        assert is_step(root.post(reverse(ADD), wanted | {"confirmed": token})), "that is no confirmation of 30 days"
    assert root.post(reverse(ADD), wanted | {"confirmed": month.context["token"]}).status_code == 302
    assert CopyPolicy.objects.get().retention_days == 30


def test_enabling_says_that_nothing_can_be_restored_yet(root: Client, orders: Instance) -> None:
    """R-6.2."""
    step = root.post(reverse(ADD), WANTED | {"instance": orders.pk})
    assert "Nothing can be restored until the next full backup arrives: orders." in text(step)


def test_the_step_brings_along_what_was_typed(root: Client, orders: Instance) -> None:
    step = root.post(reverse(ADD), WANTED | {"instance": orders.pk})
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', step.content.decode()))
    assert fields.pop("confirmed") == step.context["token"]
    assert f'<a href="{reverse("admin:backups_copypolicy_changelist")}">Copy policies</a>' in text(step), "the way back"
    fields.pop("csrfmiddlewaretoken", None)
    assert fields == {name: str(value) for name, value in (WANTED | {"instance": orders.pk}).items()}


def test_every_change_of_the_settings_asks_once_more(root: Client, protected: CopyPolicy) -> None:
    copy_of(backup_of(protected.instance, clock.now(), 100 * GB), protected)
    address = reverse("admin:backups_copypolicy_change", args=[protected.pk])
    now = {"status": "enable", "destination": protected.destination_id, "retention_days": 30}
    now["expected"] = protected.version
    longer = root.post(address, now | {"retention_days": 60})
    assert is_step(longer) and re.search(r"A month against today&#x27;s settings</th><td>\+\d+\.\d\d USD", text(longer))
    off = root.post(address, now | {"status": "disabled"})
    assert "Storage left to pay</th><td>14.40 USD" in text(off)
    assert "Storage left to pay with 7 days</th><td>3.36 USD" in text(off)
    protected.refresh_from_db()
    assert (protected.enabled, protected.retention_days) == (True, 30)


def test_logs_are_turned_on_and_off(root: Client, protected: CopyPolicy) -> None:
    """R-12.4, R-8.1."""
    assert "Cross-region Log Backup Status" in text(root.get(reverse(ADD)))
    assert not protected.logs_enabled
    assert change(root, protected, logs_enabled="enable").status_code == 302
    assert policies.enabled_policy(protected.instance).logs_enabled
    assert change(root, protected).status_code == 302, "who says nothing of logs leaves them"
    assert policies.enabled_policy(protected.instance).logs_enabled
    assert change(root, protected, logs_enabled="disabled").status_code == 302
    assert not policies.enabled_policy(protected.instance).logs_enabled
    assert "logs_enabled" in errors_of(change(root, protected, status="disabled", logs_enabled="enable"))
    Instance.objects.filter(pk=protected.instance_id).update(engine="mariadb")
    assert "logs_enabled" in errors_of(change(root, protected, logs_enabled="enable"))


def test_the_step_that_tells_the_cost_names_the_region_as_people_do(root: Client, protected: CopyPolicy) -> None:
    protected.refresh_from_db()
    data = WANTED | {"destination": "cn-shanghai", "expected": protected.version}
    answer = root.post(reverse("admin:backups_copypolicy_change", args=[protected.pk]), data)
    assert is_step(answer)
    shown = " ".join(answer.content.decode().split())
    assert "cross-region backup to China (Shanghai), kept 30 days" in shown
    assert "<h2>orders" not in shown  # the row that is about to be replaced is no heading of what comes
