"""The system tables, functions and variables that Farshore asks about, answered from the simulated machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from demo import mtf
from demo.tds import inside, snapshotting, values
from demo.tds.beside import TABLES as BESIDE
from demo.tds.catalogue import Table
from demo.tds.machine import SIMPLE, Database, Family, Remembered, Session, SimulatedMachine
from demo.tds.tokens import Column, Message
from demo.tds.values import SqlType
from demo.tds.words import Wrong

Row = Mapping[str, Any]
LETTERS = {"full": "D", "differential": "I", "log": "L"}
TYPES = {
    "tiny": values.TINYINT,
    "small": values.SMALLINT,
    "int": values.INTEGER,
    "big": values.BIGINT,
    "bit": values.BOOLEAN,
    "moment": values.MOMENT,
    "guid": values.IDENTIFIER,
    "lsn": values.LSN,
    "bytes": values.BIG_NUMBER,
    "name": values.NAME,
    "letter": values.text_type(1),
    "path": values.text_type(260),
    "print": values.THUMBPRINT,
    "real": values.SqlType(values.NUMERIC, 9, 2),
}


def _columns(said: str) -> tuple[Column, ...]:
    """`name type, name type, …`"""
    pairs = (pair.split() for pair in said.split(","))
    return tuple(Column(name, TYPES[kind]) for name, kind in pairs)


BACKUPSET = _columns(
    "backup_set_id int, backup_set_uuid guid, media_set_id int, position int, type letter, database_name name, "
    "server_name name, user_name name, name name, first_lsn lsn, last_lsn lsn, checkpoint_lsn lsn, "
    "database_backup_lsn lsn, differential_base_guid guid, family_guid guid, last_recovery_fork_guid guid, "
    "is_copy_only bit, is_snapshot bit, is_damaged bit, begins_log_chain bit, has_backup_checksums bit, "
    "backup_size bytes, compressed_backup_size bytes, backup_start_date moment, backup_finish_date moment, "
    "time_zone small, recovery_model name, software_major_version tiny, software_minor_version tiny, "
    "software_build_version small, encryptor_thumbprint print"
)
MEDIASET = _columns("media_set_id int, media_uuid guid, media_family_count tiny, is_compressed bit")
MEDIAFAMILY = _columns(
    "media_set_id int, family_sequence_number tiny, physical_device_name path, logical_device_name name, "
    "device_type tiny, mirror tiny"
)
DATABASES = _columns(
    "database_id int, name name, state_desc name, recovery_model_desc name, source_database_id int, "
    "is_read_only bit, create_date moment"
)
FILES = _columns("database_id int, file_id int, name name, physical_name path, type_desc name")
VOLUMES = _columns("database_id int, file_id int, volume_mount_point path, available_bytes big")
CERTIFICATES = _columns("name name, certificate_id int, thumbprint print")
KEYS_OF_MASTER = ("sys.certificates", "sys.asymmetric_keys")
CREDENTIALS = _columns("credential_id int, name path, credential_identity name")
RECOVERY = _columns("database_id int, family_guid guid, recovery_fork_guid guid, last_log_backup_lsn lsn")
KEYS = _columns("database_id int, encryption_state int, encryptor_thumbprint print")
REPLICAS = _columns("database_id int, group_id guid, is_local bit, is_primary_replica bit")
COUNTERS = _columns("object_name name, counter_name name, instance_name name, cntr_value big")
REQUESTS = _columns("session_id small, command name, database_id int, percent_complete real, start_time moment")
SESSIONS = _columns("session_id small, login_name name, program_name name, host_name name")
LOCKS = _columns("resource_type name, resource_database_id int, request_session_id int")
SUSPENDED = _columns(
    "db_id int, db_name name, suspend_session_id small, suspend_time_ms big, is_diff_map_cleared bit, "
    "is_write_io_frozen bit"
)
DATABASE_FILES = _columns("file_id int, type tiny, type_desc name, name name, physical_name path, size int")
NO_GUID = "00000000-0000-0000-0000-000000000000"


@dataclass
class Tables:
    """What one session may ask of the machine."""

    machine: SimulatedMachine
    session: Session

    def table(self, name: str) -> Table:
        name = name.removeprefix("master.")
        if beside := BESIDE.get(name):
            columns, rows = beside
            self._needs_jobs(name)
            return Table(columns, lambda: rows(self.machine, self.session.account))
        if name == "sys.database_files":
            here = self.machine.database(self.session.database)
            return Table(DATABASE_FILES, lambda: _database_files(here))
        if inner := inside.table(name, self.machine.database(self.session.database)):
            return inner
        if name.startswith("msdb.dbo."):
            self._needs_history(name.rpartition(".")[2])
        elif name.startswith(("sys.dm_", "sys.database_recovery")):
            self._needs_state()
        found = _TABLES.get(name)
        if not found:
            raise Wrong(Message(208, f"Invalid object name '{name}'. (simulation: not among the tables it has)", 16))
        columns, rows = found
        if name in KEYS_OF_MASTER and not (self.session.account.sees_keys or self.session.account.is_sysadmin):
            return Table(columns, lambda: [])  # as of all metadata that one may not see
        if name == "sys.credentials" and not self.session.account.keeps_credentials:
            return Table(columns, lambda: [])
        return Table(columns, lambda: rows(self.machine))

    def call(self, name: str, arguments: Sequence[Any]) -> tuple[SqlType, Any]:
        known = _FUNCTIONS.get(name)
        if not known:
            raise Wrong(Message(195, f"'{name}' is not a recognized built-in function name. (simulation)", 15, 10))
        kind, answer = known
        return kind, answer(self, *arguments)

    def variable(self, name: str) -> tuple[SqlType, Any]:
        program = f"Farshore's simulation of SQL Server - {self.machine.product_version}"
        known = {
            "@@SPID": (values.SMALLINT, self.session.number),
            "@@VERSION": (values.text_type(300), program),
            "@@SERVERNAME": (values.NAME, self.machine.name),
            "@@TRANCOUNT": (values.INTEGER, int(bool(self.session.transaction))),
        }
        if name not in known:
            raise Wrong(Message(137, f'Must declare the scalar variable "{name}".', 15, 2))
        return known[name]

    def _needs_history(self, name: str) -> None:
        if not self.session.account.reads_history:
            said = f"The SELECT permission was denied on the object '{name}', database 'msdb', schema 'dbo'."
            raise Wrong(Message(229, said, 14, 5))

    def _needs_jobs(self, name: str) -> None:
        if name.startswith("msdb.") and not self.session.account.reads_jobs:
            named = name.rpartition(".")[2]
            said = f"The SELECT permission was denied on the object '{named}', database 'msdb', schema 'dbo'."
            raise Wrong(Message(229, said, 14, 5))

    def _needs_state(self) -> None:
        if not self.session.account.sees_state:
            said = "VIEW SERVER STATE permission was denied on object 'server', database 'master'."
            action = Message(297, "The user does not have permission to perform this action.")
            raise Wrong(Message(300, said, 14), action)


# ---- rows


def _history(machine: SimulatedMachine) -> Iterator[Row]:
    with machine.lock:
        known = list(machine.history)
    for row in known:
        yield _remembered(row)


def _remembered(row: Remembered) -> Row:
    backup = row.backup
    major, minor, build = backup.version
    begins = backup.kind == "log" and backup.first == backup.chain_start
    return {
        "backup_set_id": row.id,
        "backup_set_uuid": str(backup.set_guid),
        "media_set_id": row.media_id,
        "position": row.position,
        "type": LETTERS[backup.kind],
        "database_name": backup.database,
        "server_name": backup.server,
        "user_name": row.user,
        "name": backup.name or None,
        "first_lsn": backup.first,
        "last_lsn": backup.last,
        "checkpoint_lsn": backup.checkpoint,
        "database_backup_lsn": backup.base,
        "differential_base_guid": str(backup.base_guid) if backup.base_guid.int else None,
        "family_guid": str(backup.family_guid),
        "last_recovery_fork_guid": str(backup.fork_guid),
        "is_copy_only": backup.copy_only,
        "is_snapshot": row.is_snapshot,
        "is_damaged": row.is_damaged,
        "begins_log_chain": begins,
        "has_backup_checksums": backup.checksum,
        "backup_size": mtf.size_of(backup),
        "compressed_backup_size": row.compressed_bytes or mtf.size_of(backup),
        "backup_start_date": _local(backup.started_at, row.time_zone),
        "backup_finish_date": _local(backup.finished_at, row.time_zone),
        "time_zone": 127 if row.time_zone is None else row.time_zone,
        "recovery_model": row.recovery_model,
        "software_major_version": major,
        "software_minor_version": minor,
        "software_build_version": build,
        "encryptor_thumbprint": row.encryptor,
    }


def _local(at: datetime, quarters: int | None) -> datetime:
    return (at.astimezone(UTC) + timedelta(minutes=15 * (quarters or 0))).replace(tzinfo=None)


def _media(machine: SimulatedMachine) -> Iterator[Row]:
    for row in {row.media_id: row for row in machine.history}.values():
        yield {
            "media_set_id": row.media_id,
            "media_uuid": str(row.media_guid),
            "media_family_count": len(row.families),
            "is_compressed": row.compressed,
        }


def _families(machine: SimulatedMachine) -> Iterator[Row]:
    for row in {row.media_id: row for row in machine.history}.values():
        for family in row.families:
            yield _family(row.media_id, family)


def _family(media_id: int, family: Family) -> Row:
    return {
        "media_set_id": media_id,
        "family_sequence_number": family.sequence,
        "physical_device_name": family.device,
        "logical_device_name": None,
        "device_type": family.device_type,
        "mirror": 0,
    }


def _databases(machine: SimulatedMachine) -> Iterator[Row]:
    for found in machine.databases.values():
        yield {
            "database_id": found.number,
            "name": found.name,
            "state_desc": found.state,
            "recovery_model_desc": found.recovery_model,
            "source_database_id": None,
            "is_read_only": False,
            "create_date": found.created,
        }


def _files(machine: SimulatedMachine) -> Iterator[Row]:
    for found in list(machine.databases.values()):
        for number, (name, path) in enumerate(found.on_disk.items(), 1):
            yield {
                "database_id": found.number,
                "file_id": number,
                "name": name,
                "physical_name": path,
                "type_desc": "LOG" if path.startswith("L:") else "ROWS",
            }


def _database_files(database: Database) -> Iterator[Row]:
    for file in snapshotting.files_of(database):
        yield {
            "file_id": file.number,
            "type": int(file.is_log),
            "type_desc": "LOG" if file.is_log else "ROWS",
            "name": file.name,
            "physical_name": file.path,
            "size": file.pages,
        }


def _suspended(machine: SimulatedMachine) -> Iterator[Row]:
    for found in list(machine.databases.values()):
        if suspension := found.suspension:
            yield {
                "db_id": found.number,
                "db_name": found.name,
                "suspend_session_id": suspension.session,
                "suspend_time_ms": int((time.monotonic() - suspension.began) * 1000),
                "is_diff_map_cleared": not suspension.copy_only,
                "is_write_io_frozen": True,
            }


def _volumes(machine: SimulatedMachine) -> Iterator[Row]:
    for file in _files(machine):
        yield {
            "database_id": file["database_id"],
            "file_id": file["file_id"],
            "volume_mount_point": file["physical_name"][:3],
            "available_bytes": machine.free_bytes,
        }


def _certificates(machine: SimulatedMachine) -> Iterator[Row]:
    for number, (name, thumbprint) in enumerate(machine.certificates.items(), 256):
        yield {"name": name, "certificate_id": number, "thumbprint": thumbprint}


def _recovery(machine: SimulatedMachine) -> Iterator[Row]:
    for found in machine.databases.values():
        yield {
            "database_id": found.number,
            "family_guid": str(found.family_guid),
            "recovery_fork_guid": str(found.fork),
            "last_log_backup_lsn": found.logged if found.recovery_model != SIMPLE else None,
        }


def _keys(machine: SimulatedMachine) -> Iterator[Row]:
    for found in machine.databases.values():
        if found.thumbprint:
            yield {"database_id": found.number, "encryption_state": 3, "encryptor_thumbprint": found.thumbprint}


def _credentials(machine: SimulatedMachine) -> Iterator[Row]:
    for number, (name, (identity, _)) in enumerate(machine.credentials.items(), 1):
        yield {"credential_id": number, "name": name, "credential_identity": identity}


def _replicas(machine: SimulatedMachine) -> Iterator[Row]:
    for found in machine.databases.values():
        if found.group:
            yield {
                "database_id": found.number,
                "group_id": str(found.group),
                "is_local": True,
                "is_primary_replica": found.is_primary,
            }


def _counters(machine: SimulatedMachine) -> Iterator[Row]:
    for found in machine.databases.values():
        if found.state == "ONLINE":
            yield {
                "object_name": "SQLServer:Databases".ljust(128),
                "counter_name": "Data File(s) Size (KB)".ljust(128),
                "instance_name": found.name.ljust(128),
                "cntr_value": found.pages * 8,
            }


def _requests(machine: SimulatedMachine) -> Iterator[Row]:
    for session in list(machine.sessions.values()):
        if request := session.request:
            yield {
                "session_id": session.number,
                "command": request.command,
                "database_id": _current(machine, session),
                "percent_complete": round(request.percent, 2),
                "start_time": _local(request.began, machine.time_zone),
            }


def _current(machine: SimulatedMachine, session: Session) -> int | None:
    found = machine.database(session.database)
    return found and found.number


def _locks(machine: SimulatedMachine) -> Iterator[Row]:
    """Of all locks those that a backup holds on its database."""
    for session in list(machine.sessions.values()):
        if request := session.request:
            yield {
                "resource_type": "DATABASE",
                "resource_database_id": request.database.number,
                "request_session_id": session.number,
            }


def _sessions(machine: SimulatedMachine) -> Iterator[Row]:
    for session in list(machine.sessions.values()):
        yield {
            "session_id": session.number,
            "login_name": session.user,
            "program_name": session.program,
            "host_name": session.client,
        }


_TABLES: dict[str, tuple[tuple[Column, ...], Callable[[SimulatedMachine], Iterator[Row]]]] = {
    "msdb.dbo.backupset": (BACKUPSET, _history),
    "msdb.dbo.backupmediaset": (MEDIASET, _media),
    "msdb.dbo.backupmediafamily": (MEDIAFAMILY, _families),
    "sys.databases": (DATABASES, _databases),
    "sys.master_files": (FILES, _files),
    "sys.dm_os_volume_stats": (VOLUMES, _volumes),
    "sys.certificates": (CERTIFICATES, _certificates),
    "sys.credentials": (CREDENTIALS, _credentials),
    "sys.asymmetric_keys": (CERTIFICATES, lambda machine: iter(())),
    "sys.database_recovery_status": (RECOVERY, _recovery),
    "sys.dm_database_encryption_keys": (KEYS, _keys),
    "sys.dm_hadr_database_replica_states": (REPLICAS, _replicas),
    "sys.dm_os_performance_counters": (COUNTERS, _counters),
    "sys.dm_server_suspend_status": (SUSPENDED, _suspended),
    "sys.dm_exec_requests": (REQUESTS, _requests),
    "sys.dm_exec_sessions": (SESSIONS, _sessions),
    "sys.dm_tran_locks": (LOCKS, _locks),
}


# ---- functions; each is called with None once, to learn its type


def _server_property(tables: Tables, name: str | None) -> Any:
    machine = tables.machine
    known = {
        "productversion": machine.product_version,
        "edition": machine.edition,
        "engineedition": 3,
        "ishadrenabled": int(any(found.group for found in machine.databases.values())),
        "servername": machine.name,
        "machinename": machine.name,
        "instancename": None,
        "instancedefaultbackuppath": next(iter(machine.shares), None),
        "instancedefaultdatapath": "D:\\data\\",
        "instancedefaultlogpath": "L:\\log\\",
    }
    return known.get((name or "").lower())


def _has_permission(tables: Tables, securable: str | None, kind: str | None, permission: str | None) -> int | None:
    account = tables.session.account
    known = {
        "VIEW SERVER STATE": account.sees_state,
        "ALTER ANY CONNECTION": account.kills,
        "CREATE ANY DATABASE": account.creates,
        "VIEW ANY DEFINITION": account.sees_definitions,
        "SELECT": account.reads_history,
    }
    if permission == "ALTER":
        return int(account.alters or account.is_sysadmin)
    if permission in ("BACKUP DATABASE", "BACKUP LOG"):
        named = (securable or "")[1:-1].replace("]]", "]")
        return int(account.may_back_up(named))
    return int(account.is_sysadmin or known[permission]) if permission in known else None


def _is_preferred(tables: Tables, name: str | None) -> int:
    found: Database | None = tables.machine.database(name) if name else None
    return int(found is None or found.is_preferred)


_FUNCTIONS: dict[str, tuple[SqlType, Callable[..., Any]]] = {
    "SERVERPROPERTY": (values.LONG_TEXT, _server_property),
    "HAS_PERMS_BY_NAME": (values.INTEGER, _has_permission),
    "SYS.FN_HADR_BACKUP_IS_PREFERRED_REPLICA": (values.INTEGER, _is_preferred),
    "IS_SRVROLEMEMBER": (values.INTEGER, lambda tables, role: int(tables.session.account.is_sysadmin)),
    "SUSER_SNAME": (values.NAME, lambda tables: tables.session.user),
    "USER_NAME": (values.NAME, lambda tables: tables.session.user_name),
    "DB_NAME": (values.NAME, lambda tables: tables.session.database),
    "QUOTENAME": (values.text_type(258), lambda tables, name: name and "[" + name.replace("]", "]]") + "]"),
    "RTRIM": (values.text_type(4000), lambda tables, said: said and said.rstrip(" ")),
    "SYSUTCDATETIME": (values.FINE_MOMENT, lambda tables: datetime.now(UTC).replace(tzinfo=None)),
    "SYSDATETIME": (values.FINE_MOMENT, lambda tables: _local(datetime.now(UTC), tables.machine.time_zone)),
}
