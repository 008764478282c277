"""How a downloaded set becomes a server again with MariaDB's own programs."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from backups.engines.facts import Kind, SetFacts

FULL = """\
mkdir -m 700 restored
mbstream -x -C restored < {file}
mariadb-backup --prepare --target-dir=restored
mariadb-backup --copy-back --target-dir=restored --datadir=/var/lib/mysql
chown -R mysql: /var/lib/mysql"""

INCREMENTAL = """\
# restored: the folder of the full it stands on, unpacked and prepared
mkdir -m 700 incremental
mbstream -x -C incremental < {file}
mariadb-backup --prepare --target-dir=restored --incremental-dir=incremental"""

LOG = """\
# into the restored server; every log after the backup, in order. With the first one: --start-position= and the
# GTID that stands in restored/xtrabackup_binlog_info (11.1 and newer: mariadb_backup_binlog_info)
zstd -d {file} -o log.binlog
mariadb-binlog --disable-log-bin log.binlog | mariadb --binary-mode"""

BY_KIND = {Kind.FULL: FULL, Kind.DIFFERENTIAL: INCREMENTAL, Kind.LOG: LOG}


def restore_by_hand(facts: SetFacts, names: Sequence[str]) -> str:
    """Return shell commands for the files of one set, by the names they were saved under."""
    return BY_KIND[facts.kind].format(file=quote(f"./{names[0]}"))
