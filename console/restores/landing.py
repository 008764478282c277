"""What the wizard asks where databases are restored on a landing server: which one, and what each is called there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from django.http import QueryDict

from backups import landing_servers, restoring
from backups.models import Instance, LandingServer
from regions.models import Region

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

    def __init__(
        self, instance: Instance, region: Region, database: str, databases: list[str], said: QueryDict
    ) -> None:
        self.region, self.database, self.databases, self.said = region, database, databases, said
        self.servers: list[LandingServer] = list(landing_servers.usable_for(instance).filter(region=region))

    @cached_property
    def server(self) -> LandingServer | None:
        """Return the one that was chosen, else the first that works."""
        asked = self.said.get("landing", "")
        usual = sorted(self.servers, key=lambda one: bool(one.error))
        return next((one for one in self.servers if one.code == asked), usual[0] if usual else None)

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
