"""Nothing but signing in is open to strangers, and signing in leads back to where one wanted to go."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests.console.fleet import PASSWORD, Fleet

CLOSED = [
    "/",
    "/instances/",
    "/instances/add/",
    "/stores/",
    "/stores/attach/",
    "/backups/pending/",
    "/backups/instances/",
    "/backups/sets/",
    "/backups/sets/1/",
    "/backups/settings/",
    "/backups/agreement/",
    "/activity/",
    "/activity/export/",
    "/instances/rm-x/",
    "/instances/rm-x/progress/",
    "/backups/instances/progress/",
]


@pytest.mark.parametrize("address", CLOSED)
def test_a_stranger_is_asked_to_sign_in(client: Client, fleet: Fleet, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 302
    assert answer.url == f"/accounts/login/?next={address}"


def test_a_fragment_sends_the_whole_page_to_sign_in(client: Client, fleet: Fleet) -> None:
    answer = client.get(
        "/backups/pending/?after=x",
        HTTP_HX_REQUEST="true",
        HTTP_HX_TARGET="rows",
        HTTP_HX_CURRENT_URL="http://testserver/backups/pending/?q=or",
    )
    assert answer.status_code == 200
    assert answer.headers["HX-Redirect"] == "/accounts/login/?next=%2Fbackups%2Fpending%2F%3Fq%3Dor"
    assert answer.content == b""


def test_signing_in_leads_back(client: Client, fleet: Fleet) -> None:
    asked = {"login": "mei", "password": PASSWORD, "next": "/backups/pending/"}
    answer = client.post(reverse("account_login"), asked)
    assert (answer.status_code, answer.url) == (302, "/backups/pending/")
    assert client.get("/backups/pending/").status_code == 200


def test_signing_in_never_leads_to_another_site(client: Client, fleet: Fleet) -> None:
    asked = {"login": "mei", "password": PASSWORD, "next": "https://example.com/"}
    assert client.post(reverse("account_login"), asked).url == "/"


def test_a_wrong_password_is_said_beside_the_form(client: Client, fleet: Fleet) -> None:
    answer = client.post(reverse("account_login"), {"login": "mei", "password": "not this one"})
    assert answer.status_code == 200
    assert "Not signed in." in answer.content.decode()
    assert client.get("/").status_code == 302


def test_guessing_is_stopped(client: Client, fleet: Fleet) -> None:
    for n in range(12):
        client.post(reverse("account_login"), {"login": "mei", "password": f"guess {n}"})
    client.post(reverse("account_login"), {"login": "mei", "password": PASSWORD})
    assert client.get("/").status_code == 302


def test_signing_out_closes_the_door(desk: Client) -> None:
    assert desk.get(reverse("account_logout")).status_code == 200
    desk.post(reverse("account_logout"))
    assert desk.get("/").status_code == 302


def test_nobody_signs_up_by_themselves(client: Client, fleet: Fleet) -> None:
    shown = client.get(reverse("account_signup")).content.decode()
    assert "<input" not in shown.replace('<input type="hidden"', "")
