"""A set in SQL Server's own column names: what RESTORE HEADERONLY, FILELISTONLY and LABELONLY print of it."""

from __future__ import annotations

from typing import Any

from backups.engines.facts import DatabaseFile, Kind, Method, SetFacts

COLUMNS = (
    "DatabaseName",
    "ServerName",
    "BackupType",
    "BackupStartDate",
    "BackupFinishDate",
    "FirstLSN",
    "LastLSN",
    "CheckpointLSN",
    "DatabaseBackupLSN",
    "BackupSetGUID",
    "FamilyGUID",
    "DifferentialBaseGUID",
    "RecoveryForkID",
    "MediaSetGUID",
    "FamilySequenceNumber",
    "FamilyCount",
    "HasBackupChecksums",
    "IsCopyOnly",
    "IsSnapshot",
    "BeginsLogChain",
    "Compressed",
    "BackupSize",
    "SoftwareVersionMajor",
    "SoftwareVersionMinor",
    "SoftwareVersionBuild",
    "Files",
)
BACKUP_TYPES = {Kind.FULL: 1, Kind.LOG: 2, Kind.DIFFERENTIAL: 5}
_FILE_TYPES = {"data": "D", "log": "L"}


def columns_of(facts: SetFacts) -> dict[str, Any]:
    """Return HEADERONLY's columns, the label's (MediaSetGUID, families) and FILELISTONLY's rows as `Files`.

    LSNs are integers as msdb prints them, 0 where there is none; GUIDs lower-case, None where there is none; times ISO
    8601 in UTC, where the server prints local time. `Compressed` says it of the file, not of a tape drive.
    """
    major, minor, build = (int(number) for number in facts.software_version.split("."))
    return {
        "DatabaseName": facts.database,
        "ServerName": facts.server,
        "BackupType": BACKUP_TYPES[facts.kind],
        "BackupStartDate": facts.started_at.isoformat(),
        "BackupFinishDate": facts.finished_at.isoformat(),
        "FirstLSN": facts.first_position or 0,
        "LastLSN": facts.last_position or 0,
        "CheckpointLSN": facts.checkpoint_position or 0,
        "DatabaseBackupLSN": facts.base_position or 0,
        "BackupSetGUID": facts.set_guid or None,
        "FamilyGUID": facts.family_guid or None,
        "DifferentialBaseGUID": facts.base_guid or None,
        "RecoveryForkID": facts.fork or None,
        "MediaSetGUID": facts.media_set_guid or None,
        "FamilySequenceNumber": facts.family_sequence,
        "FamilyCount": facts.family_count,
        "HasBackupChecksums": facts.has_checksums,
        "IsCopyOnly": facts.is_copy_only,
        "IsSnapshot": facts.method is Method.SNAPSHOT,
        "BeginsLogChain": facts.begins_log_chain,
        "Compressed": facts.compressed,
        "BackupSize": facts.size_bytes,
        "SoftwareVersionMajor": major,
        "SoftwareVersionMinor": minor,
        "SoftwareVersionBuild": build,
        "Files": [_file(file) for file in facts.database_files],
    }


def _file(file: DatabaseFile) -> dict[str, Any]:
    return {
        "LogicalName": file.logical_name,
        "PhysicalName": file.physical_path,
        "Type": _FILE_TYPES.get(file.kind),
        "Size": file.size_bytes,
        "FileId": file.file_id,
    }
