"""`manage.py test`: pytest in Farshore's own environment. The database is started by tests/conftest.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from console.runtime.places import CLONE


def main(arguments: Sequence[str]) -> int:
    """Become pytest, with the arguments given; never returns."""
    os.chdir(CLONE)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])
