"""What has not arrived before its date is cancelled, with its alert, whoever is there to carry it (R-2.5, I3)."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from backups import cleaning, level2, policies, tasks
from backups.copying import cancelling, carrying, planning, replication
from backups.events import FARSHORE
from backups.models import PENDING, Alert, Copy, CopyState, Instance, StorageSpan, Transfer
from backups.oversight import audit, watch
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, TARGET, World

TOO_LATE = (CopyState.CANCELLED, "expired_before_arrival")


@pytest.fixture
def owed(world: World, orders: Instance, time_machine: TimeMachine) -> Copy:
    """A copy for which no worker came until its date."""
    world.enable(orders)
    planning.weigh(world.finished(orders).pk)
    return Copy.objects.get()


def ending(copy: Copy) -> tuple[str, str]:
    copy.refresh_from_db()
    return copy.state, copy.cancel_reason


def told(copy: Copy) -> list[str]:
    alerts = Alert.objects.filter(subject=f"copy:{copy.pk}", closed_at=None)
    return [alert.sentence for alert in alerts]


def test_with_its_worker_away_the_sweep_cancels_it(owed: Copy, time_machine: TimeMachine) -> None:
    time_machine.forward(days=6, hours=23, minutes=59)
    tasks.sweep()
    assert ending(owed) == (CopyState.PLANNED, "") and list(audit.overdue_copies()) == []
    time_machine.forward(minutes=1)
    tasks.sweep()
    assert ending(owed) == TOO_LATE
    assert "will not reach its destination" in told(owed)[0]
    assert not StorageSpan.objects.exists()
    assert not owed.set.copies.filter(state__in=PENDING).exists()  # what retiring asks: is a copy of it owed?


def test_the_audit_names_what_nobody_cancelled(owed: Copy, time_machine: TimeMachine) -> None:
    time_machine.forward(days=7, minutes=6)
    assert list(audit.overdue_copies()) == [f"copy {owed.pk} is planned past its date and was not cancelled"]
    replication.cancel_too_late()
    assert list(audit.overdue_copies()) == []


def test_what_a_dead_worker_left_of_it_is_removed_and_it_comes_too_late_to_commit(
    world: World, owed: Copy, time_machine: TimeMachine
) -> None:
    mine = replication.claim(TARGET)
    transfers = carrying.bring_files(mine, time.monotonic() + 60)
    time_machine.forward(days=8)
    assert replication.cancel_too_late() == 1 and ending(owed) == TOO_LATE
    [transfer] = Transfer.objects.all()
    path = world.folder / TARGET / transfer.key
    assert transfer.state == Transfer.State.ABANDONED and path.exists()
    with pytest.raises(replication.LeaseLost):
        replication.publish(mine, transfers)
    cleaning.clean_up(TARGET)
    assert not path.exists() and not StorageSpan.objects.exists()
    assert ending(owed) == TOO_LATE


def test_who_carries_it_keeps_it_until_his_lease_ends(owed: Copy, time_machine: TimeMachine) -> None:
    time_machine.forward(days=7)
    Copy.objects.update(expires_at=time_machine.at + timedelta(seconds=1))
    mine = replication.claim(TARGET)
    time_machine.forward(seconds=1)
    assert replication.cancel_too_late() == 0
    assert replication.carry_slice(mine) is False
    assert ending(owed) == TOO_LATE


def test_a_base_waits_as_long_as_the_differential_that_needs_it(
    world: World, orders: Instance, owed: Copy, time_machine: TimeMachine
) -> None:
    time_machine.forward(days=5)
    planning.weigh(world.finished(orders, base=owed.set).pk)
    time_machine.forward(days=3)
    assert replication.cancel_too_late() == 0
    cancelling.cancel(Copy.objects.get(set__kind="differential"), "by_a_person", FARSHORE)
    assert replication.cancel_too_late() == 1 and ending(owed) == TOO_LATE


def test_what_a_held_copy_needs_has_no_date_to_miss(owed: Copy, time_machine: TimeMachine) -> None:
    Copy.objects.filter(pk=owed.pk).update(expires_at=None, kept_for="hold")
    time_machine.forward(days=30)
    assert replication.cancel_too_late() == 0


# ---- how long that is told


@pytest.fixture
def missed(owed: Copy, time_machine: TimeMachine) -> Copy:
    time_machine.forward(days=7)
    replication.cancel_too_late()
    assert told(owed)
    return owed


def test_it_is_told_until_a_newer_backup_of_the_database_has_arrived(
    world: World, orders: Instance, missed: Copy
) -> None:
    world.set(orders, destination=OTHER)
    world.arrived(orders, database="Stock")
    assert told(missed)
    world.arrived(orders)
    assert told(missed) == []


def test_who_disables_wants_nothing_newer_and_is_told_no_longer(world: World, orders: Instance, missed: Copy) -> None:
    world.disable(orders)
    assert told(missed) == []


def test_who_wants_no_logs_any_more_is_told_of_none(world: World, orders: Instance, missed: Copy) -> None:
    world.set(orders, logs_enabled=True)
    lost = world.finished(orders, kind="log", first_position=1, last_position=2)
    planning.weigh(lost.pk)
    log = lost.copies.get()
    cancelling.cancel(log, "source_gone")
    assert told(log)
    world.set(orders, logs_enabled=False)
    assert told(log) == [] and told(missed)


def test_that_level_2_missed_one_is_not_forgotten_with_the_other(
    world: World, orders: Instance, time_machine: TimeMachine, missed: Copy
) -> None:
    world.second_store()
    level2.apply(orders, level2.Terms(True, 7), world.by)
    planning.weigh(world.finished(orders).pk)
    time_machine.forward(days=7)
    replication.cancel_too_late()
    inside = Copy.objects.get(policy__kind="intra_region")
    world.disable(orders)
    assert told(missed) == [] and told(inside)
    level2.apply(orders, level2.Terms(False, 7), world.by)
    assert told(inside) == []


def test_of_a_released_instance_it_is_told_for_a_day(
    world: World, orders: Instance, owed: Copy, time_machine: TimeMachine
) -> None:
    """R-2.4: what is owed at the release is finished, or said to be lost."""
    policies.release(orders, world.by)
    time_machine.forward(days=7)
    replication.cancel_too_late()
    time_machine.forward(hours=23)
    watch.watch()
    assert told(owed)
    time_machine.forward(hours=1)
    watch.watch()
    assert told(owed) == []
