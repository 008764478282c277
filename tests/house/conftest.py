"""A folder that other accounts may pass through: pytest's own are private."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.room import ROOM


@pytest.fixture
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=ROOM))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
