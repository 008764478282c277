"""The settings of R-12: enabling, changing, disabling, releasing; what is refused changes nothing (R-11 to R-15)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backups import policies
from backups.copying import planning, replication
from backups.models import Acceptance, Alert, Copy, CopyPolicy, CopyState, Coverage, Event, Family, Instance, Transfer
from backups.policies import Refusals, Settings
from regions.models import Store
from regions.refusals import Refusal
from tests.backups.time_machine import TimeMachine
from tests.backups.world import OTHER, SOURCE, TARGET, World

WANTED = Settings(True, 30, TARGET, agreed=True)


def refused(world: World, instance: Instance, wanted: Settings) -> dict[str, str]:
    """Return field → code of everything that speaks against it, having made sure that nothing changed."""
    before = everything()
    with pytest.raises(Refusals) as caught:
        policies.apply(instance, wanted, world.by)
    assert everything() == before
    return {item.field: item.code for item in caught.value.items}


def everything() -> list[list]:
    return [list(model.objects.order_by("pk").values()) for model in (CopyPolicy, Acceptance, Event, Copy, Coverage)]


def test_enabling_writes_policy_acceptance_role_and_event_in_one(world: World, orders: Instance) -> None:
    policies.apply(orders, WANTED, world.by)
    policy = policies.enabled_policy(orders)
    assert (policy.destination_id, policy.retention_days, policy.source_region_id) == (TARGET, 30, SOURCE)
    assert policy.acceptance.user == world.user and policy.acceptance.address == "192.0.2.7"
    assert policy.acceptance.accepted.get().route_version == policy.route_version
    said = Event.objects.get(kind="policy.enabled")
    assert (said.actor, said.instance, said.address) == (world.user, orders, "192.0.2.7")
    assert Event.objects.filter(kind="service_role.created").count() == 1


@pytest.mark.parametrize("days", [6, 1826, 7.5, 0, -7, True, None, "30", 10**12])
def test_a_wrong_retention_is_refused_beside_its_field(world: World, orders: Instance, days: Any) -> None:
    """R-12.3."""
    assert refused(world, orders, replace(WANTED, retention_days=days)) == {
        "retention_days": "InvalidParameters.Format"
    }


@pytest.mark.parametrize("days", [7, 1825])
def test_the_shortest_and_the_longest_retention_are_taken(world: World, orders: Instance, days: int) -> None:
    policies.apply(orders, replace(WANTED, retention_days=days), world.by)
    assert policies.enabled_policy(orders).retention_days == days


@pytest.mark.parametrize(
    "destination",
    ["", "nowhere", SOURCE, "cn-hangzhou-finance", "eu-central-1"],
    ids=["none", "unknown", "itself", "another group", "without a store"],
)
def test_a_destination_that_cannot_be_is_refused(world: World, orders: Instance, destination: str) -> None:
    """R-2.2, R-10.2, R-12.2."""
    assert set(refused(world, orders, replace(WANTED, destination=destination))) == {"destination"}


def test_without_the_tick_it_is_refused_and_with_it_saved(world: World, orders: Instance) -> None:
    """R-13.1."""
    assert refused(world, orders, replace(WANTED, agreed=False)) == {"agreed": "AgreementNotAccepted"}
    policies.apply(orders, WANTED, world.by)
    assert policies.enabled_policy(orders)


def test_everything_that_speaks_against_it_is_said_at_once(world: World, orders: Instance) -> None:
    wrong = refused(world, orders, Settings(True, 6, SOURCE))
    assert set(wrong) == {"retention_days", "destination"}


def test_a_store_that_does_not_answer_takes_no_new_policy_and_keeps_the_old(world: World, orders: Instance) -> None:
    Store.objects.filter(region=TARGET).update(state="unreachable")
    assert set(refused(world, orders, WANTED)) == {"destination"}
    Store.objects.filter(region=TARGET).update(state="ok")
    policies.apply(orders, WANTED, world.by)
    Store.objects.filter(region=TARGET).update(state="unreachable")
    world.set(orders, retention_days=40)
    assert policies.enabled_policy(orders).retention_days == 40


def test_wanting_what_already_is_changes_nothing(world: World, orders: Instance) -> None:
    policies.apply(orders, WANTED, world.by)
    before = everything()
    policies.apply(orders, WANTED, world.by)
    assert everything() == before


def test_of_many_each_has_its_own_outcome(world: World, orders: Instance) -> None:
    """R-11.3."""
    shared = world.instance("shared", family=Family.SHARED)
    stale = world.instance("stale")
    expected = {orders.pk: "none", shared.pk: "none", stale.pk: "7.1.1"}
    outcomes = policies.apply_many([orders, shared, stale], WANTED, world.by, expected)
    assert [outcome.saved for outcome in outcomes] == [True, False, False]
    assert outcomes[1].refusals[0].field == "enabled"
    assert outcomes[2].refusals[0].code == "Conflict"
    assert [policy.instance for policy in CopyPolicy.objects.all()] == [orders]
    again = policies.apply_many([stale], WANTED, world.by, {stale.pk: policies.version_of(stale)})
    assert again[0].saved


def test_the_second_of_two_editors_is_told_what_the_first_changed(world: World, orders: Instance) -> None:
    """R-14.5, I14."""
    policies.apply(orders, WANTED, world.by)
    form = policies.current_settings(orders)
    policies.apply(orders, replace(form, retention_days=60), world.by)
    with pytest.raises(Refusals) as caught:
        policies.apply(orders, replace(form, retention_days=7), world.by)
    assert caught.value.items[0].code == "Conflict"
    assert "admin saved" in str(caught.value) and "from 30 to 60 days" in str(caught.value)
    assert policies.enabled_policy(orders).retention_days == 60


def test_disabling_cancels_what_is_in_flight_and_leaves_what_arrived(world: World, orders: Instance) -> None:
    """R-15.1, R-15.2, I10."""
    world.enable(orders)
    arrived = world.arrived(orders)
    planning.weigh(world.finished(orders).pk)
    late = replication.claim(TARGET)
    world.disable(orders)
    replication.carry_slice(late)
    late.refresh_from_db()
    arrived.refresh_from_db()
    assert (late.state, late.cancel_reason) == (CopyState.CANCELLED, "disabled")
    assert arrived.state == CopyState.COMPLETED and arrived.spans.get().ended_at is None
    assert not late.spans.exists()


def test_what_finishes_after_disabling_is_owed_to_nobody(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    world.enable(orders)
    before = world.finished(orders)
    time_machine.forward(seconds=1)
    world.disable(orders)
    after = world.finished(orders)
    planning.weigh_due()
    assert before.copies.get().cancel_reason == "disabled"
    assert not after.copies.exists()


def test_a_changed_destination_plans_anew_what_was_in_flight(world: World, orders: Instance) -> None:
    """R-14.4, R-14.5."""
    world.enable(orders)
    arrived = world.arrived(orders)
    found = world.finished(orders)
    planning.weigh(found.pk)
    world.set(orders, destination=OTHER)
    assert [(copy.destination_store.region_id, copy.state) for copy in found.copies.order_by("pk")] == [
        (TARGET, "cancelled"),
        (OTHER, "planned"),
    ]
    arrived.refresh_from_db()
    assert arrived.state == CopyState.COMPLETED
    assert CopyPolicy.objects.get(destination=TARGET).end_reason == "destination_changed"


def test_what_was_noticed_late_goes_to_the_new_destination_too(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-14.5: finished before the change, weighed after it."""
    world.enable(orders)
    found = world.finished(orders, kind="full")
    world.finished(orders, time_machine.forward(seconds=1))
    time_machine.forward(seconds=1)
    world.set(orders, destination=OTHER)
    planning.weigh_due()
    assert found.copies.get(destination_store__region=TARGET).cancel_reason == "destination_changed"
    assert found.copies.get(destination_store__region=OTHER).state == CopyState.PLANNED


def test_coming_back_adopts_what_is_there(world: World, orders: Instance) -> None:
    """A → B → A: no second copy, no second name for one object (I2)."""
    world.enable(orders)
    arrived = world.arrived(orders)
    world.set(orders, destination=OTHER)
    world.carry(OTHER)
    world.set(orders, destination=TARGET)
    world.carry(TARGET)
    assert [copy.pk for copy in Copy.objects.filter(destination_store__region=TARGET)] == [arrived.pk]
    arrived.refresh_from_db()
    assert arrived.route_version == policies.enabled_policy(orders).route_version
    keys = list(Transfer.objects.values_list("store", "key"))
    assert len(keys) == len(set(keys)) == 2


def test_disabling_and_enabling_again_keeps_one_copy_of_each(world: World, orders: Instance) -> None:
    policy = world.enable(orders)
    arrived = world.arrived(orders)
    world.disable(orders)
    world.enable(orders)
    world.carry()
    assert Copy.objects.get() == arrived
    assert policies.enabled_policy(orders).pk == policy.pk
    assert policies.enabled_policy(orders).route_version > policy.route_version


def test_a_release_lets_owed_copies_finish_and_owes_nothing_new(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-2.4, I9."""
    world.enable(orders)
    owed = world.finished(orders)
    planning.weigh_due()
    time_machine.forward(seconds=1)
    policies.release(orders, world.by)
    new = world.finished(orders)
    planning.weigh_due()
    world.carry()
    assert owed.copies.get().state == CopyState.COMPLETED
    assert not new.copies.exists()
    with pytest.raises(Refusal):
        policies.release(orders, world.by)


def test_of_a_released_instance_only_the_retention_changes(world: World, orders: Instance) -> None:
    """R-14.2, I9."""
    world.enable(orders)
    copy = world.arrived(orders)
    policies.release(orders, world.by)
    for changes in ({"enabled": False}, {"destination": OTHER}, {"logs_enabled": True}):
        now = replace(policies.current_settings(orders), agreed=True, expected="")
        assert refused(world, orders, replace(now, **changes)) == {"enabled": "ProductInstanceReleased"}
    world.set(orders, retention_days=20)
    copy.refresh_from_db()
    assert copy.expires_at == copy.set.finished_at + timedelta(days=20)


def test_a_released_instance_that_never_had_settings_gets_none(world: World, orders: Instance) -> None:
    policies.release(orders, world.by)
    assert refused(world, orders, WANTED) == {"enabled": "ProductInstanceReleased"}


def test_an_instance_that_stops_qualifying_is_suspended_and_resumes(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    """R-3.4, R-6.4."""
    world.enable(orders)
    kept = world.arrived(orders)
    time_machine.forward(hours=1)
    Instance.objects.filter(pk=orders.pk).update(family=Family.SHARED)
    policies.requalify(orders)
    policies.requalify(orders)
    assert Alert.objects.get(closed_at=None).code == "instance_suspended"
    time_machine.forward(hours=1)
    meanwhile = world.finished(orders)
    planning.weigh_due()
    assert not meanwhile.copies.exists()

    Instance.objects.filter(pk=orders.pk).update(family=Family.DEDICATED)
    policies.requalify(orders)
    assert not Alert.objects.filter(closed_at=None).exists()
    assert meanwhile.copies.get().origin == Copy.Origin.TWENTY_FOUR_HOURS
    kept.refresh_from_db()
    assert kept.state == CopyState.COMPLETED


def test_a_suspended_instance_may_still_change_its_retention(world: World, orders: Instance) -> None:
    """R-3.4: existing copies are kept to their expiry, which stays its owner's to choose."""
    world.enable(orders)
    Instance.objects.filter(pk=orders.pk).update(family=Family.SHARED)
    policies.requalify(orders)
    world.set(orders, retention_days=20)
    assert policies.enabled_policy(orders).retention_days == 20
    orders.refresh_from_db()
    with pytest.raises(Refusals):
        world.set(orders, destination=OTHER)


def test_copy_now_plans_what_is_still_there_while_a_policy_stands(
    world: World, orders: Instance, time_machine: TimeMachine
) -> None:
    old = world.finished(orders, time_machine.at - timedelta(days=3))
    planning.weigh_due()
    policy = world.enable(orders)
    assert planning.copy_now(policy, old, world.by).origin == Copy.Origin.PERSON
    assert planning.copy_now(policy, old, world.by) == Copy.objects.get()
    world.disable(orders)
    assert planning.copy_now(policy, old, world.by) is None
    assert Copy.objects.get().state == CopyState.CANCELLED
