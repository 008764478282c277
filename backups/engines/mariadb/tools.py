"""Where the engine's own tools lie: MARIADB_BIN (one folder, or several with ':' between), then PATH, then the usual.

A backup is taken, prepared and started by programs of the server's own series (10.11, 11.4): others refuse its files.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from regions.refusals import Refusal

PACKAGED = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/local/mysql/bin", "/usr/libexec")
RELEASE = re.compile(r"(\d+\.\d+)\.\d+-MariaDB")
ANSWER_SECONDS = 20


@dataclass(frozen=True)
class Tools:
    """The programs of one series, in the folders that belong together."""

    series: str
    folders: tuple[Path, ...]

    def program(self, name: str) -> Path:
        """Return where a program lies; raises Refusal when it is not there."""
        if found := _find(name, self.folders):
            return found
        raise _missing(name, self.series)


def series_of(version: str) -> str:
    """The series of a version: 10.11.6-MariaDB-log is one of 10.11."""
    return ".".join(re.findall(r"\d+", version)[:2])


def tools_for(series: str) -> Tools:
    """Return the tools that can take backups of a server of this series; raises Refusal when there are none."""
    return _with("mariadb-backup", series)


def server_tools(series: str) -> Tools:
    """Return the tools that can start a server of this series; raises Refusal when there are none."""
    try:
        return _with("mariadbd", series)
    except Refusal:
        raise Refusal(
            "ServerMissing",
            f"This worker cannot start a MariaDB {series}, which the backup was made by.",
            "Install its server package, or name the folder of its programs in MARIADB_BIN.",
        ) from None


def binlog_tool(series: str) -> Path:
    """Return a mariadb-binlog, of this series if there is one; raises Refusal when there is none at all."""
    candidates = [found for folders in _places() if (found := _find("mariadb-binlog", folders))]
    for folders in _places():
        if _series(folders, "mariadb-backup") == series and (found := _find("mariadb-binlog", folders)):
            return found
    if not candidates:
        raise _missing("mariadb-binlog", series)
    return candidates[0]


def started_series() -> list[str]:
    """The series of which a server can be started here."""
    found = (_series(folders, "mariadbd") for folders in _places())
    return list(dict.fromkeys(filter(None, found)))


def _with(program: str, series: str) -> Tools:
    for folders in _places():
        if _series(folders, program) == series:
            return Tools(series, folders)
    raise _missing(program, series)


def _missing(program: str, series: str) -> Refusal:
    return Refusal(
        "ToolsMissing",
        f"This worker has no {program} of MariaDB {series}.",
        "Install the client and backup packages of that series, or name the folder of its programs in MARIADB_BIN.",
    )


def _places() -> Iterator[tuple[Path, ...]]:
    """Folders that belong together: each that is named alone, then all of the system's."""
    for named in filter(None, os.environ.get("MARIADB_BIN", "").split(os.pathsep)):
        yield (Path(named),)
    on_path = filter(None, os.environ.get("PATH", "").split(os.pathsep))
    yield tuple(map(Path, dict.fromkeys([*on_path, *PACKAGED])))


def _find(name: str, folders: tuple[Path, ...]) -> Path | None:
    return next((folder / name for folder in folders if os.access(folder / name, os.X_OK)), None)


def _series(folders: tuple[Path, ...], program: str) -> str:
    found = _find(program, folders)
    return _series_said(found, found.stat().st_mtime_ns) if found else ""


@lru_cache
def _series_said(program: Path, _changed: int) -> str:
    """What a program says it is of, "" when it does not tell; asked again when it was replaced."""
    try:
        said = subprocess.run(
            [program, "--no-defaults", "--version"],
            cwd="/",
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = RELEASE.search(said.stdout + said.stderr)
    return found[1] if found else ""
