"""Where restored servers stand on this machine: <place>/restored/<code>/<attempt>.

Each attempt has a folder that no other attempt ever uses, as in the stores.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from backups.engines import confinement, engine_of
from backups.models import Restore
from backups.servers.places_for_servers import passable, place_for


def room() -> Path:
    """Return the folder of all restored servers of this machine; raises Refusal when none can be reached."""
    return place_for("restored")


def place_of(restore: Restore) -> Path:
    """Return where the attempts of a restore lie on this machine; it may not be there."""
    return room() / restore.code


def prepared(restore: Restore) -> Path:
    return passable(place_of(restore))


def clear(restore: Restore) -> None:
    """Remove what attempts at a restore have left on this machine, running or not; safe to repeat.

    Attempts are numbered by their fence: one under a newer fence than the caller's is somebody else's, and stays.
    Raises RuntimeError when a process does not end: what still runs is never called gone.
    """
    place = place_of(restore)
    attempts = [folder for folder in place.glob("*") if folder.name.isdigit() and int(folder.name) <= restore.fence]
    for folder in attempts:
        discard(restore, folder)
    with suppress(OSError):  # not there, or not empty
        place.rmdir()


def discard(restore: Restore, folder: Path) -> None:
    engine_of(restore.instance.engine).discard(folder)
    if left := confinement.living_in(folder):
        raise RuntimeError(f"processes {left} in {folder} do not end")


def tidy() -> None:
    """Remove what a worker that died left of restores that another machine has brought to their end since."""
    for folder in room().iterdir():
        over = Restore.objects.exclude(state__in=Restore.HELD).filter(code=folder.name)
        for restore in over.select_related("instance"):
            clear(restore)
