"""What crossed between regions: each byte of a completed copy once, in the month of its completion (R-4.2, I11).

A copy's metering begins in the moment it completes, and that span is the fact that is charged. So appended sets, whose
bytes the first of them carries, are charged once; cancelled and failed copies never; a copy that a rebuilt catalogue
found is metered from then on and its way is not charged again. A damaged copy that is carried again keeps the moment of
its first arrival, and its new span begins later; that, and what replaces a damaged copy that has gone, is sent again
after a fault: shown, not charged. Copies within a region (level 2) have no traffic (R-18.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from billing.metering import ALL, OF_INSTANCES, first_copy

REPLACES_A_DAMAGED_ONE = """EXISTS (
    SELECT FROM backups_copy former WHERE former.verification = 'damaged' AND former.set_id = copy.set_id
       AND former.destination_store_id = copy.destination_store_id AND former.completed_at < copy.completed_at)
"""
# Joined by the copy alone, and nothing is asked of the pair but in the columns: the planner would expect one row of two
# equalities, and go through every copy for each policy.
ARRIVED = f"""
WITH arrived AS MATERIALIZED (
    SELECT span.began_at, span.bytes, copy.policy_id, copy.destination_store_id,
           coalesce(copy.completed_at = span.began_at, false) AS is_arrival, {REPLACES_A_DAMAGED_ONE} AS is_again
      FROM backups_storagespan span
      JOIN backups_copy copy ON copy.id = span.copy_id
     WHERE span.began_at >= %(begin)s AND span.began_at < %(end)s {{only}}
)
"""
ROUTE = """
  JOIN backups_copypolicy policy ON policy.id = arrived.policy_id AND policy.kind = 'cross_region'
  JOIN regions_store store ON store.id = arrived.destination_store_id
"""
SUM = f"""{ARRIVED}
SELECT policy.instance_id, policy.source_region_id, store.region_id, sum(arrived.bytes), sum(arrived.again)
  FROM (SELECT policy_id, destination_store_id, coalesce(sum(bytes) FILTER (WHERE NOT is_again), 0) AS bytes,
               coalesce(sum(bytes) FILTER (WHERE is_again), 0) AS again
          FROM arrived WHERE is_arrival GROUP BY 1, 2) arrived {ROUTE}
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3
"""
BY_HOUR = f"""{ARRIVED}
SELECT arrived.hour, policy.source_region_id, store.region_id, sum(arrived.bytes)
  FROM (SELECT date_trunc('hour', began_at, 'UTC') AS hour, * FROM arrived
         WHERE is_arrival AND NOT is_again AND bytes > 0) arrived {ROUTE}
 GROUP BY 1, 2, 3
"""
EACH = f"""{ARRIVED}
SELECT arrived.began_at, policy.instance_id, policy.source_region_id, store.region_id, arrived.bytes
  FROM (SELECT * FROM arrived WHERE is_arrival AND NOT is_again AND bytes > 0) arrived {ROUTE}
"""
IN_MONTH = "began_at >= %(begin)s AND began_at < %(end)s"
# The copy's own moment spares looking for the spans of all that came before the month.
ONLY = f"AND copy.completed_at >= %(begin)s AND copy.completed_at < %(end)s {OF_INSTANCES}"
# What of an attempt counts: nothing where it was given up, or took a damaged object's place.
COUNTS = "CASE WHEN sent.verified_at IS NULL OR sent.replaces_id IS NOT NULL THEN 0 ELSE sent.size END"
RESENT = f"""
SELECT file.instance_id, instance.region_id, store.region_id, sum(sent.bytes_sent + sent.bytes_resent - {COUNTS})
  FROM backups_transfer sent
  JOIN backups_backupfile file ON file.id = sent.file_id
  JOIN backups_instance instance ON instance.id = file.instance_id
  JOIN regions_store store ON store.id = sent.store_id
 WHERE coalesce(sent.verified_at, sent.ended_at) >= %(begin)s
   AND coalesce(sent.verified_at, sent.ended_at) < %(end)s
   AND sent.bytes_sent + sent.bytes_resent > {COUNTS}
   AND instance.region_id <> store.region_id {{only}}
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3
"""
ONLY_FILES = "AND file.instance_id = ANY(%(instances)s::bigint[])"


@dataclass(frozen=True)
class Sent:
    """Bytes of one instance over one route; `again`: what replaced damaged copies, which is not charged."""

    instance_id: int
    source: str
    destination: str
    bytes: int
    again: int = 0


def sent_between(begin: datetime, end: datetime, instances: list[int] | None = None) -> list[Sent]:
    """Return the bytes of completed copies, by instance and route, of all instances or of these ids."""
    return [_sent(*row) for row in _rows(SUM, begin, end, instances)]


def by_hour(begin: datetime, end: datetime) -> list[tuple[datetime, str, str, int]]:
    """Return (hour of the clock, source, destination, bytes) of what is charged, of all instances together."""
    return [(hour, source, to, int(total)) for hour, source, to, total in _rows(BY_HOUR, begin, end)]


def each_between(begin: datetime, end: datetime) -> list[tuple[datetime, Sent]]:
    """Return what is charged copy by copy, in no order; not empty ones."""
    return [(at, Sent(*where, size)) for at, *where, size in _rows(EACH, begin, end)]


def _rows(query: str, begin: datetime, end: datetime, instances: list[int] | None = None) -> list[tuple[Any, ...]]:
    values = {"begin": begin, "end": end, "instances": instances}
    with connection.cursor() as cursor:
        if instances is None:
            values["first"] = first_copy(cursor, IN_MONTH, begin, end)
        cursor.execute(query.format(only=ALL if instances is None else ONLY), values)
        return cursor.fetchall()


def resent_between(begin: datetime, end: datetime, instances: list[int] | None = None) -> list[Sent]:
    """Return what attempts sent beyond the bytes that count: after faults, or until they were given up."""
    with connection.cursor() as cursor:
        query = RESENT.format(only="" if instances is None else ONLY_FILES)
        cursor.execute(query, {"begin": begin, "end": end, "instances": instances})
        return [_sent(*row) for row in cursor.fetchall()]


def _sent(instance_id: int, source: str, destination: str, *sums: Decimal) -> Sent:
    return Sent(instance_id, source, destination, *map(int, sums))
