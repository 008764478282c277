"""Programs that some tests need: skipped by name where missing, required under FARSHORE_REQUIRE=all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

SYSTEM_FOLDERS = "/usr/sbin:/sbin:/usr/lib/rabbitmq/bin"


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SYSTEM_FOLDERS)


def needs(*names: str) -> None:
    """Skip the test, by name, when a program is not on this machine; fail under FARSHORE_REQUIRE=all."""
    missing = [name for name in names if not program(name)]
    if missing:
        _miss(f"needs {', '.join(missing)}")


def needs_in(folder: Path, what: str) -> None:
    """The same for what is installed into a folder."""
    if not folder.exists():
        _miss(f"needs {what}")


def _miss(reason: str) -> NoReturn:
    if os.environ.get("FARSHORE_REQUIRE") == "all":
        pytest.fail(f"{reason}, and FARSHORE_REQUIRE=all", pytrace=False)
    pytest.skip(reason)
