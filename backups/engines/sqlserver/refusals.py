"""What SQL Server says when it refuses, by its numbers, in our words, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backups.engines.facts import Connection
from backups.engines.reasons import Reason, explained, quoted
from regions.refusals import Refusal

TERMINATING, ENDED = 3013, 3621  # they end a statement and say nothing of why
KILLED = 596


@dataclass(frozen=True)
class Said:
    """One message of the server; above severity 10 it is an error."""

    number: int
    text: str
    severity: int = 0

    @property
    def is_error(self) -> bool:
        return self.severity > 10


@dataclass(frozen=True)
class Numbered:
    """One kind of refusal, by the server's number; {…} are the connection's values and what is said beside them."""

    code: str
    sentence: str
    remedy: str
    field: str = ""


REASONS: Mapping[int, Numbered] = {
    18456: Numbered(
        "PasswordWrong",
        "The server does not accept this password for {username}.",
        "Check the user name and the password; the login must be a SQL Server login, and the server allow them.",
        "password",
    ),
    18452: Numbered(
        "LoginUnknown",
        "The server wants a Windows login of {username}, which this worker cannot give.",
        "Allow SQL Server logins (mixed mode), and give Farshore one of its own.",
        "username",
    ),
    18486: Numbered(
        "AccountLocked",
        "The login {username} is locked.",
        "Unlock it: ALTER LOGIN … WITH PASSWORD = … UNLOCK.",
        "username",
    ),
    18487: Numbered(
        "PasswordExpired",
        "The password of {username} has expired.",
        "Give the login a new one, and enter it.",
        "password",
    ),
    18488: Numbered(
        "PasswordExpired",
        "The password of {username} must be changed before it is used.",
        "Change it on the server, and enter the new one.",
        "password",
    ),
    4060: Numbered(
        "DatabaseUnknown",
        "The server has no database {dbname} that {username} may open.",
        "Leave the database empty, or name one that is there.",
        "dbname",
    ),
    911: Numbered(
        "DatabaseMissing", "There is no such database on the server any more.", "Look at its databases again."
    ),
    942: Numbered(
        "DatabaseOffline", "The database is not online, so that nothing can be backed up.", "Bring it online first."
    ),
    262: Numbered(
        "MayNotBackUp",
        "{username} may not back up the database.",
        "Make it a member of db_backupoperator there; the script on the instance's page does that.",
        "username",
    ),
    229: Numbered(
        "MayNotReadHistory",
        "{username} may not read the history of backups in msdb.",
        "GRANT SELECT on msdb.dbo.backupset, backupmediaset and backupmediafamily; the script does that.",
        "username",
    ),
    300: Numbered(
        "MayNotSeeState",
        "{username} may not look at what the server is doing.",
        "GRANT VIEW SERVER STATE; the script does that.",
        "username",
    ),
    6102: Numbered(
        "MayNotKill",
        "{username} may not end a backup of its own on the server.",
        "GRANT ALTER ANY CONNECTION; the script does that.",
        "username",
    ),
    3021: Numbered("InTransaction", "The server was asked for a backup within a transaction.", "Ask again."),
    3023: Numbered(
        "BackupRunning",
        "Another backup of the database is running, or one of its files is being changed.",
        "Ask later.",
    ),
    3035: Numbered(
        "FullMissing",
        "The database has no full backup that a differential could stand on.",
        "Take a full backup first.",
    ),
    3059: Numbered(
        "OnSecondary",
        "The server is a secondary of the database: only copy-only fulls and logs can be taken there.",
        "Take a copy-only full there, or back up the primary.",
    ),
    3201: Numbered(
        "ShareUnreachable",
        "The server cannot open the backup device.",
        "Check the path as the server sees it, and that its service account may write there.",
    ),
    3202: Numbered(
        "ShareFailed", "The server could not write on to the backup device.", "Look for room, and for the server's log."
    ),
    3271: Numbered(
        "ShareFailed", "The server could not write on to the backup device.", "Look for room, and for the server's log."
    ),
    4208: Numbered(
        "RecoveryModelSimple",
        "The database is in recovery model SIMPLE, which has no log backups.",
        "ALTER DATABASE … SET RECOVERY FULL, and then take a full backup.",
    ),
    4214: Numbered(
        "NoLogChain",
        "The database's log chain has not begun, or was broken.",
        "Take an ordinary full backup on the primary; a copy-only one does not begin it.",
    ),
    **dict.fromkeys(
        (924, 3101, 3702, 5061, 5064),
        Numbered("DatabaseInUse", "Somebody is using the database.", "End their sessions, and ask again."),
    ),
    3081: Numbered(
        "SuspendedAlready",
        "The database is suspended for somebody else's snapshot.",
        "Ask again when it has ended; ALTER DATABASE … SET SUSPEND_FOR_SNAPSHOT_BACKUP = OFF ends it.",
    ),
    5011: Numbered(
        "MayNotSuspend",
        "{username} may not suspend the database for a snapshot.",
        "GRANT ALTER in that database; the script for a snapshot instance does that.",
        "username",
    ),
    5120: Numbered("NoFile", "The server cannot open a file of the database.", "Let its service account write there."),
    5173: Numbered("OtherFiles", "The files are not those of this snapshot.", "Restore from another set."),
    3132: Numbered(
        "StripesMissing", "Not every stripe of the backup was given.", "Restore from all files of the set together."
    ),
    3136: Numbered(
        "OtherBase", "The differential stands on another full than the one that was restored.", "Take that full first."
    ),
    3154: Numbered(
        "NameTaken",
        "The server has a database of this name, made of another one.",
        "Choose another name, or say that it is to be overwritten.",
        "name",
    ),
    3159: Numbered(
        "NameTaken",
        "The server has this very database, with log that was never backed up.",
        "Choose another name, or say that it is to be overwritten.",
        "name",
    ),
    3169: Numbered(
        "NewerVersion", "The backup was made by a newer SQL Server than this one.", "Restore on one that is as new."
    ),
    3189: Numbered(
        "DamagedBackup", "The server found damage in the backup.", "Restore from another copy, or another set."
    ),
    3203: Numbered(
        "ShareFailed",
        "The server could not read on from the backup device.",
        "Look at the share, and the server's log.",
    ),
    3241: Numbered(
        "NotABackup", "The server finds no backup in the file.", "See that it is whole: `manage.py inspect`."
    ),
    3257: Numbered("NoRoom", "The server has no room for the database.", "Make room, or restore on another server."),
    4305: Numbered("LogGap", "A log is missing in front of this one.", "Restore up to the gap, or from a later full."),
    4326: Numbered("LogTooEarly", "The log ends before what was restored already.", "Leave it out."),
    4330: Numbered(
        "OtherFork", "The log is of another history than what was restored.", "Restore along one history only."
    ),
    4335: Numbered(
        "MomentTooEarly", "The moment lies before what was restored.", "Choose an earlier set, or a later moment."
    ),
    33111: Numbered(
        "CertificateMissing",
        "The server does not have the certificate that the backup is encrypted with.",
        "Create it there from its backup, and grant VIEW DEFINITION on it.",
    ),
    5133: Numbered("NoFolder", "The server has no such folder for the database's files.", "See its default data path."),
    KILLED: Numbered("Killed", "It was ended on the server (KILL).", "Ask again when whoever ended it agrees."),
    102: Numbered(
        "NotUnderstood", "The server does not understand what it was asked.", "See that it is SQL Server 2016 or newer."
    ),
}

# What happens before the server says anything, in the words of the system and of `wire`.
OF_THE_WIRE = (
    Reason(
        r"Name or service not known|No address associated|Temporary failure in name resolution|nodename nor servname",
        "HostUnknown",
        "There is no host named {host}.",
        "Check the name, or give an address.",
        "host",
    ),
    Reason(
        r"Connection refused",
        "NotListening",
        "Nothing listens at {host}, port {port}.",
        "Check the port, that SQL Server runs, and that TCP/IP is enabled for it.",
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
        r"does not offer TLS",
        "NoTls",
        "The server does not offer TLS, and TLS is asked for.",
        "Switch TLS on at the server, or choose a mode that does without.",
        "tls",
    ),
    Reason(
        r"requires encryption", "TlsRequired", "The server lets nobody in without TLS.", "Choose a TLS mode.", "tls"
    ),
    Reason(
        r"certificate",
        "CertificateNotTrusted",
        "The server's certificate is not trusted, or is not for {host}.",
        "Point SQLSERVER_SSL_CA at the authority that signed it, and use the name it was made for.",
        "tls",
    ),
    Reason(
        r"WRONG_VERSION_NUMBER|TLSV1|SSLV3|UNSUPPORTED_PROTOCOL|HANDSHAKE_FAILURE|NO_PROTOCOLS|_ssl\.c",
        "TlsFailed",
        "No TLS connection to the server came about.",
        "Check which versions of TLS the server allows; 1.2 is needed.",
        "tls",
    ),
    Reason(
        r"sends on to another address",
        "SentElsewhere",
        "{host} sends whoever logs in on to another address, where Farshore does not follow.",
        "Enter the replica itself as the host, not a listener that routes.",
        "host",
    ),
    Reason(
        r"is not SQL Server|Invalid|Unexpected|longer than was agreed",
        "NotSqlServer",
        "What listens at {host}, port {port}, is not SQL Server.",
        "Check the port.",
        "port",
    ),
    Reason(
        r"closed the connection|Connection reset|Broken pipe|Bad file descriptor",
        "ConnectionLost",
        "The connection to the server ended before all was done.",
        "It is tried again from the beginning; see the server's log for the reason.",
    ),
)


def cause_of(said: Iterable[Said]) -> Said | None:
    """Return the error that ended a statement: the one before 3013, which only says that it ended."""
    errors = [message for message in said if message.is_error and message.number not in (TERMINATING, ENDED)]
    known = [message for message in errors if message.number in REASONS]
    return next(iter(known or errors), None)


def refusal_from(said: Iterable[Said], connection: Connection) -> Refusal:
    """Put what the server said into our words; what we have none for is quoted."""
    cause = cause_of(said)
    if cause is None:
        return Refusal("ServerRefused", "SQL Server said no and gave no reason.", "See the server's log.")
    told = quoted(cause.text)
    known = REASONS.get(cause.number)
    if not known:
        return Refusal("ServerRefused", f"SQL Server said no ({cause.number}): {told}", "See the server's log.")
    values = _values(connection)
    sentence = f"{known.sentence.format(**values)} It said: {told} ({cause.number})"
    return Refusal(known.code, sentence, known.remedy, known.field)


def refusal_of_the_wire(message: str, connection: Connection) -> Refusal:
    """Put into our words why no connection came about, or why it ended."""
    said = quoted(message) or "it gave no reason"
    return explained(message, OF_THE_WIRE, _values(connection)) or Refusal(
        "ServerRefused", f"The connection to SQL Server failed: {said}", "See the server's log."
    )


def _values(connection: Connection) -> dict[str, object]:
    return {
        "host": connection.host,
        "port": connection.port,
        "username": connection.username,
        "dbname": connection.dbname or "master",
    }
