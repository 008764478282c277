"""The ways a found file is refused: each code means one thing, and its remedy is the same everywhere."""

from __future__ import annotations

from regions.refusals import Refusal

UNKNOWN_LAYOUT = "UnknownLayout"
# Such a file may be a sound backup that only the server can speak for.
SEEN_ONLY_BY_MSDB = ("UnknownVersion", "UnknownKind", UNKNOWN_LAYOUT, "EncryptedHeader")
_ASK_MSDB = "Let the server's msdb name this set, or back up again into a new file."


def not_a_backup() -> Refusal:
    return Refusal(
        "NotASqlServerBackup",
        "This file is not a native SQL Server backup.",
        "Keep other files out of the prefix that this instance declares.",
    )


def truncated(what: str) -> Refusal:
    return Refusal(
        "Truncated",
        f"The file ends too early: {what}.",
        "Wait until it is wholly written; if it has stopped growing, back up again.",
    )


def encrypted() -> Refusal:
    return Refusal(
        "EncryptedHeader",
        "The backup is encrypted and its header cannot be read.",
        "It is copied once the server's msdb names its set; give the instance a connection.",
    )


def damaged(what: str) -> Refusal:
    return Refusal("DamagedHeader", f"The header is damaged: {what}.", "Back up again into a new file.")


def contradicting(what: str) -> Refusal:
    return Refusal(
        "InconsistentHeader",
        f"Head and tail of the file do not belong together: {what}.",
        "It may be in the middle of being overwritten; it is looked at again. If it stays so, back up again.",
    )


def unknown_version(version: str) -> Refusal:
    return Refusal("UnknownVersion", f"Backup files of version {version} are not known here.", _ASK_MSDB)


def unknown_kind(kind: str) -> Refusal:
    return Refusal("UnknownKind", f"Backups of type {kind!r} (file, partial or newer) are not known here.", _ASK_MSDB)


def unknown_layout(what: str) -> Refusal:
    return Refusal(UNKNOWN_LAYOUT, f"The file is laid out in a way not known here: {what}.", _ASK_MSDB)


def unknown_time_zone() -> Refusal:
    return Refusal("UnknownTimeZone", "The header does not say in which time zone its times are.", _ASK_MSDB)


def marked_damaged(position: int) -> Refusal:
    return Refusal(
        "MarkedDamaged",
        f"The server itself marked backup set {position} of this file as damaged (CONTINUE_AFTER_ERROR).",
        "Repair the database (DBCC CHECKDB) and back up again.",
    )


def too_much(what: str) -> Refusal:
    return Refusal("TooManyBlocks", f"The file is too intricate to be read from a distance: {what}.", _ASK_MSDB)
