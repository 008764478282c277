"""How long copies stay, what they cost, and when their bytes go (R-12.6, R-14.3, R-15, I4 to I6, I9, I11)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from backups import cleaning, fleet, policies
from backups.copying import damage, planning, replication
from backups.events import By
from backups.keeping import purging, shortening, source_gone
from backups.models import Alert, Copy, CopyState, Event, Instance, Pin, StorageSpan, Transfer
from backups.oversight import audit, watch
from backups.policies import Settings
from backups.servers import certificate_book
from regions.models import Store
from regions.refusals import Refusal
from regions.storage import StorageError
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, SOURCE, TARGET, World

DAY = timedelta(days=1)
CERTIFICATE = "ab" * 20


def now(copy: Copy) -> Copy:
    copy.refresh_from_db()
    return copy


def path_of(world: World, copy: Copy) -> Path:
    return world.folder / copy.destination_store.region_id / copy.copied_files.get().transfer.key


def charged(copy: Copy) -> list[tuple[datetime, datetime | None]]:
    return list(copy.spans.order_by("began_at").values_list("began_at", "ended_at"))


# ---- dates


def test_retention_counts_from_the_backup_s_completion(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-12.6: not from the moment it arrived."""
    world.enable(orders)
    finished = time_machine.at
    planning.weigh(world.finished(orders).pk)
    time_machine.forward(days=3)
    [copy] = world.carry()
    assert copy.expires_at == finished + 7 * DAY
    assert charged(copy) == [(time_machine.at, None)]


def test_a_new_retention_counts_for_what_is_there_both_ways(world: World, orders: Instance) -> None:
    """R-14.3."""
    world.enable(orders)
    copy = world.arrived(orders)
    for days in (30, 8, 1825, 7):
        world.set(orders, retention_days=days)
        assert now(copy).expires_at == copy.set.finished_at + days * DAY
    assert len(charged(copy)) == 1


def test_a_new_retention_counts_at_former_destinations_too(world: World, orders: Instance) -> None:
    world.enable(orders)
    copy = world.arrived(orders)
    world.set(orders, destination=OTHER)
    world.set(orders, retention_days=30)
    assert now(copy).expires_at == copy.set.finished_at + 30 * DAY


def test_shortening_frees_at_the_ok_and_undo_charges_from_then_on(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-14.3."""
    world.enable(orders, days=30)
    old = world.arrived(orders)
    began = time_machine.at
    time_machine.forward(days=10)
    newest = world.arrived(orders)
    told = shortening.of_all({orders.pk: Settings(True, 7, TARGET)}, time_machine.at)[orders.pk]
    assert (told.sets, told.bytes, told.all_sets) == (1, 100, 2)

    world.set(orders, retention_days=7)
    shortened = time_machine.at
    assert (now(old).state, now(newest).state) == (CopyState.EXPIRED, CopyState.COMPLETED)
    assert charged(old) == [(began, shortened)]
    assert old.purge_at == shortened + DAY

    time_machine.forward(hours=23)
    policies.undo_shortening(orders, world.by)
    assert now(old).state == CopyState.COMPLETED and old.expires_at == old.set.finished_at + 30 * DAY
    assert charged(old) == [(began, shortened), (time_machine.at, None)]
    with pytest.raises(Refusal):
        policies.undo_shortening(orders, world.by)


def test_what_was_undone_ends_at_its_natural_date_without_a_second_person(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders, days=30)
    old = world.arrived(orders)
    time_machine.forward(days=10)
    world.set(orders, retention_days=7)
    world.arrived(orders)
    world.sweep()
    policies.undo_shortening(orders, world.by)
    time_machine.forward(days=60)
    world.sweep()
    time_machine.forward(days=2)
    world.sweep()
    assert now(old).state == CopyState.DELETED


def test_an_undo_reaches_past_a_change_of_destination(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders, days=30)
    old = world.arrived(orders)
    world.arrived(orders)
    time_machine.forward(days=10)
    world.set(orders, retention_days=7, destination=OTHER)
    world.sweep()
    assert now(old).state == CopyState.EXPIRED
    policies.undo_shortening(orders, world.by)
    assert now(old).state == CopyState.COMPLETED
    assert policies.enabled_policy(orders).retention_days == 30


def test_a_date_that_passed_while_no_sweep_ran_is_not_charged_a_second_longer(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-4.1, I11: nor when somebody lengthens the retention before the sweep comes."""
    world.enable(orders)
    copy = world.arrived(orders)
    began = time_machine.at
    time_machine.forward(days=9)
    world.set(orders, retention_days=30)
    assert charged(now(copy)) == [(began, began + 7 * DAY), (time_machine.at, None)]


def test_a_full_stays_and_is_charged_as_long_as_a_differential_needs_it(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-12.6, I5."""
    world.enable(orders)
    full = world.arrived(orders)
    began = time_machine.at
    time_machine.forward(days=5)
    differential = world.arrived(orders, base=full.set)
    newer = world.arrived(orders, time_machine.at)
    assert (now(full).expires_at, full.kept_for) == (differential.set.finished_at + 7 * DAY, "needed")
    time_machine.forward(days=6, hours=23)
    world.sweep()
    assert now(full).state == CopyState.COMPLETED
    time_machine.forward(hours=1)
    world.sweep()
    assert {now(copy).state for copy in (full, differential)} == {CopyState.EXPIRED}
    assert charged(full) == [(began, began + 12 * DAY)]
    assert now(newer).state == CopyState.COMPLETED


# ---- the last good copy


def test_the_last_good_copy_stays_free_of_charge_until_a_newer_one_arrives(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-15.6, I6."""
    world.enable(orders)
    copy = world.arrived(orders)
    began = time_machine.at
    time_machine.forward(days=100)
    world.sweep()
    assert (now(copy).state, copy.kept_for) == (CopyState.COMPLETED, "last_good")
    assert charged(copy) == [(began, began + 7 * DAY)]
    assert path_of(world, copy).exists()

    world.arrived(orders)
    world.sweep()
    assert now(copy).state == CopyState.EXPIRED
    time_machine.forward(days=1)
    world.sweep()
    assert now(copy).state == CopyState.DELETED and not path_of(world, copy).exists()


def test_a_failed_copy_is_no_good_copy(
    world: World, orders: Instance, time_machine: TimeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enable(orders)
    copy = world.arrived(orders)
    time_machine.forward(days=8)
    planning.weigh(world.finished(orders).pk)
    with monkeypatch.context() as patch:
        patch.setattr(replication.carrying, "bring_files", _no_store)
        assert [failed.state for failed in world.carry()] == [CopyState.FAILED]
    world.sweep()
    assert now(copy).kept_for == "last_good"


def _no_store(copy: Copy, until: float) -> None:
    raise StorageError("The store does not answer.", retry=True)


def test_each_database_has_its_own_last_good_copy(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    world.enable(orders)
    copies = [world.arrived(orders, database=name) for name in ("Sales", "Stock")]
    time_machine.forward(days=8)
    world.arrived(orders, database="Sales")
    world.sweep()
    assert [now(copy).state for copy in copies] == [CopyState.EXPIRED, CopyState.COMPLETED]


def test_a_full_that_cannot_be_opened_there_does_not_take_the_place_of_one_that_can(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-3.5, I6: the newest verified one is kept, and the newest that can be restored."""
    world.enable(orders)
    plain = world.arrived(orders)
    locked = [world.arrived(orders, certificate_thumbprint=CERTIFICATE) for _ in range(2)]
    time_machine.forward(days=8)
    world.sweep()
    assert (now(plain).state, plain.kept_for) == (CopyState.COMPLETED, "last_good")
    assert [now(copy).state for copy in locked] == [CopyState.EXPIRED, CopyState.COMPLETED]
    assert charged(plain)[0][1] == plain.expires_at

    certificate_book.register(world.region(TARGET), CERTIFICATE, "", world.by)
    world.sweep()
    assert (now(plain).state, now(locked[1]).state) == (CopyState.EXPIRED, CopyState.COMPLETED)


@pytest.fixture
def moved(world: World, orders: Instance, time_machine: TimeMachine) -> Copy:
    """The only copy there is, past its date; since the day it arrived backups go to another region."""
    world.enable(orders)
    copy = world.arrived(orders)
    copy.set.files.update(state="gone")  # or the change would take it along
    world.set(orders, destination=OTHER)
    time_machine.forward(days=8)
    world.sweep()
    return now(copy)


def test_a_change_of_destination_erases_nothing_that_has_no_successor_there(
    world: World, orders: Instance, time_machine: TimeMachine, moved: Copy
) -> None:
    """R-15.6, R-14.4: free of charge after its own date, and gone as any other once it has one."""
    time_machine.forward(days=2)
    world.sweep()
    assert (now(moved).state, moved.kept_for) == (CopyState.COMPLETED, "last_good")
    assert charged(moved)[0][1] == moved.expires_at and path_of(world, moved).exists()
    world.arrived(orders, database="Stock")
    planning.weigh(world.finished(orders, database="Sales").pk)
    world.sweep()
    assert now(moved).state == CopyState.COMPLETED  # another database's, and one that has not arrived

    world.carry(OTHER)
    world.sweep()
    assert (now(moved).state, moved.brought_forward_by) == (CopyState.EXPIRED, None)
    time_machine.forward(days=1)
    world.sweep()
    assert now(moved).state == CopyState.DELETED


def test_what_arrives_at_the_new_destination_without_its_certificate_is_no_successor(
    world: World, orders: Instance, time_machine: TimeMachine, moved: Copy
) -> None:
    world.arrived(orders, certificate_thumbprint=CERTIFICATE)
    world.sweep()
    assert now(moved).state == CopyState.COMPLETED
    certificate_book.register(world.region(OTHER), CERTIFICATE, "", world.by)
    world.sweep()
    assert now(moved).state == CopyState.EXPIRED


def test_a_successor_that_proves_damaged_gives_its_place_back(
    world: World, orders: Instance, time_machine: TimeMachine, moved: Copy
) -> None:
    successor = world.arrived(orders)
    world.sweep()
    assert now(moved).state == CopyState.EXPIRED
    damage.mark(successor, None)
    assert (now(moved).state, moved.kept_for) == (CopyState.COMPLETED, "last_good")
    assert moved.set.instance.intervals.filter(store=moved.destination_store).exists()


def test_who_disables_lets_go_of_what_former_destinations_keep_too(
    world: World, orders: Instance, time_machine: TimeMachine, moved: Copy
) -> None:
    """R-15.6: the plain rule holds again, by the hand of a person (the breaker counts it)."""
    world.disable(orders)
    world.sweep()
    assert (now(moved).state, moved.brought_forward_by) == (CopyState.EXPIRED, world.user)


def test_who_releases_lets_go_of_it_too(world: World, orders: Instance, moved: Copy) -> None:
    policies.release(orders, world.by)
    world.sweep()
    assert now(moved).state == CopyState.EXPIRED


def test_a_database_nobody_has_seen_for_a_whole_period_loses_it_a_day_after_the_alert(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """I6."""
    world.enable(orders)
    gone = world.arrived(orders, database="Old")
    for _ in range(2):
        time_machine.forward(days=6)
        world.arrived(orders, database="Sales")
        world.sweep()
    assert now(gone).state == CopyState.COMPLETED
    assert Alert.objects.get(code="database_not_seen").closed_at is None
    time_machine.forward(days=1)
    world.sweep()
    assert now(gone).state == CopyState.EXPIRED
    time_machine.forward(days=1)
    world.sweep()
    assert now(gone).state == CopyState.DELETED
    assert Alert.objects.get(code="database_not_seen").closed_at is not None


def test_disabled_and_shortest_in_one_ok_ends_all_cost_within_seven_days(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-15.3, R-15.4."""
    world.enable(orders, days=30)
    first = world.arrived(orders)
    time_machine.forward(days=20)
    last = world.arrived(orders)
    world.set(orders, enabled=False, retention_days=7)
    assert now(first).state == CopyState.EXPIRED
    time_machine.forward(days=7)
    world.sweep()
    assert now(first).state == CopyState.DELETED and now(last).state == CopyState.EXPIRED
    assert not StorageSpan.objects.filter(ended_at=None).exists()
    time_machine.forward(hours=23, minutes=59)
    world.sweep()
    assert now(last).state == CopyState.EXPIRED
    time_machine.forward(minutes=1)
    world.sweep()
    assert now(last).state == CopyState.DELETED


def test_enabling_again_in_the_grace_keeps_the_newest_full(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """I6: nothing newer is there yet."""
    world.enable(orders)
    copy = world.arrived(orders)
    world.disable(orders)
    time_machine.forward(days=7)
    world.sweep()
    assert now(copy).state == CopyState.EXPIRED
    time_machine.forward(hours=12)
    world.enable(orders)
    assert (now(copy).state, copy.kept_for) == (CopyState.COMPLETED, "last_good")
    assert len(charged(copy)) == 1 and charged(copy)[0][1] is not None
    time_machine.forward(days=30)
    world.sweep()
    assert now(copy).state == CopyState.COMPLETED


def test_a_released_instance_keeps_its_copies_for_the_full_period_and_no_longer(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-2.4, I9."""
    world.enable(orders, days=30)
    copy = world.arrived(orders)
    policies.release(orders, world.by)
    time_machine.forward(days=29, hours=23)
    world.sweep()
    assert now(copy).state == CopyState.COMPLETED
    time_machine.forward(hours=1)
    world.sweep()
    assert now(copy).state == CopyState.EXPIRED


# ---- the purge


@pytest.fixture
def expired(world: World, orders: Instance, time_machine: TimeMachine) -> Copy:
    """A copy that has just expired; a newer one stands beside it."""
    world.enable(orders)
    copy = world.arrived(orders)
    time_machine.forward(days=7)
    world.arrived(orders)
    world.sweep()
    return now(copy)


def test_bytes_go_between_24_and_25_hours_after_expiry(world: World, time_machine: TimeMachine, expired: Copy) -> None:
    """R-15.4, I4."""
    path, manifest = path_of(world, expired), world.folder / TARGET / expired.manifest_key
    time_machine.forward(hours=23, minutes=59, seconds=59)
    world.sweep()
    assert path.exists() and manifest.exists()
    time_machine.forward(seconds=1)
    world.sweep()
    assert now(expired).state == CopyState.DELETED and expired.deleted_at == time_machine.at
    assert not path.exists() and not manifest.exists()
    assert Transfer.objects.get(copied_files__copy=expired).state == Transfer.State.DELETED
    assert Event.objects.get(kind="copy.deleted").data["copy"] == expired.pk
    assert (world.folder / TARGET / Copy.objects.get(state="completed").manifest_key).exists()


def test_the_audit_finds_a_charge_that_goes_on_after_the_delete(
    world: World, time_machine: TimeMachine, expired: Copy
) -> None:
    """I11: an instance's month looks at no copy that was deleted before it."""
    time_machine.forward(days=1)
    world.sweep()
    deleted = now(expired)
    assert deleted.state == CopyState.DELETED and list(audit.wrong_spans()) == []
    [span] = StorageSpan.objects.filter(copy=deleted)
    StorageSpan.objects.filter(pk=span.pk).update(ended_at=deleted.deleted_at)
    assert list(audit.wrong_spans()) == []
    StorageSpan.objects.filter(pk=span.pk).update(ended_at=deleted.deleted_at + timedelta(seconds=1))
    assert list(audit.wrong_spans()) == [f"span {span.pk} goes on after its copy was deleted"]


@pytest.mark.parametrize(("lag", "goes"), [(300, True), (-300, True), (301, False), (-301, False)])
def test_nothing_goes_while_the_store_s_clock_is_another(
    world: World, time_machine: TimeMachine, expired: Copy, lag: int, goes: bool
) -> None:
    """I4: the database's clock and the store's within 300 s."""
    time_machine.forward(days=2)
    time_machine.stores_lag = timedelta(seconds=lag)
    world.sweep()
    assert (now(expired).state == CopyState.DELETED) == goes
    assert path_of(world, expired).exists() != goes
    assert goes or "clock" in expired.error


def test_a_hold_keeps_and_charges_until_it_is_let_go(world: World, time_machine: TimeMachine, expired: Copy) -> None:
    time_machine.forward(hours=12)
    held = world.hold(expired)
    since = time_machine.at
    assert (now(expired).state, expired.expires_at, expired.kept_for) == (CopyState.COMPLETED, None, "hold")
    time_machine.forward(days=400)
    world.sweep()
    assert now(expired).state == CopyState.COMPLETED
    world.let_go(held)
    world.sweep()
    assert now(expired).state == CopyState.EXPIRED
    assert charged(expired)[-1] == (since, time_machine.at)
    assert expired.brought_forward_by == world.user


def test_a_pin_holds_back_the_delete_and_moves_no_date(world: World, time_machine: TimeMachine, expired: Copy) -> None:
    date = expired.expires_at
    time_machine.forward(days=1)
    Pin.objects.create(copy=expired, reason="restore", pinned_at=time_machine.at, until=time_machine.at + 2 * DAY)
    world.sweep()
    assert (now(expired).state, expired.expires_at) == (CopyState.EXPIRED, date)
    assert path_of(world, expired).exists()
    time_machine.forward(days=2)
    world.sweep()
    assert now(expired).state == CopyState.DELETED


def test_a_worker_that_lost_its_fence_deletes_nothing(world: World, time_machine: TimeMachine, expired: Copy) -> None:
    """I15."""
    time_machine.forward(days=1)
    mine = purging.claim(expired.destination_store)
    Copy.objects.filter(pk=expired.pk).update(fence=mine.fence + 1)
    assert purging.purge(mine) is False
    assert now(expired).state == CopyState.EXPIRED and path_of(world, expired).exists()


def test_an_unmounted_destination_is_not_taken_for_a_delete(
    world: World, time_machine: TimeMachine, expired: Copy
) -> None:
    """I19."""
    time_machine.forward(days=1)
    mounted, hidden = world.folder / TARGET, world.folder / "hidden"
    mounted.rename(hidden)
    mounted.mkdir()
    world.sweep()
    assert now(expired).state == CopyState.EXPIRED and expired.error
    mounted.rmdir()
    hidden.rename(mounted)
    time_machine.forward(minutes=5)
    world.sweep()
    assert now(expired).state == CopyState.DELETED


# ---- the source region is gone


def test_nothing_expires_while_its_source_region_is_gone_and_nothing_is_charged_for_it(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """I19, R-4.1: what lies elsewhere may be all there is; it is charged until its own date and no longer."""
    world.enable(orders)
    old = world.arrived(orders)
    began = time_machine.at
    time_machine.forward(days=1)
    world.arrived(orders)
    world.lose(SOURCE)
    time_machine.forward(days=60)
    watch.watch()
    world.sweep()
    assert (now(old).state, old.kept_for) == (CopyState.COMPLETED, "source_gone")
    assert charged(old) == [(began, began + 7 * DAY)] and path_of(world, old).exists()
    alert = Alert.objects.get(code="expiry_paused")
    assert alert.closed_at is None and "China (Hangzhou)" in alert.sentence

    world.get_back(SOURCE)
    watch.watch()
    world.sweep()
    assert now(old).state == CopyState.EXPIRED and old.purge_at == time_machine.at + DAY
    assert Alert.objects.get(code="expiry_paused").closed_at
    time_machine.forward(days=1)
    world.sweep()
    assert now(old).state == CopyState.DELETED and len(charged(old)) == 1


def test_copies_of_other_regions_expire_as_they_always_did(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    stock = world.instance("stock", OTHER)
    for instance in (orders, stock):
        world.enable(instance)
    copies = [world.arrived(instance) for instance in (orders, stock)]
    for instance in (orders, stock):
        world.disable(instance)
    world.lose(SOURCE)
    time_machine.forward(days=7)
    world.sweep()
    assert [now(copy).state for copy in copies] == [CopyState.COMPLETED, CopyState.EXPIRED]


def test_what_was_in_its_grace_gets_a_whole_one_after_the_region_is_back(
    world: World, time_machine: TimeMachine, expired: Copy
) -> None:
    time_machine.forward(hours=23)
    world.lose(SOURCE)
    time_machine.forward(days=30)
    world.sweep()
    assert now(expired).state == CopyState.EXPIRED and path_of(world, expired).exists()
    at, still = time_machine.at, timedelta(0)
    assert "source region is gone" in purging.why_not_delete(expired, at, still)
    world.get_back(SOURCE)
    time_machine.forward(hours=23, minutes=59)
    world.sweep()
    assert now(expired).state == CopyState.EXPIRED
    time_machine.forward(minutes=1)
    world.sweep()
    assert now(expired).state == CopyState.DELETED


def test_shortening_while_the_region_is_gone_frees_and_deletes_nothing(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-14.3 goes on holding for the money: free of charge at the OK."""
    world.enable(orders, days=30)
    old = world.arrived(orders)
    began = time_machine.at
    time_machine.forward(days=10)
    world.arrived(orders)
    world.lose(SOURCE)
    world.set(orders, retention_days=7)
    assert (now(old).state, old.kept_for) == (CopyState.COMPLETED, "source_gone")
    assert charged(old) == [(began, time_machine.at)]
    world.set(orders, retention_days=30)
    assert (now(old).state, old.kept_for) == (CopyState.COMPLETED, "")
    assert charged(old)[1:] == [(time_machine.at, None)]


def test_a_database_that_could_not_be_seen_is_not_taken_for_gone(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """I6, I19: its last backup grows old only because its region is gone."""
    world.enable(orders)
    old = world.arrived(orders, database="Old")
    time_machine.forward(days=5)
    world.arrived(orders, database="Sales")
    world.lose(SOURCE)
    time_machine.forward(days=4)
    world.sweep()
    world.get_back(SOURCE)
    time_machine.forward(hours=12)
    world.sweep()
    assert (now(old).state, old.kept_for) == (CopyState.COMPLETED, "last_good")
    assert not Alert.objects.filter(code="database_not_seen").exists()


def test_a_region_whose_workers_are_gone_too_is_taken_for_gone(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """Nobody is left there to say that its store does not answer."""
    time_machine.forward(hours=1)
    watch.watch()
    assert source_gone.regions() == set()  # nobody looked at any: Farshore itself was away
    watch.probe_stores(TARGET)
    watch.probe_stores(OTHER)
    watch.watch()
    assert source_gone.regions() == {SOURCE}
    assert "No worker" in Alert.objects.get(code="store_unreachable").sentence
    watch.probe_stores(SOURCE)
    watch.watch()
    assert source_gone.regions() == set()


def test_a_region_that_is_given_up_pauses_nothing(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    """Released and detached by a person: R-2.4 alone decides."""
    world.enable(orders)
    copy = world.arrived(orders)
    world.lose(SOURCE)
    policies.release(orders, world.by)
    fleet.detach(Store.objects.get(region=SOURCE), world.by)
    watch.watch()
    time_machine.forward(days=7)
    world.sweep()
    assert now(copy).state == CopyState.EXPIRED


# ---- files that copies share


def test_a_shared_file_is_charged_once_and_goes_with_the_last(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders)
    first = world.finished(orders)
    time_machine.forward(hours=2)
    second = world.finished(orders, beside=first)
    planning.weigh_due()
    one, two = world.carry()
    assert (one.stored_bytes, two.stored_bytes) == (100, 0)
    assert Transfer.objects.count() == 1
    assert now(one).expires_at == two.expires_at == second.finished_at + 7 * DAY
    time_machine.forward(days=8)
    world.arrived(orders)
    world.sweep()
    time_machine.forward(days=1)
    Pin.objects.create(copy=two, reason="drill", pinned_at=time_machine.at, until=time_machine.at + DAY)
    world.sweep()
    assert now(one).state == CopyState.DELETED and path_of(world, two).exists()
    time_machine.forward(days=1)
    world.sweep()
    assert now(two).state == CopyState.DELETED and not path_of(world, two).exists()


def test_what_a_held_copy_needs_is_held_with_it(world: World, orders: Instance, time_machine: TimeMachine) -> None:
    world.enable(orders)
    full = world.arrived(orders)
    differential = world.arrived(orders, base=full.set)
    held = world.hold(differential)
    assert (now(full).expires_at, full.kept_for) == (None, "hold")
    world.let_go(held)
    assert now(full).expires_at == full.set.finished_at + 7 * DAY


def test_cancelling_one_copy_leaves_the_file_that_another_needs(
    world: World, orders: Instance, time_machine: TimeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest could not be written, then it was disabled: the object belongs to the copy that is there."""
    world.enable(orders)
    first = world.finished(orders)
    second = world.finished(orders, beside=first)
    planning.weigh(first.pk)
    [arrived] = world.carry()
    planning.weigh(second.pk)
    with monkeypatch.context() as patch:
        patch.setattr(replication.manifest, "build", _no_store)
        [failed] = world.carry()
    assert failed.state == CopyState.FAILED and failed.copied_files.exists()
    world.disable(orders)
    cleaning.clean_up(TARGET)
    assert path_of(world, arrived).exists()
    assert Transfer.objects.get().state == Transfer.State.VERIFIED


# ---- the breaker


@pytest.mark.parametrize(
    ("sets", "gib", "total", "trips"),
    [(51, 11, 100, True), (50, 11, 100, False), (51, 10, 100, False), (51, 11, 220, False), (51, 11, 219, True)],
)
def test_the_breaker_trips_when_all_three_are_exceeded(sets: int, gib: int, total: int, trips: bool) -> None:
    assert purging.is_tripped(sets, gib * 2**30, total * 2**30) is trips


@pytest.fixture
def low_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "BREAKER_SETS", 2)
    monkeypatch.setattr(purging, "BREAKER_BYTES", 250)


def test_what_one_person_brings_forward_waits_for_a_second(
    world: World, orders: Instance, time_machine: TimeMachine, low_breaker: None
) -> None:
    world.enable(orders, days=30)
    copies = [world.arrived(orders) for _ in range(4)]
    time_machine.forward(days=10)
    world.set(orders, retention_days=7)
    time_machine.forward(days=1)
    world.sweep()
    assert [now(copy).state for copy in copies] == [CopyState.EXPIRED] * 3 + [CopyState.COMPLETED]
    assert Alert.objects.get(code="purge_needs_second_person").closed_at is None
    store = Store.objects.get(region=TARGET)
    second = User.objects.create_user("second")
    with pytest.raises(Refusal):
        purging.approve(store, world.by)
    assert purging.approve(store, By(second)) == 3
    time_machine.forward(minutes=5)
    world.sweep()
    assert [now(copy).state for copy in copies] == [CopyState.DELETED] * 3 + [CopyState.COMPLETED]
    assert Alert.objects.get(code="purge_needs_second_person").closed_at is not None


def test_disabling_brings_last_good_copies_forward(
    world: World, orders: Instance, time_machine: TimeMachine, low_breaker: None
) -> None:
    world.enable(orders)
    copies = [world.arrived(orders, database=name) for name in ("A", "B", "C")]
    time_machine.forward(days=30)
    world.sweep()
    assert {now(copy).kept_for for copy in copies} == {"last_good"}
    world.disable(orders)
    world.sweep()
    time_machine.forward(days=1)
    world.sweep()
    assert {now(copy).state for copy in copies} == {CopyState.EXPIRED}
    assert Alert.objects.filter(code="purge_needs_second_person", closed_at=None).exists()


def test_copies_that_reach_the_date_they_always_had_never_trip_it(
    world: World, orders: Instance, time_machine: TimeMachine, low_breaker: None
) -> None:
    world.enable(orders)
    copies = [world.arrived(orders) for _ in range(4)]
    time_machine.forward(days=7)
    world.sweep()
    time_machine.forward(days=1)
    world.sweep()
    assert [now(copy).state for copy in copies] == [CopyState.DELETED] * 3 + [CopyState.COMPLETED]
    assert not Alert.objects.exists()
