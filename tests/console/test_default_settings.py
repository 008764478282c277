"""The dialog of default backups, and deleting one at its source (R-2.5, R-7.1)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.test import Client
from django.urls import reverse

from backups.models import Arrival, Instance, Membership, Role
from tests.console.fleet import Fleet
from tests.console.test_joining import HTMX, words


def settings_page(instance: Instance) -> str:
    return reverse("instances:defaults", args=[instance.code])


def filled_in(desk: Client, instance: Instance, **more: Any) -> dict[str, Any]:
    """What a browser would send when nothing but `more` is changed."""
    form = desk.get(settings_page(instance)).context["form"]
    said = {name: value for name, value in form.initial.items() if name in form.fields and value not in (None, False)}
    return said | more


def test_the_dialog_shows_what_is_set_and_saves_what_is_wanted(desk: Client, fleet: Fleet) -> None:
    sql = fleet.instance("orders", arrival=Arrival.TAKEN, host="10.0.0.8", log_every_minutes=15)
    assert settings_page(sql) in desk.get(reverse("instances:default", args=[sql.code])).content.decode()
    shown = words(desk.get(settings_page(sql)))
    assert 'value="15" selected' in shown and "Shortening how long they are kept" in shown
    wanted = filled_in(desk, sql, default_retention_days=30, timetable_days=[5, 6], timetable_time="04:30")
    assert desk.post(settings_page(sql), wanted, **HTMX).status_code == 204
    sql.refresh_from_db()
    assert (sql.default_retention_days, sql.timetable_days, sql.log_every_minutes) == (30, [5, 6], 15)
    assert sql.default_backup_enabled


def test_only_what_the_engine_has_is_asked(desk: Client, fleet: Fleet) -> None:
    shop = fleet.instance("shop", engine="mariadb", engine_version="11.8", arrival=Arrival.TAKEN, host="10.0.0.8")
    asked = set(desk.get(settings_page(shop)).context["form"].fields)
    assert not asked & {"full_every_days", "log_every_minutes", "backup_method"}
    found = fleet.instance("orders")
    assert "default_backup_enabled" not in desk.get(settings_page(found)).context["form"].fields
    assert desk.post(settings_page(found), filled_in(desk, found, timetable_time="01:00"), **HTMX).status_code == 204
    found.refresh_from_db()
    assert found.default_backup_enabled, "what is not asked stays as it is"


def test_what_is_refused_stands_beside_its_field_and_nothing_is_lost(desk: Client, fleet: Fleet) -> None:
    on = fleet.protected("ledger")
    answer = desk.post(settings_page(on), filled_in(desk, on, backup_method="snapshot", timetable_time="03:00"), **HTMX)
    assert "The method cannot become snapshot" in words(answer) and 'value="03:00"' in words(answer)
    on.refresh_from_db()
    assert (on.backup_method, on.timetable_time) == ("physical", None)
    assert "at least one day" not in words(answer)


def test_the_second_of_two_is_told(desk: Client, fleet: Fleet) -> None:
    """I14."""
    sql = fleet.instance("orders")
    mine, theirs = filled_in(desk, sql, default_retention_days=9), filled_in(desk, sql, default_retention_days=30)
    desk.post(settings_page(sql), theirs, **HTMX)
    assert "days kept 7 → 30" in words(desk.post(settings_page(sql), mine, **HTMX))
    sql.refresh_from_db()
    assert sql.default_retention_days == 30


def test_it_is_the_operators(client: Client, fleet: Fleet) -> None:
    sql = fleet.instance("orders", arrival=Arrival.TAKEN, host="10.0.0.8")
    found = fleet.backup(sql, origin="taken")
    Membership.objects.filter(user=fleet.user).update(role=Role.VIEWER)
    client.force_login(fleet.user)
    for address in (settings_page(sql), reverse("backup_sets:delete", args=[found.pk])):
        assert client.get(address).status_code == client.post(address).status_code == 403
    assert settings_page(sql) not in client.get(reverse("instances:default", args=[sql.code])).content.decode()


def test_a_default_backup_is_deleted_at_its_source_or_the_dialog_says_why_not(desk: Client, fleet: Fleet) -> None:
    sql = fleet.instance("orders", arrival=Arrival.TAKEN, host="10.0.0.8")
    old, newest = (fleet.backup(sql, age=timedelta(days=days), origin="taken") for days in (20, 9))
    assert "It is the newest backup" in words(desk.get(reverse("backup_sets:delete", args=[newest.pk])))
    address = reverse("backup_sets:delete", args=[old.pk])
    assert address in desk.get(reverse("backup_sets:page", args=[old.pk])).content.decode()
    assert "No other copy of it is kept" in words(desk.get(address))
    assert desk.post(address, **HTMX).status_code == 204
    assert "Is being deleted at its source" in words(desk.get(reverse("backup_sets:page", args=[old.pk])))
    old.refresh_from_db()
    assert old.deletion_asked_at and old.deleted_at is None
