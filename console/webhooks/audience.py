"""Of what an endpoint may be told now: what its owner does more with than look, and no more.

Asked when a happening is found, and again right before it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from backups import access
from backups.models import Role
from console.webhooks.models import Delivery, Endpoint, Kind

MAKERS = (Role.OPERATOR, Role.SECURITY, Role.BILLING)  # who only looks, sends nothing out


@dataclass(frozen=True)
class Audience:
    """`seen`: the groups of whose instances it is told; `billed`: of whose budgets; `fleet`: of everybody's budget."""

    seen: frozenset[int]
    billed: frozenset[int]
    fleet: bool
    is_there: bool  # its owner has not left

    def may_hear(self, delivery: Delivery) -> bool:
        if delivery.kind == Kind.PING:
            return self.is_there
        if delivery.kind == Kind.BUDGET_REACHED:
            return self.fleet if delivery.group_id is None else delivery.group_id in self.billed
        return delivery.instance is not None and delivery.instance.group_id in self.seen


def audience_of(endpoint: Endpoint) -> Audience:
    owner = endpoint.user
    seen = set(access.groups_for(owner, *MAKERS).values_list("pk", flat=True))
    billed = set(access.groups_for(owner, Role.BILLING).values_list("pk", flat=True))
    if endpoint.is_limited:
        chosen = set(endpoint.groups.values_list("pk", flat=True))
        seen, billed = seen & chosen, billed & chosen
    fleet = not endpoint.is_limited and owner.is_active and access.bills_everywhere(owner)
    return Audience(frozenset(seen), frozenset(billed), fleet, owner.is_active)


def may_learn_what_listens(user: Any) -> bool:
    """Whether a log may tell a closed address from a silent one: the test of an instance's connection tells them so."""
    return user.is_active and (access.may_run_installation(user) or access.groups_for(user, Role.OPERATOR).exists())


def visible_to(user: object) -> Q:
    """Narrow a log of deliveries to what this person may see today."""
    of_budgets = Q(kind=Kind.BUDGET_REACHED, group__in=access.groups_for(user, Role.BILLING))
    if access.bills_everywhere(user):
        of_budgets |= Q(kind=Kind.BUDGET_REACHED, group=None)
    return Q(kind=Kind.PING) | Q(instance__group__in=access.groups_for(user)) | of_budgets
