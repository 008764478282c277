"""Asking a server what it is and how each of its databases stands, before anything is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backups.engines.facts import Connection, DatabaseStanding, ServerFacts
from backups.engines.sqlserver.connecting import Session, session
from backups.engines.sqlserver.history import utc
from regions.refusals import Refusal

OLDEST_MAJOR = 13  # 2016
ENCRYPTED = (2, 3, 4, 6)  # encryption in progress, encrypted, key change, protection change
NOT_A_SERVER = (5, 6, 8, 9, 11)  # Azure SQL Database and its relatives: they write no backups of their own to a disk

LOOK = """
SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version,
       CAST(SERVERPROPERTY('Edition') AS nvarchar(128)) AS edition,
       CAST(SERVERPROPERTY('EngineEdition') AS int) AS engine_edition,
       @@SERVERNAME AS name,
       SUSER_SNAME() AS account,
       HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE') AS sees_state,
       HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER PERFORMANCE STATE') AS sees_performance,
       HAS_PERMS_BY_NAME(NULL, NULL, 'ALTER ANY CONNECTION') AS kills,
       HAS_PERMS_BY_NAME('msdb.dbo.backupset', 'OBJECT', 'SELECT') AS reads_history,
       IS_SRVROLEMEMBER('sysadmin') AS is_sysadmin
"""
DATABASES = """
SELECT d.database_id, d.name, d.state_desc, d.recovery_model_desc,
       HAS_PERMS_BY_NAME(QUOTENAME(d.name), 'DATABASE', 'BACKUP DATABASE') AS may_back_up,
       sys.fn_hadr_backup_is_preferred_replica(d.name) AS is_preferred
FROM sys.databases AS d
WHERE d.database_id > 4 AND d.source_database_id IS NULL
ORDER BY d.name
"""
SIZES = """
SELECT RTRIM(c.instance_name) AS name, c.cntr_value AS kib
FROM sys.dm_os_performance_counters AS c
WHERE c.counter_name LIKE 'Data File(s) Size (KB)%' AND c.object_name LIKE '%:Databases%'
"""
CHAINS = "SELECT database_id, recovery_fork_guid, last_log_backup_lsn FROM sys.database_recovery_status"
KEYS = "SELECT database_id, encryption_state, encryptor_thumbprint FROM sys.dm_database_encryption_keys"
REPLICAS = """
SELECT database_id, group_id, is_primary_replica FROM sys.dm_hadr_database_replica_states WHERE is_local = 1
"""
LAST_FULL = """
SELECT TOP (1) backup_finish_date, time_zone FROM msdb.dbo.backupset
WHERE database_name = %s AND type = 'D' AND is_copy_only = 0 AND is_damaged = 0
ORDER BY backup_set_id DESC
"""


@dataclass(frozen=True)
class Look:
    """What one question tells of a server, and of what the account may do there."""

    version: str
    edition: str
    engine_edition: int
    name: str
    account: str
    sees_state: int | None
    sees_performance: int | None
    kills: int | None
    reads_history: int | None
    is_sysadmin: int | None

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    @property
    def is_express(self) -> bool:
        return "Express" in self.edition

    @property
    def sees_requests(self) -> bool:
        return bool(self.sees_state or self.sees_performance)


def probe(connection: Connection) -> ServerFacts:
    """Learn what the server is; raises Refusal when no backup of it could be taken or found."""
    with session(connection) as opened:
        found = look(opened)
        why_not(found)
        databases = databases_of(opened, found)
    groups = sorted({one.availability_group for one in databases if one.availability_group})
    return ServerFacts(
        version=found.version,
        databases=tuple(one.name for one in databases),
        data_bytes=sum(one.data_bytes or 0 for one in databases),
        is_secondary=_is_secondary(databases),
        notes=tuple(remarks(found, databases)),
        identity=",".join(groups),
    )


def inspect_databases(connection: Connection) -> list[DatabaseStanding]:
    """Say how each database of the server stands."""
    with session(connection) as opened:
        return databases_of(opened, look(opened))


def look(opened: Session) -> Look:
    return Look(**opened.ask(LOOK)[0])


def why_not(found: Look) -> None:
    """Raise Refusal when a server like this is not one that Farshore works with."""
    if found.engine_edition in NOT_A_SERVER:
        raise Refusal(
            "NotSqlServer",
            f"This is {found.edition}, which takes its backups by itself and writes none to a disk.",
            "Add SQL Servers here.",
        )
    if found.major < OLDEST_MAJOR:
        raise Refusal(
            "TooOld",
            f"The server is SQL Server {found.version}; 2016 (13.0) is the oldest that is worked with.",
            "Upgrade the server; its files can still be found and copied.",
        )
    if not found.reads_history:
        raise Refusal(
            "MayNotReadHistory",
            f"{found.account} may not read the history of backups in msdb.",
            "GRANT SELECT on msdb.dbo.backupset, backupmediaset and backupmediafamily; the script does that.",
            "username",
        )


def databases_of(opened: Session, found: Look) -> list[DatabaseStanding]:
    sees = found.sees_requests
    sizes = {row["name"]: row["kib"] * 1024 for row in _seen(opened, SIZES, sees)}
    chains = {row["database_id"]: row for row in _seen(opened, CHAINS, True)}
    keys = {row["database_id"]: row for row in _seen(opened, KEYS, sees)}
    replicas = {row["database_id"]: row for row in _seen(opened, REPLICAS, sees)}
    return [
        DatabaseStanding(
            name=row["name"],
            state=row["state_desc"],
            recovery_model=row["recovery_model_desc"],
            may_back_up=bool(row["may_back_up"]),
            data_bytes=sizes.get(row["name"]),
            last_full_at=_last_full(opened, row["name"]),
            certificate_thumbprint=_thumbprint(keys.get(row["database_id"], {})),
            is_preferred=bool(row["is_preferred"]),
            **_of_chain(chains.get(row["database_id"], {})),
            **_of_group(replicas.get(row["database_id"], {})),
        )
        for row in opened.ask(DATABASES)
    ]


def _seen(opened: Session, question: str, may: bool) -> list[dict[str, Any]]:
    """Ask what takes a right that the account may lack: then nothing is known, and the remarks say so."""
    if not may:
        return []
    try:
        return opened.ask(question)
    except Refusal as refusal:
        if refusal.code != "MayNotSeeState":
            raise
        return []


def _last_full(opened: Session, name: str) -> datetime | None:
    rows = opened.ask(LAST_FULL, name)
    return utc(rows[0]["backup_finish_date"], rows[0]["time_zone"]) if rows else None


def _thumbprint(row: dict[str, Any]) -> str:
    return row["encryptor_thumbprint"].hex() if row.get("encryption_state") in ENCRYPTED else ""


def _of_chain(row: dict[str, Any]) -> dict[str, Any]:
    reached = row.get("last_log_backup_lsn")
    fork = row.get("recovery_fork_guid")
    return {"log_chain_position": None if reached is None else int(reached), "fork": str(fork or "").lower()}


def _of_group(row: dict[str, Any]) -> dict[str, Any]:
    return (
        {"availability_group": str(row["group_id"]).lower(), "is_primary": bool(row["is_primary_replica"])}
        if row
        else {}
    )


def _is_secondary(databases: list[DatabaseStanding]) -> bool:
    """Every database that is in a group is a secondary here."""
    in_groups = [one for one in databases if one.availability_group]
    return bool(in_groups) and all(one.is_secondary for one in in_groups)


def remarks(found: Look, databases: list[DatabaseStanding]) -> Iterator[str]:
    yield f"{found.edition}."
    if found.is_sysadmin:
        yield f"{found.account} is a sysadmin, which is far more than Farshore needs: see the script for its own login."
    if not found.sees_requests:
        yield "Sizes, encryption, availability groups and progress are not seen: GRANT VIEW SERVER STATE."
    if not found.kills and not found.is_sysadmin:
        yield "A running backup is given up by closing its connection, not by KILL: GRANT ALTER ANY CONNECTION."
    for one in databases:
        yield from _remarks_on(one)


def _remarks_on(one: DatabaseStanding) -> Iterator[str]:
    if not one.is_online:
        yield f"{one.name} is {one.state}: no backup can be taken of it."
        return
    if not one.may_back_up:
        yield f"{one.name}: the account may not back it up (db_backupoperator)."
    if not one.has_logs:
        yield f"{one.name} is in recovery model SIMPLE: nothing between two backups can be restored."
    elif one.log_chain_position is None and one.fork:
        yield f"{one.name}: its log chain has not begun or was broken; an ordinary full on the primary begins it."
    if one.certificate_thumbprint:
        yield f"{one.name} is encrypted: it needs certificate {one.certificate_thumbprint} at the destination."
