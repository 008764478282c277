"""What databases need around them and no backup of theirs holds: logins, Agent jobs, linked servers, certificates.

What the account may not see is named, with the right that would show it; the rest is told all the same.
"""

from __future__ import annotations

from collections.abc import Callable

from backups.engines.facts import Connection, Surroundings
from backups.engines.sqlserver.connecting import Session, session
from backups.engines.sqlserver.surroundings_script import Found, Row, script_of
from regions.refusals import Refusal

SA = b"\x01"
OF_THE_SYSTEM = ("##", "NT AUTHORITY\\", "NT SERVICE\\", "BUILTIN\\")
NOT_SEEN = ("MayNotReadHistory", "MayNotSeeState")

RIGHTS = """
SELECT HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW ANY DEFINITION') AS sees_all,
       HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW ANY SECURITY DEFINITION') AS sees_security
"""
LOGINS = """
SELECT p.principal_id, p.name, p.sid, p.type, p.is_disabled, p.default_database_name, l.password_hash,
       l.is_policy_checked, l.is_expiration_checked
FROM sys.server_principals AS p LEFT JOIN sys.sql_logins AS l ON l.principal_id = p.principal_id
WHERE p.type IN ('S', 'U', 'G') ORDER BY p.name
"""
ROLES = """
SELECT r.name AS role, m.name AS member FROM sys.server_role_members AS x
JOIN sys.server_principals AS r ON r.principal_id = x.role_principal_id
JOIN sys.server_principals AS m ON m.principal_id = x.member_principal_id ORDER BY r.name, m.name
"""
JOBS = """
SELECT j.job_id, j.name, j.enabled, j.description, j.start_step_id, p.name AS owner
FROM msdb.dbo.sysjobs AS j LEFT JOIN sys.server_principals AS p ON p.sid = j.owner_sid ORDER BY j.name
"""
STEPS = """
SELECT job_id, step_id, step_name, subsystem, command, database_name, on_success_action, on_success_step_id,
       on_fail_action, on_fail_step_id, retry_attempts, retry_interval
FROM msdb.dbo.sysjobsteps ORDER BY job_id, step_id
"""
SCHEDULES = """
SELECT x.job_id, s.name, s.enabled, s.freq_type, s.freq_interval, s.freq_subday_type, s.freq_subday_interval,
       s.freq_relative_interval, s.freq_recurrence_factor, s.active_start_date, s.active_end_date,
       s.active_start_time, s.active_end_time
FROM msdb.dbo.sysjobschedules AS x JOIN msdb.dbo.sysschedules AS s ON s.schedule_id = x.schedule_id
ORDER BY x.job_id, s.name
"""
LINKED = """
SELECT name, product, provider, data_source, catalog FROM sys.servers WHERE is_linked = 1 ORDER BY name
"""
CERTIFICATES = """
SELECT name, thumbprint FROM sys.certificates ORDER BY name
"""


def look_around(connection: Connection) -> Surroundings:
    """Ask a server for what stands beside its databases; raises Refusal when it does not answer at all."""
    with session(connection) as opened:
        return surroundings_of(opened)


def surroundings_of(opened: Session) -> Surroundings:
    jobs, steps, schedules = _jobs(opened)
    found = Found(
        logins=[row for row in opened.ask(LOGINS) if _is_of_people(row)],
        roles=opened.ask(ROLES),
        jobs=jobs or [],
        steps=steps,
        schedules=schedules,
        linked=opened.ask(LINKED),
        certificates=[row for row in opened.ask(CERTIFICATES) if _is_own(row)],
    )
    notes = [*_unseen(opened, jobs), *_remarks(found)]
    return Surroundings(script_of(found, opened.connection.host, notes), _names(found), tuple(notes))


def _jobs(opened: Session) -> tuple[list[Row] | None, list[Row], list[Row]]:
    """Return jobs, their steps and their schedules; None where the account may not read them."""
    try:
        return opened.ask(JOBS), opened.ask(STEPS), opened.ask(SCHEDULES)
    except Refusal as refusal:
        if refusal.code not in NOT_SEEN:
            raise
        return None, [], []


def _unseen(opened: Session, jobs: list[Row] | None) -> list[str]:
    """Catalogue views leave out what may not be seen, and say nothing: the rights themselves are asked for."""
    rights = opened.ask(RIGHTS)[0]
    said = []
    if not rights["sees_all"]:
        what = "Linked servers" if rights["sees_security"] else "Logins, certificates and linked servers of others"
        said.append(f"{what} could not be seen: GRANT VIEW ANY DEFINITION.")
    if jobs is None:
        said.append(
            "Agent jobs could not be seen: GRANT SELECT on msdb.dbo.sysjobs, sysjobsteps, sysjobschedules and "
            "sysschedules."
        )
    return said


def _is_of_people(row: Row) -> bool:
    """Neither sa nor what the installation makes by itself, which every server has of its own."""
    return bytes(row["sid"] or b"") != SA and not row["name"].startswith(OF_THE_SYSTEM)


def _is_own(row: Row) -> bool:
    return not row["name"].startswith("##")


def _remarks(found: Found) -> list[str]:
    said = []
    if any(row["type"] == "S" and not row["password_hash"] for row in found.logins):
        said.append(
            "Passwords of logins were not seen, and have to be chosen anew: their hashes take CONTROL SERVER, from "
            "SQL Server 2022 on VIEW ANY CRYPTOGRAPHICALLY SECURED DEFINITION."
        )
    if found.linked:
        said.append("Passwords of linked servers cannot be read by anybody, and have to be entered anew.")
    return said


def _names(found: Found) -> dict[str, tuple[str, ...]]:
    """Kind -> names, by which two servers are compared; a login is the same only with its SID."""
    named: dict[str, Callable[[Row], str]] = {
        "login": lambda row: f"{row['name']} (SID 0x{bytes(row['sid']).hex().upper()})",
        "job": lambda row: row["name"],
        "linked_server": lambda row: row["name"],
        "certificate": lambda row: bytes(row["thumbprint"]).hex(),
    }
    rows = {
        "login": found.logins,
        "job": found.jobs,
        "linked_server": found.linked,
        "certificate": found.certificates,
    }
    return {kind: tuple(name(row) for row in rows[kind]) for kind, name in named.items()}
