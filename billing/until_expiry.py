"""What stored copies still cost until they expire (R-15.5), of many instances in a few statements.

Another retention moves every date of an instance by as many days (see `keeping.shortening`). Sums are the meter's:
integer byte-seconds, priced as the price table has it while each price holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection

from billing.amounts import MILLIONTH, estimated, storage_cost
from billing.models import ItemCode
from billing.pace import second_of
from billing.plans import millionths
from billing.prices import Tariff, edges

EVER = timedelta(days=20 * 365)  # longer than anything is kept

# Bytes are split as in the meter, so that no product leaves a bigint. A copy without a date is held; a lock
# does not move with the retention.
CHARGED = """
WITH charged AS (
    SELECT policy.instance_id, policy.source_region_id, store.region_id, span.bytes,
           CASE WHEN copy.expires_at IS NOT NULL THEN greatest(
               copy.expires_at - coalesce(policy.retention_days - wanted.days, 0) * interval '86400 seconds',
               copy.lock_keeps_until) END AS ends_at
      FROM backups_storagespan span
      JOIN backups_copy copy ON copy.id = span.copy_id
      JOIN backups_copypolicy policy ON policy.id = copy.policy_id
      JOIN regions_store store ON store.id = copy.destination_store_id
      LEFT JOIN unnest(%(shortened)s::bigint[], %(days)s::int[]) AS wanted(instance_id, days)
             ON wanted.instance_id = policy.instance_id
     WHERE span.ended_at IS NULL AND policy.kind = 'cross_region' AND policy.instance_id = ANY(%(instances)s::bigint[])
)
SELECT instance_id, source_region_id, region_id, width_bucket(ends_at, %(edges)s::timestamptz[]) AS stretch,
       count(*) FILTER (WHERE ends_at IS NULL), max(ends_at), sum(bytes),
       sum((bytes >> 32) * lasts) * 4294967296 + sum((bytes & 4294967295) * lasts)
  FROM charged
  CROSS JOIN LATERAL (SELECT floor(date_part('epoch', ends_at))::bigint - %(second)s AS lasts) ahead
 WHERE ends_at IS NULL OR ends_at > %(at)s
 GROUP BY 1, 2, 3, 4
"""


@dataclass(frozen=True)
class Charged:
    """Copies of one instance and route whose charge ends in one stretch between prices; `stretch` None: held."""

    instance: int
    source: str
    destination: str
    stretch: int | None
    held: int
    until: datetime | None
    bytes: int
    byte_seconds: int

    def byte_seconds_in(self, begins: list[int]) -> Iterator[tuple[int, int]]:
        """Yield which stretch, and what it comes to in it, for each from the first on."""
        if self.stretch is None:
            return
        for number in range(self.stretch - 1):
            yield number, self.bytes * (begins[number + 1] - begins[number])
        last = self.stretch - 1
        yield last, self.byte_seconds - self.bytes * (begins[last] - begins[0])


@dataclass
class Left:
    """What is left to pay: `amount` None where a price is missing; `held` copies have no end that anybody knows."""

    worth: int | None = 0
    until: datetime | None = None
    held: int = 0

    @property
    def amount(self) -> Decimal | None:
        return None if self.worth is None else estimated(storage_cost(self.worth, MILLIONTH))


def of_all(
    instances: Collection[int], at: datetime, retention_days: Mapping[int, int] | None = None
) -> dict[int, Left]:
    """Return by instance what its copies cost until they expire: at their dates, or under other retentions."""
    begins = edges(at, at + EVER)[ItemCode.STORAGE]
    charged = _charged(instances, at, begins, retention_days or {})
    tariff = Tariff(ItemCode.STORAGE, {(one.source, one.destination) for one in charged})
    found: dict[int, Left] = defaultdict(Left)
    for one in charged:
        left = found[one.instance]
        left.held += one.held
        left.until = max(filter(None, [left.until, one.until]), default=None)
        worth = _worth(one, begins, tariff)
        left.worth = None if left.worth is None or worth is None else left.worth + worth
    return {pk: found[pk] for pk in instances}


def _charged(
    instances: Collection[int], at: datetime, begins: list[datetime], retention_days: Mapping[int, int]
) -> list[Charged]:
    asked = {"at": at, "edges": begins, "second": second_of(at), "instances": list(instances)}
    asked |= {"shortened": list(retention_days), "days": list(retention_days.values())}
    with connection.cursor() as cursor:
        cursor.execute(CHARGED, asked)
        rows = cursor.fetchall()
    return [Charged(*facts, int(size), int(quantity or 0)) for *facts, size, quantity in rows]


def _worth(charged: Charged, begins: list[datetime], tariff: Tariff) -> int | None:
    """Return what the byte-seconds are worth, in millionths of a dollar per gigabyte and hour; None: no price."""
    worth = 0
    for number, quantity in charged.byte_seconds_in([second_of(begin) for begin in begins]):
        price = tariff.at(charged.source, charged.destination, begins[number]) if quantity else None
        if quantity and price is None:
            return None
        worth += quantity * millionths(price.amount) if price else 0
    return worth
