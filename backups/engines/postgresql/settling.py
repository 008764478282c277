"""The settings a restored server gets from us and nobody else: postgresql.conf, pg_hba.conf, pg_ident.conf."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backups.engines import confinement, homes
from backups.engines.postgresql.tools import Tools
from regions.refusals import Refusal

SUPERUSER = "farshore_restore"
MOST_OF_ANYTHING = 10_000  # the control file is the copy's: what it asks for is memory

OURS = {
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_error_statement": "panic",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "wal_level": "replica",
    "hot_standby": "off",
    "archive_mode": "off",
    "unix_socket_permissions": "0700",
}

# What replaying insists on: no less than the old server had.
IN_CONTROL = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
AT_LEAST = {"max_connections": 20, "max_worker_processes": 8, "max_wal_senders": 4}


class Home(homes.Home):
    """The folder of one restored server, and whose the server is."""

    def write_settings(self, values: Mapping[str, str], *, network: bool) -> None:
        files = {"hba_file": self.settings / "pg_hba.conf", "ident_file": self.settings / "pg_ident.conf"}
        everything = {**OURS, **{name: str(path) for name, path in files.items()}, **values}
        self.put("postgresql.conf", "".join(f"{name} = {_quoted(value)}\n" for name, value in everything.items()))
        self.put("pg_hba.conf", _doors(network))
        self.put("pg_ident.conf", "")


def _doors(network: bool) -> str:
    """Ours comes in by the socket; with a network everybody does, with the passwords the old server knew.

    Replication too: a restored server is an instance of its own, which is backed up and whose logs are received.
    """
    let_in = [(SUPERUSER, "scram-sha-256"), *([("all", "md5")] if network else [])]
    ways = [("local", ""), *([("host", " all")] if network else [])]
    return "".join(
        f"{way} {what} {who}{where} {how}\n"
        for who, how in let_in
        for way, where in ways
        for what in ("all", "replication")
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def sizes_from_control(home: Home, tools: Tools) -> dict[str, str]:
    """The old server's limits, as its control file has them; raises Refusal when that cannot be read."""
    said = confinement.run(
        [tools.program("pg_controldata"), "-D", home.data], home.whom, confinement.environment(home.folder)
    )
    if said.returncode:
        raise Refusal("SetDamaged", "The backup's pg_control cannot be read.", "Restore from another set.")
    told = dict(line.split(":", 1) for line in said.stdout.splitlines() if ":" in line)
    sizes = {ours: int(told.get(theirs, "0").strip() or 0) for theirs, ours in IN_CONTROL.items()}
    return {
        name: str(min(max(value, AT_LEAST.get(name, 0)), MOST_OF_ANYTHING))
        for name, value in sizes.items()
        if value or name in AT_LEAST
    }


def segment_bytes(home: Home, tools: Tools) -> int:
    said = confinement.run(
        [tools.program("pg_controldata"), "-D", home.data], home.whom, confinement.environment(home.folder)
    )
    found = re.search(r"^Bytes per WAL segment:\s+(\d+)", said.stdout, re.MULTILINE)
    if not found:
        raise Refusal("SetDamaged", "The backup's pg_control cannot be read.", "Restore from another set.")
    return int(found[1])
