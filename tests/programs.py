"""Programs that some tests need: skipped by name where missing, required under FARSHORE_REQUIRE=all."""

from __future__ import annotations

import os
import shutil

import pytest

SYSTEM_FOLDERS = "/usr/sbin:/sbin:/usr/lib/rabbitmq/bin"


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SYSTEM_FOLDERS)


def needs(*names: str) -> None:
    """Skip the test, by name, when a program is not on this machine; fail under FARSHORE_REQUIRE=all."""
    missing = [name for name in names if not program(name)]
    if not missing:
        return
    reason = f"needs {', '.join(missing)}"
    if os.environ.get("FARSHORE_REQUIRE") == "all":
        pytest.fail(f"{reason}, and FARSHORE_REQUIRE=all", pytrace=False)
    pytest.skip(reason)
