"""What the wizard asks where databases are restored on a landing server: which one, and what each is called there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from backups import restoring
from backups.models import LandingServer
from backups.servers import landing_servers

if TYPE_CHECKING:
    from console.restores.wizard import Wizard

LONGEST_NAME = 100


@dataclass(frozen=True)
class Other:
    """Another database of the instance that may come back in the same go."""

    database: str
    field: str
    name: str
    is_wanted: bool


class LandingChoice:
    """What was said of it, and what is usual where nothing was."""

    def __init__(self, wizard: Wizard) -> None:
        self.region, self.said, self.is_order = wizard.place.region, wizard.said, wizard.is_order
        self.database, self.databases = wizard.database, wizard.databases
        self.servers: list[LandingServer] = list(landing_servers.usable_for(wizard.instance).filter(region=self.region))

    @cached_property
    def server(self) -> LandingServer | None:
        """Return the one that was chosen, else the first that works; an order never goes to another than was chosen."""
        asked = self.said.get("landing", "")
        chosen = next((one for one in self.servers if one.code == asked), None)
        if chosen or (asked and self.is_order):
            return chosen
        return restoring.usual_server(self.servers)

    @property
    def name(self) -> str:
        """Return what the database is to be called; what was typed in for another one is not kept."""
        if "name" in self.said and self.said.get("named_for", self.database) == self.database:
            return self.said["name"]
        return self._free(self.database)

    @cached_property
    def others(self) -> list[Other]:
        wanted = set(self.said.getlist("also"))
        return [
            Other(one, f"as:{one}", self.said.get(f"as:{one}", "")[:LONGEST_NAME] or self._free(one), one in wanted)
            for one in self.databases
            if one != self.database
        ]

    @property
    def also(self) -> dict[str, str]:
        """Return the other databases that are wanted, and what each is to be called."""
        return {one.database: one.name.strip() for one in self.others if one.is_wanted}

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Return what an address keeps of it."""
        kept = [("landing", self.server.code)] if self.server else []
        kept += [("named_for", self.database)]
        for one in self.others:
            kept += [("also", one.database), (one.field, one.name)] if one.is_wanted else []
        return kept

    def _free(self, database: str) -> str:
        return restoring.free_database_name(self.server, database) if self.server else f"{database}-restored"
