"""SQL Server: native backup files, read by their own headers, and servers asked over the wire (`sqlserver.md`)."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from backups.engines.sqlserver.checksums import Verifier
from backups.engines.sqlserver.reader import inspect
from backups.engines.sqlserver.reconciling import breakers, differences
from backups.engines.sqlserver.saying_no import SEEN_ONLY_BY_MSDB as told_by_history

__all__ = ["Verifier", "breakers", "differences", "inspect", "told_by_history"]

# What asks a server, and where it is. The driver is loaded by the first call, not by asking whether the verb is there.
_ASKING = {
    "ask": "checking.ask",
    "being_backed_up": "beside.being_backed_up",
    "check": "checking.check",
    "why_not_ask": "questions.why_not_ask",
    "count_rows": "checking.count_rows",
    "drop_database": "dropping.drop_database",
    "find_written": "to_url.find_written",
    "inspect_databases": "server.inspect_databases",
    "inspect_landing": "landing.inspect_landing",
    "lives_in": "dropping.lives_in",
    "login_script": "rights.script_for",
    "look_around": "surroundings.look_around",
    "probe": "server.probe",
    "read_history": "history.read_history",
    "restore_database": "landing.restore_database",
    "snapshot_database": "suspending.snapshot_database",
    "take_database": "outbox.take_database",
    "thaw_database": "suspending.thaw_database",
    "write_database": "to_url.write_database",
}


def __getattr__(name: str) -> Any:
    if name not in _ASKING:
        raise AttributeError(name)
    return partial(_ask_for, *_ASKING[name].split("."))


def _ask_for(module: str, function: str, *given: Any, **more: Any) -> Any:
    return getattr(import_module(f"{__name__}.{module}"), function)(*given, **more)
