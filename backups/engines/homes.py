"""Where a restored server lives.

data/      the server's own, the only place it can write to
settings/  ours: it reads them
s/         its socket, or a folder below /tmp where that path would be too long for one
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from backups.engines import confinement
from backups.engines.confinement import Account, own
from regions.refusals import Refusal

SOCKET_MOST = 80


@dataclass(frozen=True)
class Home:
    """The folder of one restored server, and whose the server is."""

    folder: Path
    whom: Account | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def settings(self) -> Path:
        return self.folder / "settings"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def sockets(self) -> Path:
        near = self.folder / "s"
        if len(str(near)) <= SOCKET_MOST:
            return near
        return Path("/tmp") / f"farshore-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]}"

    def build(self) -> None:
        """Make the folders; raises Refusal when the place is taken or the account cannot get there."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.folder.name):
            raise Refusal("BadName", "The folder's name may have letters, digits, '.', '_' and '-' only.", "", "name")
        try:
            self.folder.mkdir(mode=0o700)
        except FileExistsError:
            raise Refusal("PlaceTaken", f"{self.folder} is there already.", "Choose another name.", "name") from None
        own(self.folder, self.whom, 0o710, theirs=False)
        self.data.mkdir(mode=0o700)
        own(self.data, self.whom, 0o700)
        self.make_sockets()
        self.settings.mkdir(mode=0o700)
        own(self.settings, self.whom, 0o750, theirs=False)
        if not confinement.reaches(self.whom, self.data):
            shutil.rmtree(self.sockets, ignore_errors=True)
            shutil.rmtree(self.folder)
            raise Refusal(
                "PlaceOutOfReach",
                f"The account that restored servers run as cannot reach {self.folder}.",
                "Choose a place whose folders all let others pass (chmod o+x).",
            )

    def make_sockets(self) -> None:
        """Make the socket folder anew: below /tmp anybody might have made it."""
        if self.sockets.is_symlink() or self.sockets.exists():
            shutil.rmtree(self.sockets)
        self.sockets.mkdir(mode=0o700)
        own(self.sockets, self.whom, 0o700)

    def put(self, name: str, content: str) -> None:
        path = self.settings / name
        path.write_text(content)
        own(path, self.whom, 0o640, theirs=False)
