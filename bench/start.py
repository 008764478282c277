#!/usr/bin/env python3
"""How long from nothing to the first page, and how long the next start takes.

    python3 bench/start.py [--demo]

Copies the clone without its environment and data, runs `manage.py up` there twice and prints both times, with the
processor seconds spent. The package manager's cache is left as it is: `--cold` gives uv and pip an empty one.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", "__pycache__", ".*_cache")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--cold", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farshore-start-") as room:
        clone = Path(room) / "a clean clone"
        shutil.copytree(CLONE, clone, ignore=LEFT_OUT)
        os.chmod(room, 0o755)
        environment = _environment(Path(room), given.cold)
        arguments = ["--demo"] if given.demo else []
        for name in ("from nothing", "next start"):
            print(f"{name}: {_start(clone, environment, arguments)}", flush=True)


def _environment(room: Path, cold: bool) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FARSHORE", "DJANGO", "VIRTUAL"))}
    return kept | ({"UV_CACHE_DIR": str(room / "uv"), "PIP_NO_CACHE_DIR": "1"} if cold else {})


def _start(clone: Path, environment: dict[str, str], arguments: list[str]) -> str:
    python = getattr(sys, "_base_executable", sys.executable)
    before, began, took = _processor_seconds(), time.monotonic(), None
    command = [python, "manage.py", "up", *arguments]
    with subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if "is open" in line:
                took = time.monotonic() - began
                process.send_signal(signal.SIGINT)
    if took is None:
        raise SystemExit("it did not open; what it said stands above")
    return (
        f"{took:.1f} s to the first page ({_processor_seconds() - before:.1f} processor seconds until all was stopped)"
    )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
