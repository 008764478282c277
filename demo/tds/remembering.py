"""A simulated server that goes on where it was: its databases, their logs' clocks and its msdb outlive the process."""

from __future__ import annotations

import os
import pickle
import secrets
from contextlib import suppress
from pathlib import Path

from demo.tds.machine import SimulatedMachine

OF_THIS_PROCESS = ("lock", "sessions", "shares", "volumes", "buckets")


def keep(machine: SimulatedMachine, path: Path) -> None:
    """Write down what the machine is where it has changed, in one step; the file is as private as its folder."""
    with machine.lock:
        kept = pickle.dumps({name: value for name, value in vars(machine).items() if name not in OF_THIS_PROCESS})
    if path.exists() and path.read_bytes() == kept:
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(kept)
    os.replace(draft, path)


def recall(machine: SimulatedMachine, path: Path) -> bool:
    """Let the machine be again what was kept; False where nothing was, or of a program that has changed since."""
    try:
        known = pickle.loads(path.read_bytes())  # our own file, in a folder that is nobody else's
    except (OSError, pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError):
        return False
    if known.keys() != vars(machine).keys() - set(OF_THIS_PROCESS):
        return False
    vars(machine).update(known)
    for database in machine.databases.values():
        database.is_busy, database.suspension = False, None
        with suppress(AttributeError):
            database.restoring = None if database.state == "ONLINE" else database.restoring
    return True
