"""AliyunServiceRoleForDBS: the team's standing grant to the copier (R-3.3)."""

from __future__ import annotations

from backups import events
from backups.events import By
from backups.models import Copy as CopyRow
from backups.models import CopyPolicy, CopyState, ServiceLinkedRole
from regions import clock
from regions.refusals import Refusal

NAME = "AliyunServiceRoleForDBS"


def ensure(by: By) -> ServiceLinkedRole:
    """Create the role once, the first time anyone uses a backup feature; later calls return it."""
    role, created = ServiceLinkedRole.objects.get_or_create(
        name=NAME, defaults={"created_at": clock.now(), "created_by": by.user}
    )
    if created:
        events.record("service_role.created", f"{NAME} was created: the copier may read and write the stores.", by=by)
    return role


def delete(by: By) -> None:
    """Delete the role; refused while a policy is enabled or a copy exists."""
    ended = (CopyState.CANCELLED, CopyState.DELETED)
    if CopyPolicy.objects.live().exists() or CopyRow.objects.exclude(state__in=ended).exists():
        raise Refusal(
            "RoleInUse",
            f"{NAME} cannot be deleted while cross-region backup is enabled or a copy exists.",
            "Disable every policy and wait until the last copy has expired.",
        )
    if ServiceLinkedRole.objects.filter(name=NAME).delete()[0]:
        events.record("service_role.deleted", f"{NAME} was deleted.", by=by)
