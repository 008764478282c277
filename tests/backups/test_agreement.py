"""No way in enables a policy without an acceptance in force, not even a raw row (R-13, I12)."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from backups import policies
from backups.events import By
from backups.models import Acceptance, AcceptedInstance, AgreementText, CopyPolicy, Instance, ResourceGroup
from backups.policies import Refusals, Settings
from backups.terms import agreements
from regions.models import Region
from regions.refusals import Refusal
from tests.backups.world import OTHER, SOURCE, TARGET, World


def raw(instance: Instance, acceptance: Acceptance | None, destination: str = TARGET, **more: Any) -> CopyPolicy:
    """Write the row past every check in Python, as a shell or a careless script would."""
    with transaction.atomic():
        return CopyPolicy.objects.create(
            instance=instance,
            source_region_id=instance.region_id,
            destination_id=destination,
            enabled=True,
            acceptance=acceptance,
            **more,
        )


def accepted(world: World, *instances: Instance, destination: str = TARGET) -> Acceptance:
    return agreements.accept(instances, Region.objects.get(pk=destination), world.by)


def test_a_raw_row_needs_an_acceptance_and_with_one_it_stands(world: World, orders: Instance) -> None:
    with pytest.raises(IntegrityError, match="I12"):
        raw(orders, None)
    assert not CopyPolicy.objects.exists()
    assert raw(orders, accepted(world, orders)).enabled


def test_an_acceptance_of_an_old_text_does_not_carry_a_row(world: World, orders: Instance) -> None:
    old = accepted(world, orders)
    agreements.publish("Version two.", world.by)
    with pytest.raises(IntegrityError, match="I12"):
        raw(orders, old)
    assert raw(orders, accepted(world, orders)).acceptance.text_version == 2


def test_an_acceptance_for_another_instance_route_or_group_does_not_carry_a_row(world: World, orders: Instance) -> None:
    other = world.instance("other")
    elsewhere = ResourceGroup.objects.create(name="Elsewhere")
    for_another = [
        accepted(world, other),
        accepted(world, orders, destination=OTHER),
        agreements.accept_standing(elsewhere, "mainland", "mainland", world.by),
        agreements.accept_standing(world.group, "mainland", "SG", world.by),
    ]
    for acceptance in for_another:
        with pytest.raises(IntegrityError, match="I12"):
            raw(orders, acceptance)
    assert raw(orders, agreements.accept_standing(world.group, "mainland", "mainland", world.by)).enabled


def test_turning_an_ended_row_on_is_refused_without_an_acceptance_in_force(world: World, orders: Instance) -> None:
    policy = world.enable(orders)
    world.disable(orders)
    agreements.publish("Version two.", world.by)
    with pytest.raises(IntegrityError, match="I12"), transaction.atomic():
        CopyPolicy.objects.filter(pk=policy.pk).update(enabled=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        CopyPolicy.objects.filter(pk=policy.pk).update(enabled=True, acceptance=None)
    assert policies.enabled_policy(orders) is None


def test_a_new_text_is_asked_for_at_the_next_enabling_only(world: World, orders: Instance) -> None:
    """R-13.3."""
    world.enable(orders)
    agreements.publish("Version two.", world.by)
    policies.apply(orders, Settings(True, 30, TARGET), world.by)
    assert policies.enabled_policy(orders).retention_days == 30
    with pytest.raises(Refusals):
        policies.apply(orders, Settings(True, 30, OTHER), world.by)
    policies.apply(orders, Settings(True, 30, OTHER, agreed=True), world.by)
    assert policies.enabled_policy(orders).acceptance.text_version == 2


def test_each_acceptance_says_who_what_where_and_whether_a_border_is_crossed(world: World, orders: Instance) -> None:
    """R-13.2."""
    inside, across = accepted(world, orders), accepted(world, orders, destination=OTHER)
    assert (inside.crosses_border, across.crosses_border) == (False, True)
    assert (across.source_region_id, across.destination_region_id) == (SOURCE, OTHER)
    assert across.text_sha256 == AgreementText.objects.get(version=1, language="en").sha256
    assert AcceptedInstance.objects.filter(instance=orders).count() == 2


def test_a_standing_acceptance_speaks_for_its_giver_only(world: World, orders: Instance) -> None:
    """R-13.3: through the API the key's owner must hold an acceptance in force."""
    stranger = By(User.objects.create_user("eve"))
    agreements.accept_standing(world.group, "mainland", "mainland", world.by)
    with pytest.raises(Refusals):
        policies.apply(orders, Settings(True, 7, TARGET), stranger, standing_of=stranger)
    policies.apply(orders, Settings(True, 7, TARGET), world.by, standing_of=world.by)
    assert policies.enabled_policy(orders).acceptance.is_standing


def test_who_has_not_accepted_the_new_text_is_listed(world: World, orders: Instance) -> None:
    accepted(world, orders)
    User.objects.create_user("never asked")
    assert list(agreements.who_has_not_accepted(User.objects.all())) == []
    agreements.publish("Version two.", world.by)
    assert list(agreements.who_has_not_accepted(User.objects.all())) == [world.user]


def test_an_empty_text_is_no_agreement(world: World) -> None:
    with pytest.raises(Refusal):
        agreements.publish("  \n", world.by)
    assert agreements.current_version() == 1
