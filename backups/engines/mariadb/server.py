"""Asking a server what it is, and whether a backup can be taken of it, before anything is started."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pymysql

from backups.engines.facts import Connection, ServerFacts
from backups.engines.mariadb import datadir
from backups.engines.mariadb.chains import position_of
from backups.engines.mariadb.connecting import Session, ask, rows, session
from backups.engines.mariadb.tools import series_of, tools_for
from regions.refusals import Refusal

OLDEST = (10, 5)
SYSTEM_DATABASES = ("information_schema", "performance_schema", "mysql", "sys")

VERSION = "SELECT @@version, @@version_comment"
LOOK = """
SELECT @@server_id AS server_id, @@hostname AS hostname, @@datadir AS datadir,
       @@innodb_log_group_home_dir AS log_folder, @@log_bin AS log_bin, @@log_slave_updates AS logs_what_it_follows,
       @@read_only AS read_only, @@expire_logs_days AS expire_days, @@binlog_format AS binlog_format,
       CURRENT_USER() AS account
"""
ENCRYPTION = (
    "SELECT plugin_name FROM information_schema.plugins WHERE plugin_type = 'ENCRYPTION' AND plugin_status = 'ACTIVE'"
)
TABLESPACES = "SELECT name, file_size FROM information_schema.innodb_sys_tablespaces"

FOR_BACKUPS = ("RELOAD", "PROCESS", "BINLOG MONITOR")
FOR_LOGS = ("REPLICATION SLAVE",)
ALSO_KNOWN_AS = {"REPLICATION CLIENT": "BINLOG MONITOR", "REPLICA MONITOR": "SLAVE MONITOR"}


@dataclass(frozen=True)
class Place:
    """A place in a binary log, as a server names it."""

    file: str
    offset: int

    @property
    def number(self) -> int:
        return number_of(self.file)

    @property
    def position(self) -> int:
        return position_of(self.number, self.offset)


def number_of(file: str) -> int:
    """The number of a binary log; raises ValueError for a name that has none."""
    return int(file.rpartition(".")[2])


@dataclass(frozen=True)
class Primary:
    """The server that this one follows, and how far it has followed it; `server_id` 0 when it never reached it."""

    server_id: int
    place: Place | None


@dataclass(frozen=True)
class Look:
    """What a few questions tell of a server. `follows` is None for one that follows nobody, or more than one."""

    version: str
    server_id: int
    hostname: str
    datadir: str
    log_folder: str
    log_bin: int
    logs_what_it_follows: int
    read_only: int
    expire_days: float
    binlog_format: str
    account: str
    encryption: tuple[str, ...] = ()
    privileges: frozenset[str] = frozenset()
    followed: int | None = 0
    follows: Primary | None = None
    filters: str = ""

    @property
    def series(self) -> str:
        return series_of(self.version)

    @property
    def release(self) -> str:
        """The version as people write it."""
        return ".".join(re.findall(r"\d+", self.version)[:3])

    @property
    def is_secondary(self) -> bool:
        """It follows others, and is read only or does not write down what it takes over.

        A writable server that writes everything down is one of two primaries that follow each other.
        """
        return bool(self.followed) and (bool(self.read_only) or not (self.log_bin and self.logs_what_it_follows))

    def may(self, privilege: str) -> bool:
        return privilege in self.privileges or "ALL PRIVILEGES" in self.privileges


def probe(connection: Connection) -> ServerFacts:
    """Learn what the server is; raises Refusal when no backup could be taken of it.

    That this worker cannot reach its files is a note here: another one may, and only that one is asked to.
    """
    with session(connection) as opened:
        found = look(opened)
        why_not(found)
        tools_for(found.series)
        databases, data_bytes = databases_of(opened)
        notes = [*remarks(found), *_distance(found, opened)]
    return ServerFacts(
        version=found.release,
        databases=databases,
        data_bytes=data_bytes,
        is_secondary=found.is_secondary,
        notes=tuple(notes),
    )


def look(opened: Session) -> Look:
    """Raises Refusal for a server that is no MariaDB."""
    version, comment = ask(opened, VERSION)[0]
    if "mariadb" not in f"{version} {comment}".lower():
        raise Refusal(
            "NotMariaDB",
            f"The server is a MySQL {version}; mariadb-backup copies MariaDB's files only.",
            "Add MariaDB servers here.",
        )
    facts = rows(opened, LOOK)[0]
    followed, follows = _followed(opened)
    status = status_of(opened)
    return Look(
        version=version,
        encryption=tuple(name for (name,) in ask(opened, ENCRYPTION)),
        privileges=_privileges(opened),
        followed=followed,
        follows=follows,
        filters=" ".join(filter(None, (status.get("Binlog_Do_DB"), status.get("Binlog_Ignore_DB")))),
        **{**facts, "expire_days": float(facts["expire_days"])},
    )


def status_of(opened: Session) -> dict[str, Any]:
    """The server's own place in its binary log and what it leaves out there; empty without one, or without a right."""
    try:
        found = rows(opened, "SHOW MASTER STATUS")
    except pymysql.OperationalError:
        return {}
    return found[0] if found else {}


def place_of(opened: Session) -> Place | None:
    status = status_of(opened)
    return Place(status["File"], int(status["Position"])) if status else None


def _privileges(opened: Session) -> frozenset[str]:
    found: set[str] = set()
    for (grant,) in ask(opened, "SHOW GRANTS"):
        if told := re.match(r"GRANT (.+?) ON \*\.\* TO ", grant):
            found |= {name.strip() for name in told[1].split(",")}
    return frozenset(ALSO_KNOWN_AS.get(name, name) for name in found)


def _followed(opened: Session) -> tuple[int | None, Primary | None]:
    """How many servers it follows (None: it does not say), and which, if it is one."""
    try:
        found = rows(opened, "SHOW ALL SLAVES STATUS")
    except pymysql.OperationalError:
        return None, None
    if len(found) != 1:
        return len(found), None
    told = found[0]
    file, offset = told["Relay_Master_Log_File"], told["Exec_Master_Log_Pos"]
    return 1, Primary(int(told["Master_Server_Id"] or 0), Place(file, int(offset)) if file else None)


def databases_of(opened: Session) -> tuple[tuple[str, ...], int]:
    """Those that may be seen, and those that InnoDB knows of although they may not; and the bytes of its files."""
    seen = {name for (name,) in ask(opened, "SHOW DATABASES")}
    spaces = ask(opened, TABLESPACES)
    known = {_decoded(name.partition("/")[0]) for name, _ in spaces if "/" in name}
    return tuple(sorted((seen | known) - set(SYSTEM_DATABASES))), sum(int(size or 0) for _, size in spaces)


def _decoded(folder: str) -> str:
    """A database's name from its folder's, where a character of its own is @ and four hexadecimal digits."""
    return re.sub(r"@([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), folder)


def why_not(found: Look) -> None:
    """Raise Refusal when a server like this cannot be backed up."""
    if tuple(map(int, found.series.split("."))) < OLDEST:
        raise Refusal(
            "TooOld",
            f"The server is MariaDB {found.series}; {'.'.join(map(str, OLDEST))} is the oldest that is backed up.",
            "Upgrade the server.",
        )
    if missing := [name for name in FOR_BACKUPS if not found.may(name)]:
        raise Refusal(
            "PrivilegesMissing",
            f"The account {found.account} lacks {', '.join(missing)}, which a backup needs.",
            f"{_grant(found, *missing)}.",
            "username",
        )
    if found.encryption:
        raise Refusal(
            "Encrypted",
            f"The server can encrypt its tables ({', '.join(found.encryption)}), and a backup of them is worth nothing "
            "without keys that Farshore does not hold.",
            "Remove the plugin, or back the server up together with its keys by other means.",
        )


def why_no_logs(found: Look) -> None:
    """Raise Refusal when the logs of a server like this cannot be received, or would be worth nothing."""
    why_not(found)
    if not found.log_bin:
        raise Refusal(
            "BinlogOff",
            "The server writes no binary log.",
            "Set log_bin and server_id in its configuration, and restart the server.",
        )
    if found.is_secondary:
        raise Refusal(
            "LogsOfReplica",
            "The server is a replica; logs are received from the primary, which its backups are continued by too.",
            "Enter the primary as this instance's host, and the replica as its secondary.",
            "host",
        )
    if missing := [name for name in FOR_LOGS if not found.may(name)]:
        raise Refusal(
            "NoReplicationPrivilege",
            f"The account {found.account} may not read the binary log, and receiving logs needs that.",
            f"{_grant(found, *missing)}.",
            "username",
        )
    if found.filters:
        raise Refusal(
            "BinlogFiltered",
            f"The binary log leaves out databases ({found.filters}): a moment restored from it would be none.",
            "Remove binlog_do_db and binlog_ignore_db from the server's configuration.",
        )


def _grant(found: Look, *privileges: str) -> str:
    user, _, host = found.account.rpartition("@")
    return f"GRANT {', '.join(privileges)} ON *.* TO '{user}'@'{host}'"


def remarks(found: Look) -> Iterator[str]:
    if not found.log_bin:
        yield "The binary log is off (log_bin), so nothing between two backups can be restored."
    elif not found.may("REPLICATION SLAVE"):
        yield f"Its logs cannot be received yet: {_grant(found, *FOR_LOGS)}."
    if found.log_bin and found.binlog_format == "STATEMENT":
        yield "binlog_format is STATEMENT: what depends on time or chance may come out otherwise when it is replayed."
    if found.filters:
        yield f"The binary log leaves out databases ({found.filters}): what changes there is in full backups only."
    yield from _following(found)


def _following(found: Look) -> Iterator[str]:
    if found.followed is None:
        yield f"Whether it is a replica is not known: {_grant(found, 'SLAVE MONITOR')}."
    elif found.is_secondary and found.follows is None:
        yield f"It follows {found.followed} servers: no log of any of them can continue its backups."
    elif found.is_secondary:
        yield "It is a replica: its backups are continued by the logs of the primary that it follows."


def _distance(found: Look, opened: Session) -> Iterator[str]:
    try:
        datadir.must_be_here(found.datadir, found.log_folder, opened)
    except Refusal as refusal:
        yield str(refusal)
