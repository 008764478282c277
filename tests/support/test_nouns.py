"""The admin shows every noun, changes none that is history, and leaves an event behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from backups import events
from backups.events import By
from backups.models import (
    Copy,
    CopyPolicy,
    Event,
    Hold,
    Instance,
    Membership,
    Pin,
    Recovery,
    RegisteredCertificate,
    RememberedSet,
    Seal,
    SelfBackup,
    ServerDatabase,
    ServerLook,
    SourceOutage,
    StateObject,
    Transfer,
    TransferPart,
)
from backups.terms import agreements
from billing.models import Price
from console.support.nouns import Facts
from regions import clock
from regions.models import Installation, Region, Store
from tests.billing.facts import START, backup_of, copy_of, instance_in, policy_of

pytestmark = pytest.mark.django_db

NOUNS = [
    model
    for app in ("regions", "backups", "billing", "console_openapi", "console_webhooks")
    for model in apps.get_app_config(app).get_models()
]
FACTS = [
    "event",
    "seal",
    "acceptance",
    "acceptedinstance",
    "agreementtext",
    "storagespan",
    "transfer",
    "transferpart",
    "copy",
    "copiedfile",
    "backupset",
    "backupfile",
    "setfile",
    "backupjob",
    "drill",
    "drillquery",
    "coverage",
    "pin",
    "hold",
    "alert",
    "servicelinkedrole",
    "logstream",
    "restorableinterval",
    "landingserver",
    "loggap",
    "serverdatabase",
    "serverlook",
    "rememberedset",
    "restore",
    "restoresource",
    "sourceoutage",
    "stateobject",
    "selfbackup",
    "recovery",
    "downloadcharge",
    "closedstatement",
    "statementline",
    "planuse",
    "budget",
    "accesskey",
    "callcount",
    "clienttoken",
    "usednonce",
    "endpoint",
    "formersecret",
    "delivery",
    "attempt",
    "turn",
]


def page(model: type[Model], what: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{what}", args=args)


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    return client


@pytest.fixture
def full_house() -> Instance:
    """One row of nearly every noun."""
    Installation.current()
    instance = instance_in()
    found = backup_of(instance)
    copy = copy_of(found, policy_of(instance))
    file = found.files.get()
    transfer = Transfer.objects.create(
        file=file, store=copy.destination_store, key="farshore/v1/\udcff", fence=1, size=1, started_at=START
    )
    TransferPart.objects.create(transfer=transfer, number=1, offset=0, size=1, sha256="0" * 64, etag="e")
    copy.copied_files.create(file=file, transfer=transfer)
    user = User.objects.create_user("colleague")
    Hold.objects.create(copy=copy, case_number="case 7", placed_by=user, placed_at=START)
    Pin.objects.create(copy=copy, reason="restore", pinned_at=START, until=START)
    agreements.accept([instance], Region.objects.get(pk="ap-southeast-1"), By(user))
    event = events.record("test.happened", "Something happened.", instance=instance)
    Seal.objects.create(sequence=1, event=event, previous="", hash="1" * 64)
    Membership.objects.create(user=user, group=instance.group, role="viewer")
    place = {"store": copy.destination_store}
    SourceOutage.objects.create(**place, began_at=START)
    StateObject.objects.create(**place, instance=instance)
    SelfBackup.objects.create(**place, key="farshore/v1/self", began_at=START)
    Recovery.objects.create(**place, kind="manifests", recovered_at=START)
    ServerDatabase.objects.create(instance=instance, name="orders", state="ONLINE", first_seen_at=START, seen_at=START)
    ServerLook.objects.create(instance=instance, due_at=START)
    when = {"started_at": START, "finished_at": START, "remembered_at": START}
    RememberedSet.objects.create(instance=instance, database="orders", kind="log", set_guid="g", **when)
    RegisteredCertificate.objects.create(region=instance.region, thumbprint="ab" * 20, registered_at=START)
    return instance


def rows() -> Iterator[Model]:
    for model in NOUNS:
        if row := model.objects.first():
            yield row


@pytest.mark.parametrize("model", NOUNS, ids=lambda model: model._meta.label)
def test_every_noun_is_in_the_admin_searchable_filterable_and_never_deletable(model: type[Model], rf: object) -> None:
    noun = admin.site._registry[model]
    assert noun.search_fields and noun.list_filter or model._meta.model_name in ("seal", "servicelinkedrole")
    request = rf.get("/")
    request.user = User(is_superuser=True, is_active=True, is_staff=True)
    assert noun.has_delete_permission(request) is (model is Membership)


def test_every_page_of_every_noun_can_be_opened(root: Client, full_house: Instance) -> None:
    for model in NOUNS:
        assert root.get(page(model, "changelist"), {"q": "orders"}).status_code == 200, model
        assert root.get(page(model, "changelist")).status_code == 200, model
    for row in rows():
        assert root.get(page(type(row), "change", row.pk)).status_code == 200, row
    for model in (Region, Store, Instance, CopyPolicy, Membership, Price, RegisteredCertificate):
        assert root.get(page(model, "add")).status_code == 200, model


@pytest.mark.parametrize("name", FACTS)
def test_history_cannot_be_added_changed_or_deleted(root: Client, full_house: Instance, name: str) -> None:
    model = next(model for model in NOUNS if model._meta.model_name == name)
    assert isinstance(admin.site._registry[model], Facts)
    before = list(model.objects.order_by("pk").values())
    assert root.post(page(model, "add"), {}).status_code == 403
    for row in model.objects.all()[:1]:
        assert root.post(page(model, "change", row.pk), {"sentence": "never"}).status_code == 403
        assert root.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [row["id"] for row in before if "id" in row]}
    root.post(page(model, "changelist"), selected | {"post": "yes"})
    assert list(model.objects.order_by("pk").values()) == before


def test_a_list_asks_the_database_no_more_often_when_it_has_more_rows(
    root: Client, full_house: Instance, django_assert_max_num_queries: object
) -> None:
    policy = CopyPolicy.objects.get()
    for _ in range(20):
        copy_of(backup_of(full_house), policy)
    with django_assert_max_num_queries(12):
        root.get(page(Copy, "changelist"))


def test_only_staff_come_in_and_they_sign_in_at_the_consoles_own_door(client: Client) -> None:
    assert client.get("/admin/").url.startswith("/admin/login/")
    assert client.get("/admin/login/").url.startswith(reverse("account_login"))
    assert client.post("/admin/login/", {"username": "root", "password": "x"}).url.startswith(reverse("account_login"))
    client.force_login(User.objects.create_user("visitor"))
    assert client.get("/admin/login/").status_code == 403
    assert client.get(page(Event, "changelist"), follow=True).status_code == 403


def test_staff_see_and_do_what_their_permissions_say(client: Client, full_house: Instance) -> None:
    support = User.objects.create_user("support", is_staff=True)
    support.user_permissions.add(Permission.objects.get(codename="view_copy"))
    client.force_login(support)
    assert client.get(page(Event, "changelist")).status_code == 403
    listing = client.get(page(Copy, "changelist"))
    assert listing.status_code == 200
    assert "retry" not in listing.content.decode()


def test_nobody_makes_themselves_mightier(client: Client) -> None:
    support = User.objects.create_user("support", is_staff=True)
    support.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    plain, chief = User.objects.create_user("plain"), User.objects.create_superuser("chief")
    client.force_login(support)
    assert client.post(page(User, "change", chief.pk), {"username": "mine"}).status_code == 403
    assert client.post(page(User, "change", support.pk), {"is_superuser": "on"}).status_code == 403
    client.post(page(User, "change", plain.pk), {"username": "plain", "is_active": "on", "is_superuser": "on"})
    plain.refresh_from_db()
    assert not plain.is_superuser


def test_what_support_changes_is_an_event_that_names_fields_and_not_values(root: Client) -> None:
    assert root.post(page(Region, "change", "cn-heyuan"), {"hidden": "on"}).status_code == 302
    assert Region.objects.get(pk="cn-heyuan").hidden
    event = Event.objects.get()
    assert (event.kind, event.actor_name) == ("support.region.changed", "root")
    assert "Hidden" in event.sentence


def test_a_shipped_region_keeps_its_name_and_scope(root: Client) -> None:
    root.post(page(Region, "change", "cn-heyuan"), {"name": "Elsewhere", "scope": "finance", "hidden": ""})
    region = Region.objects.get(pk="cn-heyuan")
    assert (region.name, region.scope) == ("China (Heyuan)", "mainland")


def test_a_price_is_added_or_ended_and_never_edited(root: Client) -> None:
    price = Price.objects.get(item_code="DdrOssStorageSize")
    past = {"valid_until_0": "2021-01-01", "valid_until_1": "00:00:00"}
    refused = root.post(page(Price, "change", price.pk), {"amount": "9", **past})
    assert "What has been charged stays as it was" in refused.content.decode()
    ahead = clock.now().year + 1
    ended = {"amount": "9", "valid_until_0": f"{ahead}-01-01", "valid_until_1": "00:00:00"}
    assert root.post(page(Price, "change", price.pk), ended).status_code == 302
    price.refresh_from_db()
    assert (str(price.amount), price.valid_until.year) == ("0.000200", ahead)
    overlapping = {
        "item_code": "DdrOssStorageSize",
        "amount": "0.0003",
        "source": "",
        "destination": "",
        "source_scope": "",
        "coefficient": "",
        "valid_from_0": "2022-01-01",
        "valid_from_1": "00:00:00",
        "valid_until_0": "",
        "valid_until_1": "",
    }
    assert "Another price already holds" in root.post(page(Price, "add"), overlapping).content.decode()
    follows = overlapping | {"valid_from_0": f"{ahead}-01-01"}
    assert root.post(page(Price, "add"), follows).status_code == 302
    assert Price.objects.get(amount="0.0003").unit == "USD/GB-hour"


def test_a_certificate_is_registered_and_withdrawn_through_the_verbs_and_never_edited(root: Client) -> None:
    said = {"region": "ap-southeast-1", "thumbprint": "0xABAB" + "cd" * 18, "note": "LANDING-1"}
    assert (
        "is no thumbprint" in root.post(page(RegisteredCertificate, "add"), said | {"thumbprint": "x"}).content.decode()
    )
    assert root.post(page(RegisteredCertificate, "add"), said).status_code == 302
    row = RegisteredCertificate.objects.get()
    assert (row.thumbprint, row.registered_by.get_username()) == ("abab" + "cd" * 18, "root")
    assert "registered in" in root.post(page(RegisteredCertificate, "add"), said).content.decode()
    assert root.post(page(RegisteredCertificate, "change", row.pk), said).status_code == 403
    root.post(page(RegisteredCertificate, "changelist"), {"action": "withdraw", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert row.withdrawn_at
    assert sorted(Event.objects.values_list("kind", flat=True)) == ["certificate.registered", "certificate.withdrawn"]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda model: model.__name__)
def test_every_row_has_a_name(noun: type[Model]) -> None:
    """Else its page, its way to it and each link to it are called `Transfer object (7)`."""
    assert noun.__str__ is not Model.__str__


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_moments_are_told_to_the_second_and_as_utc(client: Client, language: str) -> None:
    client.force_login(User.objects.create_superuser("root"))
    told = events.record("instance.released", "orders was released.")
    shown = f"{told.at:%Y-%m-%d %H:%M:%S} UTC"
    for address in (
        reverse("admin:backups_event_changelist"),
        reverse("admin:backups_event_change", args=[told.pk]),
    ):
        assert shown in client.get(address, headers={"accept-language": language}).content.decode()
