"""How long what is stored now goes on being charged: integer byte-seconds between moments that lie ahead.

It is the meter's sum (billing.metering) for many stretches at once, out of the open spans alone, read once: a year of
a fleet would read them all for every month. A test holds both together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from django.db import connection

from billing.metering import OF_INSTANCES
from billing.pace import second_of

# Bytes are split as in the meter, so that no product leaves a bigint. A copy without a date is held: charged on and on.
OPEN = """
WITH charged AS (
    SELECT copy.policy_id, copy.destination_store_id, span.bytes, copy.expires_at IS NULL AS held,
           least(%(end)s, greatest(copy.expires_at, copy.brought_forward_at)) AS ends_at
      FROM backups_storagespan span
      JOIN backups_copy copy ON copy.id = span.copy_id
     WHERE span.ended_at IS NULL {only}
), groups AS (
    SELECT policy_id, destination_store_id, stretch, count(*) FILTER (WHERE held) AS held, sum(bytes) AS bytes,
           sum((bytes >> 32) * lasts) AS high, sum((bytes & 4294967295) * lasts) AS low
      FROM charged
      CROSS JOIN LATERAL (SELECT width_bucket(ends_at, %(edges)s::timestamptz[]) AS stretch,
                                 floor(date_part('epoch', ends_at))::bigint - %(second)s AS lasts) ahead
     WHERE ends_at > %(begin)s
     GROUP BY 1, 2, 3
)
SELECT policy.instance_id, policy.source_region_id, store.region_id, groups.stretch,
       sum(groups.held), sum(groups.bytes), sum(groups.high * 4294967296 + groups.low)
  FROM groups
  JOIN backups_copypolicy policy ON policy.id = groups.policy_id
  JOIN regions_store store ON store.id = groups.destination_store_id
 GROUP BY 1, 2, 3, 4
 ORDER BY 1, 2, 3, 4
"""


@dataclass(frozen=True)
class Ahead:
    """Copies of one instance and route whose charge ends in one stretch. `byte_seconds` until then, from the start."""

    instance_id: int
    source: str
    destination: str
    stretch: int  # which of the stretches between the edges; one past the last: they outlast them all
    held: int
    bytes: int
    byte_seconds: int

    def between(self, edges: Sequence[datetime]) -> Iterator[int]:
        """Yield the byte-seconds of each stretch between the edges."""
        seconds = [second_of(edge) for edge in edges]
        for number, (begin, end) in enumerate(pairwise(seconds)):
            if number < self.stretch:
                yield self.bytes * (end - begin)
            elif number == self.stretch:
                yield self.byte_seconds - self.bytes * (begin - seconds[0])
            else:
                yield 0


def stored_ahead(edges: Sequence[datetime], instances: list[int] | None) -> list[Ahead]:
    """Return what is stored now and still charged after the first of the edges, of all instances or of these ids."""
    begin, end = edges[0], edges[-1]
    asked = {"begin": begin, "end": end, "edges": list(edges), "second": second_of(begin), "instances": instances}
    with connection.cursor() as cursor:
        cursor.execute(OPEN.format(only="" if instances is None else OF_INSTANCES), asked)
        rows = cursor.fetchall()
    return [
        Ahead(pk, source, to, stretch - 1, int(held), int(size), int(quantity))
        for pk, source, to, stretch, held, size, quantity in rows
    ]
