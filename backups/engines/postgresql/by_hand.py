"""How a downloaded set becomes a server again with PostgreSQL's own programs."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from backups.engines.facts import Kind, SetFacts

FULL = """\
mkdir -m 700 restored
tar -xf {file} -C restored
pg_ctl -D "$PWD/restored" -l restored.log start"""

INCREMENTAL = """\
# full: the folder of the backup it stands on, unpacked and never started
mkdir -m 700 incremental
tar -xf {file} -C incremental
pg_combinebackup full incremental -o restored
pg_ctl -D "$PWD/restored" -l restored.log start"""

LOG = """\
# before the restored server is started for the first time; every log after the backup, in order
mkdir -p wal
zstd -dc {file} | tar -xf - -C wal
echo "restore_command = 'cp $PWD/wal/%f \\"%p\\"'" >> restored/postgresql.auto.conf
touch restored/recovery.signal
pg_ctl -D "$PWD/restored" -l restored.log start"""

BY_KIND = {Kind.FULL: FULL, Kind.DIFFERENTIAL: INCREMENTAL, Kind.LOG: LOG}


def restore_by_hand(facts: SetFacts, names: Sequence[str]) -> str:
    """Return shell commands for the files of one set, by the names they were saved under."""
    return BY_KIND[facts.kind].format(file=quote(f"./{names[0]}"))
