"""Puts what the blocks of one set say together into its facts, and refuses when they contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backups.engines.facts import DatabaseFile, Kind, Method, SetFacts
from backups.engines.sqlserver.media import Family, SetStart
from backups.engines.sqlserver.saying_no import contradicting, damaged, marked_damaged, truncated
from backups.engines.sqlserver.scin import Record

_SAME_AT_BOTH_ENDS = ("version", "kind", "database", "server", "created", "started", "family_guid", "base_guid")
_CLOCK_SET_BACK = timedelta(hours=1)


@dataclass(frozen=True)
class SetParts:
    """Everything read of one set; `tail` is the authority, `head` only has to agree where it is already final."""

    family: Family
    start: SetStart
    head: Record
    tail: Record
    files: tuple[DatabaseFile, ...]
    position: int
    offset: int
    length: int
    compressed: bool


def facts_of(parts: SetParts) -> SetFacts:
    """Return the facts of a set whose parts agree; raises Refusal when they do not."""
    _check(parts)
    tail, start = parts.tail, parts.start
    started_at, finished_at = _times_of(parts)
    return SetFacts(
        database=tail.database,
        kind=tail.kind,
        method=Method.SNAPSHOT if tail.is_snapshot else Method.PHYSICAL,
        started_at=started_at,
        finished_at=finished_at,
        first_position=tail.first,
        last_position=tail.last,
        checkpoint_position=tail.checkpoint or None,
        base_position=tail.base or None,
        fork=tail.fork_guid,
        set_guid=start.set_guid,
        family_guid=tail.family_guid,
        base_guid=tail.base_guid,
        media_set_guid=parts.family.media_set_guid,
        family_sequence=parts.family.sequence,
        family_count=parts.family.count,
        position=parts.position,
        is_copy_only=start.is_copy_only or tail.says_copy_only,
        has_checksums=tail.has_checksums,
        compressed=parts.compressed,
        begins_log_chain=tail.kind is Kind.LOG and 0 < tail.first == tail.chain_start,
        server=tail.server,
        software_version=tail.version,
        size_bytes=tail.size_bytes,
        offset=parts.offset,
        length=parts.length,
        database_files=parts.files,
    )


def _check(parts: SetParts) -> None:
    head, tail, start = parts.head, parts.tail, parts.start
    for field in _SAME_AT_BOTH_ENDS:
        if getattr(head, field) != getattr(tail, field):
            raise contradicting(f"they differ in {field.replace('_', ' ')}")
    if tail.finished is None:
        raise truncated("its final record has no finish date")
    if tail.started is None or start.written != tail.started:
        raise contradicting("they differ in the start date")
    if not (tail.database and start.set_guid and tail.family_guid):
        raise damaged("the set has no name or no identity")
    if not 0 < tail.first <= tail.last:
        raise damaged("its positions are not in order")
    _check_kind(start, tail)
    if tail.is_damaged:
        raise marked_damaged(parts.position)


def _check_kind(start: SetStart, tail: Record) -> None:
    is_differential = tail.kind is Kind.DIFFERENTIAL
    if start.is_differential != is_differential or (is_differential and not tail.says_differential):
        raise contradicting("they differ in the kind of backup")
    if is_differential and not tail.base_guid:
        raise damaged("the differential does not name its full")


def _times_of(parts: SetParts) -> tuple[datetime, datetime]:
    """Return start and finish in UTC; a finish before the start, within the hour, spans the end of summer time."""
    zone = timedelta(minutes=15 * parts.start.zone)
    started, finished = parts.tail.started, parts.tail.finished
    if finished < started:
        finished += _CLOCK_SET_BACK
    if finished < started:
        raise damaged("it finished before it started")
    try:
        return (started - zone).replace(tzinfo=UTC), (finished - zone).replace(tzinfo=UTC)
    except OverflowError as wrong:
        raise damaged("a date does not exist") from wrong
