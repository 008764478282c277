"""AliyunServiceRoleForDBS belongs to dbs.aliyuncs.com; these operations accept it all the same (R-3.3)."""

from __future__ import annotations

from django.db.models import QuerySet

from backups.models import Role, ServiceLinkedRole
from backups.terms import service_role
from console.openapi import faults
from console.openapi.asking import Asked
from console.openapi.callers import Caller
from console.openapi.operations.table import Answer, operation
from regions.built_once import Given, built_once


@built_once
def _roles(**_: Given) -> QuerySet[ServiceLinkedRole]:
    return ServiceLinkedRole.objects.filter(name=Given("name"))


@operation("CheckServiceLinkedRole")
def check_service_linked_role(caller: Caller, asked: Asked) -> Answer:
    _require_known(caller, asked)
    has = bool(_roles(name=service_role.NAME))
    return {"HasServiceLinkedRole": str(has).lower(), "RequireServiceLinkedRole": "true"}


@operation("CreateServiceLinkedRole", changes=True)
def create_service_linked_role(caller: Caller, asked: Asked) -> Answer:
    """Safe to repeat."""
    _require_known(caller, asked)
    if not caller.operates:
        raise faults.forbidden(f"This needs the role {Role.OPERATOR} in a resource group.")
    service_role.ensure(caller.by)
    return {}


def _require_known(caller: Caller, asked: Asked) -> None:
    caller.region(asked.text("RegionId"))
    if asked.text("ServiceLinkedRole") != service_role.NAME:
        raise faults.bad_format("ServiceLinkedRole", f"it is {service_role.NAME}")
