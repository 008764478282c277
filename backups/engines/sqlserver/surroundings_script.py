"""The T-SQL that makes logins, Agent jobs and linked servers again on another server; safe to run there twice. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backups.engines.sqlserver.connecting import quoted_name, quoted_text

Row = dict[str, Any]
STEP_COLUMNS = (
    *("step_id", "step_name", "subsystem", "command", "database_name", "on_success_action", "on_success_step_id"),
    *("on_fail_action", "on_fail_step_id", "retry_attempts", "retry_interval"),
)
SCHEDULE_COLUMNS = (
    *("name", "enabled", "freq_type", "freq_interval", "freq_subday_type", "freq_subday_interval"),
    *("freq_relative_interval", "freq_recurrence_factor", "active_start_date", "active_end_date"),
    *("active_start_time", "active_end_time"),
)


@dataclass(frozen=True)
class Found:
    """Rows as the server's own tables have them."""

    logins: Sequence[Row]
    roles: Sequence[Row]
    jobs: Sequence[Row]
    steps: Sequence[Row]
    schedules: Sequence[Row]
    linked: Sequence[Row]
    certificates: Sequence[Row]


def script_of(found: Found, host: str, notes: Sequence[str]) -> str:
    lines = [
        f"-- What stood beside the databases of {_in_a_comment(host)}. Read it before you run it; it may be run again.",
        *(f"-- {_in_a_comment(note)}" for note in notes),
        "",
        *_certificates(found.certificates),
        *(line for row in found.logins for line in _login(row)),
        *_members(found),
        *(line for row in found.linked for line in _linked(row)),
        *(line for row in found.jobs for line in _job(row, found)),
    ]
    return "\n".join(lines) + "\n"


def _in_a_comment(text: str) -> str:
    return " ".join(text.split())


def _certificates(rows: Sequence[Row]) -> Iterator[str]:
    """A private key leaves a server only by BACKUP CERTIFICATE: here is which ones are needed."""
    for row in rows:
        yield f"-- Certificate {_in_a_comment(row['name'])}, thumbprint 0x{bytes(row['thumbprint']).hex().upper()}:"
        yield "-- CREATE CERTIFICATE … FROM FILE, with its private key, from the backup that you made of it."
    if rows:
        yield ""


def _login(row: Row) -> Iterator[str]:
    name, text = quoted_name(row["name"]), quoted_text(row["name"])
    yield f"IF SUSER_ID({text}) IS NULL"
    yield f"    CREATE LOGIN {name} {_born(row)};"
    if database := row["default_database_name"]:
        asked = f"ALTER LOGIN {name} WITH DEFAULT_DATABASE = {quoted_name(database)}"
        yield f"IF DB_ID({quoted_text(database)}) IS NOT NULL {asked};"
    if row["is_disabled"]:
        yield f"ALTER LOGIN {name} DISABLE;"


def _born(row: Row) -> str:
    if row["type"] != "S":
        return "FROM WINDOWS"
    seen = row["password_hash"]
    password = f"0x{bytes(seen).hex().upper()} HASHED" if seen else "N'<choose one>'"
    checks = ", ".join(
        f"{word} = {'ON' if row[column] else 'OFF'}"
        for word, column in (("CHECK_POLICY", "is_policy_checked"), ("CHECK_EXPIRATION", "is_expiration_checked"))
    )
    return f"WITH PASSWORD = {password}, SID = 0x{bytes(row['sid']).hex().upper()}, {checks}"


def _members(found: Found) -> Iterator[str]:
    known = {row["name"] for row in found.logins}
    for row in found.roles:
        if row["member"] in known:
            yield f"ALTER SERVER ROLE {quoted_name(row['role'])} ADD MEMBER {quoted_name(row['member'])};"


def _linked(row: Row) -> Iterator[str]:
    said = {
        "server": row["name"],
        "srvproduct": row["product"] or "",
        "provider": row["provider"],
        "datasrc": row["data_source"],
        "catalog": row["catalog"],
    }
    if row["product"] == "SQL Server":  # the procedure takes nothing else then
        said = {"server": row["name"], "srvproduct": "SQL Server"}
    yield ""
    yield f"IF NOT EXISTS (SELECT 1 FROM sys.servers WHERE name = {quoted_text(row['name'])})"
    yield f"    EXEC sp_addlinkedserver {_arguments(said)};"


def _job(row: Row, found: Found) -> Iterator[str]:
    name = {"job_name": row["name"]}
    begun = name | {"enabled": int(row["enabled"]), "description": row["description"], "owner_login_name": row["owner"]}
    yield ""
    yield f"IF NOT EXISTS (SELECT 1 FROM msdb.dbo.sysjobs WHERE name = {quoted_text(row['name'])})"
    yield "BEGIN"
    yield f"    EXEC msdb.dbo.sp_add_job {_arguments(begun)};"
    for step in (one for one in found.steps if one["job_id"] == row["job_id"]):
        yield f"    EXEC msdb.dbo.sp_add_jobstep {_arguments(name | {one: step[one] for one in STEP_COLUMNS})};"
    yield f"    EXEC msdb.dbo.sp_update_job {_arguments(name | {'start_step_id': row['start_step_id']})};"
    for plan in (one for one in found.schedules if one["job_id"] == row["job_id"]):
        yield f"    EXEC msdb.dbo.sp_add_jobschedule {_arguments(name | {one: plan[one] for one in SCHEDULE_COLUMNS})};"
    yield f"    EXEC msdb.dbo.sp_add_jobserver {_arguments(name)};"
    yield "END;"


def _arguments(said: Row) -> str:
    """`@name = value, …`, leaving out what there is none of."""
    return ", ".join(f"@{name} = {_literal(value)}" for name, value in said.items() if value is not None)


def _literal(value: object) -> str:
    return str(int(value)) if isinstance(value, (bool, int)) else quoted_text(str(value))
