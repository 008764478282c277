"""What the audit holds against what people were promised: each breach, planted, is found (I4, I6, I10, I12)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from backups import alerts
from backups.keeping import expiring, holds
from backups.models import Alert, Copy, CopyPolicy, CopyState, Hold, Instance
from backups.oversight.audit import CHECKS
from backups.terms import agreements
from regions import clock
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, TARGET, World

DAY = timedelta(days=1)


def found_by(name: str) -> list[str]:
    return list(CHECKS[name]())


@pytest.fixture
def copy(world: World, orders: Instance) -> Copy:
    world.enable(orders)
    found = world.arrived(orders)
    assert not found_by("I4 no early delete") + found_by("I6 last good copy") + found_by("I12 agreement")
    return found


def delete(copy: Copy, **facts: Any) -> None:
    """As if it had been expired and deleted in good order, but for the facts."""
    at = clock.now()
    usual = {"expires_at": at - 3 * DAY, "expired_at": at - 3 * DAY, "purge_at": at - 2 * DAY, "deleted_at": at}
    CopyPolicy.objects.update(enabled_at=at - 9 * DAY)
    Copy.objects.filter(pk=copy.pk).update(state=CopyState.DELETED, **usual | facts)


def test_a_delete_before_its_grace_its_lock_or_its_hold_was_over(world: World, copy: Copy) -> None:
    hold, at = holds.place(copy, "CASE-1", world.by), clock.now()
    for facts, word in (
        ({"expired_at": at - timedelta(hours=23)}, "before its grace was over"),
        ({"expires_at": at + DAY}, "before its grace was over"),
        ({"locked_until": at + DAY}, "had it locked"),
    ):
        Hold.objects.filter(pk=hold.pk).update(placed_at=at - 9 * DAY, released_at=at - 8 * DAY)
        delete(copy, **facts)
        [sentence] = found_by("I4 no early delete")
        assert word in sentence
    delete(copy, locked_until=at - DAY)
    assert found_by("I4 no early delete") == []
    for released_at in (None, at + DAY):
        Hold.objects.filter(pk=hold.pk).update(released_at=released_at)
        assert found_by("I4 no early delete") == [f"copy {copy.pk} was deleted while a person held it"]


def test_the_last_full_of_a_database_under_an_enabled_policy(world: World, orders: Instance, copy: Copy) -> None:
    delete(copy)
    [sentence] = found_by("I6 last good copy")
    assert f"copy {copy.pk} was the last full of orders" in sentence
    alerts.open_alert("database_not_seen", expiring.database_subject(copy), "Not seen.", instance=orders)
    assert found_by("I6 last good copy") == [], "an alert came before"
    Alert.objects.all().delete()
    another = world.arrived(orders)
    assert found_by("I6 last good copy") == [], "another is there"
    Copy.objects.filter(pk=another.pk).update(
        state=CopyState.CANCELLED, cancelled_at=clock.now(), cancel_reason="disabled"
    )
    assert len(found_by("I6 last good copy")) == 1
    CopyPolicy.objects.update(enabled_at=clock.now())
    assert found_by("I6 last good copy") == [], "it went while the policy was disabled"


def test_a_copy_that_was_completed_after_its_policy_had_ended(world: World, orders: Instance, copy: Copy) -> None:
    world.disable(orders)
    assert found_by("I10 nothing after the end") == []
    Copy.objects.update(completed_at=clock.now() + timedelta(hours=1))
    assert found_by("I10 nothing after the end") == [f"copy {copy.pk} was completed after its policy had ended"]


def unguarded(statement: str, *values: Any) -> None:
    """Do what no trigger of ours lets anybody do."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("SET LOCAL session_replication_role = origin")


def test_a_policy_whose_acceptance_is_of_something_else(world: World, orders: Instance, copy: Copy) -> None:
    policy, other = orders.policies.get(), world.instance("other")
    given = policy.acceptance
    theirs = agreements.accept([other], world.region(TARGET), world.by)
    elsewhere = agreements.accept([orders], world.region(OTHER), world.by)
    standing = agreements.accept_standing(world.group, "mainland", "SG", world.by)
    for acceptance, word in (
        (theirs, "does not name its instance"),
        (elsewhere, "for another route"),
        (standing, "for another route"),
    ):
        unguarded("UPDATE backups_copypolicy SET acceptance_id = %s WHERE id = %s", acceptance.pk, policy.pk)
        [sentence] = found_by("I12 agreement")
        assert word in sentence
    unguarded("UPDATE backups_copypolicy SET acceptance_id = %s WHERE id = %s", given.pk, policy.pk)
    assert found_by("I12 agreement") == []
    unguarded("UPDATE backups_agreementtext SET text = text || ' and more'")
    [sentence] = found_by("I12 agreement")
    assert "is not what was accepted" in sentence


def test_a_fleet_that_lives_a_month_breaks_none(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    world.enable(orders)
    for _ in range(12):
        world.arrived(orders)
        time_machine.forward(days=1)
        world.sweep()
    held = holds.place(Copy.objects.filter(state=CopyState.COMPLETED).first(), "CASE-1", world.by)
    time_machine.forward(days=20)
    world.sweep()
    holds.release(held, world.by)
    for _ in range(3):
        time_machine.forward(days=1)
        world.sweep()
    assert Copy.objects.filter(state=CopyState.DELETED).exists()
    promised = [name for name in CHECKS if name.startswith(("I4 no", "I6", "I10", "I12"))]
    assert len(promised) == 4 and {name: found_by(name) for name in promised} == dict.fromkeys(promised, [])
