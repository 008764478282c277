"""Who can be protected, and why not in words (R-3, R-7.1); the list's question agrees with the rule."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from backups import policies
from backups.models import Copy, CopyState, Edition, Instance, ServiceLinkedRole
from backups.policies import Refusals, Settings
from backups.terms import eligibility, service_role
from regions import clock
from regions.refusals import Refusal
from tests.backups.world import TARGET, World

REASONS = [
    ({"family": "shared"}, ["Shared instance types"]),
    ({"billing_method": "serverless"}, ["Serverless"]),
    ({"backup_method": "snapshot"}, ["snapshot and the edition is not Cluster"]),
    ({"backup_method": "snapshot", "edition": "basic"}, ["snapshot and the edition is not Cluster"]),
    ({"family": "shared", "billing_method": "serverless"}, ["Shared instance types", "Serverless"]),
    ({"backup_method": "snapshot", "edition": "cluster"}, []),
    ({"family": "dedicated", "billing_method": "pay_as_you_go"}, []),
]


@pytest.mark.parametrize(("facts", "said"), REASONS)
def test_each_requirement_that_fails_is_said_and_enabling_agrees(
    world: World, facts: dict[str, Any], said: list[str]
) -> None:
    instance = world.instance(**facts)
    reasons = eligibility.reasons(instance)
    assert len(reasons) == len(said)
    assert all(words in reason.sentence for words, reason in zip(said, reasons, strict=True))
    assert eligibility.qualifying(Instance.objects.all()).exists() == eligibility.qualifies(instance) == (not said)
    if said:
        with pytest.raises(Refusals):
            world.enable(instance)
        assert policies.latest_policy(instance) is None
    else:
        assert world.enable(instance).enabled


def test_a_released_instance_does_not_qualify(world: World) -> None:
    instance = world.instance()
    policies.release(instance, world.by)
    assert [reason.code for reason in eligibility.reasons(instance)] == ["ProductInstanceReleased"]
    assert not eligibility.qualifying(Instance.objects.all()).exists()


def test_the_method_cannot_become_snapshot_while_it_is_on(world: World) -> None:
    """R-7.1: refused in words, and by the table."""
    instance, cluster = world.instance(), world.instance("cluster", edition=Edition.CLUSTER)
    assert eligibility.refuse_method(instance, "snapshot") is None
    world.enable(instance)
    world.enable(cluster)
    assert eligibility.refuse_method(instance, "snapshot").field == "backup_method"
    assert eligibility.refuse_method(cluster, "snapshot") is None
    with pytest.raises(IntegrityError, match="R-7.1"), transaction.atomic():
        Instance.objects.filter(pk=instance.pk).update(backup_method="snapshot")
    Instance.objects.filter(pk=cluster.pk).update(backup_method="snapshot")
    world.disable(instance)
    Instance.objects.filter(pk=instance.pk).update(backup_method="snapshot")


def test_the_role_is_made_once_and_stays_while_it_is_needed(world: World, orders: Instance) -> None:
    """R-3.3."""
    world.enable(orders)
    role = ServiceLinkedRole.objects.get()
    assert role.created_by == world.user
    copy = world.arrived(orders)
    with pytest.raises(Refusal):
        service_role.delete(world.by)
    world.disable(orders)
    with pytest.raises(Refusal):
        service_role.delete(world.by)
    Copy.objects.filter(pk=copy.pk).update(state=CopyState.DELETED, expired_at=clock.now(), deleted_at=clock.now())
    service_role.delete(world.by)
    assert not ServiceLinkedRole.objects.exists()


def test_a_released_instance_does_not_keep_the_role(world: World, orders: Instance) -> None:
    policies.apply(orders, Settings(True, 7, TARGET, agreed=True), world.by)
    policies.release(orders, world.by)
    service_role.delete(world.by)
    assert not ServiceLinkedRole.objects.exists()
