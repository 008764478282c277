"""Onto the original, by pages: its name, a second person, what is kept aside; a machine that is gone (R-2.3)."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from backups.models import Alert, Event, Instance, Membership, Restore, Role
from tests.console.brought_back import HOUR, restore, streamed
from tests.console.fleet import SOURCE, Fleet
from tests.console.test_restores import NEW, form, words
from tests.support.test_acting import act


@pytest.fixture
def original(fleet: Fleet) -> Instance:
    """An instance whose server is a restored one that Farshore runs."""
    instance = streamed(fleet)
    restore(fleet, instance, name=instance.name, result=instance, region_id=SOURCE)
    return instance


@pytest.fixture
def approver(fleet: Fleet) -> Client:
    user = User.objects.create_user("second")
    Membership.objects.create(user=user, group=fleet.group, role=Role.APPROVER)
    client = Client()
    client.force_login(user)
    return client


def onto(instance: Instance, **more: Any) -> dict[str, Any]:
    return form(instance, place="default", target="original", typed=instance.name, **more)


def page(name: str, found: Restore) -> str:
    return reverse(f"restores:{name}", args=[found.code])


def asked(desk: Client, original: Instance) -> Restore:
    desk.post(NEW, onto(original))
    return Restore.objects.get(onto=original)


# ---- the wizard


def test_the_original_can_be_chosen_where_farshore_runs_its_server(desk: Client, original: Instance) -> None:
    shown = words(desk.get(NEW, {"instance": original.code, "place": "default", "target": "original"}))
    assert 'value="original" checked' in shown
    assert "an approver who did not ask has to agree before anything begins" in shown
    assert "Ask a second person" in shown and "from now on" not in shown
    reached = original.sets.order_by("-finished_at").first().finished_at
    assert f"what was written to it after {reached:%Y-%m-%d %H:%M:%S} UTC is not in the restored one" in shown
    answer = desk.post(NEW, onto(original))
    waiting = Restore.objects.get(onto=original)
    assert answer.url == page("page", waiting)
    assert (waiting.state, waiting.region_id, waiting.origin) == ("waiting", SOURCE, "default")


def test_a_server_that_is_only_reached_is_not_overwritten_and_the_wizard_says_why(desk: Client, fleet: Fleet) -> None:
    instance = streamed(fleet)
    shown = words(desk.get(NEW, {"instance": instance.code, "place": "default", "target": "original"}))
    assert 'value="original" disabled' in shown.replace("  ", " ")
    assert "can neither stop it nor lay files under it" in shown
    assert "own tools" in shown
    assert desk.post(NEW, onto(instance)).status_code == 200
    assert not Restore.objects.exists()


def test_copies_become_new_instances_only(desk: Client, original: Instance) -> None:
    shown = words(desk.get(NEW, {"instance": original.code, "target": "original"}))
    assert "a default backup may go onto the original" in shown
    refused = words(desk.post(NEW, form(original, target="original", typed=original.name)))
    assert "A copy is not restored onto" in refused
    assert not Restore.objects.filter(onto=original).exists()


@pytest.mark.parametrize("typed", ["", "orders", "FLEET-TELEMETRY", "fleet-telemetry "])
def test_another_name_is_refused_beside_its_field(desk: Client, original: Instance, typed: str) -> None:
    shown = words(desk.post(NEW, onto(original) | {"typed": typed}))
    assert f"What was typed in is not the name of {original.name}." in shown
    assert 'name="typed"' in shown and 'aria-invalid="true"' in shown
    assert not Restore.objects.filter(onto=original).exists()


# ---- the second person


def test_who_asked_cannot_agree_and_an_approver_can(desk: Client, original: Instance, approver: Client) -> None:
    waiting = asked(desk, original)
    shown = words(desk.get(page("page", waiting)))
    assert "asked to restore fleet-telemetry onto itself" in shown and "You asked for this yourself" in shown
    assert ">Agree</a>" not in shown
    desk.post(page("agree", waiting))
    waiting.refresh_from_db()
    assert waiting.state == "waiting"

    shown = words(approver.get(page("page", waiting)))
    assert ">Agree</a>" in shown and ">Cancel</a>" not in shown
    dialog = words(approver.get(page("agree", waiting)))
    assert "takes its place at the same address" in dialog and "<dd>The newest moment</dd>" in dialog
    Restore.objects.filter(pk=waiting.pk).update(until=waiting.asked_at)
    dialog = words(approver.get(page("agree", waiting)))
    assert f"{waiting.asked_at:%Y-%m-%d %H:%M:%S} UTC" in dialog, "who agrees reads as of when"
    approver.post(page("agree", waiting))
    waiting.refresh_from_db()
    assert (waiting.state, waiting.approved_by.username) == ("queued", "second")
    assert not Alert.objects.filter(code="restore_needs_second_person", closed_at=None).exists()


def test_a_viewer_and_a_stranger_agree_to_nothing(desk: Client, original: Instance, approver: Client) -> None:
    waiting = asked(desk, original)
    Membership.objects.filter(user__username="second").update(role=Role.VIEWER)
    shown = words(approver.get(page("page", waiting)))
    assert "needs the role approver" in shown and ">Agree</a>" not in shown
    approver.post(page("agree", waiting))
    Membership.objects.filter(user__username="second").delete()
    assert approver.post(page("agree", waiting)).status_code == 404
    waiting.refresh_from_db()
    assert waiting.state == "waiting"


def test_the_support_admin_agrees_too_and_never_for_oneself(client: Client, desk: Client, original: Instance) -> None:
    waiting = asked(desk, original)
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    act(client, "backups_restore", "agree", waiting)
    waiting.refresh_from_db()
    assert waiting.state == "queued"


# ---- what was replaced


@pytest.fixture
def replaced(desk: Client, original: Instance) -> Restore:
    """As the worker leaves it: the new one is the instance, the old one is kept aside."""
    found = asked(desk, original)
    old = Restore.objects.filter(result=original)
    old.update(state="aside", makes_room_for=found, leased_until=None)
    Restore.objects.filter(pk=found.pk).update(
        state="ready", result=original, host="10.9.0.4", port=54321, leased_until=found.asked_at + HOUR
    )
    found.refresh_from_db()
    return found


def test_the_new_one_is_kept_or_the_old_one_put_back(desk: Client, original: Instance, replaced: Restore) -> None:
    shown = words(desk.get(page("page", replaced)))
    assert "What it held before is kept aside." in shown
    assert "Keep the new one" in shown and "Put the old one back" in shown
    old = Restore.objects.get(state="aside")
    assert replaced.code in words(desk.get(page("page", old)))
    assert "is started again as it was when it was replaced" in words(desk.get(page("remove", replaced)))

    assert "cannot be put back any more" in words(desk.get(page("confirm", replaced)))
    desk.post(page("confirm", replaced))
    old.refresh_from_db()
    assert old.cancel_asked_at
    assert Event.objects.filter(kind="restore.confirmed").count() == 1
    shown = words(desk.get(page("page", replaced)))
    assert "Put the old one back" not in shown and ">Remove</a>" in shown


def test_a_viewer_lets_nothing_go(client: Client, fleet: Fleet, original: Instance, replaced: Restore) -> None:
    Membership.objects.update(role=Role.VIEWER)
    client.force_login(fleet.user)
    for name in ("confirm", "remove", "write_off"):
        assert client.post(page(name, replaced), {"reason": "mine"}).status_code == 403
    assert Restore.objects.get(state="aside").cancel_asked_at is None


# ---- a machine that is gone


def test_a_dead_machines_server_is_written_off_with_a_reason(desk: Client, original: Instance, fleet: Fleet) -> None:
    lost = Restore.objects.get(result=original)
    assert "Its machine is gone" not in words(desk.get(page("page", lost))), "it is held"
    Restore.objects.update(leased_until=fleet.now - HOUR)
    assert "Its machine is gone" in words(desk.get(page("page", lost)))
    assert "Say in a few words" in words(desk.post(page("write_off", lost), {"reason": " "}))
    desk.post(page("write_off", lost), {"reason": "the rack burnt down"})
    lost.refresh_from_db()
    original.refresh_from_db()
    assert (lost.state, lost.error, original.released) == ("removed", "the rack burnt down", True)
    assert "Written off: the rack burnt down" in words(desk.get(page("page", lost)))
    assert Event.objects.filter(kind="restore.written_off", actor=fleet.user).count() == 1
