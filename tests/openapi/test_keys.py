"""Access keys on their page, from the command line and in the admin: the secret is told once, and never again."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backups.events import By
from backups.models import Event, ResourceGroup
from console.openapi import keys
from console.openapi.keys import NewSecret
from console.openapi.models import AccessKey
from tests.console.fleet import Fleet
from tests.openapi.conftest import key_of
from tests.openapi.signing import acs3, refused

pytestmark = pytest.mark.django_db

WISH = {"label": "pipeline", "reach": "operator"}


def secret_on(page: str) -> str:
    return page.partition('id="made-secret"')[2].partition(">")[2].partition("<")[0]


def test_a_key_is_created_and_its_secret_shown_once(desk: Client, client: Client, fleet: Fleet) -> None:
    answer = desk.post(reverse("openapi:create"), WISH | {"networks": "127.0.0.1\n192.0.2.9/24", "learnt": "on"})
    key = AccessKey.objects.get()
    secret = secret_on(answer.content.decode())
    assert len(secret) == 40 and answer.headers["Cache-Control"] == "no-store"
    assert key.networks == ["127.0.0.1/32", "192.0.2.0/24"] and key.rules_accepted_at and not key.is_limited
    assert acs3(NewSecret(key, secret), "DescribeRegions").send(Client()).status_code == 200
    assert secret.encode() not in bytes(key.sealed_secret)
    page = desk.get(reverse("openapi:keys")).content.decode()
    assert key.key_id in page and secret not in page and "pipeline" in page
    told = list(Event.objects.filter(kind__startswith="access_key."))
    assert [one.kind for one in told] == ["access_key.created"]
    assert secret not in json.dumps([[one.sentence, one.data] for one in told])


def test_what_cannot_be_is_said_beside_its_field(desk: Client) -> None:
    for wish, sentence in (
        (WISH | {"networks": "nowhere"}, "nowhere is no address and no network"),
        (WISH | {"reach": "billing"}, "Select a valid choice"),
        ({"reach": "viewer"}, "This field is required"),
    ):
        answer = desk.post(reverse("openapi:create"), wish)
        assert answer.status_code == 200 and sentence in answer.content.decode()
    assert not AccessKey.objects.exists()


def test_a_key_may_be_narrowed_to_ones_own_groups_only(desk: Client, fleet: Fleet) -> None:
    elsewhere = ResourceGroup.objects.create(name="Elsewhere")
    answer = desk.post(reverse("openapi:create"), WISH | {"groups": [elsewhere.pk]})
    assert "Select a valid choice" in answer.content.decode()
    desk.post(reverse("openapi:create"), WISH | {"groups": [fleet.group.pk]})
    key = AccessKey.objects.get()
    assert key.is_limited and list(key.groups.all()) == [fleet.group]
    desk.post(reverse("openapi:change", args=[key.pk]), {"label": "robot", "reach": "viewer"})
    key.refresh_from_db()
    assert (key.label, key.reach, key.is_limited, key.groups.count()) == ("robot", "viewer", False, 0)


def test_a_new_secret_takes_the_place_of_the_old_one(desk: Client, key: NewSecret) -> None:
    page = desk.post(reverse("openapi:rotate", args=[key.key.pk])).content.decode()
    new = NewSecret(key.key, secret_on(page))
    assert refused(acs3(key, "DescribeRegions").send(Client())) == (400, "SignatureDoesNotMatch")
    assert acs3(new, "DescribeRegions").send(Client()).status_code == 200


def test_a_key_is_disabled_and_enabled_again(desk: Client, key: NewSecret) -> None:
    desk.post(reverse("openapi:disable", args=[key.key.pk]))
    assert refused(acs3(key, "DescribeRegions").send(Client())) == (403, "InvalidAccessKeyId.Inactive")
    assert "Disabled" in desk.get(reverse("openapi:keys")).content.decode()
    desk.post(reverse("openapi:enable", args=[key.key.pk]))
    assert acs3(key, "DescribeRegions").send(Client()).status_code == 200
    kinds = Event.objects.filter(kind__startswith="access_key.").order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["access_key.created", "access_key.disabled", "access_key.enabled"]


def test_what_somebody_else_disabled_stays_disabled(desk: Client, fleet: Fleet, key: NewSecret) -> None:
    root = Client()
    root.force_login(fleet.root())
    assert root.post(reverse("openapi:disable", args=[key.key.pk])).status_code == 302
    answer = desk.post(reverse("openapi:enable", args=[key.key.pk]))
    assert "root disabled this access key" in answer.content.decode()
    key.key.refresh_from_db()
    assert not key.key.is_active


def test_whoever_runs_the_installation_may_disable_a_key_and_not_take_it_over(fleet: Fleet, key: NewSecret) -> None:
    root = Client()
    root.force_login(fleet.root())
    assert "mei" in root.get(reverse("openapi:keys")).content.decode()
    for what in ("rotate", "change"):
        assert root.post(reverse(f"openapi:{what}", args=[key.key.pk]), WISH).status_code == 404
    with pytest.raises(Exception, match="Only mei"):
        keys.rotate(key.key, By(User.objects.get(username="root")))


def test_other_peoples_keys_are_not_there(desk: Client, fleet: Fleet) -> None:
    theirs = key_of(User.objects.create_user("lin"))
    assert theirs.key.key_id not in desk.get(reverse("openapi:keys")).content.decode()
    for what in ("change", "rotate", "disable", "enable"):
        assert desk.get(reverse(f"openapi:{what}", args=[theirs.key.pk])).status_code == 404
        assert desk.post(reverse(f"openapi:{what}", args=[theirs.key.pk])).status_code == 404


def test_the_page_costs_the_same_however_many_keys_there_are(desk: Client, fleet: Fleet) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert desk.get(reverse("openapi:keys")).status_code == 200
        return len(seen)

    key_of(fleet.user, groups=[fleet.group])
    queries()
    few = queries()
    for _ in range(10):
        key_of(fleet.user, groups=[fleet.group])
    assert queries() == few


def test_the_download_rules_are_accepted_once_by_the_owner(desk: Client, key: NewSecret) -> None:
    assert key.key.rules_accepted_at is None
    desk.post(reverse("openapi:change", args=[key.key.pk]), WISH | {"learnt": "on"})
    key.key.refresh_from_db()
    assert key.key.rules_accepted_at
    assert "were accepted" in desk.get(reverse("openapi:change", args=[key.key.pk])).content.decode()


def test_the_command_prints_a_key_that_works(fleet: Fleet) -> None:
    out = StringIO()
    call_command("access_key", "create", "mei", "--label", "ci", "--accept-download-rules", "--json", stdout=out)
    said = json.loads(out.getvalue())
    assert set(said) == {"access_key_id", "access_key_secret"}
    key = AccessKey.objects.get(key_id=said["access_key_id"])
    assert (key.user, key.label, bool(key.rules_accepted_at)) == (fleet.user, "ci", True)
    assert acs3(NewSecret(key, said["access_key_secret"]), "DescribeRegions").send(Client()).status_code == 200
    plain = StringIO()
    call_command("access_key", "create", "mei", stdout=plain)
    assert [line.partition(": ")[0] for line in plain.getvalue().splitlines()] == list(said)


@pytest.mark.parametrize("arguments", [["nobody"], [""], ["mei", "--network", "nowhere"]])
def test_the_command_refuses_in_words(fleet: Fleet, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("access_key", "create", *arguments)
    assert not AccessKey.objects.exists()


def test_the_admin_shows_keys_and_never_a_secret(fleet: Fleet, key: NewSecret, client: Client) -> None:
    client.force_login(fleet.root())
    for where in ("changelist", "change"):
        arguments: list[Any] = [key.key.pk] if where == "change" else []
        page = client.get(reverse(f"admin:console_openapi_accesskey_{where}", args=arguments))
        assert page.status_code == 200 and key.key.key_id in page.content.decode()
        assert "sealed" not in page.content.decode() and key.secret not in page.content.decode()
    assert client.post(reverse("admin:console_openapi_accesskey_change", args=[key.key.pk]), {}).status_code == 403
