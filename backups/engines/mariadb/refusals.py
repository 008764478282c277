"""What MariaDB and its tools say when they refuse, in our words, with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from backups.engines.facts import Connection
from backups.engines.reasons import Reason, explained, quoted
from regions.refusals import Refusal

# The first that fits wins; what no line fits is quoted.
REASONS = (
    Reason(
        r"Name or service not known|No address associated|Temporary failure in name resolution|nodename nor servname",
        "HostUnknown",
        "There is no host named {host}.",
        "Check the name, or give an address.",
        "host",
    ),
    Reason(
        r"Connection refused|Can't connect to .*No such file or directory|\[Errno 2\]",
        "NotListening",
        "Nothing listens at {host}, port {port}.",
        "Check the port, that MariaDB runs, and its bind_address and skip_networking.",
        "port",
    ),
    Reason(
        r"timed out|No route to host|unreachable",
        "NoAnswer",
        "{host} does not answer on port {port}.",
        "Check the address and the firewalls between this worker and the server.",
        "host",
    ),
    Reason(
        r"is not allowed to connect to this MariaDB server",
        "NoAccessEntry",
        "The server has no account {username} that may come in from this worker.",
        "CREATE USER '{username}'@'<address of this worker>' IDENTIFIED BY '…'.",
        "username",
    ),
    Reason(
        r"Host '.*' is blocked",
        "HostBlocked",
        "The server has blocked this worker after too many broken connections.",
        "FLUSH HOSTS on the server, and look for what broke them.",
        "host",
    ),
    Reason(
        r"using password: NO",
        "PasswordMissing",
        "The server asks for a password, and none is given.",
        "Enter the password of {username}.",
        "password",
    ),
    Reason(
        r"Access denied for user .*using password: YES",
        "PasswordWrong",
        "The server does not accept this password for {username}.",
        "Check the user name and the password, and from where the account may come in.",
        "password",
    ),
    Reason(
        r"Access denied for user .* to database|Unknown database",
        "DatabaseUnknown",
        "The server has no database {dbname} that {username} may use.",
        "Leave the database empty, or name one that is there.",
        "dbname",
    ),
    Reason(
        r"Access denied; you need .*REPLICATION SLAVE",
        "NoReplicationPrivilege",
        "{username} may not read the binary log, and receiving logs needs that.",
        "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO {username}.",
        "username",
    ),
    Reason(
        r"Access denied; you need|lacks of? required privileges|missing required privilege",
        "PrivilegesMissing",
        "{username} lacks a privilege that this needs.",
        "GRANT RELOAD, PROCESS, BINLOG MONITOR, SLAVE MONITOR ON *.* TO {username}.",
        "username",
    ),
    Reason(
        r"Too many connections|max_user_connections",
        "TooManyConnections",
        "Every connection that the server allows {username} is in use.",
        "Raise max_connections or the account's limit, or try later.",
    ),
    Reason(
        r"asks for the password in clear text",
        "PasswordInClear",
        "The server asks for the password in clear text, over a connection that is not encrypted.",
        "Require TLS, or give {username} another way to log in.",
        "tls",
    ),
    Reason(
        r"does not offer TLS",
        "NoTls",
        "The server does not offer TLS, and TLS is asked for.",
        "Switch TLS on at the server, or choose a mode that does without.",
        "tls",
    ),
    Reason(
        r"certificate",
        "CertificateNotTrusted",
        "The server's certificate is not trusted, or is not for {host}.",
        "Point MARIADB_SSL_CA at the authority that signed it, and use the name it was made for.",
        "tls",
    ),
    Reason(
        r"WRONG_VERSION_NUMBER|TLSV1|SSLV3|UNSUPPORTED_PROTOCOL|HANDSHAKE_FAILURE",
        "TlsFailed",
        "No TLS connection to the server came about.",
        "Check which versions of TLS the server allows (tls_version).",
        "tls",
    ),
    Reason(
        r"require_secure_transport",
        "TlsRequired",
        "The server lets nobody in without TLS.",
        "Choose a TLS mode.",
        "tls",
    ),
    Reason(
        r"is not MariaDB",
        "NotMariaDB",
        "What listens at {host}, port {port}, is not MariaDB.",
        "Check the port.",
        "port",
    ),
    Reason(
        r"pynacl|auth.* plugin|Authentication plugin",
        "LoginUnknown",
        "{username} logs in by a way that this worker does not know.",
        "Give the account a password by mysql_native_password, or install PyNaCl for ed25519.",
        "username",
    ),
    Reason(
        r"Server shutdown in progress|is shutting down",
        "NotReady",
        "The server is starting up or shutting down.",
        "Try again when it takes connections.",
    ),
    Reason(
        r"log copying being too slow|redo log .*overwritten|log block numbers mismatch|not enough redo log",
        "LogOverwritten",
        "The server overwrote its redo log faster than it could be copied.",
        "Raise innodb_log_file_size, or take the backup at a quieter hour.",
    ),
    Reason(
        r"Permission denied|Operation not permitted",
        "DataUnreadable",
        "This worker may not read the server's data directory.",
        "Run the worker as root or as the server's own account.",
    ),
    Reason(
        r"Lost connection|[Ss]erver has gone away|closed the connection|Connection reset|Broken pipe",
        "ConnectionLost",
        "The connection to the server ended before all was done.",
        "It is tried again from the beginning; see the server's log for the reason.",
    ),
)

LOG_REASONS = (
    Reason(
        r"Could not find first log file name|could not find next log",
        "BinlogsPurged",
        "The server removed binary logs that had not been received yet: the logs have a gap.",
        "It is received on from the oldest that is left. Raise expire_logs_days on the server.",
    ),
    Reason(
        r"binlog truncated in the middle of event|bogus data in log event|event read from binlog did not pass crc",
        "BinlogDamaged",
        "The server cannot read its own binary log any further; it was probably cut off by a crash.",
        "FLUSH BINARY LOGS on the server, and purge the damaged one: what it held has a gap.",
    ),
    Reason(
        r"Lost connection|[Ss]erver has gone away|closed the connection|Connection reset|Broken pipe|ended by itself",
        "ConnectionLost",
        "The connection over which logs are received ended.",
        "It is opened again and goes on where it ended; see the server's log for the reason.",
    ),
    Reason(
        r"No space left on device|Errcode: 28",
        "SpoolDiskFull",
        "The disk of this worker's spool is full.",
        "Make room; the server keeps its binary logs meanwhile as long as it is told to.",
    ),
)


def refusal_from(message: str, connection: Connection, first: Sequence[Reason] = ()) -> Refusal:
    """Put what the server or a tool said into our words (`first` before the usual); what we have none for is quoted."""
    values = {
        "host": connection.host,
        "port": connection.port,
        "username": connection.username,
        "dbname": connection.dbname,
    }
    said = quoted(message) or "it gave no reason"
    return explained(message, (*first, *REASONS), values) or Refusal(
        "ServerRefused", f"MariaDB said no: {said}", "See the server's log."
    )
