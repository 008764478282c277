"""What crossed between regions: each byte of a completed copy once, in the month of its completion (R-4.2, I11).

A copy's metering begins in the moment it completes, and that span is the fact that is charged. So appended sets, whose
bytes the first of them carries, are charged once; cancelled and failed copies never; a copy that a rebuilt catalogue
found is metered from then on and its way is not charged again. A damaged copy that is carried again keeps the moment of
its first arrival, and its new span begins later; that, and what replaces a damaged copy that has gone, is sent again
after a fault: shown, not charged. Copies within a region (level 2) have no traffic (R-18.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

COMPLETED = """
  FROM backups_storagespan span
  JOIN backups_copy copy ON copy.id = span.copy_id AND copy.completed_at = span.began_at
  JOIN backups_copypolicy policy ON policy.id = copy.policy_id AND policy.kind = 'cross_region'
  JOIN regions_store store ON store.id = copy.destination_store_id
 WHERE span.began_at >= %(begin)s AND span.began_at < %(end)s
   AND (%(instances)s::bigint[] IS NULL OR policy.instance_id = ANY(%(instances)s::bigint[]))
"""
REPLACES_A_DAMAGED_ONE = """EXISTS (
    SELECT FROM backups_copy former WHERE former.verification = 'damaged' AND former.set_id = copy.set_id
       AND former.destination_store_id = copy.destination_store_id AND former.completed_at < copy.completed_at)
"""
# Joined by the copy alone and added up before the policies come in: asked for both equalities in the join, the planner
# expects one row and goes through every copy for each policy.
SUM = f"""
WITH arrived AS MATERIALIZED (
    SELECT copy.policy_id, copy.destination_store_id,
           sum(span.bytes) FILTER (WHERE copy.completed_at = span.began_at AND NOT {REPLACES_A_DAMAGED_ONE}) AS bytes
      FROM backups_storagespan span
      JOIN backups_copy copy ON copy.id = span.copy_id
     WHERE span.began_at >= %(begin)s AND span.began_at < %(end)s {{only}}
     GROUP BY 1, 2
)
SELECT policy.instance_id, policy.source_region_id, store.region_id, sum(arrived.bytes)
  FROM arrived
  JOIN backups_copypolicy policy ON policy.id = arrived.policy_id AND policy.kind = 'cross_region'
  JOIN regions_store store ON store.id = arrived.destination_store_id
 WHERE arrived.bytes IS NOT NULL
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3
"""
ONLY = "AND copy.policy_id IN (SELECT id FROM backups_copypolicy WHERE instance_id = ANY(%(instances)s::bigint[]))"
EACH = f"""
SELECT span.began_at, policy.instance_id, policy.source_region_id, store.region_id, span.bytes {COMPLETED}
   AND span.bytes > 0 AND NOT {REPLACES_A_DAMAGED_ONE}
 ORDER BY 1, 2, 3, 4, 5
"""
# What an attempt sent beyond the bytes that count: all of it where it was given up, or took a damaged object's place.
RESENT = f"""
SELECT instance_id, source, destination, sum(bytes) FROM (
    SELECT file.instance_id, instance.region_id AS source, store.region_id AS destination,
           sent.bytes_sent + sent.bytes_resent - CASE WHEN sent.verified_at IS NULL THEN 0 ELSE sent.size END AS bytes
      FROM backups_transfer sent
      JOIN backups_backupfile file ON file.id = sent.file_id
      JOIN backups_instance instance ON instance.id = file.instance_id
      JOIN regions_store store ON store.id = sent.store_id
     WHERE coalesce(sent.verified_at, sent.ended_at) >= %(begin)s
       AND coalesce(sent.verified_at, sent.ended_at) < %(end)s
       AND sent.bytes_sent + sent.bytes_resent > CASE WHEN sent.verified_at IS NULL THEN 0 ELSE sent.size END
       AND instance.region_id <> store.region_id
       AND (%(instances)s::bigint[] IS NULL OR file.instance_id = ANY(%(instances)s::bigint[]))
    UNION ALL
    SELECT file.instance_id, instance.region_id, store.region_id, sent.size
      FROM backups_transfer sent
      JOIN backups_backupfile file ON file.id = sent.file_id
      JOIN backups_instance instance ON instance.id = file.instance_id
      JOIN regions_store store ON store.id = sent.store_id
     WHERE sent.replaces_id IS NOT NULL AND sent.verified_at >= %(begin)s AND sent.verified_at < %(end)s
       AND instance.region_id <> store.region_id
       AND (%(instances)s::bigint[] IS NULL OR file.instance_id = ANY(%(instances)s::bigint[]))
    UNION ALL
    SELECT policy.instance_id, policy.source_region_id, store.region_id, span.bytes {COMPLETED}
       AND {REPLACES_A_DAMAGED_ONE}
) once_more
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Sent:
    """Bytes of one instance over one route."""

    instance_id: int
    source: str
    destination: str
    bytes: int


def sent_between(begin: datetime, end: datetime, instances: list[int] | None = None) -> list[Sent]:
    """Return the bytes that are charged, by instance and route, of all instances or of these ids."""
    return _sums(SUM.format(only="" if instances is None else ONLY), begin, end, instances)


def resent_between(begin: datetime, end: datetime, instances: list[int] | None = None) -> list[Sent]:
    """Return what was sent again after faults, or for attempts that were given up: shown, never charged."""
    return _sums(RESENT, begin, end, instances)


def _sums(query: str, begin: datetime, end: datetime, instances: list[int] | None) -> list[Sent]:
    with connection.cursor() as cursor:
        cursor.execute(query, {"begin": begin, "end": end, "instances": instances})
        return [Sent(instance, source, to, int(total)) for instance, source, to, total in cursor.fetchall()]


def each_between(begin: datetime, end: datetime) -> Iterator[tuple[datetime, Sent]]:
    """Yield what is charged copy by copy, in an order that does not depend on how it was recorded."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(EACH, {"begin": begin, "end": end, "instances": None})
        while rows := cursor.fetchmany(2000):
            yield from ((at, Sent(instance, source, to, size)) for at, instance, source, to, size in rows)
