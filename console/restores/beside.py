"""What the wizard asks where a database goes beside those of an instance that is there (R-2.3)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from backups import access, restoring
from backups.models import Instance, Role

if TYPE_CHECKING:
    from console.restores.wizard import Wizard


class BesideChoice:
    """What was said of it, and what is usual where nothing was; `targets` is empty where it cannot be had."""

    def __init__(self, wizard: Wizard, user: Any) -> None:
        self.said, self.is_order, self.database = wizard.said, wizard.is_order, wizard.database
        self.targets = self._targets(wizard, user)

    @staticmethod
    def _targets(wizard: Wizard, user: Any) -> list[Instance]:
        if wizard.place.store is None:
            return []  # a default backup goes nowhere but onto its own instance, or into a new one
        mine = access.groups_for(user, Role.OPERATOR)
        return list(restoring.targets_beside(wizard.instance, wizard.place.region).filter(group__in=mine))

    @cached_property
    def target(self) -> Instance | None:
        """Return the one that was chosen, else the first; an order never goes to another than was chosen."""
        asked = self.said.get("beside", "")
        chosen = next((one for one in self.targets if one.code == asked), None)
        if chosen or (asked and self.is_order):
            return chosen
        return self.targets[0] if self.targets else None

    @cached_property
    def called(self) -> str:
        """Return what the database is to be called; what was typed in for another one is not kept."""
        is_for_this = self.said.get("named_for", self.database) == self.database
        if "called" in self.said and is_for_this:
            return self.said["called"]
        return restoring.free_name_beside(self.target, self.database) if self.target else self.database

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Return what an address keeps of it."""
        return [("beside", self.target.code), ("called", self.called)] if self.target else []
