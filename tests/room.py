"""The tests' own corner of the machine, named before the settings are read (pyproject.toml loads this first)."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOM = Path(tempfile.mkdtemp(prefix="farshore-test-"))
ROOM.chmod(0o711)

os.environ["FARSHORE_DATA"] = str(ROOM / "data")
os.environ["DATABASE_URL"] = "postgresql:///farshore?user=farshore&host=/the-tests-start-their-own"
os.environ["BROKER_URL"] = "memory://"
os.environ["FARSHORE_ALLOW_LOOPBACK"] = "yes"
for _name in ("PUBLIC_URL", "FARSHORE_KEYS", "FARSHORE_SECRET_KEY", "EMAIL_HOST"):
    os.environ.pop(_name, None)
# A container's image often says this; every child that a test starts would compile a thousand modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Playwright's synchronous interface keeps a running event loop in the tests' thread.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

if "TEST_DATABASE_URL" in os.environ:
    os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]


def pytest_unconfigure() -> None:
    shutil.rmtree(ROOM, ignore_errors=True)
