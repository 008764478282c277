"""What happened and what is wrong: the sealed log, alerts and who may see them (R-19, I16, design.md §8)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.mail import EmailMessage
from django.db import connection
from django.http import Http404

from backups import access, alerts, events, seals
from backups.models import Alert, Event, Instance, Membership, ResourceGroup, Role, Seal
from backups.oversight import audit
from backups.oversight.watch import watch
from backups.terms import agreements
from regions.models import Store
from tests.backups.time_machine import TimeMachine
from tests.backups.world import TARGET, World

# ---- the sealed log


@contextmanager
def as_owner() -> Iterator[Any]:
    """Do what only who owns the tables could: change history with the triggers off."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor
        cursor.execute("SET LOCAL session_replication_role = origin")


@pytest.fixture
def log(world: World, orders: Instance) -> list[Event]:
    """Five events told and sealed."""
    for number in range(5):
        events.record("story.told", f"Thing {number} happened.", by=world.by, instance=orders, number=number)
    seals.seal_events()
    assert list(seals.breaches(seals.head())) == []
    return list(Event.objects.order_by("pk"))


def test_sealing_again_adds_nothing_and_what_came_since_goes_on_top(log: list[Event]) -> None:
    sealed = Seal.objects.count()
    assert seals.seal_events() == 0
    events.record("story.told", "One more.")
    assert seals.seal_events() == 1
    assert seals.head()[0] == sealed + 1 == Event.objects.count()
    assert list(seals.breaches(seals.head())) == []


@pytest.mark.parametrize(
    "change",
    [
        "sentence = sentence || ' '",
        "data = '{\"number\": 9}'",
        "actor_name = 'somebody else'",
        "at = at + interval '1 microsecond'",
        "address = ''",
        "kind = 'story.changed'",
        "instance_id = NULL",
    ],
)
def test_one_changed_byte_is_found(log: list[Event], change: str) -> None:
    """I16."""
    with as_owner() as cursor:
        cursor.execute(f"UPDATE backups_event SET {change} WHERE id = %s", [log[-2].pk])
    assert any(f"event {log[-2].pk} is not what was sealed" in said for said in seals.breaches())
    assert any(name.startswith("I16") for name, _ in audit.breaches())


def test_a_link_taken_out_is_found(log: list[Event]) -> None:
    with as_owner() as cursor:
        cursor.execute("DELETE FROM backups_seal WHERE event_id = %s", [log[-2].pk])
        cursor.execute("DELETE FROM backups_event WHERE id = %s", [log[-2].pk])
    assert any("is missing" in said for said in seals.breaches())


def test_a_cut_tail_is_found_by_the_head_a_destination_has_kept(log: list[Event]) -> None:
    audit.keep_heads()
    with as_owner() as cursor:
        cursor.execute("DELETE FROM backups_seal WHERE event_id = %s", [log[-1].pk])
        cursor.execute("DELETE FROM backups_event WHERE id = %s", [log[-1].pk])
    assert list(seals.breaches()) == []
    assert any("a destination has seen seal" in said for _, said in audit.breaches())


def test_a_tail_that_was_written_anew_is_found_too(log: list[Event]) -> None:
    audit.keep_heads()
    with as_owner() as cursor:
        cursor.execute("DELETE FROM backups_seal WHERE event_id = %s", [log[-1].pk])
        cursor.execute("DELETE FROM backups_event WHERE id = %s", [log[-1].pk])
    events.record("story.told", "This is what happened instead.")
    seals.seal_events()
    assert list(seals.breaches()) == []
    assert any("differs from the head" in said for _, said in audit.breaches())


# ---- alerts


@pytest.fixture(autouse=True)
def recipients(settings: Any, tmp_path: Path) -> None:
    settings.ALERT_RECIPIENTS = ["dba@example.com"]
    settings.FARSHORE_KEYS = tmp_path / "no-keys-yet"  # nobody has to keep a copy of them, which is an alert too


def test_an_alert_opens_once_and_is_mailed_once_each_way(
    world: World, orders: Instance, time_machine: TimeMachine, mailoutbox: list[EmailMessage]
) -> None:
    """R-19."""
    Store.objects.filter(region=TARGET).update(state="unreachable", last_error="It does not answer.")
    for _ in range(3):
        watch()
        alerts.mail_due()
    assert Alert.objects.get().code == "store_unreachable"
    assert [mail.subject.startswith("[Farshore] Open:") for mail in mailoutbox] == [True]
    assert "It does not answer." in mailoutbox[0].body and mailoutbox[0].to == ["dba@example.com"]

    Store.objects.filter(region=TARGET).update(state="ok")
    for _ in range(3):
        watch()
        alerts.mail_due()
    assert Alert.objects.get().closed_at is not None
    assert [re.findall("Open|Closed", mail.subject)[0] for mail in mailoutbox] == ["Open", "Closed"]


def test_the_same_trouble_later_is_a_new_alert(
    world: World, orders: Instance, time_machine: TimeMachine, mailoutbox: list[EmailMessage]
) -> None:
    for state in ("unreachable", "ok", "refused"):
        Store.objects.filter(region=TARGET).update(state=state)
        watch()
        alerts.mail_due()
    assert Alert.objects.count() == 2 and Alert.objects.filter(closed_at=None).count() == 1
    assert len(mailoutbox) == 3


@pytest.fixture
def no_relay(settings: Any) -> Iterator[Any]:
    """A relay that is away, until `settings` says otherwise."""
    with socket.socket() as bound:  # bound and not listening: it refuses
        bound.bind(("127.0.0.1", 0))
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = bound.getsockname()
        yield settings


def relay_is_back(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


def news(mailoutbox: list[EmailMessage]) -> list[str]:
    return [re.findall(r"\[Farshore\] ([^:]+):", mail.subject)[0] for mail in mailoutbox]


def test_what_cannot_be_mailed_stays_due(world: World, no_relay: Any, mailoutbox: list[EmailMessage]) -> None:
    alerts.open_alert("story", "nobody:1", "Something is wrong.")
    assert alerts.mail_due() == 0 and mailoutbox == []
    relay_is_back(no_relay)
    assert alerts.mail_due() == 1 and news(mailoutbox) == ["Open"]


def test_what_closes_before_anybody_was_told_is_told_in_one_mail_that_says_both(
    world: World, no_relay: Any, mailoutbox: list[EmailMessage]
) -> None:
    """R-19: nothing is lost by an outage of the relay, and nothing told twice after it."""
    for number in (1, 2):
        alerts.open_alert("story", f"nobody:{number}", f"Trouble {number}.")
    assert alerts.mail_due() == 0
    alerts.close_alert("story", "nobody:1")
    relay_is_back(no_relay)
    for _ in range(2):
        alerts.mail_due()
    assert news(mailoutbox) == ["Opened and closed", "Open"]
    assert "Opened 2" in mailoutbox[0].body and "Closed 2" in mailoutbox[0].body
    alerts.close_alert("story", "nobody:2")
    for _ in range(2):
        alerts.mail_due()
    assert news(mailoutbox) == ["Opened and closed", "Open", "Closed"]
    opened, closed = (mail.extra_headers for mail in mailoutbox[1:])
    assert closed["In-Reply-To"] == opened["Message-ID"] != closed["Message-ID"]


def test_a_line_break_in_a_name_does_not_become_a_header(world: World, mailoutbox: list[EmailMessage]) -> None:
    alerts.open_alert("story", "nobody:1", "No backup of x\nBcc: all@example.com has arrived.")
    alerts.mail_due()
    assert "\n" not in mailoutbox[0].subject and mailoutbox[0].recipients() == ["dba@example.com"]


def test_a_silent_instance_and_a_late_copy_are_told(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    world.enable(orders)
    told = Alert.objects.filter(instance=orders)
    found = world.finished(orders)
    world.find(orders)
    time_machine.forward(hours=2)
    watch()
    assert {alert.code for alert in told.filter(closed_at=None)} == {"copy_late"}
    time_machine.forward(hours=24, minutes=5)
    watch()
    assert {alert.code for alert in told.filter(closed_at=None)} == {"copy_late", "no_default_backup"}
    found.copies.update(due_at=time_machine.at)
    world.carry()
    world.finished(orders)
    watch()
    assert not told.filter(closed_at=None).exists()


# ---- who may see it


@pytest.fixture
def stranger(world: World) -> User:
    eve = User.objects.create_user("eve")
    group = ResourceGroup.objects.create(name="Elsewhere")
    Membership.objects.create(user=eve, group=group, role=Role.OPERATOR)
    return eve


def test_a_stranger_sees_nothing_of_another_group(world: World, orders: Instance, stranger: User) -> None:
    """design.md §8: 404 for what one may not see."""
    world.enable(orders)
    copy = world.arrived(orders)
    agreements.accept_standing(world.group, "mainland", "SG", world.by)
    alerts.open_alert("story", "nobody:1", "Something is wrong.", instance=orders)
    with pytest.raises(Http404):
        access.instance_for(stranger, orders.code)
    with pytest.raises(Http404):
        access.set_for(stranger, copy.set_id)
    doors = [access.instances_for, access.sets_for, access.copies_for, access.alerts_for, access.events_for]
    for door in [*doors, access.acceptances_for]:
        assert not door(stranger).exists() and door(world.user).exists()


def test_a_viewer_sees_and_does_not_touch(world: World, orders: Instance, stranger: User) -> None:
    Membership.objects.create(user=stranger, group=world.group, role=Role.VIEWER)
    assert access.instance_for(stranger, orders.code) == orders
    assert not access.may_operate(stranger, orders)
    with pytest.raises(PermissionDenied):
        access.instance_for(stranger, orders.code, Role.OPERATOR)
    Membership.objects.create(user=stranger, group=world.group, role=Role.OPERATOR)
    assert access.instance_for(stranger, orders.code, Role.OPERATOR) == orders


def test_an_account_that_was_closed_sees_nothing(world: World, orders: Instance) -> None:
    world.user.is_active = False
    assert not access.instances_for(world.user).exists()
    assert not access.may_run_installation(world.user)


def test_an_alert_about_a_persons_own_is_theirs_until_their_account_is_closed(world: World, stranger: User) -> None:
    alerts.open_alert("story", "theirs:1", "Something of theirs is wrong.", user=stranger)
    assert access.alerts_for(stranger).exists()
    other = User.objects.create_user("other")
    Membership.objects.create(user=other, group=world.group, role=Role.OPERATOR)
    assert not access.alerts_for(other).exists()
    stranger.is_active = False
    assert not access.alerts_for(stranger).exists()


def test_an_alert_of_no_group_is_for_who_runs_the_installation(world: World, stranger: User) -> None:
    alerts.open_alert("story", "store:1", "A store does not answer.")
    assert access.alerts_for(world.user).exists()
    assert not access.alerts_for(stranger).exists()
