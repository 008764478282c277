"""The wizard brings a database beside those of an instance that is there, where that is switched on (R-2.3, I20)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from backups.models import Copy, Event, Instance, ResourceGroup, Restore, ServerDatabase
from regions import clock
from tests.backups.landings import Place, chain, copied
from tests.console.fleet import SOURCE, TARGET

NEW = "/backups/restores/new/"
OFFER = "Beside the databases of an instance"
SHARE = {"host": "db", "share_called": "//files/sql", "share_folder": "/mnt/sql"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


@pytest.fixture
def orders(place: Place) -> Instance:
    found = place.world.instance("orders")
    copied(place.world, found, *(chain(name) for name in ("Sales", "Wages")))
    return found


@pytest.fixture
def there(place: Place, settings: Any) -> Instance:
    """An instance of the copies' region, which has a database Sales of its own."""
    settings.RESTORE_ONTO_EXISTING = True
    found = place.world.instance("there", TARGET, **SHARE)
    has(found, "Sales")
    return found


def has(instance: Instance, name: str) -> None:
    at = clock.now()
    ServerDatabase.objects.create(instance=instance, name=name, state="ONLINE", first_seen_at=at, seen_at=at)


def asked(orders: Instance, there: Instance, **said: Any) -> dict[str, Any]:
    store = Copy.objects.filter(set__instance=orders).first().destination_store_id
    usual = {"instance": orders.code, "place": store, "database": "Sales", "named_for": "Sales", "by": "newest"}
    chosen = {"target": "beside", "beside": there.code, "called": "Sales-back", "typed": "there"}
    return {**usual, **chosen, "token": str(uuid4()), **said}


def test_a_database_goes_beside_those_of_an_instance_whose_name_was_typed_in(
    desk: Client, orders: Instance, there: Instance
) -> None:
    shown = words(desk.get(NEW, {"instance": orders.code, "target": "beside"}))
    assert OFFER in shown and f'value="{there.code}" selected' in shown and 'value="Sales-restored"' in shown
    assert "Room not known" in shown and "its server is asked before anything is written" in shown
    assert "It will be the database Sales-restored beside those that there has; none of them is touched." in shown
    answer = desk.post(NEW, asked(orders, there))
    restore = Restore.objects.get()
    assert answer.url == reverse("restores:page", args=[restore.code])
    assert (restore.onto, restore.landed_as, restore.landing) == (there, "Sales-back", None)
    assert restore.state == Restore.State.QUEUED, "the name is typed in, and nobody has to agree"
    page = words(desk.get(answer.url))
    assert "Sales-back is being restored." in page and "a database on there" in page and "second person" not in page


def test_what_is_removed_is_named_and_not_the_instance_beside_whose_databases_it_lies(
    desk: Client, orders: Instance, there: Instance
) -> None:
    """At night "there is being removed" would be read as the end of an instance."""
    desk.post(NEW, asked(orders, there))
    Restore.objects.update(state="ready", host="db", port=1433, restored_until=clock.now())
    restore = Restore.objects.get()
    page = words(desk.get(reverse("restores:page", args=[restore.code])))
    assert "<h1><bdi>Sales-back</bdi></h1>" in page and "a database beside others" in page
    assert "landing server" not in page
    listed = words(desk.get("/backups/restores/?q=sales-b"))
    assert "<bdi>Sales-back</bdi></a>" in listed and "<bdi>there</bdi></a>" not in listed
    dialog = words(desk.get(reverse("restores:remove", args=[restore.code])))
    assert "<p>Sales-back</p>" in dialog and "<p>there</p>" not in dialog
    gone = words(desk.post(reverse("restores:remove", args=[restore.code]), follow=True))
    assert "Sales-back is being removed." in gone and "there is being removed." not in gone
    said = Event.objects.get(kind="restore.remove_asked").sentence
    assert said == "The restored database Sales-back was asked to be removed."


def test_what_speaks_against_it_stands_beside_its_field_and_nothing_is_asked_for(
    desk: Client, orders: Instance, there: Instance
) -> None:
    for said, expected in (
        ({"typed": "There"}, "What was typed in is not the name of there."),
        ({"typed": ""}, "What was typed in is not the name of there."),
        ({"called": "sales"}, "there has a database sales already, or gets one."),
        ({"called": " "}, "Give the new database a name."),
        ({"called": "a\u202eb"}, "all of them visible"),
        ({"beside": orders.code}, "Select a valid choice"),
    ):
        page = words(desk.post(NEW, asked(orders, there, **said)))
        assert "Not asked for." in page and expected in page, said
    plan = words(desk.get(NEW, asked(orders, there, called="SALES"), HTTP_HX_REQUEST="true", HTTP_HX_TARGET="plan"))
    assert "Name is taken" in plan and "there has a database SALES already" in plan
    assert not Restore.objects.exists()


def test_it_is_offered_only_where_it_can_be_had(
    desk: Client, place: Place, orders: Instance, there: Instance, settings: Any
) -> None:
    foreign = ResourceGroup.objects.create(name="Others")
    theirs = place.world.instance("foreign", TARGET, **SHARE)
    Instance.objects.filter(pk=theirs.pk).update(group=foreign)
    place.world.instance("here", SOURCE, **SHARE)
    place.world.instance("unshared", TARGET)
    place.world.instance("maria", TARGET, engine="mariadb", **SHARE)
    shown = words(desk.get(NEW, {"instance": orders.code}))
    for name in ("foreign", "here", "unshared", "maria"):
        code = Instance.objects.get(name=name).code
        assert f'value="{code}"' not in shown
        assert "Not asked for." in words(desk.post(NEW, asked(orders, there, beside=code, typed=name))), name
    assert OFFER not in words(desk.get(NEW, {"instance": orders.code, "place": "default"})), "copies only"
    settings.RESTORE_ONTO_EXISTING = False
    place.register()
    assert OFFER not in words(desk.get(NEW, {"instance": orders.code}))
    assert "Not asked for." in words(desk.post(NEW, asked(orders, there)))
    assert not Restore.objects.exists()


def test_an_address_and_check_again_keep_what_was_said(desk: Client, orders: Instance, there: Instance) -> None:
    back = desk.post(NEW, {**asked(orders, there, called="Kept"), "show": "1"}).url
    assert f"beside={there.code}" in back and "called=Kept" in back and "target=beside" in back
    assert 'value="Kept"' in words(desk.get(back)) and "typed=" not in back
