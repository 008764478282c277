"""Landing servers in the console: registered with a proof, listed, looked at again, granted, retired."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backups.models import Copy, Event, Instance, LandingServer, ResourceGroup, Restore
from backups.servers import landing_servers
from tests.backups.landings import PASSWORD, SHARE, Place, chain, copied
from tests.console.fleet import SOURCE, TARGET

LIST, REGISTER, NEW = "/stores/landing/", "/stores/landing/register/", "/backups/restores/new/"
TEST = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "test"}
DIALOG = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "dialog-body"}


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


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


# ---- restoring onto one


@pytest.fixture
def orders(place: Place) -> Instance:
    """Its databases Sales and Wages are copied, with logs."""
    found = place.world.instance("orders")
    copied(place.world, found, *(chain(name) for name in ("Sales", "Wages")))
    return found


def asked(instance: Instance, row: LandingServer, **said: Any) -> dict[str, Any]:
    """What the wizard's form sends when nothing in it was changed."""
    store = Copy.objects.filter(set__instance=instance).first().destination_store_id
    usual = {"instance": instance.code, "place": store, "database": "Sales", "named_for": "Sales", "by": "newest"}
    return {**usual, "landing": row.code, "name": "Sales-restored", "target": "new", "token": str(uuid4()), **said}


def test_the_wizard_asks_for_a_landing_server_and_the_new_name(desk: Client, place: Place, orders: Instance) -> None:
    nothing = words(desk.get(NEW, {"instance": orders.code}))
    assert "Farshore does not restore SQL Server yet." in nothing and "It is restored on a landing server" in nothing
    row = place.register()
    shown = words(desk.get(NEW, {"instance": orders.code}))
    assert f'value="{row.code}" selected' in shown and 'value="Sales-restored"' in shown
    assert "1 backup set · 3 logs without a gap" in shown and "Version and certificates fit" in shown
    assert "No charge for restoring inside China (Shanghai)." in shown, "R-4.6"
    assert "not an instance of its own" in shown and 'name="also" value="Wages"' in shown
    answer = desk.post(NEW, asked(orders, row))
    restore = Restore.objects.get()
    assert answer.url == reverse("restores:page", args=[restore.code])
    assert (restore.landing, restore.landed_as, restore.database) == (row, "Sales-restored", "Sales")
    page = words(desk.get(answer.url))
    assert "a database on landing-1" in page and "Bring the files to the share" in page and "simulation" in page
    assert "Unpack the backup" not in page and "Restore the differential" not in page


def test_what_speaks_against_it_is_said_at_once_and_nothing_is_asked_for(
    desk: Client, place: Place, orders: Instance
) -> None:
    place.machine.version, place.machine.free_bytes = (14, 0, 1), 5
    row = place.register()
    shown = words(desk.get(NEW, asked(orders, row, name="master")))
    for expected in ("landing-1 has a database master already", "is 14.0.1", "No room", "5 are free"):
        assert expected in shown
    assert words(desk.post(NEW, asked(orders, row, name="master"))).count("Not asked for.") == 1
    assert "Give the new database a name." in words(desk.post(NEW, asked(orders, row, name=" ")))
    place.machine.accounts["farshore"].sees_state = False
    landing_servers.look(row)
    assert "Room not known" in words(desk.get(NEW, asked(orders, row)))
    assert not Restore.objects.exists()


def test_several_databases_are_asked_for_in_one_go_each_renamed(desk: Client, place: Place, orders: Instance) -> None:
    row = place.register()
    both = asked(orders, row, also=["Wages"], **{"as:Wages": "Wages back"})
    plan = words(desk.get(NEW, both, HTTP_HX_REQUEST="true", HTTP_HX_TARGET="plan"))
    assert "Wages as Wages back" in plan
    refused = words(desk.post(NEW, {**both, "as:Wages": "sales-RESTORED"}))
    assert "Wages: landing-1 has a database sales-RESTORED already, or gets one." in refused
    assert not Restore.objects.exists()
    assert desk.post(NEW, {**both, "token": str(uuid4())}).url == reverse("restores:list")
    assert dict(Restore.objects.values_list("database", "landed_as")) == {
        "Sales": "Sales-restored",
        "Wages": "Wages back",
    }
    assert "on landing-1" in words(desk.get(reverse("restores:list")))
    again = desk.post(NEW, {**both, "show": "1"})
    assert "also=Wages" in again.url and "as%3AWages=Wages+back" in again.url


def test_another_database_has_another_usual_name_and_a_set_comes_alone(
    desk: Client, place: Place, orders: Instance
) -> None:
    row = place.register()
    shown = words(desk.get(NEW, asked(orders, row, database="Wages")))
    assert 'value="Wages-restored"' in shown and 'name="also" value="Sales"' in shown
    full = orders.sets.get(kind="full", database="Sales")
    desk.post(NEW, asked(orders, row, by="set", set=full.pk, also=["Wages"]))
    assert Restore.objects.get().set == full


def test_an_order_never_goes_to_another_server_than_was_chosen(desk: Client, place: Place, orders: Instance) -> None:
    row = place.register()
    place.register(name="another")
    landing_servers.retire(row, place.world.by)
    assert "takes a landing server, and none was chosen" in words(desk.post(NEW, asked(orders, row)))
    assert not Restore.objects.exists()
    assert "another" in words(desk.get(NEW, asked(orders, row))), "one that only looks is offered what is there"


def test_a_region_without_a_landing_server_says_so(desk: Client, place: Place, orders: Instance) -> None:
    row = place.register(region=place.world.region(SOURCE))
    shown = words(desk.get(NEW, {"instance": orders.code}))
    assert "No landing server that Payments may use is registered in China (Shanghai)." in shown
    assert desk.post(NEW, asked(orders, row)).status_code == 200
    here = words(desk.get(NEW, {"instance": orders.code, "place": "default"}))
    assert f'value="{row.code}" selected' in here, "a default backup, in the source region"
    assert not Restore.objects.exists()


def test_a_database_that_is_ready_says_where_it_is_and_is_removed(desk: Client, place: Place, orders: Instance) -> None:
    row = place.register()
    desk.post(NEW, asked(orders, row))
    facts = {"state": "ready", "host": "127.0.0.1", "port": 1433, "restored_until": place.world.user.date_joined}
    Restore.objects.update(finished_at=place.world.user.date_joined, seconds={"download": 1.5, "recover": 0.1}, **facts)
    restore = Restore.objects.get()
    where = reverse("restores:page", args=[restore.code])
    page = words(desk.get(where))
    assert "The new database" in page and "no instance of its own" in page and "landing-1" in page
    assert "Show the password" not in page and "Its machine is gone" not in page
    assert "The database Sales-restored is dropped on landing-1" in words(desk.get(f"{where}remove/", **DIALOG))
    desk.post(f"{where}remove/")
    Restore.objects.update(error="It does not answer.", remedy="Start it.")
    page = words(desk.get(where))
    assert "It could not be removed: It does not answer." in page and "Removing" in page
    LandingServer.objects.update(error="It does not answer.")
    assert "Its machine is gone" in words(desk.get(where))
    assert "Sales-restored" in words(desk.get(f"{LIST}{row.code}/"))


# ---- many at once


MANY = "/backups/restores/many/"


def test_in_one_go_every_database_of_a_sql_server_comes_back_on_the_first_landing_server_that_works(
    desk: Client, place: Place, orders: Instance
) -> None:
    """R-17.1: what a region that is gone held is ticked and restored, whatever its engine."""
    place.register(name="a-silent-one")
    LandingServer.objects.update(error="It does not answer.")
    row = place.register()
    bare = place.world.instance("bare", prefixes=["bare/"])
    dialog = words(desk.get(MANY, {"pick": [orders.pk, bare.pk], "list": "recovery"}, **DIALOG))
    assert "1 of 2 can be restored." in dialog
    assert "Sales as Sales-restored, as of" in dialog and "Wages as Wages-restored, as of" in dialog
    assert "none was chosen" in dialog and f"/backups/restores/new/?instance={bare.code}" in dialog
    outcome = words(desk.post(MANY, {"pick": [orders.pk, bare.pk], "by": "newest"}))
    assert "2 under way, 1 refused" in outcome
    assert set(Restore.objects.values_list("database", "landed_as", "landing__name")) == {
        ("Sales", "Sales-restored", row.name),
        ("Wages", "Wages-restored", row.name),
    }
    again = words(desk.get(MANY, {"pick": orders.pk, "list": "recovery"}, **DIALOG))
    assert "Sales as Sales-restored-2" in again


def test_two_servers_with_databases_of_one_name_get_two_names(desk: Client, place: Place, orders: Instance) -> None:
    place.register()
    other = place.world.instance("other", prefixes=["other/"])
    copied(place.world, other, chain("Sales"))
    dialog = words(desk.get(MANY, {"pick": [orders.pk, other.pk], "list": "recovery"}, **DIALOG))
    assert "Sales as Sales-restored," in dialog and "Sales as Sales-restored-2," in dialog
    desk.post(MANY, {"pick": [orders.pk, other.pk], "by": "newest"})
    assert set(Restore.objects.filter(database="Sales").values_list("instance__name", "landed_as")) == {
        ("orders", "Sales-restored"),
        ("other", "Sales-restored-2"),
    }


def test_a_sql_server_without_a_landing_server_is_left_out_with_the_way_on(
    desk: Client, place: Place, orders: Instance
) -> None:
    place.register(region=place.world.region(SOURCE))
    dialog = words(desk.get(MANY, {"pick": orders.pk, "list": "recovery"}, **DIALOG))
    assert "0 of 1 can be restored." in dialog
    assert "has no landing server that the resource group of orders may use" in dialog
    assert f"/backups/restores/new/?instance={orders.code}&amp;place=" in dialog


def test_a_landing_server_without_room_for_one_database_leaves_the_whole_instance_out(
    desk: Client, place: Place, orders: Instance
) -> None:
    place.machine.free_bytes = 5
    place.register()
    dialog = words(desk.get(MANY, {"pick": orders.pk, "list": "recovery"}, **DIALOG))
    assert "0 of 1 can be restored." in dialog and "5 are free" in dialog
    assert "0 under way, 1 refused" in words(desk.post(MANY, {"pick": orders.pk, "by": "newest"}))
    assert not Restore.objects.exists()
