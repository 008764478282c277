"""What PostgreSQL and its tools say when they refuse, in our words, with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backups.engines.facts import Connection, FullNeeded
from backups.engines.reasons import Reason, explained, quoted
from regions.refusals import Refusal

# The first that fits wins. Servers speak their own language before they know us; what no line fits is quoted.
REASONS = (
    Reason(
        r"failed to resolve host|could not translate host name",
        "HostUnknown",
        "There is no host named {host}.",
        "Check the name, or give an address.",
        "host",
    ),
    Reason(
        r"Connection refused|No such file or directory",
        "NotListening",
        "Nothing listens at {host}, port {port}.",
        "Check the port, that PostgreSQL runs, and its listen_addresses.",
        "port",
    ),
    Reason(
        r"timeout expired|timed out|No route to host|unreachable",
        "NoAnswer",
        "{host} does not answer on port {port}.",
        "Check the address and the firewalls between this worker and the server.",
        "host",
    ),
    Reason(
        r"no pg_hba\.conf entry for replication|pg_hba\.conf rejects replication",
        "NoReplicationEntry",
        "The server's pg_hba.conf does not let {username} open a replication connection from this worker.",
        'Add a line "host replication {username} <address of this worker> scram-sha-256" to it, and reload.',
        "username",
    ),
    Reason(
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "NoAccessEntry",
        "The server's pg_hba.conf does not let {username} connect to the database {dbname} from this worker.",
        'Add a line "host {dbname} {username} <address of this worker> scram-sha-256" to it, and reload.',
        "username",
    ),
    Reason(
        r"no password supplied",
        "PasswordMissing",
        "The server asks for a password, and none is given.",
        "Enter the password of {username}.",
        "password",
    ),
    Reason(
        r"authentication failed",
        "PasswordWrong",
        "The server does not accept this password for {username}.",
        "Check the user name and the password.",
        "password",
    ),
    Reason(
        r'role ".*" (does not exist|is not permitted to log in)',
        "RoleUnknown",
        "The server has no role {username} that may log in.",
        "Create it: CREATE ROLE … LOGIN REPLICATION PASSWORD '…'.",
        "username",
    ),
    Reason(
        r"permission denied to start WAL sender|replication role to start walsender",
        "NoReplicationPrivilege",
        "{username} may not replicate, and a base backup needs that.",
        "ALTER ROLE {username} REPLICATION.",
        "username",
    ),
    Reason(
        r"max_wal_senders",
        "NoFreeSender",
        "Every replication connection that the server allows (max_wal_senders) is in use.",
        "Raise max_wal_senders and restart the server, or wait until another backup or standby is done.",
    ),
    Reason(
        r"too many clients|too many connections|remaining connection slots",
        "TooManyConnections",
        "Every connection that the server allows {username} is in use.",
        "Raise max_connections or the role's limit, or try later.",
    ),
    Reason(
        r'database ".*" does not exist',
        "DatabaseUnknown",
        "The server has no database {dbname}.",
        "Name one that is there; postgres usually is.",
        "dbname",
    ),
    Reason(
        r"SSL support is not compiled in",
        "ToolsWithoutTls",
        "The PostgreSQL tools on this worker were built without TLS.",
        "Install the PostgreSQL client package of your system, or set PG_BIN_<major> to tools with TLS.",
        "tls",
    ),
    Reason(
        r"does not support SSL",
        "NoTls",
        "The server does not offer TLS, and TLS is asked for.",
        "Switch TLS on at the server, or choose a mode that does without.",
        "tls",
    ),
    Reason(
        r"certificate",
        "CertificateNotTrusted",
        "The server's certificate is not trusted, or is not for {host}.",
        "Point PGSSLROOTCERT at the authority that signed it, and use the name it was made for.",
        "tls",
    ),
    Reason(
        r"invalid response to SSL negotiation|expected authentication request|expected SSL response",
        "NotPostgreSQL",
        "What listens at {host}, port {port}, is not PostgreSQL.",
        "Check the port.",
        "port",
    ),
    Reason(
        r"is starting up|is shutting down|not (yet )?accepting connections|in recovery mode",
        "NotReady",
        "The server is starting up or shutting down.",
        "Try again when it takes connections.",
    ),
    Reason(
        r"WAL level not sufficient",
        "WalLevel",
        "The server's wal_level is minimal, which no backup can be taken with.",
        "Set wal_level = replica and restart the server.",
    ),
    Reason(
        r"has already been removed|could not find (any )?WAL file",
        "WalRemoved",
        "The server removed WAL that the backup still needed.",
        "Give the server a free replication slot (max_replication_slots), or raise wal_keep_size.",
    ),
    Reason(
        r"server closed the connection|terminating connection|could not receive data|could not read COPY data"
        r"|final receive failed|the connection is lost|Connection reset",
        "ConnectionLost",
        "The connection to the server ended before the backup was whole.",
        "It is taken again from its beginning; see the server's log for the reason.",
    ),
)


LOG_REASONS = (
    Reason(
        r"has already been removed|could not find (any )?WAL file",
        "WalRemoved",
        "The server removed WAL that had not been received yet: the logs have a gap.",
        "Drop the slot and receive anew; the gap needs a new backup.",
    ),
    Reason(
        r"server closed the connection|terminating connection|could not receive data|unexpected termination"
        r"|the connection is lost|Connection reset|could not send|no COPY in progress",
        "ConnectionLost",
        "The connection over which logs are received ended.",
        "It is opened again and goes on where it ended; see the server's log for the reason.",
    ),
    Reason(
        r"replication slot \".*\" is (already )?active",
        "SlotBusy",
        "Somebody else receives from this instance's replication slot.",
        "One receiver per instance; end the other.",
    ),
    Reason(
        r"all replication slots are in use",
        "NoFreeSlot",
        "Every replication slot that the server allows (max_replication_slots) is taken.",
        "Raise max_replication_slots and restart the server, or drop a slot that nobody uses.",
    ),
    Reason(
        r"must be superuser or replication role|permission denied to use replication slots",
        "NoReplicationPrivilege",
        "{username} may not replicate, and receiving logs needs that.",
        "ALTER ROLE {username} REPLICATION.",
        "username",
    ),
    Reason(
        r"No space left on device",
        "SpoolDiskFull",
        "The disk of this worker's spool is full.",
        "Make room; the server keeps its WAL until then.",
    ),
)


WAL_NOT_SUMMARIZED = Reason(
    r"incremental backups cannot be taken unless WAL summarization is enabled",
    "WalNotSummarized",
    "The server's summarize_wal is off, which incremental backups need.",
    "Set summarize_wal = on and reload the server.",
)

INCREMENTAL_TOO_OLD = Reason(
    r"server does not support incremental backup",
    "IncrementalTooOld",
    "The server is older than PostgreSQL 17, the first that incremental backups can be taken of.",
    "Upgrade the server.",
)

OTHER_SERVER = Reason(
    r"system identifier in backup manifest is",
    "OtherServer",
    "The backup that the incremental would stand on was taken of another server.",
    "A full begins anew.",
)

# Why an incremental cannot be taken where a full can.
INCREMENTAL_REASONS = (
    WAL_NOT_SUMMARIZED,
    INCREMENTAL_TOO_OLD,
    OTHER_SERVER,
    Reason(
        r"WAL summaries are required|WAL summarization is not progressing",
        "WalSummariesMissing",
        "The server does not have summaries of all the WAL since the backup that the incremental would stand on.",
        "Keep summarize_wal on, and wal_summary_keep_time longer than the time between two backups.",
    ),
    Reason(
        r"manifest requires WAL from|found in manifest, but not in this server's history",
        "BaseNotBefore",
        "The backup that the incremental would stand on does not lie before where this server is now.",
        "On a standby with little to do that passes by itself; after a failover a full begins anew.",
    ),
    Reason(
        r"could not upload manifest: ERROR|manifest contains no required WAL ranges",
        "BaseDamaged",
        "The server cannot read what the backup that the incremental would stand on says of its files.",
        "A full begins anew.",
    ),
)


def refusal_from(message: str, connection: Connection, first: Sequence[Reason] = ()) -> Refusal:
    """Put what the server or a tool said into our words (`first` before the usual); what we have none for is quoted."""
    values = {
        "host": connection.host,
        "port": connection.port,
        "username": connection.username,
        "dbname": connection.dbname or "postgres",
    }
    said = quoted(message) or "it gave no reason"
    return explained(message, (*first, *REASONS), values) or Refusal(
        "ServerRefused", f"PostgreSQL said no: {said}", "See the server's log."
    )


def incremental_refusal_from(message: str, connection: Connection) -> Refusal:
    """As `refusal_from`; FullNeeded where what was said is no reason against a full."""
    for reason in INCREMENTAL_REASONS:
        if re.search(reason.said, message):
            return full_needed(reason)
    return refusal_from(message, connection)


def full_needed(reason: Reason) -> FullNeeded:
    return FullNeeded(reason.code, reason.sentence, reason.remedy)
