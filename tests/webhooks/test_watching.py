"""For whoever runs the installation: what Prometheus reads of webhooks, what the audit finds, and how to make one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client

from backups import events
from backups.models import Instance, Membership, ResourceGroup, Role
from console.webhooks import audit, endpoints
from console.webhooks.models import Delivery, Endpoint, FormerSecret
from regions import clock
from tests.backups.world import World
from tests.backups.world import make as make_world
from tests.webhooks.conftest import Make, sweep
from tests.webhooks.receiver import Receiver

LONG_AGO = timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path, db: None) -> World:
    return make_world(tmp_path)


@pytest.fixture
def orders(world: World) -> Instance:
    return world.instance("orders")


@pytest.fixture
def scrape(client: Client, settings: Any) -> Callable[[], dict[str, float]]:
    settings.METRICS_TOKEN = "a long token"

    def scraped() -> dict[str, float]:
        cache.clear()
        page = client.get("/metrics", headers={"authorization": "Bearer a long token"}).content.decode()
        pairs = [line.rpartition(" ") for line in page.splitlines() if line.startswith("farshore_webhook")]
        return {name: float(value) for name, _, value in pairs}

    return scraped


def happen(instance: Instance) -> None:
    events.record("drill.failed", "One failed.", instance=instance)


def waited(by: timedelta = LONG_AGO) -> None:
    """Let everything that waits have waited, as it would."""
    moment = clock.now() - by
    Delivery.objects.filter(state="waiting").update(due_at=moment, occurred_at=moment, leased_until=None)
    Endpoint.objects.update(paused_until=None)


def test_prometheus_reads_how_many_webhooks_there_are_and_of_which_nothing_is_taken(
    world: World, orders: Instance, make: Make, receiver: Receiver, scrape: Callable[[], dict[str, float]]
) -> None:
    assert set(scrape().values()) == {0} and len(scrape()) == 8, "a rule finds its series before anything is wrong"
    for _ in range(4):
        make(world.user)
    failing, disabled, given_up, well = Endpoint.objects.order_by("pk")
    happen(orders)
    sweep()
    receiver.answers = [500]
    endpoints.send_test(failing, world.by)
    sweep()
    endpoints.disable(disabled, world.by)
    endpoints.disable_by_itself(given_up, "It is gone.")
    found = scrape()
    for state in ("enabled", "failing", "disabled", "given_up"):
        assert found[f'farshore_webhooks{{state="{state}"}}'] == 1, state
    assert found['farshore_webhook_deliveries{state="waiting"}'] == 1
    endpoints.remove(well, world.by)
    assert scrape()['farshore_webhooks{state="enabled"}'] == 0


def test_what_waits_long_is_told_apart_from_what_nobody_sends(
    world: World, orders: Instance, make: Make, receiver: Receiver, scrape: Callable[[], dict[str, float]]
) -> None:
    endpoint = make(world.user).endpoint
    receiver.answers = [500]
    happen(orders)
    sweep()
    waited()
    found = scrape()
    assert found["farshore_webhook_oldest_waiting_seconds"] >= 3600
    assert found["farshore_webhook_overdue_seconds"] >= 3600
    sweep()
    found = scrape()
    assert found["farshore_webhook_oldest_waiting_seconds"] >= 3600, "its receiver takes nothing"
    assert found["farshore_webhook_overdue_seconds"] == 0, "and it is being tried"
    Delivery.objects.update(attempts=9)
    waited()
    sweep()
    found = scrape()
    assert found['farshore_webhook_deliveries{state="failed"}'] == 1
    assert found['farshore_webhook_deliveries{state="waiting"}'] == 0
    assert found["farshore_webhook_oldest_waiting_seconds"] == 0
    endpoints.remove(endpoint, world.by)
    assert scrape()['farshore_webhook_deliveries{state="failed"}'] == 0, "nobody can look at it any more"


def found(name: str) -> list[str]:
    return list(audit.CHECKS[name]())


def test_the_audit_holds_for_webhooks_in_every_state(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    for _ in range(3):
        make(world.user)
    one, other, third = Endpoint.objects.order_by("pk")
    happen(orders)
    sweep()
    receiver.answers = [500]
    happen(orders)
    sweep()
    endpoints.rotate(one, world.by)
    endpoints.rotate(third, world.by)
    endpoints.disable(other, world.by)
    endpoints.remove(third, world.by)
    assert list(audit.breaches()) == []


def test_the_audit_finds_what_nobody_sends_and_what_nobody_looked_for(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    endpoint = make(world.user).endpoint
    receiver.answers = [500]
    happen(orders)
    sweep()
    waited(by=audit.LONG / 2)
    assert found("webhooks sent") == []
    waited()
    Endpoint.objects.update(looked_at=clock.now() - LONG_AGO)
    [unsent, unlooked] = found("webhooks sent")
    assert unsent == f"nobody sends what webhook {endpoint.code} is to be told: 1 waiting"
    assert unlooked.startswith(f"nobody has looked what to tell webhook {endpoint.code} since")
    Endpoint.objects.update(paused_until=clock.now() + timedelta(minutes=5), looked_at=clock.now())
    assert found("webhooks sent") == [], "it is left alone for a while"


def test_the_audit_finds_a_webhook_that_is_on_though_its_owner_may_send_nothing_out(
    world: World, make: Make, receiver: Receiver
) -> None:
    assert make(world.user) and found("webhooks owned") == []
    owner = User.objects.create_user("lin")
    mine = Membership.objects.create(user=owner, group=world.group, role=Role.OPERATOR)
    endpoint = make(owner).endpoint
    assert found("webhooks owned") == []
    Membership.objects.filter(pk=mine.pk).update(role=Role.VIEWER)
    [said] = found("webhooks owned")
    assert endpoint.code in said and "lin" in said
    root = User.objects.create_superuser("root")
    theirs = make(root).endpoint
    User.objects.filter(pk=root.pk).update(is_active=False)
    assert any(theirs.code in said for said in found("webhooks owned"))
    Endpoint.objects.update(disabled_at=clock.now())
    assert found("webhooks owned") == []


def test_the_audit_finds_secrets_that_do_not_open_and_those_that_should_be_gone(
    world: World, make: Make, receiver: Receiver
) -> None:
    made, other = make(world.user), make(world.user).endpoint
    endpoints.rotate(made.endpoint, world.by)
    Endpoint.objects.filter(pk=other.pk).update(sealed_secret=Endpoint.objects.get(pk=made.endpoint.pk).sealed_secret)
    [said] = found("I18 webhooks' secrets")
    assert said.startswith(f"a secret of webhook {other.code} cannot be opened") and "whsec_" not in said
    former = FormerSecret.objects.get()
    endpoints.remove(made.endpoint, world.by)
    FormerSecret.objects.create(endpoint=made.endpoint, sealed=former.sealed, until=former.until)
    assert f"webhook {made.endpoint.code} was removed and has a secret still" in found("I18 webhooks' secrets")


def test_the_audit_finds_what_waits_for_a_webhook_that_is_off_and_the_command_says_so(
    world: World, orders: Instance, make: Make, receiver: Receiver
) -> None:
    endpoint = make(world.user).endpoint
    receiver.answers = [500]
    happen(orders)
    sweep()
    Endpoint.objects.update(disabled_at=clock.now())
    told = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("audit", stdout=told)
    message = Delivery.objects.get().message_id
    assert f"webhooks off: {message} waits for webhook {endpoint.code}, which is disabled" in told.getvalue()


def test_the_command_makes_a_webhook_and_prints_its_secret_once(
    world: World, orders: Instance, make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL comes by the environment: its path may be a secret, and the list of processes is everybody's to read."""
    monkeypatch.setenv("FARSHORE_WEBHOOK_URL", receiver.url)
    out, arguments = StringIO(), ["--name", "pager", "--kind", "drill.failed", "--group", world.group.name, "--json"]
    call_command("webhook", "create", world.user.username, *arguments, stdout=out)
    said = json.loads(out.getvalue())
    endpoint = endpoints.endpoint_for(world.user, said["webhook"])
    assert (endpoint.name, endpoint.kinds, list(endpoint.groups.all())) == ("pager", ["drill.failed"], [world.group])
    happen(orders)
    sweep()
    assert receiver.messages[0].is_signed_with(said["secret"])
    plain = StringIO()
    call_command("webhook", "create", world.user.username, stdout=plain)
    assert [line.partition(": ")[0] for line in plain.getvalue().splitlines()] == list(said)
    assert "copy.completed" not in Endpoint.objects.first().kinds and not Endpoint.objects.first().is_limited


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody"], "nobody"),
        ([""], "whose webhook"),
        (["mei-too"], "looking at it is not enough"),
        (["lin", "--group", "Elsewhere"], "does not belong"),
        (["lin", "--group", "Nowhere"], "no resource group named Nowhere"),
        (["lin"], "https:// address"),
    ],
)
def test_the_command_refuses_in_words(
    world: World, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.delenv("FARSHORE_WEBHOOK_URL", raising=False)
    User.objects.create_user("mei-too")
    Membership.objects.create(user=User.objects.create_user("lin"), group=world.group, role=Role.OPERATOR)
    ResourceGroup.objects.create(name="Elsewhere")
    with pytest.raises(CommandError, match=said):
        call_command("webhook", "create", *arguments)
    assert not Endpoint.objects.exists()
