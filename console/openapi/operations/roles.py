"""AliyunServiceRoleForDBS belongs to dbs.aliyuncs.com; these operations accept it all the same (R-3.3)."""

from __future__ import annotations

from backups import service_role
from backups.models import Role, ServiceLinkedRole
from console.openapi import faults
from console.openapi.asking import Asked
from console.openapi.callers import Caller
from console.openapi.operations.table import Answer, operation


@operation("CheckServiceLinkedRole")
def check_service_linked_role(caller: Caller, asked: Asked) -> Answer:
    _require_known(caller, asked)
    has = ServiceLinkedRole.objects.filter(name=service_role.NAME).exists()
    return {"HasServiceLinkedRole": str(has).lower(), "RequireServiceLinkedRole": "true"}


@operation("CreateServiceLinkedRole", changes=True)
def create_service_linked_role(caller: Caller, asked: Asked) -> Answer:
    """Safe to repeat."""
    _require_known(caller, asked)
    if not caller.groups(Role.OPERATOR).exists():
        raise faults.forbidden("This needs the role operator in a resource group.")
    service_role.ensure(caller.by)
    return {}


def _require_known(caller: Caller, asked: Asked) -> None:
    caller.region(asked.text("RegionId"))
    if asked.text("ServiceLinkedRole") != service_role.NAME:
        raise faults.bad_format("ServiceLinkedRole", f"it is {service_role.NAME}")
