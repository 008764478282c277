"""One door per noun: what a person may see, and 404 for what they may not (design.md §8)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Exists, Q, QuerySet
from django.http import Http404

from backups.models import (
    Acceptance,
    Alert,
    BackupSet,
    Copy,
    Drill,
    DrillQuery,
    Event,
    Instance,
    LandingServer,
    Membership,
    ResourceGroup,
    Restore,
    Role,
)

BUDGET = "budget_"  # how the codes of alerts about money begin


def sees_all(user: Any) -> bool:
    return bool(user.is_active and user.is_superuser)


def groups_for(user: Any, *roles: str) -> QuerySet[ResourceGroup]:
    """Return the groups in which the user has one of the roles (any role when none is named)."""
    if not user.is_active:
        return ResourceGroup.objects.none()
    if sees_all(user):
        return ResourceGroup.objects.all()
    mine = Membership.objects.filter(user=user)
    if roles:
        mine = mine.filter(role__in=roles)
    return ResourceGroup.objects.filter(pk__in=mine.values("group"))


def roles_of(user: Any) -> set[str]:
    """Return the roles that the user has in any group; all of them for who runs the installation."""
    if sees_all(user):
        return set(Role.values)
    if not user.is_active:
        return set()
    return set(Membership.objects.filter(user=user).values_list("role", flat=True).distinct())


def may(user: Any, group_id: int | None, *roles: str) -> bool:
    return groups_for(user, *roles).filter(pk=group_id).exists()


def require(user: Any, instance: Instance, *roles: str) -> None:
    """Raise PermissionDenied unless the user has one of the roles for this instance."""
    if not may(user, instance.group_id, *roles):
        raise PermissionDenied(f"This needs the role {' or '.join(roles)} in {instance.group}.")


def groups_billed_to(user: Any) -> frozenset[int] | None:
    """Return the ids of the groups whose bills the user reads, None for all of them; PermissionDenied without any."""
    if sees_all(user):
        return None
    groups = frozenset(groups_for(user, Role.BILLING).values_list("pk", flat=True))
    if not groups:
        raise PermissionDenied("Bills need the role billing.")
    return groups


def instances_for(user: Any, *roles: str) -> QuerySet[Instance]:
    return Instance.objects.filter(group__in=groups_for(user, *roles)).select_related("region", "group")


def instance_for(user: Any, code: str, *roles: str) -> Instance:
    """Return the instance; Http404 when it is not there for this user, PermissionDenied when a role is missing."""
    instance = instances_for(user).filter(code=code).first()
    if instance is None:
        raise Http404("No such instance.")
    if roles:
        require(user, instance, *roles)
    return instance


def sets_for(user: Any) -> QuerySet[BackupSet]:
    return BackupSet.objects.filter(instance__group__in=groups_for(user)).select_related("instance")


def set_for(user: Any, pk: int) -> BackupSet:
    found = sets_for(user).select_related("instance__region", "instance__group").filter(pk=pk).first()
    if found is None:
        raise Http404("No such backup set.")
    return found


def copies_for(user: Any) -> QuerySet[Copy]:
    return Copy.objects.visible().filter(set__instance__group__in=groups_for(user))


def restores_for(user: Any) -> QuerySet[Restore]:
    """Return the restores of the user's instances, the newest first."""
    found = Restore.objects.filter(instance__group__in=groups_for(user))
    return found.select_related("instance__group", "region", "set", "asked_by", "result", "onto", "landing").order_by(
        "-pk"
    )


def restore_for(user: Any, code: str, *roles: str) -> Restore:
    """Return the restore; Http404 when it is not there for this user, PermissionDenied when a role is missing."""
    restore = restores_for(user).filter(code=code).first()
    if restore is None:
        raise Http404("No such restore.")
    if roles:
        require(user, restore.instance, *roles)
    return restore


def landing_servers_for(user: Any) -> QuerySet[LandingServer]:
    """Return the landing servers that the user's groups were granted; all of them for who runs the installation."""
    found = LandingServer.objects.select_related("region")
    return found if sees_all(user) else found.filter(groups__in=groups_for(user)).distinct()


def landing_server_for(user: Any, code: str) -> LandingServer:
    found = landing_servers_for(user).filter(code=code).first()
    if found is None:
        raise Http404("No such landing server.")
    return found


def drill_for(user: Any, pk: int) -> Drill:
    rows = Drill.objects.select_related("instance__region", "instance__group", "store__region", "set", "asked_by")
    found = rows.filter(pk=pk, instance__group__in=groups_for(user)).first()
    if found is None:
        raise Http404("No such drill.")
    return found


def drill_query_for(user: Any, pk: int, *roles: str) -> DrillQuery:
    rows = DrillQuery.objects.select_related("instance__region", "instance__group")
    found = rows.filter(pk=pk, instance__group__in=groups_for(user)).first()
    if found is None:
        raise Http404("No such query.")
    require(user, found.instance, *roles)
    return found


def alerts_for(user: Any) -> QuerySet[Alert]:
    """Return open alerts of the user's groups, and of what is the user's own (a webhook); those of neither (a store)
    only for who runs the installation.

    What is told of a budget is for those whose costs they are.
    """
    opened = Alert.objects.filter(closed_at=None).order_by("-opened_at")
    if not user.is_active:
        return opened.none()
    if sees_all(user):
        return opened
    billed = groups_for(user, Role.BILLING)
    of_money = Q(group__in=billed) | Q(_bills_everywhere(billed), group=None)
    is_of_money = Q(code__startswith=BUDGET)
    theirs = Q(group__in=groups_for(user)) | Q(user=user)
    return opened.filter(is_of_money & of_money | ~is_of_money & theirs)


def _bills_everywhere(billed: QuerySet[ResourceGroup]) -> Q:
    """Say that no group is missing among those billed, and that there are any."""
    return Q(Exists(billed)) & ~Q(Exists(ResourceGroup.objects.exclude(pk__in=billed.values("pk"))))


def bills_everywhere(user: Any) -> bool:
    """Whether the costs of the whole fleet are this person's: of every group there is."""
    if sees_all(user):
        return True
    billed = set(groups_for(user, Role.BILLING).values_list("pk", flat=True))
    return bool(billed) and not ResourceGroup.objects.exclude(pk__in=billed).exists()


def events_for(user: Any) -> QuerySet[Event]:
    found = Event.objects.order_by("-pk")
    return found if sees_all(user) else found.filter(group__in=groups_for(user))


def acceptances_for(user: Any) -> QuerySet[Acceptance]:
    found = Acceptance.objects.select_related("user", "text", "source_region", "destination_region", "resource_group")
    if sees_all(user):
        return found.order_by("-pk")
    groups = groups_for(user)
    mine = found.filter(resource_group__in=groups) | found.filter(accepted__instance__group__in=groups)
    return mine.distinct().order_by("-pk")


def may_run_installation(user: Any) -> bool:
    """Attaching a store and adding people is an installation-level right."""
    return sees_all(user)


def may_operate(user: Any, instance: Instance) -> bool:
    return may(user, instance.group_id, Role.OPERATOR)
