"""Level-2 backup in the source region: hidden and free when disabled, back when enabled again (R-18.2, R-2.2, I11)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from backups import access, fleet, level2, policies
from backups.chains import windows
from backups.copying import damage, planning
from backups.level2 import Terms, hidden_copies, latest, policy_of, together
from backups.models import (
    BackupJob,
    Copy,
    CopyPolicy,
    CopyState,
    Family,
    Instance,
    PolicyKind,
    RestorableInterval,
    StorageSpan,
)
from backups.oversight import audit, audit_promises, protection
from backups.oversight.watch import requalify_all
from backups.policies import Refusals
from billing import metering
from regions.models import Store
from regions.refusals import Refusal
from tests.backups.time_machine import TimeMachine
from tests.backups.world import SOURCE, TARGET, World

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def beside(world: World, orders: Instance) -> Instance:
    """An instance whose region has a second store."""
    world.second_store()
    return orders


def enable(world: World, instance: Instance, days: int = 7) -> CopyPolicy:
    level2.apply(instance, Terms(True, days), world.by)
    return policy_of(instance)


def disable(world: World, instance: Instance, days: int = 7) -> None:
    level2.apply(instance, Terms(False, days), world.by)


def arrived(world: World, instance: Instance, at: datetime | None = None, **more: object) -> Copy:
    found = world.finished(instance, at, **more)
    planning.weigh(found.pk)
    world.carry(SOURCE)
    return found.copies.get(policy__kind=PolicyKind.INTRA_REGION)


def now(copy: Copy) -> Copy:
    copy.refresh_from_db()
    return copy


def charged(copy: Copy) -> list[tuple[datetime, datetime | None]]:
    return list(copy.spans.order_by("began_at").values_list("began_at", "ended_at"))


def breaches() -> list[str]:
    return [*audit.wrong_spans(), *audit.shown_though_hidden(), *audit.broken_chains(), *audit_promises.early_deletes()]


# ---- a second store


def test_a_second_store_comes_beside_the_regions_own(world: World, orders: Instance) -> None:
    (world.folder / "lonely").mkdir()
    with pytest.raises(Refusal, match="has no store yet"):
        lonely = world.region("cn-beijing")
        fleet.attach(lonely, (world.folder / "lonely").as_uri(), {}, {}, world.by, Store.Role.SECOND)
    second = world.second_store()
    assert second.region_id == SOURCE
    with pytest.raises(Refusal, match="has a store already"):
        (world.folder / "third").mkdir()
        fleet.attach(second.region, (world.folder / "third").as_uri(), {}, {}, world.by, Store.Role.SECOND)


def test_it_is_not_let_go_of_while_level_2_backup_goes_to_it(world: World, beside: Instance) -> None:
    enable(world, beside)
    second = level2.second_store(beside.region)
    with pytest.raises(Refusal, match="Level-2 backup"):
        fleet.detach(second, world.by)
    disable(world, beside)
    fleet.detach(second, world.by)
    with pytest.raises(Refusals, match="no reachable second store"):
        enable(world, beside)


# ---- enabling


def test_it_needs_no_agreement_for_nothing_leaves_the_region(world: World, beside: Instance) -> None:
    """R-2.2, I12, docs/decisions/0067: of this kind the destination is the source, and only of this kind."""
    policy = enable(world, beside)
    assert (policy.destination_id, policy.source_region_id, policy.acceptance) == (SOURCE, SOURCE, None)
    with pytest.raises(IntegrityError), transaction.atomic():
        CopyPolicy.objects.filter(pk=policy.pk).update(destination=TARGET)
    with pytest.raises(IntegrityError), transaction.atomic():
        CopyPolicy.objects.filter(pk=policy.pk).update(kind=PolicyKind.CROSS_REGION)


def test_it_is_refused_with_every_reason_and_then_nothing_is_kept(world: World, orders: Instance) -> None:
    Instance.objects.filter(pk=orders.pk).update(family=Family.SHARED)
    with pytest.raises(Refusals) as refused:
        level2.apply(orders, Terms(True, 6), world.by)
    assert {refusal.field for refusal in refused.value.items} == {"enabled", "retention_days"}
    assert len(refused.value.items) == 3
    assert policy_of(orders) is None


def test_of_two_who_save_at_once_the_second_is_told(world: World, beside: Instance) -> None:
    """I14."""
    seen = level2.terms_of(beside).expected
    level2.apply(beside, Terms(True, 7, seen), world.by)
    with pytest.raises(Refusals, match="changed while this was open"):
        level2.apply(beside, Terms(True, 30, seen), world.by)
    assert policy_of(beside).retention_days == 7


@pytest.mark.parametrize(("seconds", "copies"), [(86_399, 1), (86_400, 1), (86_401, 0)])
def test_the_24_hour_check_runs_for_it_too(
    world: World, beside: Instance, time_machine: TimeMachine, seconds: int, copies: int
) -> None:
    """I13."""
    world.finished(beside, time_machine.at - timedelta(seconds=seconds))
    enable(world, beside)
    assert [copy.state for copy in world.carry(SOURCE)] == [CopyState.COMPLETED] * copies


def test_where_nothing_valid_is_there_one_full_is_taken_for_both_kinds(world: World, orders: Instance) -> None:
    shop = world.instance("shop", engine="postgresql", arrival="taken", prefixes=[])
    world.second_store()
    world.enable(shop)
    enable(world, shop)
    assert BackupJob.objects.filter(instance=shop).count() == 1


def test_each_backup_goes_to_both_stores_and_neither_waits_for_the_other(world: World, beside: Instance) -> None:
    """R-5.1, I2: its copies are carried and verified as all others."""
    world.enable(beside)
    enable(world, beside)
    found = world.finished(beside)
    planning.weigh(found.pk)
    [inside] = world.carry(SOURCE)
    assert (inside.state, inside.destination_store.role) == (CopyState.COMPLETED, Store.Role.SECOND)
    [outside] = world.carry(TARGET)
    assert (outside.state, outside.destination_store.region_id) == (CopyState.COMPLETED, TARGET)
    transfer = inside.copied_files.get().transfer
    assert (world.folder / "second" / transfer.key).read_bytes() == (
        world.folder / SOURCE / found.files.get().key
    ).read_bytes()
    assert list(audit.breaches()) == []


def test_it_protects_nobody_against_the_loss_of_the_region(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """R-1.2, R-19: protected is who has a copy elsewhere."""
    enable(world, beside)
    arrived(world, beside)
    assert protection.of(beside, time_machine.at).state == "not_set_up"
    world.enable(beside)
    assert protection.of(beside, time_machine.at).state == "copying"


# ---- hidden


def test_disabled_its_sets_are_kept_free_and_nowhere_to_be_seen(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    world.enable(beside)
    enable(world, beside)
    began, copy = time_machine.at, arrived(world, beside)
    elsewhere = world.carry(TARGET)[0]
    path = world.folder / "second" / copy.copied_files.get().transfer.key
    time_machine.forward(hours=5)
    disable(world, beside)

    assert now(copy).state == CopyState.HIDDEN and path.exists()
    assert charged(copy) == [(began, time_machine.at)]
    assert list(access.copies_for(world.user)) == [elsewhere]
    assert windows.stores_with_copies(beside) == [elsewhere.destination_store]
    assert not RestorableInterval.objects.filter(store__role=Store.Role.SECOND).exists()
    assert now(elsewhere).state == CopyState.COMPLETED and len(charged(elsewhere)) == 1
    assert breaches() == []


def test_enabled_again_they_are_back_as_old_as_they_were_and_charged_from_then_on(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """R-18.2: never backdated."""
    enable(world, beside)
    finished, copy = time_machine.at, arrived(world, beside)
    time_machine.forward(days=5)
    hidden = time_machine.at
    disable(world, beside)
    time_machine.forward(days=300)
    world.sweep()
    assert now(copy).state == CopyState.HIDDEN

    shown = time_machine.at
    enable(world, beside)
    assert now(copy).state == CopyState.COMPLETED
    assert copy.expires_at == finished + 307 * DAY
    assert charged(copy) == [(finished, hidden), (shown, None)]
    assert [copy] == list(access.copies_for(world.user))
    assert RestorableInterval.objects.filter(store__role=Store.Role.SECOND).exists()

    time_machine.forward(days=1)
    disable(world, beside)
    time_machine.forward(days=10)
    enable(world, beside)
    assert now(copy).expires_at == finished + 317 * DAY
    assert breaches() == []


def test_what_is_on_its_way_is_cancelled_and_planned_again(world: World, beside: Instance) -> None:
    """I10."""
    enable(world, beside)
    found = world.finished(beside)
    planning.weigh(found.pk)
    disable(world, beside)
    assert found.copies.get().cancel_reason == "disabled"
    assert world.carry(SOURCE) == []
    enable(world, beside)
    assert [copy.set for copy in world.carry(SOURCE)] == [found]


def test_what_finishes_while_it_is_disabled_is_not_owed(world: World, beside: Instance) -> None:
    enable(world, beside)
    disable(world, beside)
    found = world.finished(beside)
    planning.weigh(found.pk)
    assert not found.copies.exists()
    assert list(audit.breaches()) == []


def test_what_its_date_has_come_for_is_not_hidden_away(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """Its charge ended at its date, though no sweep has seen it (R-4.1); the newest is kept, free (R-15.6)."""
    enable(world, beside)
    began, old, newest = time_machine.at, arrived(world, beside), arrived(world, beside)
    time_machine.forward(days=8)
    disable(world, beside)
    assert (now(old).state, now(newest).state) == (CopyState.EXPIRED, CopyState.HIDDEN)
    assert charged(old) == charged(newest) == [(began, began + 7 * DAY)]
    time_machine.forward(days=30)
    world.sweep()
    enable(world, beside)
    assert (now(old).state, now(newest).state) == (CopyState.DELETED, CopyState.COMPLETED)
    assert newest.kept_for == "last_good"
    assert len(charged(newest)) == 1
    assert breaches() == []


def test_a_damaged_copy_comes_back_damaged(world: World, beside: Instance, time_machine: TimeMachine) -> None:
    """I7: what was hidden is what it was."""
    enable(world, beside)
    copy = arrived(world, beside)
    damage.mark(copy, None)
    disable(world, beside)
    assert now(copy).state == CopyState.HIDDEN
    time_machine.forward(days=1)
    enable(world, beside)
    assert now(copy).state == CopyState.DAMAGED
    assert charged(copy)[0][1] is not None and len(charged(copy)) == 1


# ---- how long hidden ones stay


def test_hidden_ones_are_gone_when_the_longest_retention_is_over(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """R-18.2: at 1,825 days at the latest; the day of grace is spent before (I4)."""
    enable(world, beside)
    finished, copy = time_machine.at, arrived(world, beside)
    disable(world, beside)
    time_machine.at = finished + 1825 * DAY - 25 * HOUR - timedelta(seconds=1)
    world.sweep()
    assert now(copy).state == CopyState.HIDDEN
    time_machine.forward(seconds=1)
    world.sweep()
    assert now(copy).state == CopyState.EXPIRED
    time_machine.at = finished + 1825 * DAY
    world.sweep()
    assert now(copy).state == CopyState.DELETED
    assert len(charged(copy)) == 1 and breaches() == []


def test_enabled_in_its_grace_a_hidden_one_is_back(world: World, beside: Instance, time_machine: TimeMachine) -> None:
    """Never beyond the longest period, however long it was hidden."""
    enable(world, beside)
    finished, copy = time_machine.at, arrived(world, beside)
    disable(world, beside)
    time_machine.at = finished + 1825 * DAY - 20 * HOUR
    world.sweep()
    assert now(copy).state == CopyState.EXPIRED and copy in hidden_copies(policy_of(beside))
    enable(world, beside)
    assert now(copy).state == CopyState.COMPLETED
    assert copy.expires_at == finished + 1825 * DAY
    assert breaches() == []


def test_hidden_a_differential_goes_with_its_full(world: World, beside: Instance, time_machine: TimeMachine) -> None:
    """I5: it cannot outlast what it stands on, and nothing hidden outlasts the longest period."""
    enable(world, beside)
    began, full = time_machine.at, arrived(world, beside)
    time_machine.forward(days=3)
    differential = arrived(world, beside, base=full.set)
    assert now(full).expires_at == now(differential).expires_at == began + 10 * DAY
    disable(world, beside)
    assert now(full).expires_at == now(differential).expires_at == latest(began)
    time_machine.at = latest(began)
    world.sweep()
    time_machine.forward(hours=25)
    world.sweep()
    assert {now(full).state, now(differential).state} == {CopyState.DELETED}
    assert breaches() == []


def test_what_is_held_stays_also_while_hidden(world: World, beside: Instance, time_machine: TimeMachine) -> None:
    enable(world, beside)
    finished, full = time_machine.at, arrived(world, beside)
    differential = arrived(world, beside, base=full.set)
    held = world.hold(differential)
    disable(world, beside)
    assert (now(full).expires_at, now(differential).expires_at) == (None, None)
    time_machine.at = finished + 2000 * DAY
    world.sweep()
    assert (now(full).state, now(differential).state) == (CopyState.HIDDEN, CopyState.HIDDEN)
    world.let_go(held)
    level2.date_released()
    world.sweep()
    assert (now(full).state, now(differential).state) == (CopyState.EXPIRED, CopyState.EXPIRED)


@pytest.mark.parametrize(
    ("days", "needed_by", "expected"),
    [
        ({1: 5}, {}, {1: 5}),
        ({1: 5, 2: 8}, {1: {2}}, {1: 5, 2: 5}),
        ({1: 9, 2: 8}, {1: {2}}, {1: 9, 2: 8}),
        ({1: 5, 2: 8, 3: 9}, {1: {2}, 2: {3}}, {1: 5, 2: 5, 3: 5}),
        ({1: 5, 2: 8}, {1: {2}, 2: {1}}, {1: 5, 2: 5}),
        ({1: 5}, {1: {7}}, {1: 5}),
    ],
    ids=["alone", "full first", "differential first", "chain", "one file", "elsewhere"],
)
def test_nothing_outlasts_what_it_stands_on(days: dict, needed_by: dict, expected: dict) -> None:
    at = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    dates = together({one: at + n * DAY for one, n in days.items()}, needed_by)
    assert {one: (date - at).days for one, date in dates.items()} == expected


# ---- its terms


def test_a_second_store_that_was_let_go_of_holds_up_no_other_copy(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """R-5.1, I2: what finished under it, and is noticed late, is owed elsewhere all the same, and here it is told."""
    world.enable(beside)
    enable(world, beside)
    time_machine.forward(hours=1)
    late = world.finished(beside)
    time_machine.forward(hours=1)
    disable(world, beside)
    fleet.detach(level2.second_store(beside.region), world.by)
    assert planning.weigh_due() == 1
    assert [copy.state for copy in world.carry(TARGET)] == [CopyState.COMPLETED]
    assert late.copies.get(policy__kind=PolicyKind.INTRA_REGION).cancel_reason == "disabled"


def test_its_retention_is_its_own_and_counts_both_ways(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """R-14.3: what a shorter one expires costs nothing from the OK on, and comes back with the former one."""
    world.enable(beside, days=30)
    enable(world, beside, 30)
    finished, old = time_machine.at, arrived(world, beside)
    elsewhere = world.carry(TARGET)[0]
    time_machine.forward(days=10)
    arrived(world, beside)
    level2.apply(beside, Terms(True, 7), world.by)
    assert now(old).state == CopyState.EXPIRED and charged(old) == [(finished, time_machine.at)]
    assert now(elsewhere).expires_at == finished + 30 * DAY
    level2.apply(beside, Terms(True, 30), world.by)
    assert now(old).state == CopyState.COMPLETED
    assert charged(old)[1] == (time_machine.at, None)
    world.set(beside, retention_days=8)
    assert now(old).expires_at == finished + 30 * DAY


def test_disabling_cross_region_backup_leaves_it_alone_and_the_other_way_round(world: World, beside: Instance) -> None:
    world.enable(beside)
    enable(world, beside)
    world.disable(beside)
    assert policy_of(beside).enabled
    copy = arrived(world, beside)
    assert copy.state == CopyState.COMPLETED
    world.enable(beside)
    disable(world, beside)
    assert policies.enabled_policy(beside) is not None


def test_released_it_ages_out_and_only_its_retention_changes(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """R-2.4, R-14.2, I9."""
    enable(world, beside)
    finished, copy = time_machine.at, arrived(world, beside)
    policies.release(beside, world.by)
    with pytest.raises(Refusals, match="only the retention"):
        level2.apply(beside, Terms(False), world.by)
    level2.apply(beside, Terms(True, 8), world.by)
    assert now(copy).expires_at == finished + 8 * DAY
    time_machine.forward(days=8)
    world.sweep()
    assert now(copy).state == CopyState.EXPIRED


def test_one_that_no_longer_qualifies_is_suspended_and_resumed(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """R-3.4."""
    enable(world, beside)
    Instance.objects.filter(pk=beside.pk).update(family=Family.SHARED)
    requalify_all()
    assert policy_of(beside).suspended_at == time_machine.at
    time_machine.forward(hours=1)
    found = world.finished(beside)
    planning.weigh(found.pk)
    assert not found.copies.exists()
    time_machine.forward(hours=1)
    Instance.objects.filter(pk=beside.pk).update(family=Family.DEDICATED)
    requalify_all()
    assert policy_of(beside).suspended_at is None
    assert [copy.set for copy in world.carry(SOURCE)] == [found]


# ---- what it costs


def test_what_is_shown_costs_what_storage_costs_on_its_own_route_and_what_is_hidden_nothing(
    world: World, beside: Instance, time_machine: TimeMachine
) -> None:
    """R-18.2, R-4.1, I11: the meter against the story, to the byte and the second, over both kinds."""
    world.enable(beside, days=30)
    enable(world, beside, 30)
    begin = time_machine.at
    arrived(world, beside, size=1000)
    world.carry(TARGET)
    time_machine.forward(days=2)
    disable(world, beside)
    time_machine.forward(days=5)
    enable(world, beside, 30)
    time_machine.forward(days=1, seconds=1)

    lines = {
        (line.source, line.destination): line.byte_seconds
        for line in metering.stored_between(begin, time_machine.at, at=time_machine.at)
    }
    day = 86_400
    assert lines == {(SOURCE, SOURCE): 1000 * (3 * day + 1), (SOURCE, TARGET): 1000 * (8 * day + 1)}
    spans = StorageSpan.objects.filter(copy__policy__kind=PolicyKind.INTRA_REGION).select_related("copy")
    assert metering.byte_seconds(spans, begin, time_machine.at, at=time_machine.at) == lines[SOURCE, SOURCE]
