"""Where servers made of copies stand on this machine: in the data folder, or where the account they run as can go.

A clone in a private folder (root's own home, mode 0700) is common. Nothing above a place changes its permissions.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from backups.engines import confinement
from regions.refusals import Refusal

ELSEWHERE = Path("/var/lib/farshore")
PASSABLE = 0o711


def place_for(kind: str) -> Path:
    """Return the folder for servers of a kind (restored, drills), made if need be; raises Refusal if none is reached.

    A place outside the data folder is written down there, so that a clone that moves finds its servers again.
    """
    data = Path(settings.FARSHORE_DATA)
    note, usual = data / f"{kind}.place", data / kind
    if note.exists():
        return passable(Path(note.read_text().strip()))
    whom = confinement.account()
    if confinement.reaches(whom, passable(usual)):
        return usual
    elsewhere = passable(ELSEWHERE / hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:10] / kind)
    if not confinement.reaches(whom, elsewhere):
        raise Refusal(
            "PlaceOutOfReach",
            f"The account that restored servers run as reaches neither {usual} nor {elsewhere}.",
            "Let others pass through the folders above one of them (chmod o+x).",
        )
    note.write_text(f"{elsewhere}\n")
    with suppress(OSError):
        usual.rmdir()
    return elsewhere


def passable(path: Path) -> Path:
    """Make the folder, so that others may pass through it and not look around."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            folder.chmod(PASSABLE)
    return path
