"""Starting `manage.py up` for a test, watching what it says, and finding every process it made."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from console.runtime.places import CLONE

START_SECONDS = 120
SERVERS = {"postgresql": "postgres", "valkey": "valkey-server"}
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", "__pycache__", ".*_cache", ".hypothesis")


def clean_copy(target: Path) -> Path:
    shutil.copytree(CLONE, target, ignore=LEFT_OUT)
    return target


def plain_environment(**more: str) -> dict[str, str]:
    """As a person's shell has it: nothing of Farshore's, and nothing of the tests'."""
    strange = ("FARSHORE", "DATABASE_URL", "BROKER_URL", "PUBLIC_URL", "DJANGO", "PYTEST", "VIRTUAL_ENV", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(strange)} | more


def soon(is_so: Callable[[], object], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.1)
    return bool(is_so())


class Up:
    """One running `manage.py up` and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process, self.output = process, output
        self.began = time.monotonic()

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def address(self) -> str:
        found = re.search(r"is open: (\S+)", self.said)
        assert found, self.said
        return found[1]

    def wait_until_open(self) -> float:
        soon(lambda: "is open" in self.said or self.process.poll() is not None, START_SECONDS)
        assert "is open" in self.said, self.said
        return time.monotonic() - self.began

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process | None:
        """Find a child of the supervisor: a server by its program, one of ours by the word after manage.py."""
        for found in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if Path(found.exe()).name == SERVERS.get(name) or name in found.cmdline()[2:3]:
                    return found
        return None

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(by)
        return self.process.wait(60)


@contextmanager
def up(clone: Path, data: Path, *arguments: str, python: str = sys.executable, **ways: object) -> Iterator[Up]:
    """Start it and, whatever the test does, leave nothing behind."""
    output = data.parent / f"{data.name}.{time.monotonic_ns()}.out"
    environment = plain_environment(FARSHORE_DATA=str(data), **ways.pop("variables", {}))
    command: Sequence[str] = [python, "manage.py", "up", *arguments]
    with open(output, "wb") as out:
        process = subprocess.Popen(command, cwd=clone, env=environment, stdout=out, stderr=out, **ways)
    running = Up(process, output)
    try:
        yield running
    finally:
        family = running.family() if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
        for left in family:
            if left.is_running() and not soon(lambda left=left: not left.is_running(), 15):
                left.kill()
