"""Everything that changed, who did it and why, written in the transaction of the change (R-1.2, I16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backups import bell
from backups.models import BackupSet, Event, Instance, ResourceGroup
from regions import clock


@dataclass(frozen=True)
class By:
    """Who acts, and from which address. `By()` is Farshore itself."""

    user: Any = None
    address: str = ""

    @property
    def name(self) -> str:
        return self.user.get_username() if self.user else "Farshore"


FARSHORE = By()
CHANGES_STATE = (
    "policy.",
    "instance.",
    "agreement.",
    "hold.",
)  # what `state_objects` tell


def speakable(text: str) -> str:
    """Return the text as the database can keep it: an owner's key may hold bytes that are no text, or a NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def record(
    kind: str,
    sentence: str,
    *,
    by: By = FARSHORE,
    instance: Instance | None = None,
    set: BackupSet | None = None,
    group: ResourceGroup | None = None,
    **data: Any,
) -> Event:
    """Add one event; call it inside the transaction that makes the change. `data` must hold no secret (I18)."""
    instance = instance or (set.instance if set else None)
    if instance and kind.startswith(CHANGES_STATE):
        bell.ring_state(instance.pk)
    return Event.objects.create(
        at=clock.now(),
        kind=kind,
        sentence=sentence,
        actor=by.user,
        actor_name=by.name,
        address=by.address,
        instance=instance,
        set=set,
        group_id=group.pk if group else (instance.group_id if instance else None),
        data=data,
    )
