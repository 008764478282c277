"""The settings a restored server gets from us and nobody else: my.cnf, and a folder of plugins that holds none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from backups.engines import homes
from backups.engines.confinement import own
from backups.engines.mariadb.unpacking import SETTINGS_FILE

SUPERUSER = "farshore_restore"
SOCKET = "mysqld.sock"

OURS = {
    "skip_slave_start": "ON",
    "skip_name_resolve": "ON",
    "event_scheduler": "OFF",
    "local_infile": "OFF",
    "performance_schema": "OFF",
    "max_allowed_packet": "1G",
    "innodb_buffer_pool_size": "128M",
    "innodb_log_file_size": "96M",
    "innodb_buffer_pool_load_at_startup": "OFF",
    "innodb_buffer_pool_dump_at_shutdown": "OFF",
    "innodb_undo_directory": "./",
}
# Nobody waits for a server that replays: what a crash would cost is made again from the backup.
HASTY = {"skip_log_bin": "ON", "innodb_flush_log_at_trx_commit": "0", "local_infile": "ON"}


class Home(homes.Home):
    """The folder of one restored server, and whose the server is."""

    @property
    def scratch(self) -> Path:
        return self.folder / "tmp"

    @property
    def plugins(self) -> Path:
        return self.settings / "plugins"

    @property
    def socket(self) -> Path:
        return self.sockets / SOCKET

    @property
    def orders(self) -> Path:
        return self.settings / "init.sql"

    def build(self) -> None:
        super().build()
        self.scratch.mkdir(mode=0o700)
        own(self.scratch, self.whom, 0o700)
        self.plugins.mkdir(mode=0o700)
        own(self.plugins, self.whom, 0o750, theirs=False)

    def write_settings(self, values: Mapping[str, str], *, basedir: Path | None) -> None:
        places = {
            "datadir": self.data,
            "socket": self.socket,
            "pid_file": self.data / "server.pid",
            "tmpdir": self.scratch,
            "secure_file_priv": self.scratch,
            "plugin_dir": self.plugins,
        }
        everything = {**OURS, **places, **({"basedir": basedir} if basedir else {}), **values}
        self.put("my.cnf", _lines("mariadbd", everything))

    def put_needed(self, needed: Mapping[str, str]) -> None:
        """What mariadb-backup reads for itself in the folder that it prepares, instead of the copy's own."""
        path = self.data / SETTINGS_FILE
        path.write_text(_lines("mysqld", needed))
        own(path, self.whom, 0o600)

    def put_orders(self, password: str, *, network: bool) -> None:
        """What the server does before it lets anybody in: make our superuser, whatever it was before."""
        once = hashlib.sha1(password.encode()).digest()
        proof = "*" + hashlib.sha1(once).hexdigest().upper()
        orders = ["SET SESSION sql_log_bin = 0;"]
        for host in ("localhost", *(["%"] if network else [])):
            who = f"'{SUPERUSER}'@'{host}'"
            orders.append(f"CREATE OR REPLACE USER {who} IDENTIFIED VIA mysql_native_password USING '{proof}';")
            orders.append(f"GRANT ALL PRIVILEGES ON *.* TO {who} WITH GRANT OPTION;")
        self.put(self.orders.name, "\n".join([*orders, ""]))


def _lines(group: str, values: Mapping[str, object]) -> str:
    return "".join([f"[{group}]\n", *(f"{name}={value}\n" for name, value in values.items())])
