"""A year of bills: copies of two teams over many months, closed as the beat closes them, and this month so far."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User

from backups.models import Copy, Instance, Membership, ResourceGroup, Role
from billing import closing
from billing.models import ItemCode
from tests.billing.facts import download_of, plan_of, reprice
from tests.console.fleet import DAY, FAR, GB, SOURCE, TARGET, Fleet

MONTHS = 14  # with which the chart is full


def reader(group: ResourceGroup, name: str = "ling") -> User:
    """Someone who reads the bills of a group and has no other role in it."""
    user = User.objects.get_or_create(username=name)[0]
    Membership.objects.get_or_create(user=user, group=group, role=Role.BILLING)
    return user


def stored(fleet: Fleet, instance: Instance, age: timedelta, size: int = 40 * GB, days: int = 40) -> Copy:
    """A backup of that age, copied, and charged for so many days."""
    policy = instance.policies.first() or fleet.policy(instance, TARGET, enabled=False)
    found = fleet.backup(instance, age=age, size=size)
    copy = fleet.copy(found, policy, expires_at=found.finished_at + days * DAY)
    copy.spans.filter(copy__expires_at__lt=fleet.now).update(ended_at=copy.expires_at)
    return copy


def some_months(fleet: Fleet, months: int = MONTHS) -> None:
    """Fill and close months: storage, traffic, downloads, a network plan, and a route that has no price."""
    reprice(ItemCode.TRAFFIC, source=SOURCE, destination=FAR)
    names = ("orders-primary", "ledger", "identity", "loyalty")
    teams = [fleet.group, ResourceGroup.objects.create(name="Platform")]
    instances = [fleet.instance(name, group=teams[n % 2]) for n, name in enumerate(names)]
    for n, instance in enumerate(instances):
        fleet.policy(instance, FAR if n == 3 else TARGET, days=40, enabled=False)
    plan_of(80, fleet.now - 200 * DAY)
    for month in range(months):
        for n, instance in enumerate(instances):
            size = (30 + 17 * n + 9 * (months - month) + 25 * (month % 3)) * GB
            copy = stored(fleet, instance, age=timedelta(days=30 * month + n, hours=5), size=size)
        if month % 4 == 1:
            download_of(copy.set, fleet.now - timedelta(days=30 * month, hours=2), size=(510 + 20 * month) * GB)
    closing.close_due()
