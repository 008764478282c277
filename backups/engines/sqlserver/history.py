"""Discovery through msdb: what the server itself remembers of its backups, whoever took them (`sqlserver.md` §3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from backups.engines.facts import Connection, Device, HistoryPage, HistorySet, Kind, Method, SetFacts
from backups.engines.sqlserver.connecting import Session, session
from regions.refusals import Refusal

PAGE = 1000
KINDS = {"D": Kind.FULL, "I": Kind.DIFFERENTIAL, "L": Kind.LOG}
UNKNOWN_ZONE = 127
NO_GUID = "00000000-0000-0000-0000-000000000000"

# Files and partial backups (F, G, P, Q) are no sets that a database is restored from alone; they are counted, not read.
HISTORY = """
SELECT TOP (%d) WITH TIES
       s.backup_set_id, s.backup_set_uuid, s.type, s.database_name, s.server_name, s.user_name, s.name,
       s.position, s.first_lsn, s.last_lsn, s.checkpoint_lsn, s.database_backup_lsn, s.differential_base_guid,
       s.family_guid, s.last_recovery_fork_guid, s.is_copy_only, s.is_snapshot, s.is_damaged, s.begins_log_chain,
       s.has_backup_checksums, s.backup_size, s.compressed_backup_size, s.backup_start_date, s.backup_finish_date,
       s.time_zone, s.software_major_version, s.software_minor_version, s.software_build_version,
       s.encryptor_thumbprint,
       m.media_uuid, m.is_compressed, f.family_sequence_number, f.physical_device_name, f.device_type
FROM msdb.dbo.backupset AS s
JOIN msdb.dbo.backupmediaset AS m ON m.media_set_id = s.media_set_id
JOIN msdb.dbo.backupmediafamily AS f ON f.media_set_id = s.media_set_id AND f.mirror = 0
WHERE s.backup_set_id > %%s%s
ORDER BY s.backup_set_id
"""
FIRST_SINCE = """
SELECT TOP (1) backup_set_id FROM msdb.dbo.backupset WHERE backup_finish_date >= %s ORDER BY backup_set_id
"""
NEWEST = "SELECT TOP (1) backup_set_id FROM msdb.dbo.backupset ORDER BY backup_set_id DESC"


def read_history(
    connection: Connection, after: int = 0, most: int = PAGE, since: datetime | None = None
) -> HistoryPage:
    """Return what msdb has beyond the cursor `after`, at most about `most` sets; a set is never cut between stripes.

    `since`: where there is no cursor yet, or it begins anew, sets that finished before are passed over.
    """
    with session(connection) as opened:
        page = page_of(opened, after or _beginning(opened, since), most)
        if after and not page.sets and not page.left_out and _newest(opened) < after:
            return replace(page_of(opened, _beginning(opened, since), most), began_anew=True)
        return page


def _beginning(opened: Session, since: datetime | None) -> int:
    """Return the cursor in front of the first set that finished since then; its times are local, so a day is added."""
    if since is None:
        return 0
    rows = opened.ask(FIRST_SINCE, (since.astimezone(UTC) - timedelta(days=1)).replace(tzinfo=None))
    return rows[0]["backup_set_id"] - 1 if rows else _newest(opened)


def whole_history(connection: Connection, after: int = 0) -> Iterator[HistorySet]:
    """Yield the sets beyond the cursor, page after page over one session; memory stays bounded."""
    with session(connection) as opened:
        while True:
            page = page_of(opened, after)
            yield from page.sets
            if page.is_last:
                return
            after = page.cursor


def union(histories: Iterable[Iterable[HistorySet]]) -> list[HistorySet]:
    """Put together what the replicas of an availability group remember, each set once, in the order of their ends."""
    known: dict[str, HistorySet] = {}
    for history in histories:
        for one in history:
            known.setdefault(one.facts.set_guid, one)
    return sorted(known.values(), key=lambda one: (one.facts.finished_at, one.facts.last_position or 0))


def set_named(opened: Session, name: str, database: str) -> HistorySet | None:
    """Return the newest set that was given this name when it was taken; None when msdb has none."""
    rows = opened.ask(HISTORY % (PAGE, " AND s.name = %s AND s.database_name = %s"), 0, name, database)
    newest = [row for row in rows if row["backup_set_id"] == rows[-1]["backup_set_id"]]
    return _set_from(newest) if newest else None


def ended(opened: Session, name: str, database: str) -> HistorySet:
    """Return the set that was taken just now under this name; raises Refusal where msdb does not name it."""
    found = set_named(opened, name, database)
    if not found:
        raise Refusal(
            "NotInHistory",
            "The server took the backup and its msdb does not name it.",
            "See that nobody cleans msdb at once.",
        )
    return found


def _newest(opened: Session) -> int:
    rows = opened.ask(NEWEST)
    return rows[0]["backup_set_id"] if rows else 0


def page_of(opened: Session, after: int, most: int = PAGE) -> HistoryPage:
    rows = opened.ask(HISTORY % (most, ""), after)
    found, left_out, cursor = [], [], after
    for number, stripes in groupby(rows, key=itemgetter("backup_set_id")):
        cursor = number
        try:
            found.append(_set_from(list(stripes)))
        except Refusal as refusal:
            left_out.append(str(refusal))
    return HistoryPage(tuple(found), cursor, tuple(left_out), len(rows) < most)


def _set_from(rows: list[dict[str, Any]]) -> HistorySet:
    """Raises Refusal for a row of a kind, or in a time, that is not known here."""
    row = rows[0]
    devices = tuple(
        Device(one["family_sequence_number"], one["physical_device_name"] or "", one["device_type"] or 0)
        for one in sorted(rows, key=itemgetter("family_sequence_number"))
    )
    return HistorySet(
        number=row["backup_set_id"],
        facts=_facts(row, len(devices)),
        devices=devices,
        user=row["user_name"] or "",
        name=row["name"] or "",
        is_damaged=bool(row["is_damaged"]),
        encryptor_thumbprint=(row["encryptor_thumbprint"] or b"").hex(),
        stored_bytes=int(row["compressed_backup_size"] or row["backup_size"] or 0),
    )


def _facts(row: Mapping[str, Any], families: int) -> SetFacts:
    kind = KINDS.get(row["type"])
    called = f"Backup set {row['backup_set_id']} of {row['database_name']}"
    if kind is None:
        raise Refusal("UnknownKind", f"{called} is of type {row['type']} (files or a part), which is not known here.")
    started_at = utc(row["backup_start_date"], row["time_zone"])
    finished_at = utc(row["backup_finish_date"], row["time_zone"])
    if started_at is None or finished_at is None:
        raise Refusal("UnknownTimeZone", f"{called} does not say in which time zone its times are.")
    facts = SetFacts(
        database=row["database_name"],
        kind=kind,
        method=Method.SNAPSHOT if row["is_snapshot"] else Method.PHYSICAL,
        started_at=started_at,
        finished_at=finished_at,
        first_position=_lsn(row["first_lsn"]),
        last_position=_lsn(row["last_lsn"]),
        checkpoint_position=_lsn(row["checkpoint_lsn"]) or None,
        base_position=_lsn(row["database_backup_lsn"]) or None,
        fork=_guid(row["last_recovery_fork_guid"]),
        set_guid=_guid(row["backup_set_uuid"]),
        family_guid=_guid(row["family_guid"]),
        base_guid=_guid(row["differential_base_guid"]),
        media_set_guid=_guid(row["media_uuid"]),
        family_count=families,
        position=row["position"],
        is_copy_only=bool(row["is_copy_only"]),
        has_checksums=bool(row["has_backup_checksums"]),
        compressed=bool(row["is_compressed"]),
        begins_log_chain=bool(row["begins_log_chain"]),
        encrypted=bool(row["encryptor_thumbprint"]),
        server=row["server_name"] or "",
        software_version=_version(row),
        size_bytes=int(row["backup_size"] or 0),
    )
    return replace(facts, base_guid="") if kind is not Kind.DIFFERENTIAL else facts


def utc(local: datetime | None, quarters: int | None) -> datetime | None:
    """Turn a local time of msdb into UTC; None where its zone is not known: nothing is guessed."""
    if local is None or quarters is None or quarters == UNKNOWN_ZONE:
        return None
    return (local - timedelta(minutes=15 * quarters)).replace(tzinfo=UTC, microsecond=0)


def _lsn(value: Any) -> int | None:
    return None if value is None else int(value)


def _guid(value: Any) -> str:
    said = str(value or "").lower()
    return "" if said == NO_GUID else said


def _version(row: Mapping[str, Any]) -> str:
    return ".".join(str(row[f"software_{part}_version"] or 0) for part in ("major", "minor", "build"))
