"""Folders below /tmp that live as long as somebody works in them; what a kill -9 left is removed by the next."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "farshore-work"
NAMED = re.compile(rf"{PREFIX}-(\d+)-")


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder that only we can enter."""
    above = Path(tempfile.gettempdir())
    _sweep(above)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}-{os.getpid()}-", dir=above) as folder:
        yield Path(folder)


def _sweep(above: Path) -> None:
    """Remove folders of ours whose process is gone."""
    for entry in os.scandir(above):
        named = NAMED.match(entry.name)
        if not named or Path(f"/proc/{named[1]}").exists() or not entry.is_dir(follow_symlinks=False):
            continue
        if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
            shutil.rmtree(entry.path, ignore_errors=True)
