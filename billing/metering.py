"""How much was stored, for how long: integer byte-seconds out of the spans (R-4.1, I11).

A moment counts by its whole second (floored), so that neighbouring stretches, and a month and the next, add up to the
last digit. The same sum exists twice: in Python for a handful of spans, in SQL for a fleet's month; a test holds them
together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import QuerySet

from backups.keeping import retention
from backups.models import Instance

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE_SECOND = timedelta(seconds=1)


class Span(Protocol):
    """What the meter asks of a span; `backups.models.StorageSpan` fits."""

    bytes: int
    began_at: datetime
    ended_at: datetime | None

    @property
    def copy(self) -> Expiring: ...


class Expiring(Protocol):
    expires_at: datetime | None
    brought_forward_at: datetime | None


@dataclass(frozen=True)
class Stored:
    """The storage line of one instance and route: whole byte-seconds."""

    instance_id: int
    source: str
    destination: str
    byte_seconds: int


def month_of(moment: datetime) -> tuple[datetime, datetime]:
    """Return the first moment of the UTC month and that of the next."""
    begin = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return begin, (begin + timedelta(days=32)).replace(day=1)


def byte_seconds(spans: Iterable[Span], begin: datetime, end: datetime, *, at: datetime) -> int:
    """Return what the spans hold between `begin` and `end`, as known `at` that moment."""
    return sum(span.bytes * _charged_seconds(span, begin, min(end, at)) for span in spans)


def _charged_seconds(span: Span, begin: datetime, end: datetime) -> int:
    span_end = span.ended_at or _open_until(span.copy) or end  # a held copy has no date: it is charged on and on
    return seconds_between(max(span.began_at, begin), min(span_end, end))


def seconds_between(begin: datetime, end: datetime) -> int:
    """Return the seconds that are charged from one moment to the other; none where it is earlier."""
    return max(0, _whole_seconds(end) - _whole_seconds(begin))


def _open_until(copy: Expiring) -> datetime | None:
    """A date that was moved into the past ends the charge in the moment it was moved, swept or not (R-14.3)."""
    return retention.charged_until(copy) if copy.expires_at else None


def _whole_seconds(moment: datetime) -> int:
    return (moment - EPOCH) // ONE_SECOND


# Bytes are split so that no product leaves a bigint, and sum() widens: numeric arithmetic takes several times as long.
SUM = """
WITH held AS (
    SELECT copy.policy_id, copy.destination_store_id,
           sum((span.bytes >> 32) * lasts.seconds) AS high, sum((span.bytes & 4294967295) * lasts.seconds) AS low
      FROM backups_storagespan span
      JOIN backups_copy copy ON copy.id = span.copy_id
      CROSS JOIN LATERAL (SELECT greatest(span.began_at, %(begin)s) AS began_at, least(%(end)s, CASE
            WHEN span.ended_at IS NOT NULL THEN span.ended_at
            WHEN copy.expires_at IS NOT NULL THEN greatest(copy.expires_at, copy.brought_forward_at) END) AS ended_at
      ) charged
      CROSS JOIN LATERAL (SELECT floor(date_part('epoch', charged.ended_at))::bigint
                               - floor(date_part('epoch', charged.began_at))::bigint AS seconds) lasts
     WHERE span.began_at < %(end)s AND (span.ended_at IS NULL OR span.ended_at > %(begin)s)
       AND charged.ended_at > charged.began_at {only}
     GROUP BY 1, 2
)
SELECT policy.instance_id, policy.source_region_id, store.region_id, sum(held.high * 4294967296 + held.low)
  FROM held
  JOIN backups_copypolicy policy ON policy.id = held.policy_id
  JOIN regions_store store ON store.id = held.destination_store_id
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3
"""
# Nobody is charged for a copy that was deleted before: the audit holds spans to that. It spares most of an old
# instance's copies the look for their spans.
OF_INSTANCES = """
       AND copy.policy_id IN (SELECT id FROM backups_copypolicy WHERE instance_id = ANY(%(instances)s::bigint[]))
       AND (copy.deleted_at IS NULL OR copy.deleted_at > %(begin)s)"""

# Copies are numbered, and lie, in the order in which they were planned: what the first of the spans belongs to bounds
# what is read of them. It is asked for by itself, so that the planner knows how much that is; + 0, so that it looks
# through these spans only.
FIRST = "SELECT min(copy_id + 0) FROM backups_storagespan WHERE "
IN_MONTH = "began_at < %(end)s AND (ended_at IS NULL OR ended_at > %(begin)s)"
ALL = "AND copy.id >= %(first)s"


def stored_between(
    begin: datetime, end: datetime, *, at: datetime, instances: QuerySet[Instance] | None = None
) -> list[Stored]:
    """Return what each instance and route stored between `begin` and `end`, of all instances or of those given."""
    wanted = None if instances is None else list(instances.order_by().values_list("pk", flat=True))
    return stored_of(begin, min(end, at), wanted)


def stored_of(begin: datetime, end: datetime, instances: list[int] | None) -> list[Stored]:
    """Return what each instance and route stored between `begin` and `end`, of all instances or of these ids."""
    values = {"begin": begin, "end": end, "instances": instances}
    with connection.cursor() as cursor:
        if instances is None:
            values["first"] = first_copy(cursor, IN_MONTH, begin, end)
        cursor.execute(SUM.format(only=ALL if instances is None else OF_INSTANCES), values)
        return [Stored(instance, source, to, int(total)) for instance, source, to, total in cursor.fetchall()]


def first_copy(cursor: CursorWrapper, which: str, begin: datetime, end: datetime) -> int:
    """Return the least number among the copies of spans; 0 without any."""
    cursor.execute(FIRST + which, {"begin": begin, "end": end})
    return cursor.fetchone()[0] or 0
