"""The script that makes a login for Farshore: what each right is for, and nothing beyond (`sqlserver.md` §3)."""

from __future__ import annotations

from collections.abc import Iterable

from backups.engines.sqlserver.connecting import quoted_name

FINER_RIGHTS_SINCE = 16  # 2022
BUCKETS_SINCE = 16  # 2022
JOB_TABLES = ("sysjobs", "sysjobsteps", "sysjobschedules", "sysschedules")
HISTORY_TABLES = ("backupset", "backupmediaset", "backupmediafamily")


def script_for(
    login: str, databases: Iterable[str], *, major: int = 0, restores: bool = False, snapshots: bool = False
) -> str:
    """Return T-SQL that an administrator reads, completes with a password and runs; safe to run again.

    `major` 0: a version that is not known yet. `restores`: the server is one that backups are restored on; without a
    database that is all it is, and its own backups are nobody's business. `snapshots`: its databases are suspended for
    snapshots of its storage.
    """
    databases = list(databases)
    name = quoted_name(login)
    text = login.replace("'", "''")
    lines = [
        "-- What Farshore needs on this server, and no more. It is never a sysadmin.",
        "USE [master];",
        f"IF SUSER_ID(N'{text}') IS NULL",
        f"    CREATE LOGIN {name} WITH PASSWORD = N'<choose one>', DEFAULT_DATABASE = [master];",
        "-- Sizes, availability groups, encryption, and how far a backup is:",
        *_sees_state(name, major),
        "-- To end its own backup or restore when it is no longer wanted (else its connection is closed instead):",
        f"GRANT ALTER ANY CONNECTION TO {name};",
        *(_writes_to_buckets(name) if major >= BUCKETS_SINCE and not restores else []),
        *(_restores(text, name) if restores else []),
    ]
    if restores and not databases:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "-- The history of backups:",
        "USE [msdb];",
        *_user(text, name),
        *(f"GRANT SELECT ON dbo.{table} TO {name};" for table in HISTORY_TABLES),
    ]
    for database in databases:
        lines += [
            "",
            f"USE {quoted_name(database)};",
            *_user(text, name),
            f"ALTER ROLE [db_backupoperator] ADD MEMBER {name};",
            *(_suspends(name) if snapshots else []),
        ]
    lines += [
        "",
        "-- Only if logins, jobs and linked servers are to be recorded with each full; without it they are not:",
        *_sees_surroundings(name, major),
        "",
        "-- Secondaries of an availability group: create the login there with the same SID",
        "-- (SELECT sid FROM sys.server_principals on the primary); the databases bring their users along.",
    ]
    return "\n".join(lines) + "\n"


def _sees_state(name: str, major: int) -> list[str]:
    if major >= FINER_RIGHTS_SINCE:
        return [
            f"GRANT VIEW SERVER PERFORMANCE STATE TO {name};",
            f"GRANT VIEW SERVER SECURITY STATE TO {name};",
        ]
    return [f"GRANT VIEW SERVER STATE TO {name};"]


def _writes_to_buckets(name: str) -> list[str]:
    return [
        "-- To back up straight into the region's S3 store, which takes a credential that holds the store's key",
        "-- (leave it out where backups go to a share):",
        f"GRANT ALTER ANY CREDENTIAL TO {name};",
    ]


def _suspends(name: str) -> list[str]:
    return [
        "-- To suspend its writes for a snapshot of the storage (SUSPEND_FOR_SNAPSHOT_BACKUP). It allows more than",
        "-- that, to change the database itself; SQL Server has no smaller right for it:",
        f"GRANT ALTER TO {name};",
    ]


def _sees_surroundings(name: str, major: int) -> list[str]:
    """For whoever runs the script to take in: more than backups need."""
    hashes = f"-- GRANT VIEW ANY CRYPTOGRAPHICALLY SECURED DEFINITION TO {name}; -- the hashes of their passwords"
    return [
        f"-- USE [master]; GRANT VIEW ANY DEFINITION TO {name};",
        *([hashes] if major >= FINER_RIGHTS_SINCE else []),
        *(f"-- USE [msdb]; GRANT SELECT ON dbo.{table} TO {name};" for table in JOB_TABLES),
    ]


def _restores(text: str, name: str) -> list[str]:
    return [
        f"ALTER SERVER ROLE [dbcreator] ADD MEMBER {name}; -- restores new databases",
        "-- To see which certificates are there, and to restore what they encrypted:",
        *_user(text, name),
        f"GRANT VIEW DEFINITION TO {name};",
    ]


def _user(text: str, name: str) -> list[str]:
    return [f"IF USER_ID(N'{text}') IS NULL", f"    CREATE USER {name} FOR LOGIN {name};"]
