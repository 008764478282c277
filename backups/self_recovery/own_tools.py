"""PostgreSQL's own programs for our own database: which ones, and how they are told where it is.

By environment only: a password in a command line is everybody's to read (I18).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from django.db import connection

from backups.engines.postgresql.tools import tools_for

KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
PLACE = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "NAME": "PGDATABASE"}
OPTIONS = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "application_name": "PGAPPNAME",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "channel_binding": "PGCHANNELBINDING",
}


def program(name: str) -> Path:
    """Return a program of our server's major or a newer one; the embedded wheel's will do. Raises Refusal."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        major = int(cursor.fetchone()[0]) // 10_000
    return tools_for(major, allow_embedded=True).program(name)


def start(name: str, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(program(name)), *arguments], cwd="/", env=_environment(), **streams)


def _environment() -> dict[str, str]:
    place, options = connection.settings_dict, connection.settings_dict.get("OPTIONS", {})
    told = {variable: str(place[name]) for name, variable in PLACE.items() if place.get(name)}
    told |= {variable: str(options[name]) for name, variable in OPTIONS.items() if options.get(name)}
    return {"LC_ALL": "C", "TZ": "UTC"} | {name: os.environ[name] for name in KEPT if name in os.environ} | told
