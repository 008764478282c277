"""`manage.py test`: pytest in Farshore's own environment. The database is started by tests/conftest.py.

The whole suite runs two at a time, each with servers of its own, a file staying together; what is named runs by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from console.runtime.places import CLONE


def main(arguments: Sequence[str]) -> int:
    """Become pytest, with the arguments given; never returns."""
    os.chdir(CLONE)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *at_once(arguments), *arguments])


def at_once(arguments: Sequence[str]) -> list[str]:
    """Return how many tests run at a time, where the arguments do not say it and name no test."""
    says = any(argument.startswith(("-n", "--numprocesses", "--dist", "--soak", "--pdb")) for argument in arguments)
    names = any((CLONE / argument.partition("::")[0]).exists() for argument in arguments)
    return [] if says or names else ["-n", "2", "--dist", "loadfile"]
