"""The 24-hour check: copy what is valid, back up what has nothing valid, else wait and say so (R-6, I13)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backups import default_backups, policies
from backups.copying import planning
from backups.models import Alert, Arrival, BackupFile, BackupJob, BackupSet, Copy, Instance, SetStatus
from backups.oversight import protection
from backups.oversight.watch import watch
from tests.backups.time_machine import TimeMachine
from tests.backups.world import TARGET, World


def taken(world: World, **more: Any) -> Instance:
    return world.instance("shop", engine="postgresql", arrival=Arrival.TAKEN, prefixes=[], **more)


def on_its_way(instance: Instance) -> list[BackupSet]:
    return [copy.set for copy in Copy.objects.live().filter(set__instance=instance).order_by("pk")]


@pytest.mark.parametrize(("seconds", "is_valid"), [(86_399, True), (86_400, True), (86_401, False)])
def test_a_backup_counts_for_exactly_24_hours(
    world: World, orders: Instance, time_machine: TimeMachine, seconds: int, is_valid: bool
) -> None:
    """R-6.1: finished_at ≥ now − 86,400 s."""
    found = world.finished(orders, time_machine.at - timedelta(seconds=seconds))
    world.enable(orders)
    assert on_its_way(orders) == ([found] if is_valid else [])


@pytest.mark.parametrize(("seconds", "jobs"), [(86_399, 0), (86_400, 0), (86_401, 1)])
def test_where_none_is_valid_exactly_one_is_taken(
    world: World, orders: Instance, time_machine: TimeMachine, seconds: int, jobs: int
) -> None:
    """R-6.2."""
    shop = taken(world)
    world.finished(_with_folder(shop), time_machine.at - timedelta(seconds=seconds), database="")
    world.enable(shop)
    assert BackupJob.objects.filter(instance=shop, reason="24h").count() == jobs


def _with_folder(instance: Instance) -> Instance:
    instance.prefixes = ["ours/"]
    return instance


def test_the_backup_is_asked_for_once_whatever_is_clicked_twice(world: World, orders: Instance) -> None:
    shop = taken(world)
    running = default_backups.ask(shop, world.by)
    for _ in range(2):
        world.enable(shop)
        world.disable(shop)
    world.enable(shop)
    assert BackupJob.objects.get() == running


def test_of_the_valid_ones_the_newest_is_copied_for_each_database(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-6.3."""
    hours = {"old": 20, "new": 2, "older than a day": 30}
    sets = {
        (database, name): world.finished(orders, time_machine.at - timedelta(hours=ago), database=database)
        for database in ("Sales", "Stock")
        for name, ago in hours.items()
    }
    world.enable(orders)
    assert on_its_way(orders) == [sets["Sales", "new"], sets["Stock", "new"]]
    assert {copy.origin for copy in Copy.objects.all()} == {Copy.Origin.TWENTY_FOUR_HOURS}


def test_a_differential_comes_with_its_full_however_old(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-6.1: the full is copied first, and kept as long as the differential."""
    full = world.finished(orders, time_machine.at - timedelta(days=12))
    differential = world.finished(orders, time_machine.at - timedelta(hours=3), base=full)
    world.enable(orders)
    base, copy = Copy.objects.order_by("priority")
    assert (base.set, base.origin, copy.set) == (full, Copy.Origin.BASE, differential)
    assert base.expires_at == copy.expires_at and base.kept_for == "needed"
    assert [done.set for done in world.carry()] == [full, differential]


def test_a_differential_without_its_full_does_not_count(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    full = world.finished(orders, time_machine.at - timedelta(days=2))
    world.finished(orders, time_machine.at - timedelta(hours=3), base=full)
    BackupFile.objects.filter(sets=full).update(state=BackupFile.State.GONE)
    [check] = planning.examine(orders, time_machine.at)
    assert check.chosen is None
    world.enable(orders)
    assert not Copy.objects.exists()


@pytest.mark.parametrize("wrong", ["damaged", "incomplete", "gone", "replaced"])
def test_what_is_damaged_or_not_there_as_recorded_does_not_count(world: World, orders: Instance, wrong: str) -> None:
    found = world.finished(orders)
    if wrong in SetStatus.values:
        BackupSet.objects.filter(pk=found.pk).update(status=wrong)
    else:
        found.files.update(state=wrong)
    world.enable(orders)
    assert not Copy.objects.exists()


def test_with_nothing_valid_it_waits_says_so_and_alerts_after_a_day(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-6.2: enabling is accepted, the state is Waiting for a full backup."""
    world.enable(orders)
    assert protection.of(orders, time_machine.at).state == "waiting_for_full"
    time_machine.forward(hours=23, minutes=59)
    watch()
    assert not Alert.objects.filter(code="waiting_for_full").exists()
    time_machine.forward(minutes=1)
    watch()
    assert Alert.objects.get(code="waiting_for_full").closed_at is None

    world.arrived(orders)
    watch()
    assert Alert.objects.get(code="waiting_for_full").closed_at == time_machine.at
    assert protection.of(orders, time_machine.at).state == "in_step"


def test_a_full_from_just_before_that_is_noticed_late_ends_the_wait(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    finished = time_machine.at
    time_machine.forward(seconds=30)
    world.enable(orders)
    late = world.finished(orders, finished)
    planning.weigh_due()
    assert on_its_way(orders) == [late]
    another = world.finished(orders, finished - timedelta(minutes=1))
    planning.weigh_due()
    assert not another.copies.exists()


def test_the_check_runs_again_on_every_way_back_in(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    """R-6.4: enabling again."""
    world.enable(orders)
    world.disable(orders)
    time_machine.forward(hours=1)
    meanwhile = world.finished(orders)
    planning.weigh_due()
    assert not meanwhile.copies.exists()
    time_machine.forward(hours=1)
    world.enable(orders, TARGET)
    assert on_its_way(orders) == [meanwhile]
    assert policies.enabled_policy(orders).copies.get().set == meanwhile
