"""Two things at once, on the real database: one order wins, nobody deadlocks, nothing is lost (I2, I5, I10, I14, I15).

A barrier lets many go at once. Where one exact order matters, `Pause` stops a transaction at a named call until the
other one waits for its lock, or is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as all_done
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection

from backups import cleaning, default_backups, policies
from backups.copying import cancelling, carrying, manifest, planning, replication
from backups.copying.planning import weighing
from backups.default_backups import recording
from backups.default_backups.taken_files import Stored
from backups.engines.facts import Kind, Method, SetFacts, TakenSet
from backups.keeping import expiring, holds, purging, retention
from backups.leases import LeaseLost
from backups.models import (
    BackupJob,
    BackupSet,
    CopiedFile,
    Copy,
    CopyPolicy,
    CopyState,
    Coverage,
    Event,
    Hold,
    Instance,
    StorageSpan,
    Transfer,
)
from backups.policies import Refusals, Settings
from regions import clock
from regions.refusals import Refusal
from regions.storage.filesystem import FolderStorage
from tests.backups.world import OTHER, SOURCE, TARGET, World
from tests.faults.test_kill_windows import objects_of

LONGEST_WAIT = 20
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class Pause:
    """Stops the first call of `owner.name`, before it or after it, until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool = False) -> None:
        self._original, self._after, self._first = getattr(owner, name), after, threading.Lock()
        self._reached, self._released = threading.Event(), threading.Event()
        monkeypatch.setattr(owner, name, self._call)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        if not self._first.acquire(blocking=False):
            return self._original(*args, **kwargs)
        result = self._original(*args, **kwargs) if self._after else None
        self._reached.set()
        assert self._released.wait(LONGEST_WAIT)
        return result if self._after else self._original(*args, **kwargs)

    def reached(self) -> None:
        assert self._reached.wait(LONGEST_WAIT)

    def go_on(self) -> None:
        self._released.set()


@pytest.fixture
def crew() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(10) as found:
        yield found


@pytest.fixture
def start(crew: ThreadPoolExecutor) -> Callable[..., Future]:
    """Begin an act in a thread with a connection of its own."""

    def begin(act: Callable[..., Any], *args: Any, **more: Any) -> Future:
        def run() -> Any:
            try:
                return act(*args, **more)
            finally:
                connection.close()

        return crew.submit(run)

    return begin


@pytest.fixture
def at_once(start: Callable[..., Future]) -> Callable[..., list[Any]]:
    """Let all acts go at the same moment; returns what each came to, a refusal included. Anything else raises."""

    def go(*acts: Callable[[], Any]) -> list[Any]:
        gate = threading.Barrier(len(acts))

        def run(act: Callable[[], Any]) -> Any:
            connection.ensure_connection()
            gate.wait(LONGEST_WAIT)
            try:
                return act()
            except Refusals as refused:
                return refused

        return [future.result(LONGEST_WAIT) for future in [start(run, act) for act in acts]]

    return go


def waits_or_is_done(future: Future) -> None:
    """Return once the act waits for somebody's lock, or has ended."""
    until = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute(WAITING)
            if cursor.fetchone()[0]:
                return
        if all_done([future], timeout=0.01).done:
            return
    raise AssertionError("neither waiting nor done")


def overlap(start: Callable[..., Future], pause: Pause, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
    """Stop `first` at its pause, let `second` run into it, let both end; returns what both came to."""
    one = start(first)
    pause.reached()
    other = start(second)
    waits_or_is_done(other)
    pause.go_on()
    return one.result(LONGEST_WAIT), other.result(LONGEST_WAIT)


@pytest.fixture
def orders(world: World) -> Instance:
    world.store(TARGET)
    world.store(OTHER)
    return world.instance()


def enabling(world: World, instance: Instance, days: int = 7, **more: Any) -> Callable[[], None]:
    wanted = Settings(True, days, more.pop("destination", TARGET), agreed=True, **more)
    return partial(policies.apply, instance, wanted, world.by)


def change(world: World, instance: Instance, **changes: Any) -> Callable[[], None]:
    now = replace(policies.current_settings(instance), agreed=True)
    return partial(policies.apply, instance, replace(now, **changes), world.by)


def claimed(world: World, instance: Instance, **more: Any) -> Copy:
    """A copy in a worker's hands, nothing of it carried yet."""
    planning.weigh(world.finished(instance, **more).pk)
    copy = replication.claim(TARGET)
    assert copy
    return copy


# ---- planning


def test_ten_at_once_plan_one_copy(world: World, orders: Instance, at_once: Callable[..., list]) -> None:
    world.enable(orders)
    found = world.finished(orders)
    outcomes = at_once(*[partial(planning.weigh, found.pk)] * 10)
    assert sorted(outcomes) == [False] * 9 + [True]
    assert found.copies.count() == 1


def test_a_backup_finished_while_its_first_policy_is_enabled_is_owed(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause(monkeypatch, planning, "examine", after=True)
    one = start(enabling(world, orders))
    pause.reached()
    found = world.finished(orders)
    other = start(planning.weigh, found.pk)
    waits_or_is_done(other)
    pause.go_on()
    one.result(LONGEST_WAIT)
    assert other.result(LONGEST_WAIT)
    assert found.copies.get().state == CopyState.PLANNED


@pytest.mark.parametrize("destination", [TARGET, OTHER], ids=["again", "elsewhere"])
def test_enabling_while_the_same_set_is_weighed_plans_it_once(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch, destination: str
) -> None:
    world.enable(orders)
    if destination == TARGET:
        world.disable(orders)
    found = world.finished(orders)
    pause = Pause(monkeypatch, weighing, "_policies_of", after=True)
    overlap(start, pause, partial(planning.weigh, found.pk), enabling(world, orders, destination=destination))
    live = Copy.objects.pending().filter(set=found)
    assert [copy.destination_store.region_id for copy in live] == [destination]
    assert live.get().policy == policies.enabled_policy(orders)


def test_a_set_weighed_while_the_destination_changes_goes_to_the_new_one(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enable(orders)
    pause = Pause(monkeypatch, planning, "examine", after=True)
    moving = start(enabling(world, orders, destination=OTHER))
    pause.reached()
    found = world.finished(orders)
    weighing = start(planning.weigh, found.pk)
    waits_or_is_done(weighing)
    pause.go_on()
    moving.result(LONGEST_WAIT)
    weighing.result(LONGEST_WAIT)
    assert Copy.objects.pending().get(set=found).destination_store.region_id == OTHER


def test_copying_by_hand_while_somebody_disables_owes_nothing(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = world.enable(orders)
    found = world.finished(orders, clock.now() - timedelta(days=2))
    pause = Pause(monkeypatch, policies, "_end", after=True)
    disabling = partial(world.disable, orders)
    _, copy = overlap(start, pause, disabling, partial(planning.copy_now, policy, found, world.by))
    assert copy is None
    assert not Copy.objects.pending().exists()


# ---- settings


def test_of_two_who_enable_at_once_one_is_told(world: World, orders: Instance, at_once: Callable[..., list]) -> None:
    outcomes = at_once(*[enabling(world, orders, days, expected="none") for days in (8, 9)])
    [refused] = [outcome for outcome in outcomes if outcome is not None]
    assert [item.code for item in refused.items] == ["Conflict"]
    assert CopyPolicy.objects.get().retention_days in (8, 9)


def test_of_five_who_save_at_once_four_are_told_and_nothing_is_lost(
    world: World, orders: Instance, at_once: Callable[..., list]
) -> None:
    world.enable(orders)
    acts = [change(world, orders, retention_days=days) for days in (10, 11, 12)]
    acts += [change(world, orders, enabled=False), change(world, orders, destination=OTHER)]
    outcomes = at_once(*acts)
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert [[item.code for item in one.items] for one in refused] == [["Conflict"]] * 4
    assert CopyPolicy.objects.filter(enabled=True).count() <= 1


def test_a_date_is_never_written_back_from_the_retention_before(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enable(orders)
    copy = world.arrived(orders)
    pause = Pause(monkeypatch, expiring, "expire_due")
    rescheduling = partial(retention.reschedule, orders.pk, copy.destination_store_id)
    overlap(start, pause, change(world, orders, retention_days=30), rescheduling)
    copy.refresh_from_db()
    assert copy.expires_at == copy.set.finished_at + timedelta(days=30)


# ---- carrying


def test_two_workers_never_hold_one_copy(world: World, orders: Instance, at_once: Callable[..., list]) -> None:
    world.enable(orders)
    for _ in range(3):
        planning.weigh(world.finished(orders).pk)
    copies = [copy for copy in at_once(*[partial(replication.claim, TARGET)] * 8) if copy]
    assert len({copy.pk for copy in copies}) == len(copies)
    assert all(copy.fence == 1 for copy in copies)
    copies += iter(partial(replication.claim, TARGET), None)
    assert len(copies) == 3


def past_its_date(world: World, instance: Instance) -> Copy:
    planning.weigh(world.finished(instance).pk)
    Copy.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    return Copy.objects.get()


def test_what_is_past_its_date_is_not_taken_out_of_the_hands_that_claim_it(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-2.5: who claims it cancels it himself, at his next step."""
    world.enable(orders)
    copy = past_its_date(world, orders)
    pause = Pause(monkeypatch, replication, "next_lease")
    claimed, count = overlap(start, pause, partial(replication.claim, TARGET), replication.cancel_too_late)
    assert (claimed, count) == (copy, 0)
    assert Copy.objects.get().state == CopyState.COPYING
    replication.carry_slice(claimed)
    assert (Copy.objects.get().state, Copy.objects.get().cancel_reason) == ("cancelled", "expired_before_arrival")


def test_what_is_being_cancelled_as_too_late_is_claimed_by_nobody(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enable(orders)
    past_its_date(world, orders)
    pause = Pause(monkeypatch, planning, "say_cancelled")
    count, claimed = overlap(start, pause, replication.cancel_too_late, partial(replication.claim, TARGET))
    assert (count, claimed, Copy.objects.get().state) == (1, None, CopyState.CANCELLED)


def test_what_is_kept_longer_in_this_moment_is_not_cancelled_as_too_late(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enable(orders)
    past_its_date(world, orders)
    pause = Pause(monkeypatch, expiring, "expire_due")
    _, count = overlap(start, pause, change(world, orders, retention_days=30), replication.cancel_too_late)
    assert (count, Copy.objects.get().state) == (0, CopyState.PLANNED)


@pytest.mark.parametrize("moment", ["before the manifest", "after the manifest"])
def test_what_is_disabled_while_it_is_published_never_commits(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    world.enable(orders)
    copy = claimed(world, orders)
    place = (manifest, "build") if moment == "before the manifest" else (replication, "_commit")
    pause = Pause(monkeypatch, *place)
    carrying_it = start(replication.carry_slice, copy)
    pause.reached()
    world.disable(orders)
    cleaning.clean_up(TARGET)
    pause.go_on()
    assert carrying_it.result(LONGEST_WAIT) is False
    cleaning.clean_up(TARGET)
    copy.refresh_from_db()
    assert (copy.state, copy.cancel_reason) == (CopyState.CANCELLED, "disabled")
    assert not StorageSpan.objects.exists()
    assert not Event.objects.filter(kind="copy.completed").exists()
    assert objects_of(world) == set()


def test_disabling_waits_for_a_commit_that_has_begun(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enable(orders)
    copy = claimed(world, orders)
    pause = Pause(monkeypatch, retention, "open_span")
    overlap(start, pause, partial(replication.carry_slice, copy), partial(world.disable, orders))
    copy.refresh_from_db()
    assert copy.state == CopyState.COMPLETED
    assert copy.completed_at < policies.latest_policy(orders).ended_at


def test_publishing_and_cancelling_beside_each_other_do_not_wait_in_a_circle(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enable(orders)
    older = claimed(world, orders, database="Older")
    newer = claimed(world, orders, database="Newer")
    pause = Pause(monkeypatch, retention, "open_span")
    overlap(start, pause, partial(replication.carry_slice, newer), partial(cancelling.cancel, older, "by_a_person"))
    states = Copy.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == [CopyState.CANCELLED, CopyState.COMPLETED]


def test_an_object_that_appears_after_its_cleaning_is_cleaned_once_more(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """complete_upload may take a store minutes; whoever disables meanwhile has the attempt cleaned before it ends."""
    world.enable(orders)
    copy = claimed(world, orders)
    original = FolderStorage.complete_upload

    def complete_late(self: FolderStorage, key: str, *args: Any) -> Any:
        stored = original(self, key, *args)
        body = (world.folder / TARGET / key).read_bytes()
        world.disable(orders)
        assert cleaning.clean_up(TARGET) == 1
        assert objects_of(world) == set()
        return replace(stored, etag=self.put(key, body).etag)

    monkeypatch.setattr(FolderStorage, "complete_upload", complete_late)
    assert replication.carry_slice(copy) is False
    assert cleaning.clean_up(TARGET) == 1
    assert objects_of(world) == set()


# ---- copies that share an object


def sharers(world: World, orders: Instance) -> tuple[Copy, Copy]:
    """Two claimed copies of sets in one file."""
    world.enable(orders)
    first = claimed(world, orders)
    return first, claimed(world, orders, beside=first.set, database="Beside")


def test_cancelling_the_owner_leaves_an_attempt_to_who_takes_it_up(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, heir = sharers(world, orders)
    carrying._ready_attempt(owner, owner.set.files.get())
    Copy.objects.filter(pk=owner.pk).update(leased_until=clock.now() - timedelta(seconds=1))
    pause = Pause(monkeypatch, CopiedFile.objects, "update_or_create", after=True)
    taking_up = partial(carrying._ready_attempt, heir, heir.set.files.get())
    overlap(start, pause, taking_up, partial(cancelling.cancel, owner, "by_a_person"))
    assert Transfer.objects.get().state == Transfer.State.JOURNALED
    replication.carry_slice(heir)
    assert Copy.objects.get(pk=heir.pk).state == CopyState.COMPLETED


def test_a_cancelled_owners_attempt_is_not_taken_up(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, heir = sharers(world, orders)
    file = owner.set.files.get()
    abandoned = carrying._ready_attempt(owner, file)
    pause = Pause(monkeypatch, cleaning, "abandon_transfers", after=True)
    ending = partial(cancelling.cancel, owner, "by_a_person")
    _, taken_up = overlap(start, pause, ending, partial(carrying._ready_attempt, heir, file))
    assert taken_up != abandoned
    assert Transfer.objects.get(pk=abandoned.pk).state == Transfer.State.ABANDONED


def test_who_lost_an_attempt_to_another_writes_nothing_to_it(world: World, orders: Instance) -> None:
    owner, heir = sharers(world, orders)
    file = owner.set.files.get()
    lost = carrying._ready_attempt(owner, file)
    Copy.objects.filter(pk=owner.pk).update(leased_until=clock.now() - timedelta(seconds=1))
    carrying._ready_attempt(heir, file)
    with pytest.raises(LeaseLost):
        carrying._update(owner, lost, state=Transfer.State.UPLOADED)
    with pytest.raises(LeaseLost):
        carrying.abandon(owner, lost, "late")
    assert Transfer.objects.get().state == Transfer.State.JOURNALED


def test_an_abandoned_attempt_never_comes_back(world: World, orders: Instance) -> None:
    world.enable(orders)
    copy = claimed(world, orders)
    attempt = carrying._ready_attempt(copy, copy.set.files.get())
    Transfer.objects.update(state=Transfer.State.ABANDONED)
    with pytest.raises(LeaseLost):
        carrying._update(copy, attempt, state=Transfer.State.UPLOADED)
    assert Transfer.objects.get().state == Transfer.State.ABANDONED


def spent(world: World, orders: Instance) -> tuple[Copy, Copy]:
    """A copy whose deletion is due, and a claimed one of a set in the same file."""
    world.enable(orders)
    old = world.arrived(orders, database="Old")
    world.arrived(orders, database="Old")
    fresh = claimed(world, orders, beside=old.set, database="Beside")
    past = clock.now() - timedelta(days=2)
    StorageSpan.objects.filter(copy=old).update(ended_at=clock.now())
    Copy.objects.filter(pk=old.pk).update(
        state=CopyState.EXPIRED, expires_at=past, expired_at=past, purge_at=past, due_at=past
    )
    return old, fresh


def test_what_is_being_deleted_is_not_shared_any_more(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, fresh = spent(world, orders)
    pause = Pause(monkeypatch, purging, "_give_up_objects", after=True)
    overlap(start, pause, partial(purging.purge_due, TARGET), partial(replication.carry_slice, fresh))
    copies = Copy.objects.in_bulk([old.pk, fresh.pk])
    assert (copies[old.pk].state, copies[fresh.pk].state) == (CopyState.DELETED, CopyState.COMPLETED)
    assert_bytes_are_there(world)


def test_what_is_shared_in_this_moment_is_not_deleted(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, fresh = spent(world, orders)
    pause = Pause(monkeypatch, CopiedFile.objects, "update_or_create", after=True)
    overlap(start, pause, partial(replication.carry_slice, fresh), partial(purging.purge_due, TARGET))
    copies = Copy.objects.in_bulk([old.pk, fresh.pk])
    assert (copies[old.pk].state, copies[fresh.pk].state) == (CopyState.DELETED, CopyState.COMPLETED)
    assert fresh.copied_files.get().transfer_id == old.copied_files.get().transfer_id
    assert_bytes_are_there(world)


def test_what_was_kept_for_a_sharer_who_is_cancelled_meanwhile_is_cleaned_up(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, fresh = spent(world, orders)
    carrying._ready_attempt(fresh, fresh.set.files.get())
    pause = Pause(monkeypatch, purging, "_finish")
    deleting = start(purging.purge_due, TARGET)
    pause.reached()
    cancelling.cancel(fresh, "by_a_person")
    pause.go_on()
    assert deleting.result(LONGEST_WAIT) == 1
    assert cleaning.clean_up(TARGET) == 1
    assert_bytes_are_there(world)


def assert_bytes_are_there(world: World) -> None:
    """Completed copies have their bytes, and nothing else lies in the store."""
    completed = Copy.objects.filter(state=CopyState.COMPLETED)
    wanted = set(completed.values_list("manifest_key", flat=True))
    wanted |= set(Transfer.objects.filter(copied_files__copy__in=completed).values_list("key", flat=True))
    assert objects_of(world) == wanted


# ---- deleting


def in_grace(world: World, orders: Instance, copies: int = 1) -> None:
    """Copies that a shortened retention expired, their 24 hours just over."""
    world.enable(orders, days=30)
    Coverage.objects.update(began_at=clock.now() - timedelta(days=29))
    for number in range(copies):
        world.arrived(orders, clock.now() - timedelta(days=10 + number))
    world.arrived(orders)
    world.set(orders, retention_days=7)
    past = clock.now() - timedelta(hours=25)
    moved = Copy.objects.filter(state=CopyState.EXPIRED)
    assert moved.update(expired_at=past, purge_at=past, due_at=past) == copies


def test_undoing_at_the_moment_of_deletion_comes_too_late_as_a_whole(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_grace(world, orders)
    pause = Pause(monkeypatch, purging, "_give_up_objects", after=True)
    undoing = partial(policies.undo_shortening, orders, world.by)
    overlap(start, pause, partial(purging.purge_due, TARGET), undoing)
    states = Copy.objects.order_by("set__finished_at").values_list("state", flat=True)
    assert list(states) == [CopyState.DELETED, CopyState.COMPLETED]
    assert_bytes_are_there(world)


def test_a_deletion_at_the_moment_of_undoing_deletes_nothing(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_grace(world, orders)
    pause = Pause(monkeypatch, expiring, "expire_due")
    undoing = partial(policies.undo_shortening, orders, world.by)
    overlap(start, pause, undoing, partial(purging.purge_due, TARGET))
    assert not Copy.objects.exclude(state=CopyState.COMPLETED).exists()
    assert_bytes_are_there(world)


def test_undoing_and_deleting_at_once_keep_or_delete_each_copy_whole(
    world: World, orders: Instance, at_once: Callable[..., list]
) -> None:
    in_grace(world, orders, copies=5)
    purge, undo = partial(purging.purge_due, TARGET), partial(policies.undo_shortening, orders, world.by)
    at_once(purge, undo, purge, purge)
    Copy.objects.update(due_at=clock.now())
    purging.purge_due(TARGET)
    assert set(Copy.objects.values_list("state", flat=True)) <= {CopyState.COMPLETED, CopyState.DELETED}
    assert StorageSpan.objects.filter(ended_at=None).count() == Copy.objects.filter(state="completed").count()
    assert_bytes_are_there(world)


def test_a_hold_at_the_moment_of_deletion_comes_too_late_and_says_so(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_grace(world, orders)
    expired = Copy.objects.get(state=CopyState.EXPIRED)
    pause = Pause(monkeypatch, purging, "_give_up_objects", after=True)
    with pytest.raises(Refusal, match="is deleted"):
        overlap(start, pause, partial(purging.purge_due, TARGET), partial(holds.place, expired, "CASE-1", world.by))
    expired.refresh_from_db()
    assert expired.state == CopyState.DELETED and not Hold.objects.exists()
    assert_bytes_are_there(world)


def test_a_deletion_at_the_moment_of_a_hold_deletes_nothing(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4."""
    in_grace(world, orders)
    expired = Copy.objects.get(state=CopyState.EXPIRED)
    pause = Pause(monkeypatch, retention, "reschedule")
    overlap(start, pause, partial(holds.place, expired, "CASE-1", world.by), partial(purging.purge_due, TARGET))
    expired.refresh_from_db()
    assert (expired.state, expired.kept_for) == (CopyState.COMPLETED, "hold") and Hold.objects.exists()
    assert_bytes_are_there(world)


def test_a_deletion_that_died_halfway_is_finished_though_the_retention_grew(
    world: World, orders: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_grace(world, orders)
    with monkeypatch.context() as dying:
        dying.setattr(purging, "_finish", lambda copy: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            purging.purge_due(TARGET)
    policies.undo_shortening(orders, world.by)
    Copy.objects.update(leased_until=None)
    assert purging.purge_due(TARGET) == 1
    assert_bytes_are_there(world)


def test_a_base_that_is_being_deleted_is_planned_anew_for_its_differential(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_grace(world, orders)
    base = BackupSet.objects.get(copies__state=CopyState.EXPIRED)
    differential = world.finished(orders, base=base)
    pause = Pause(monkeypatch, purging, "_give_up_objects", after=True)
    overlap(start, pause, partial(purging.purge_due, TARGET), planning.weigh_due)
    planning.weigh_due()
    assert [copy.state for copy in base.copies.order_by("pk")] == [CopyState.DELETED, CopyState.PLANNED]
    assert {copy.state for copy in world.carry()} == {CopyState.COMPLETED}
    assert differential.copies.get().state == CopyState.COMPLETED


def test_a_base_whose_differential_is_planned_in_this_moment_is_not_deleted(
    world: World, orders: Instance, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_grace(world, orders)
    base = BackupSet.objects.get(copies__state=CopyState.EXPIRED)
    differential = world.finished(orders, base=base)
    pause = Pause(monkeypatch, retention, "reschedule")
    _, deleted = overlap(start, pause, partial(planning.weigh, differential.pk), partial(purging.purge_due, TARGET))
    assert deleted == 0
    assert base.copies.get().state == CopyState.COMPLETED


# ---- taking


def taken_instance(world: World) -> Instance:
    return world.instance("ledger", engine="postgresql", arrival="taken", prefixes=[])


def test_asked_for_ten_times_at_once_one_backup_is_taken(world: World, at_once: Callable[..., list]) -> None:
    instance = taken_instance(world)
    jobs = at_once(*[partial(default_backups.ask, instance, world.by)] * 10)
    assert len({job.pk for job in jobs}) == 1
    assert BackupJob.objects.count() == 1


def test_enabling_while_a_backup_is_being_recorded_copies_that_one(
    world: World, start: Callable[..., Future], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = taken_instance(world)
    world.store(TARGET)
    default_backups.ask(instance, world.by)
    job = default_backups.claim(SOURCE)
    store = world.store(SOURCE)
    stored = store.open().put("farshore/taken.tar", b"taken")
    at = clock.now()
    taken = TakenSet(SetFacts("", Kind.FULL, Method.PHYSICAL, at, at))
    record = partial(recording.record, job, store, [Stored(stored)], taken)
    pause = Pause(monkeypatch, recording, "columns_of")
    found, _ = overlap(start, pause, record, enabling(world, instance))
    assert planning.weigh_due() == 1
    assert BackupJob.objects.count() == 1, "the one that was running serves the 24-hour check"
    assert found.copies.get().state == CopyState.PLANNED
