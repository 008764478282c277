"""The system tables of what stands beside the simulated server's databases: logins, jobs, linked servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from demo.tds.machine import Account, Principal, SimulatedMachine
from demo.tds.tokens import Column
from demo.tds.values import BIGINT, BOOLEAN, IDENTIFIER, INTEGER, LONG_TEXT, NAME, VARBINARY, SqlType, text_type

Row = Mapping[str, Any]
SID, HASH, LETTER = SqlType(VARBINARY, 85), SqlType(VARBINARY, 256), text_type(1)


def _columns(**kinds: SqlType) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in kinds.items())


PRINCIPALS = _columns(
    principal_id=INTEGER, name=NAME, sid=SID, type=LETTER, is_disabled=BOOLEAN, default_database_name=NAME
)
SQL_LOGINS = _columns(
    principal_id=INTEGER, name=NAME, password_hash=HASH, is_policy_checked=BOOLEAN, is_expiration_checked=BOOLEAN
)
MEMBERS = _columns(role_principal_id=INTEGER, member_principal_id=INTEGER)
SERVERS = _columns(
    name=NAME, product=NAME, provider=NAME, data_source=LONG_TEXT, catalog=NAME, is_linked=BOOLEAN, server_id=INTEGER
)
JOBS = _columns(
    job_id=IDENTIFIER, name=NAME, enabled=INTEGER, description=text_type(512), start_step_id=INTEGER, owner_sid=SID
)
STEPS = _columns(
    **{"job_id": IDENTIFIER, "step_id": INTEGER, "step_name": NAME, "subsystem": NAME, "command": LONG_TEXT},
    **{"database_name": NAME, "on_success_action": INTEGER, "on_success_step_id": INTEGER, "on_fail_action": INTEGER},
    **{"on_fail_step_id": INTEGER, "retry_attempts": INTEGER, "retry_interval": INTEGER},
)
JOB_SCHEDULES = _columns(job_id=IDENTIFIER, schedule_id=INTEGER)
SCHEDULES = _columns(
    **{"schedule_id": INTEGER, "name": NAME, "enabled": INTEGER, "freq_type": INTEGER, "freq_interval": INTEGER},
    **{"freq_subday_type": INTEGER, "freq_subday_interval": INTEGER, "freq_relative_interval": INTEGER},
    **{"freq_recurrence_factor": INTEGER, "active_start_date": BIGINT, "active_end_date": BIGINT},
    **{"active_start_time": INTEGER, "active_end_time": INTEGER},
)
ROLES = ("sysadmin", "securityadmin", "dbcreator", "processadmin")
SA = Principal("sa", b"\x01", password_hash=b"\x02\x00sa")


def _numbered(machine: SimulatedMachine, account: Account) -> Iterator[tuple[int, Principal]]:
    """All logins for whoever may see definitions, its own and sa for everybody else."""
    seen = machine.beside.principals if account.sees_definitions else []
    yield from enumerate([SA, *seen], 1)


def _principals(machine: SimulatedMachine, account: Account) -> Iterator[Row]:
    for number, one in _numbered(machine, account):
        yield {
            "principal_id": number,
            "name": one.name,
            "sid": one.sid,
            "type": one.kind,
            "is_disabled": one.is_disabled,
            "default_database_name": one.default_database,
        }
    for number, role in enumerate(ROLES):
        known = {"sid": bytes([3, number]), "type": "R", "is_disabled": False, "default_database_name": None}
        yield {"principal_id": 1000 + number, "name": role, **known}


def _sql_logins(machine: SimulatedMachine, account: Account) -> Iterator[Row]:
    for number, one in _numbered(machine, account):
        if one.kind == "S":
            yield {
                "principal_id": number,
                "name": one.name,
                "password_hash": one.password_hash if account.sees_hashes else None,
                "is_policy_checked": True,
                "is_expiration_checked": False,
            }


def _members(machine: SimulatedMachine, account: Account) -> Iterator[Row]:
    for number, one in _numbered(machine, account):
        for role in one.roles:
            yield {"role_principal_id": 1000 + ROLES.index(role), "member_principal_id": number}


def _servers(machine: SimulatedMachine, account: Account) -> Iterator[Row]:
    own = {"product": "SQL Server", "provider": "SQLNCLI", "data_source": machine.name, "is_linked": False}
    yield {"server_id": 0, "name": machine.name, "catalog": None, **own}
    linked = machine.beside.linked if account.sees_definitions else {}
    for number, (name, source) in enumerate(linked.items(), 1):
        known = {"product": "", "provider": "MSOLEDBSQL", "data_source": source, "is_linked": True}
        yield {"server_id": number, "name": name, "catalog": None, **known}


def _jobs(machine: SimulatedMachine, account: Account) -> Iterator[Row]:
    sids = {one.name: one.sid for one in (SA, *machine.beside.principals)}
    for job in machine.beside.jobs:
        said = {"enabled": 1, "description": job.description, "start_step_id": 1, "owner_sid": sids.get(job.owner)}
        yield {"job_id": str(job.number), "name": job.name, **said}


def _steps(machine: SimulatedMachine, account: Account) -> Iterator[Row]:
    quits = {"on_success_action": 1, "on_success_step_id": 0, "on_fail_action": 2, "on_fail_step_id": 0}
    for job in machine.beside.jobs:
        said = {"step_id": 1, "step_name": "Run", "subsystem": "TSQL", "command": job.command}
        more = {"database_name": job.database, "retry_attempts": 0, "retry_interval": 0}
        yield {"job_id": str(job.number), **said, **more, **quits}


def _job_schedules(machine: SimulatedMachine, account: Account) -> Iterator[Row]:
    for number, job in enumerate(machine.beside.jobs, 1):
        yield {"job_id": str(job.number), "schedule_id": number}


def _schedules(machine: SimulatedMachine, account: Account) -> Iterator[Row]:
    daily = {"freq_type": 4, "freq_interval": 1, "freq_subday_type": 1, "freq_subday_interval": 0}
    never_ends = {"active_start_date": 20240101, "active_end_date": 99991231, "active_end_time": 235959}
    for number, _ in enumerate(machine.beside.jobs, 1):
        said = {"name": "Every night", "enabled": 1, "freq_relative_interval": 0, "freq_recurrence_factor": 0}
        yield {"schedule_id": number, **said, **daily, **never_ends, "active_start_time": 10000}


TABLES: dict[str, tuple[tuple[Column, ...], Callable[[SimulatedMachine, Account], Iterator[Row]]]] = {
    "sys.server_principals": (PRINCIPALS, _principals),
    "sys.sql_logins": (SQL_LOGINS, _sql_logins),
    "sys.server_role_members": (MEMBERS, _members),
    "sys.servers": (SERVERS, _servers),
    "msdb.dbo.sysjobs": (JOBS, _jobs),
    "msdb.dbo.sysjobsteps": (STEPS, _steps),
    "msdb.dbo.sysjobschedules": (JOB_SCHEDULES, _job_schedules),
    "msdb.dbo.sysschedules": (SCHEDULES, _schedules),
}
