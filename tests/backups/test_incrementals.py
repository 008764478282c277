"""Chains of incrementals as rows: when one is asked for, what is planned with it, what must stay (R-6, R-9, R-12.6)."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest

from backups import default_backups
from backups.copying import planning
from backups.default_backups import incrementals, retiring
from backups.engines.facts import FullNeeded
from backups.keeping import expiring, purging
from backups.models import Alert, Arrival, BackupFile, BackupJob, BackupSet, Copy, CopyState, Event, Instance, Kind
from backups.oversight import audit
from backups.oversight.watch import watch
from regions import clock
from regions.refusals import Refusal
from tests.backups.time_machine import TimeMachine
from tests.backups.world import SOURCE, TARGET, World

DAY = timedelta(days=1)


@pytest.fixture
def shop(world: World, time_machine: TimeMachine) -> Instance:
    """A PostgreSQL 18 that Farshore backs up every night; only its folder's name is made up."""
    row = world.instance(
        "shop",
        engine="postgresql",
        engine_version="18.1",
        arrival=Arrival.TAKEN,
        prefixes=[],
        timetable_time=time(2, 0),
        full_every_days=3,
    )
    world.store(TARGET)
    return _with_folder(row)


def _with_folder(instance: Instance) -> Instance:
    instance.prefixes = ["ours/"]
    return instance


def took(world: World, instance: Instance, at: Any, base: BackupSet | None = None) -> BackupSet:
    row = world.finished(instance, at, database="", base=base, origin="taken", started_at=at - timedelta(minutes=10))
    row.files.update(is_ours=True)
    return row


def chain(world: World, instance: Instance, at: Any, length: int = 3) -> list[BackupSet]:
    """A full and the incrementals on it, a day between them, the last one at `at`."""
    sets: list[BackupSet] = []
    for ago in reversed(range(length)):
        sets.append(took(world, instance, at - ago * DAY, sets[-1] if sets else None))
    return sets


def test_a_set_is_called_what_its_engine_calls_it(world: World, shop: Instance, time_machine: TimeMachine) -> None:
    full, incremental = chain(world, shop, clock.now(), 2)
    assert str(incremental).startswith("shop incremental ")
    assert str(full).startswith("shop full ")
    ledger = world.instance("ledger")
    assert " differential " in str(world.finished(ledger, base=world.finished(ledger)))


# ---- asking


def test_the_timetable_takes_a_full_every_so_many_days_and_incrementals_between(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    default_backups.ask_by_timetable()
    kinds, newest = [], None
    for _ in range(7):
        row = Instance.objects.get(pk=shop.pk)
        time_machine.forward(seconds=(row.next_backup_at - time_machine.at).total_seconds() + 20)
        assert default_backups.ask_by_timetable() == 1
        job = BackupJob.objects.get(state=BackupJob.State.QUEUED)
        kinds.append(job.kind)
        newest = took(world, shop, time_machine.at + timedelta(hours=1), newest if job.kind != Kind.FULL else None)
        BackupJob.objects.update(state=BackupJob.State.SUCCEEDED)
    full, incremental = Kind.FULL, Kind.DIFFERENTIAL
    assert kinds == [full, incremental, incremental, full, incremental, incremental, full]


@pytest.mark.parametrize(
    "changes", [{"full_every_days": 1}, {"engine_version": "16.9"}, {"engine": "mariadb", "engine_version": "11.8"}]
)
def test_where_none_is_wanted_or_none_can_be_taken_every_one_is_a_full(
    world: World, shop: Instance, time_machine: TimeMachine, changes: dict[str, Any]
) -> None:
    took(world, shop, time_machine.at - DAY)
    assert incrementals.kind_due(shop, time_machine.at) == Kind.DIFFERENTIAL
    for name, value in changes.items():
        setattr(shop, name, value)
    assert incrementals.kind_due(shop, time_machine.at) == Kind.FULL


def test_what_cannot_be_taken_is_refused_when_it_is_asked_for(world: World, shop: Instance) -> None:
    with pytest.raises(Refusal) as refused:
        default_backups.ask(shop, world.by, on="secondary")
    assert (refused.value.code, refused.value.field) == ("NoSecondary", "on")
    shop.engine_version = "16.2"
    with pytest.raises(Refusal) as refused:
        default_backups.ask(shop, world.by, kind=Kind.DIFFERENTIAL)
    assert (refused.value.code, refused.value.field) == ("IncrementalNotTaken", "kind")
    assert not BackupJob.objects.exists()
    shop.secondary_host = "10.0.0.9"
    job = default_backups.ask(shop, world.by, on="secondary", reason="log_gap")
    assert (job.on, job.kind, job.reason) == ("secondary", "full", "log_gap")
    assert Event.objects.get(kind="backup.asked").sentence == (
        "A full backup of the secondary was asked for: a gap in the logs."
    )


def test_who_asks_for_a_full_is_not_served_by_an_incremental_that_waits(world: World, shop: Instance) -> None:
    """R-6.2: exactly one; one that runs is waited for."""
    waiting = default_backups.ask(shop, world.by, kind=Kind.DIFFERENTIAL)
    assert default_backups.ask(shop, world.by) == waiting
    waiting.refresh_from_db()
    assert waiting.kind == Kind.FULL
    BackupJob.objects.update(kind=Kind.DIFFERENTIAL, state=BackupJob.State.RUNNING)
    assert default_backups.ask(shop, world.by).kind == Kind.DIFFERENTIAL
    assert BackupJob.objects.count() == 1


def test_an_incremental_stands_on_the_newest_set_whose_chain_is_whole(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    with pytest.raises(FullNeeded, match="no backup yet"):
        incrementals.base_for(shop)
    sets = chain(world, shop, time_machine.at)
    with pytest.raises(FullNeeded, match="not kept"):
        incrementals.base_for(shop)
    BackupFile.objects.update(integrity={"outline": [0, 3, "0" * 64]})
    assert incrementals.base_for(shop).facts.set_guid == sets[2].set_guid
    with pytest.raises(FullNeeded, match="not what was written"):
        incrementals.base_for(shop).open()
    sets[0].files.update(state=BackupFile.State.GONE)
    with pytest.raises(FullNeeded, match="not at the source any more"):
        incrementals.base_for(shop)


def test_an_incremental_that_arrives_is_a_default_backup_that_has_arrived(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    Instance.objects.update(created_at=time_machine.at - 9 * DAY)
    full = took(world, shop, time_machine.at - 3 * DAY)
    late = Alert.objects.filter(code="no_default_backup", closed_at=None)
    watch()
    assert late.exists()
    took(world, shop, time_machine.at, full)
    watch()
    assert not late.exists()


# ---- planning


def on_its_way(instance: Instance) -> list[BackupSet]:
    return [copy.set for copy in Copy.objects.live().filter(set__instance=instance).order_by("priority", "pk")]


def test_the_whole_chain_is_planned_and_arrives_base_first(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    """R-6.1: a set counts only with what it needs, at any depth, however old."""
    sets = chain(world, shop, time_machine.at - timedelta(hours=2), length=4)
    [check] = planning.examine(shop, time_machine.at)
    assert (check.chosen, list(check.bases)) == (sets[3], sets[:3])
    world.enable(shop)
    assert on_its_way(shop) == sets
    assert not BackupJob.objects.exists()
    assert {copy.kept_for for copy in Copy.objects.filter(set__in=sets[:3])} == {"needed"}
    assert [copy.set for copy in world.carry()] == sets
    assert {copy.expires_at for copy in Copy.objects.all()} == {sets[3].finished_at + 7 * DAY}


@pytest.mark.parametrize("missing", [0, 1])
def test_a_chain_with_a_link_missing_does_not_count_and_a_full_is_taken(
    world: World, shop: Instance, time_machine: TimeMachine, missing: int
) -> None:
    sets = chain(world, shop, time_machine.at, length=3)
    BackupSet.objects.filter(pk=sets[0].pk).update(finished_at=time_machine.at - 2 * DAY)
    sets[missing].files.update(state=BackupFile.State.GONE)
    assert planning.bases_of(sets[2]) == (sets[1:2] if missing == 0 else [])
    world.enable(shop)
    assert BackupJob.objects.get().kind == Kind.FULL
    assert not Copy.objects.exists()


def test_each_incremental_brings_along_only_what_is_not_there(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    sets = chain(world, shop, time_machine.at - timedelta(hours=1), length=2)
    world.enable(shop)
    world.carry()
    time_machine.forward(days=1)
    third = took(world, shop, time_machine.at, sets[1])
    planning.weigh_due()
    assert [copy.set for copy in world.carry()] == [third]
    assert Copy.objects.count() == 3 and not list(audit.broken_chains())


def test_a_chain_expires_together_whatever_its_depth(world: World, shop: Instance, time_machine: TimeMachine) -> None:
    """R-12.6, I5: the full and what lies between are kept until the last that needs them goes."""
    sets = chain(world, shop, time_machine.at, length=3)
    world.enable(shop)
    world.carry()
    time_machine.forward(days=6, hours=23)
    took(world, shop, time_machine.at)  # a new full, so that none of these is the last good copy
    planning.weigh_due()
    world.carry()
    expiring.expire_due()
    old = Copy.objects.filter(set__in=sets)
    assert {copy.state for copy in old} == {CopyState.COMPLETED}
    time_machine.forward(hours=2)
    expiring.expire_due()
    assert {copy.state for copy in old.all()} == {CopyState.EXPIRED}
    time_machine.forward(days=1, hours=2)
    purging.purge_due(TARGET)
    assert {copy.state for copy in old.all()} <= {CopyState.EXPIRED, CopyState.DELETED}
    assert not list(audit.broken_chains())


# ---- at the source


def kept(instance: Instance) -> list[BackupSet]:
    return list(instance.sets.filter(deleted_at=None).order_by("finished_at"))


def weighed(instance: Instance, at: Any) -> None:
    instance.sets.update(weighed_at=at)


def test_a_base_stays_at_the_source_while_an_incremental_kept_there_needs_it(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    """R-2.5: seven days each; the full is eight days old and needed by what is two days younger."""
    old = chain(world, shop, time_machine.at - 6 * DAY, length=3)
    newer = took(world, shop, time_machine.at)
    weighed(shop, time_machine.at)
    assert retiring.retire_due() == 0
    assert not retiring._retire(old[0], time_machine.at), "asked for by name it stays as well"
    assert kept(shop) == [*old, newer]
    time_machine.forward(days=1, seconds=1)
    assert retiring.retire_due() == 3, "the chain goes in one sweep, the last first"
    assert kept(shop) == [newer]
    assert not (world.folder / SOURCE / old[0].files.get().key).exists()


def test_the_newest_and_all_it_stands_on_outlive_their_days(
    world: World, shop: Instance, time_machine: TimeMachine
) -> None:
    sets = chain(world, shop, time_machine.at - 30 * DAY, length=3)
    weighed(shop, time_machine.at)
    assert retiring.retire_due() == 0
    Instance.objects.filter(pk=shop.pk).update(released_at=time_machine.at - 8 * DAY)
    assert retiring.retire_due(limit=2) == 2
    assert kept(shop) == sets[:1]
    assert retiring.retire_due() == 1
