"""Making the environment: from a bare Python to one that has everything requirements.txt names.

Standard library only. It acts for `up` and `test` alone; other commands look for what those made.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from console.runtime.places import CLONE
from regions.refusals import Refusal

VENV = CLONE / ".venv"
PYTHON = VENV / "bin" / "python"
RUN, DEV = CLONE / "requirements.txt", CLONE / "requirements-dev.txt"
ROOM_NEEDED = 1_500 * 2**20
TRIED = "FARSHORE_ENVIRONMENT_TRIED"


def enter(argv: Sequence[str], for_tests: bool = False) -> None:
    """Go on in an environment that has what is needed; returns only when this Python already is one."""
    needed = [RUN, DEV] if for_tests else [RUN]
    if all(map(_met_here, needed)):
        return
    if os.environ.get(TRIED) == str(_stamp(needed)):
        raise Refusal("EnvironmentBroken", f"{VENV} is not complete.", f"Remove {VENV} and start again.")
    with _alone():
        if _is_here() or not _stamp(needed).exists():
            _make(needed)
            os.environ[TRIED] = str(_stamp(needed))
    os.execv(PYTHON, [str(PYTHON), *argv])


def _is_here() -> bool:
    return Path(sys.prefix).resolve() == VENV.resolve()


def find_environment(argv: Sequence[str]) -> None:
    """For the other commands: use this Python if it has what we need, else the environment that `up` made."""
    if _is_here() or _met_here(RUN):
        return
    if not PYTHON.exists():
        raise Refusal("NoEnvironment", "Farshore is not installed here.", "Run `python3 manage.py up` once.")
    os.execv(PYTHON, [str(PYTHON), *argv])


def _met_here(requirements: Path) -> bool:
    """True when every package this file itself names is here in exactly that version."""
    pinned = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;]+)\s*$", requirements.read_text(), re.M)
    return all(_version(name) == version for name, version in pinned)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stamp(needed: Sequence[Path]) -> Path:
    """Name the mark of a finished installation: these requirements, this Python, this place."""
    facts = [file.read_bytes() for file in needed] + [sys.version.encode(), os.fsencode(VENV)]
    return VENV / f".complete-{hashlib.sha256(b'|'.join(facts)).hexdigest()[:16]}"


@contextmanager
def _alone() -> Iterator[None]:
    with open(CLONE / ".installing.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another start that is installing …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(needed: Sequence[Path]) -> None:
    _refuse_a_full_disk()
    print(f"Installing what Farshore needs into {VENV} …", flush=True)
    if not _fits_this_python():
        _make_venv()
    _install(needed[-1])
    _stamp(needed).touch()
    if len(needed) > 1:
        _stamp(needed[:1]).touch()


def _refuse_a_full_disk() -> None:
    free = shutil.disk_usage(CLONE).free
    if free < ROOM_NEEDED:
        raise Refusal(
            "DiskFull",
            f"The disk that holds {CLONE} has {free // 2**20} MiB left; {ROOM_NEEDED // 2**20} MiB are needed.",
            "Make room there, or put the clone on another disk.",
        )


def _fits_this_python() -> bool:
    """True when .venv was made by this very Python, here, so that adding to it is enough."""
    mark = VENV / "pyvenv.cfg"
    if not mark.exists() or not PYTHON.exists():
        return False
    asked = subprocess.run([PYTHON, "-c", "import sys; print(sys.version, sys.prefix, sep='|')"], capture_output=True)
    return asked.returncode == 0 and asked.stdout.decode().strip() == f"{sys.version}|{VENV}"


def _make_venv() -> None:
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        _run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    elif uv := shutil.which("uv"):
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)])
    else:
        package = f"python3.{sys.version_info.minor}-venv"
        raise Refusal(
            "NoVenv",
            "This Python cannot make an environment: its ensurepip is missing.",
            f"On Debian and Ubuntu run `apt install {package}` (or python3-venv), or install uv, and start again.",
        )


def _install(requirements: Path) -> None:
    """Install with uv, which takes a fifth of the time, else with pip, which also reads pip's own configuration."""
    uv = _uv()
    if uv:
        quick = [*uv, "pip", "install", "--quiet", "--python", str(PYTHON), "--requirement", str(requirements)]
        if subprocess.run(quick, stderr=subprocess.DEVNULL).returncode == 0:
            return
    _run([str(PYTHON), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])


def _uv() -> list[str]:
    if found := shutil.which("uv"):
        return [found]
    got = subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "uv"], stderr=subprocess.DEVNULL)
    return [str(VENV / "bin" / "uv")] if got.returncode == 0 else []


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return
    said = (done.stdout + done.stderr).strip()
    if "No space left" in said or "Disk quota exceeded" in said:
        raise Refusal("DiskFull", "The disk became full while installing.", f"Make room on the disk of {CLONE}.")
    raise Refusal("InstallFailed", f"Installing failed:\n{said[-2000:]}", "Correct this and start again.")
