"""Webhooks on their pages: the secret is told once, everything else stands there, and others' are not there."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backups import events
from backups.models import Event, Membership, ResourceGroup, Role
from console.webhooks import endpoints, signing
from console.webhooks.models import Delivery, Endpoint
from tests.console.fleet import Fleet
from tests.webhooks.conftest import Make, sweep
from tests.webhooks.receiver import Receiver

LIST = "/webhooks/"


@pytest.fixture
def fleet(db: None) -> Fleet:
    return Fleet()


@pytest.fixture
def desk(client: Client, fleet: Fleet) -> Client:
    """A browser at which an operator has signed in."""
    client.force_login(fleet.user)
    return client


@pytest.fixture
def told(fleet: Fleet, make: Make, receiver: Receiver) -> Endpoint:
    """An endpoint with one delivery that arrived and one that did not."""
    endpoint = make(fleet.user).endpoint
    instance = fleet.instance("orders")
    events.record("copy.completed", "The copy arrived.", instance=instance)
    sweep()
    receiver.answers = [500]
    events.record("drill.failed", "The drill failed.", instance=instance)
    sweep()
    return endpoint


def at(what: str, endpoint: Endpoint, *more: str) -> str:
    return reverse(f"webhooks:{what}", args=[endpoint.code, *more])


def shown(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer
    return " ".join(answer.content.decode().split())


def rows(client: Client, address: str) -> str:
    return client.get(address, HTTP_HX_REQUEST="true", HTTP_HX_TARGET="rows").content.decode()


def secret_on(page: str) -> str:
    return page.partition('id="made-secret"')[2].partition(">")[2].partition("<")[0]


def test_a_webhook_is_added_and_its_secret_shown_once(desk: Client, receiver: Receiver) -> None:
    assert "No webhook yet" in shown(desk, LIST)
    answer = desk.post(f"{LIST}create/", {"name": "pager", "url": receiver.url, "kinds": ["copy.late", "copy.failed"]})
    secret = secret_on(answer.content.decode())
    assert secret.startswith("whsec_") and answer.headers["Cache-Control"] == "no-store"
    endpoint = Endpoint.objects.get()
    assert endpoint.kinds == ["copy.failed", "copy.late"] and not endpoint.is_limited
    assert secret.encode() not in bytes(endpoint.sealed_secret)
    for address in (LIST, at("page", endpoint), at("change", endpoint)):
        page = shown(desk, address)
        assert "pager" in page and secret not in page
    assert receiver.url in shown(desk, at("page", endpoint)) and receiver.url not in shown(desk, LIST)
    desk.post(at("test", endpoint))
    sweep()
    [message] = receiver.messages
    assert message.is_signed_with(secret) and message.said["type"] == "ping" and message.said["instance"] is None
    assert "mei sent a test" in message.said["sentence"]
    page = shown(desk, at("page", endpoint))
    assert "A test" in page and "Delivered" in page


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"url": "https://169.254.169.254/"}, "which is link-local"),
        ({"url": "ftp://example.org/"}, "Webhooks go to an https:// address."),
        ({"kinds": []}, "This field is required"),
        ({"kinds": ["ping"]}, "Select a valid choice"),
        ({"name": ""}, "This field is required"),
        ({"groups": ["77"]}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field(
    desk: Client, receiver: Receiver, wrong: dict[str, object], sentence: str
) -> None:
    wish = {"name": "pager", "url": receiver.url, "kinds": ["copy.late"]} | wrong
    answer = desk.post(f"{LIST}create/", wish)
    assert answer.status_code == 200 and sentence in answer.content.decode()
    assert not Endpoint.objects.exists()


def test_who_only_looks_is_told_whom_to_ask(client: Client, fleet: Fleet, receiver: Receiver) -> None:
    Membership.objects.update(role=Role.VIEWER)
    client.force_login(fleet.user)
    page = shown(client, LIST)
    assert "looking at it is not enough" in page and "Add a webhook" not in page
    wish = {"name": "pager", "url": receiver.url, "kinds": ["copy.late"]}
    assert "looking at it is not enough" in client.post(f"{LIST}create/", wish).content.decode()
    assert not Endpoint.objects.exists()


def test_who_only_looks_by_now_cannot_send_it_elsewhere(
    desk: Client, fleet: Fleet, told: Endpoint, receiver: Receiver
) -> None:
    Membership.objects.update(role=Role.VIEWER)
    wish = {"name": "pager", "url": receiver.url + "&elsewhere", "kinds": ["copy.late"]}
    assert "looking at it is not enough" in desk.post(at("change", told), wish).content.decode()
    desk.post(at("disable", told))
    assert "looking at it is not enough" in desk.post(at("enable", told)).content.decode()
    after = Endpoint.objects.get()
    assert (after.url, after.is_enabled) == (receiver.url, False)


def test_it_is_changed_disabled_enabled_given_a_new_secret_and_removed(
    desk: Client, fleet: Fleet, told: Endpoint, receiver: Receiver
) -> None:
    wish = {"name": "chat", "url": receiver.url, "kinds": ["copy.late"], "groups": [fleet.group.pk]}
    desk.post(at("change", told), wish)
    told.refresh_from_db()
    assert (told.name, told.kinds, list(told.groups.all())) == ("chat", ["copy.late"], [fleet.group])
    assert secret_on(desk.post(at("rotate", told)).content.decode()) in endpoints.secrets_of(
        Endpoint.objects.get(), told.created_at
    )
    assert "what came before it signs as well until" in shown(desk, at("page", told))
    desk.post(at("disable", told))
    page = shown(desk, at("page", told))
    assert "mei disabled it." in page and "Send a test" not in page
    assert "This webhook is disabled." in desk.post(at("test", told)).content.decode()
    desk.post(at("enable", told))
    assert Endpoint.objects.get().is_enabled
    assert desk.post(at("remove", told)).status_code == 302
    assert "No webhook yet" in shown(desk, LIST)
    assert desk.get(at("page", told)).status_code == 404
    kinds = Event.objects.filter(kind__startswith="webhook.").order_by("pk").values_list("kind", flat=True)
    said = [kind.partition(".")[2] for kind in kinds]
    assert said == ["created", "changed", "rotated", "disabled", "enabled", "removed"]


def test_one_that_hears_of_some_groups_does_not_come_to_hear_of_all_by_the_way(
    desk: Client, fleet: Fleet, make: Make, receiver: Receiver
) -> None:
    """Its owner lost the group: no box is ticked any more, and an empty choice would mean all of them."""
    lost = ResourceGroup.objects.create(name="Lost")
    Membership.objects.create(user=fleet.user, group=lost, role=Role.OPERATOR)
    endpoint = make(fleet.user, groups=[lost]).endpoint
    Membership.objects.filter(group=lost).delete()
    said = {"name": "other", "url": receiver.url, "kinds": ["copy.late"]}
    answer = desk.post(f"/webhooks/{endpoint.code}/settings/", said)
    assert "none of them is ticked" in answer.content.decode()
    endpoint.refresh_from_db()
    assert endpoint.is_limited and endpoint.name == "pager"


def test_the_log_says_what_was_sent_and_every_attempt(desk: Client, told: Endpoint, receiver: Receiver) -> None:
    page = shown(desk, at("page", told))
    assert "It answered 500. Next attempt" in page and "Delivered" in page and "nothing was taken since" in page
    for query, there, not_there in (
        ("state=delivered", "copy.completed", "drill.failed"),
        ("kind=drill.failed", "drill.failed", "copy.completed"),
        (f"q={Delivery.objects.get(kind='drill.failed').message_id}", "drill.failed", "copy.completed"),
    ):
        found = rows(desk, f"{at('page', told)}?{query}")
        assert there in found and not_there not in found, query
    failed = Delivery.objects.get(kind="drill.failed")
    dialog = shown(desk, at("delivery", told, failed.message_id))
    assert "The drill failed." in dialog and "It answered 500." in dialog and failed.message_id in dialog
    receiver.answers = [200]
    desk.post(at("delivery", told, failed.message_id))
    sweep()
    assert [one.id for one in receiver.messages[-2:]] == [failed.message_id] * 2
    assert "500" in shown(desk, at("delivery", told, failed.message_id)), "what went before stays in the log"


def test_other_peoples_are_not_there_and_whoever_runs_the_installation_cannot_take_one_over(
    desk: Client, fleet: Fleet, told: Endpoint, receiver: Receiver
) -> None:
    delivery = Delivery.objects.first()
    lin = Client()
    lin.force_login(User.objects.create_user("lin"))
    root = Client()
    root.force_login(fleet.root())
    assert told.code not in shown(lin, LIST) and told.code in shown(root, LIST)
    page = shown(root, at("page", told))
    assert "New secret" not in page and receiver.url not in page and "Disable" in page
    for what in ("page", "change", "rotate", "disable", "enable", "remove", "test"):
        assert lin.get(at(what, told)).status_code == 404, what
        assert what == "page" or lin.post(at(what, told)).status_code == 404, what
    assert lin.get(at("delivery", told, delivery.message_id)).status_code == 404
    for what in ("change", "rotate"):
        assert root.get(at(what, told)).status_code == root.post(at(what, told)).status_code == 404
    root.post(at("disable", told))
    assert "root disabled this webhook" in desk.post(at("enable", told)).content.decode()
    assert not Endpoint.objects.get().is_enabled


def test_who_owns_a_webhook_that_failed_for_good_is_told_on_every_page_and_others_of_the_group_are_not(
    desk: Client, fleet: Fleet, told: Endpoint, receiver: Receiver
) -> None:
    """It is as much their own as the webhook: others of the group know of neither."""
    receiver.answers = [410]
    desk.post(at("test", told))
    sweep()
    said = f"The webhook pager of {fleet.user} was disabled"
    fellow, root = Client(), Client()
    member = User.objects.create_user("lin")
    Membership.objects.create(user=member, group=fleet.group, role=Role.OPERATOR)
    fellow.force_login(member)
    root.force_login(fleet.root())
    for address in (reverse("overview:page"), reverse("activity:alerts")):
        assert said in shown(desk, address) and said in shown(root, address) and said not in shown(fellow, address)
        assert f'href="{LIST}">Webhooks</a>' in shown(desk, address)
    Membership.objects.filter(user=fleet.user).update(group=ResourceGroup.objects.create(name="Elsewhere"))
    assert said in shown(desk, reverse("activity:alerts"))
    desk.post(at("enable", told))
    assert said not in shown(desk, reverse("activity:alerts"))


def test_the_log_of_who_lost_a_group_no_longer_shows_it(desk: Client, fleet: Fleet, told: Endpoint) -> None:
    delivery = Delivery.objects.filter(kind="drill.failed").get()
    elsewhere = ResourceGroup.objects.create(name="Elsewhere")
    Membership.objects.update(group=elsewhere)
    page = shown(desk, at("page", told))
    assert "orders" not in page and "Nothing has been told yet" in page
    assert desk.get(at("delivery", told, delivery.message_id)).status_code == 404
    assert desk.post(at("delivery", told, delivery.message_id)).status_code == 404


def test_names_are_data(desk: Client, fleet: Fleet, make: Make, receiver: Receiver) -> None:
    endpoint = make(fleet.user, name="<b>x</b>").endpoint
    instance = fleet.instance("<i>evil</i>")
    events.record("drill.failed", "</pre><script>1</script>", instance=instance)
    sweep()
    dialog = at("delivery", endpoint, Delivery.objects.get().message_id)
    for address in (LIST, at("page", endpoint), dialog):
        page = shown(desk, address)
        assert not any(raw in page for raw in ("<b>x", "<i>evil", "<script>1"))
    assert receiver.messages[0].said["sentence"] == "</pre><script>1</script>"


@pytest.mark.parametrize(("which", "whole", "rows"), [("list", 9, 5), ("page", 11, 7)])
def test_a_page_costs_the_same_however_much_there_is(
    desk: Client, fleet: Fleet, told: Endpoint, make: Make, receiver: Receiver, which: str, whole: int, rows: int
) -> None:
    address = LIST if which == "list" else at("page", told)
    queries = _counting(desk, address)
    queries()
    assert (queries(), queries(HTTP_HX_REQUEST="true", HTTP_HX_TARGET="rows")) == (whole, rows)
    for number in range(18):
        make(fleet.user, name=f"more {number}", groups=[fleet.group])
        instance = fleet.instance(f"more-{number}")
        events.record("copy.completed", "One more.", instance=instance)
        events.record("drill.failed", "One more.", instance=instance)
    sweep()
    assert (queries(), queries(HTTP_HX_REQUEST="true", HTTP_HX_TARGET="rows")) == (whole, rows)


def _counting(client: Client, address: str) -> Callable[..., int]:
    def queries(**headers: str) -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(address, **headers).status_code == 200
        return len(seen)

    return queries


def test_the_admin_shows_all_of_it_and_never_a_secret(client: Client, fleet: Fleet, told: Endpoint) -> None:
    client.force_login(fleet.root())
    secret = endpoints.secrets_of(told, told.created_at)[0]
    for noun, row in (("endpoint", told), ("delivery", Delivery.objects.first())):
        address = reverse(f"admin:console_webhooks_{noun}_change", args=[row.pk])
        page = shown(client, address)
        assert told.code in page or row.message_id in page
        assert secret not in page and secret.removeprefix(signing.PREFIX) not in page and "sealed" not in page
        assert "hooks/farshore" not in page
        assert client.post(address, {}).status_code == 403


def test_what_is_told_stands_in_the_activity_without_its_path(desk: Client, fleet: Fleet, told: Endpoint) -> None:
    root = Client()
    root.force_login(fleet.root())
    page = shown(root, reverse("activity:list"))
    assert "made the webhook pager" in page and "hooks/farshore" not in page
    assert json.loads(json.dumps(Event.objects.get(kind="webhook.created").data))["webhook"] == told.code
