"""A set's page names what stood beside its database, and hands out the script to whoever may operate it."""

from __future__ import annotations

from django.test import Client

from backups.engines.facts import Surroundings
from backups.models import Event, Instance, Membership, Role
from backups.servers import server_scripts
from tests.console.fleet import Fleet

SCRIPT = "CREATE LOGIN [clerk] WITH PASSWORD = 0x0200DEADBEEF HASHED;\n"
SEEN = Surroundings(SCRIPT, {"login": ("clerk", "\u202eevil"), "job": ()}, ("Agent jobs could not be seen.",))


def recorded(fleet: Fleet) -> Instance:
    instance = fleet.instance("orders")
    server_scripts.keep(instance, SEEN)
    return instance


def test_the_page_names_them_and_shows_no_hash(desk: Client, fleet: Fleet) -> None:
    found = fleet.backup(recorded(fleet))
    shown = desk.get(f"/backups/sets/{found.pk}/").content.decode()
    assert "Beside the database" in shown and "clerk" in shown and "Agent jobs could not be seen." in shown
    assert "DEADBEEF" not in shown and "\u202e" not in shown


def test_a_log_and_a_set_of_a_whole_server_say_nothing_of_it(desk: Client, fleet: Fleet) -> None:
    instance = recorded(fleet)
    for found in (fleet.backup(instance, kind="log"), fleet.backup(instance, database="")):
        assert "Beside the database" not in desk.get(f"/backups/sets/{found.pk}/").content.decode()


def test_an_operator_gets_the_script_and_a_viewer_does_not(desk: Client, fleet: Fleet) -> None:
    found = fleet.backup(recorded(fleet))
    answer = desk.post(f"/backups/sets/{found.pk}/server-script/")
    assert answer.content.decode() == SCRIPT and answer["Cache-Control"] == "no-store"
    assert answer["Content-Disposition"].startswith(f'attachment; filename="{found.instance.code}-server-')
    assert Event.objects.filter(kind="server_script.read").count() == 1
    Membership.objects.exclude(role=Role.VIEWER).delete()
    assert desk.post(f"/backups/sets/{found.pk}/server-script/").status_code in (403, 404)
    assert desk.get(f"/backups/sets/{found.pk}/server-script/").status_code == 405
    assert Event.objects.filter(kind="server_script.read").count() == 1


def test_a_set_without_one_has_none_to_give(desk: Client, fleet: Fleet) -> None:
    found = fleet.backup(fleet.instance("orders"))
    assert desk.post(f"/backups/sets/{found.pk}/server-script/").status_code == 404
