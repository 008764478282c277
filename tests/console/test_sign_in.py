"""Nothing but signing in is open to strangers, and signing in leads back to where one wanted to go."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from backups.models import Event
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


@pytest.mark.parametrize("verb", ["get", "post"])
def test_without_a_mail_server_no_link_is_made_and_the_page_says_so(client: Client, fleet: Fleet, verb: str) -> None:
    answer = getattr(client, verb)(reverse("account_reset_password"), {"email": fleet.user.email})
    assert answer.status_code == 200
    shown = answer.content.decode()
    assert "This installation sends no mail." in shown and "manage.py changepassword" in shown
    assert 'name="email"' not in shown
    assert mail.outbox == []


def test_with_a_mail_server_the_link_in_the_mail_sets_a_new_password_once(
    client: Client, fleet: Fleet, settings: Any
) -> None:
    settings.EMAIL_HOST = "mail.example.org"
    said = client.post(reverse("account_reset_password"), {"email": fleet.user.email}, follow=True).content.decode()
    [letter] = mail.outbox
    assert (letter.to, letter.subject) == ([fleet.user.email], "[Farshore] Set a new password")
    [link] = re.findall(r"http://testserver(/\S+)", letter.body)
    assert link not in said and "mei" in letter.body
    form = client.get(link, follow=True)
    wanted = {"password1": "a horse of another colour", "password2": "a horse of another colour"}
    done = client.post(form.redirect_chain[-1][0], wanted, follow=True)
    assert "The new password is set" in done.content.decode()
    assert client.login(username="mei", password=wanted["password1"])
    told = Event.objects.get(kind__startswith="person.")
    assert (told.actor_name, told.address, told.group) == ("mei", "127.0.0.1", None)
    assert told.sentence == "mei set a new password by the link that was mailed."
    client.logout()
    assert "The link is no longer good" in client.get(link, follow=True).content.decode()


def test_an_address_that_nobody_has_is_told_nothing_and_mailed_nothing(
    client: Client, fleet: Fleet, settings: Any
) -> None:
    settings.EMAIL_HOST = "mail.example.org"
    pages = [
        client.post(reverse("account_reset_password"), {"email": address}, follow=True).content
        for address in (fleet.user.email, "stranger@example.org")
    ]
    known, unknown = (re.sub(rb'value="\w{64}"', b"", page) for page in pages)  # but for the token of each form
    assert known == unknown
    assert [letter.to for letter in mail.outbox] == [[fleet.user.email]]


def test_a_password_is_changed_on_one_page_which_leaves_an_event(client: Client, fleet: Fleet) -> None:
    client.force_login(fleet.root())
    assert client.get(reverse("admin:password_change")).url == reverse("account_change_password")
    client.logout()
    client.login(username="mei", password=PASSWORD)
    wanted = {
        "oldpassword": PASSWORD,
        "password1": "a horse of another colour",
        "password2": "a horse of another colour",
    }
    client.post(reverse("account_change_password"), wanted | {"oldpassword": "guessed"})
    assert not Event.objects.filter(kind__startswith="person.").exists()
    client.post(reverse("account_change_password"), wanted)
    told = Event.objects.get(kind="person.password_changed")
    assert (told.sentence, told.actor_name) == ("mei set a new password.", "mei")
    assert wanted["password1"] not in str(told.data)
