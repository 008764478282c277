"""Landing servers in the console: registered with a proof, listed, looked at again, granted, retired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backups.models import Event, LandingServer, ResourceGroup
from tests.backups.landings import PASSWORD, SHARE, Place, place_in
from tests.backups.world import World
from tests.console.fleet import TARGET, Fleet

LIST, REGISTER = "/stores/landing/", "/stores/landing/register/"
TEST = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "test"}
DIALOG = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


@pytest.fixture
def place(fleet: Fleet, tmp_path: Path) -> Iterator[Place]:
    with place_in(World(tmp_path, fleet.root(), fleet.group)) as found:
        yield found


@pytest.fixture
def root(client: Client, place: Place) -> Client:
    client.force_login(place.world.user)
    return client


def form(place: Place, **changes: Any) -> dict[str, Any]:
    return {
        "name": "landing-1",
        "region": TARGET,
        "engine": "sqlserver",
        "host": "127.0.0.1",
        "port": place.server.port,
        "username": "farshore",
        "password": PASSWORD,
        "tls": "disable",
        "share_called": SHARE,
        "share_folder": str(place.share),
        "groups": [place.world.group.pk],
    } | changes


def test_one_is_registered_once_it_has_opened_what_the_worker_laid_down(root: Client, place: Place) -> None:
    shown = words(root.get(REGISTER))
    assert "ALTER SERVER ROLE [dbcreator]" in shown and "GRANT VIEW DEFINITION TO [farshore]" in shown
    assert "opened what was laid into the share" in words(root.post(f"{REGISTER}test/", form(place), **TEST))
    assert not LandingServer.objects.exists()
    answer = root.post(REGISTER, form(place), follow=True)
    page = words(answer)
    assert "landing-1 is registered" in page and "simulation" in page and "15.0.4430.1" in page
    assert PASSWORD not in page and SHARE in page
    row = LandingServer.objects.get()
    assert list(row.groups.all()) == [place.world.group]
    assert "landing-1" in words(root.get(LIST)) and "Landing servers" in words(root.get("/stores/"))


def test_what_is_refused_stands_beside_its_field(root: Client, place: Place) -> None:
    shown = words(root.post(REGISTER, form(place, password="wrong")))
    assert "Not registered." in shown and "does not accept this password" in shown
    assert "does not accept this password" in words(root.post(f"{REGISTER}test/", form(place, password="x"), **TEST))
    (place.share.parent / "elsewhere").mkdir()
    shown = words(root.post(REGISTER, form(place, share_folder=str(place.share.parent / "elsewhere"))))
    assert "does not find under" in shown
    assert "Not tried yet." in words(root.post(f"{REGISTER}test/", form(place, name=""), **TEST))
    assert not LandingServer.objects.exists()


def test_one_that_fell_silent_says_why_and_is_looked_at_again(root: Client, place: Place) -> None:
    row = place.register()
    place.machine.accounts["farshore"].creates = False
    assert "may not create databases" in words(root.post(f"{LIST}{row.code}/retry/", follow=True))
    assert "Cannot be used" in words(root.get(LIST))
    place.machine.accounts["farshore"].creates = True
    assert "sees the share" in words(root.post(f"{LIST}{row.code}/retry/", follow=True))
    assert "Ready" in words(root.get(f"{LIST}{row.code}/"))
    assert Event.objects.filter(kind="landing.looked_at").count() == 2


def test_it_is_granted_and_retired(root: Client, place: Place) -> None:
    row, others = place.register(), ResourceGroup.objects.create(name="Others")
    assert root.post(f"{LIST}{row.code}/", {"groups": [others.pk]}).status_code == 302
    assert list(row.groups.all()) == [others]
    assert root.post(f"{LIST}{row.code}/", {"groups": ["999"]}).status_code == 200
    assert "forgets its password" in words(root.get(f"{LIST}{row.code}/retire/", **DIALOG))
    assert "was retired" in words(root.post(f"{LIST}{row.code}/retire/", follow=True))
    assert "landing-1" not in words(root.get(LIST)).replace("landing-1 was retired", "")
    assert "Retired" in words(root.get(f"{LIST}{row.code}/"))


def test_an_operator_sees_those_of_the_own_groups_and_registers_none(desk: Client, place: Place) -> None:
    mine = place.register()
    foreign = place.register(name="foreign", groups=[ResourceGroup.objects.create(name="Others")])
    shown = words(desk.get(LIST))
    assert "landing-1" in shown and "foreign" not in shown and "Register a landing server" not in shown
    assert desk.get(f"{LIST}{mine.code}/").status_code == 200
    assert desk.get(f"{LIST}{foreign.code}/").status_code == 404
    for path in (f"{mine.code}/", f"{mine.code}/retry/", f"{mine.code}/retire/", "register/", "register/test/"):
        assert desk.post(LIST + path, form(place)).status_code == 403, path
    assert desk.get(REGISTER).status_code == desk.get(f"{LIST}{mine.code}/retire/").status_code == 403


def test_a_longer_list_asks_the_database_no_more_often(root: Client, place: Place) -> None:
    place.register()
    root.get(LIST)
    with CaptureQueriesContext(connection) as one:
        root.get(LIST)
    for number in range(2, 5):
        place.register(name=f"landing-{number}")
    with CaptureQueriesContext(connection) as more:
        root.get(LIST)
    assert len(more) == len(one)
