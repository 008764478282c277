"""What stands behind a line and adds up to it, to the last digit: copies, or downloads (R-4.1, R-4.2, R-4.3).

A line of storage or traffic is a sum in SQL of its own (metering, traffic); here the same facts stand copy by copy, and
a test holds the two together. Downloads are those that the statement itself adds up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import connection

from billing import statements
from billing.models import ItemCode
from billing.statements import ZERO, Fetched, Line

PARTS = 30

CHARGED_UNTIL = """LEAST(%(until)s, CASE
    WHEN span.ended_at IS NOT NULL THEN span.ended_at
    WHEN copy.expires_at IS NOT NULL THEN GREATEST(copy.expires_at, copy.brought_forward_at) END)"""
# Whole seconds of both ends, as the meter counts them.
STORED = f"""
SELECT copy.id AS copy_id, copy.set_id, max(span.bytes) AS bytes,
       sum(span.bytes::numeric
           * (floor(extract(epoch FROM lasts.ended_at)) - floor(extract(epoch FROM lasts.began_at)))) AS quantity,
       min(lasts.began_at) AS began_at, max(lasts.ended_at) AS ended_at
  FROM of_instance copy
  JOIN backups_storagespan span ON span.copy_id = copy.id
  CROSS JOIN LATERAL (SELECT GREATEST(span.began_at, %(begin)s) AS began_at, {CHARGED_UNTIL} AS ended_at) lasts
 WHERE lasts.ended_at > lasts.began_at
 GROUP BY 1, 2
"""
# A copy that replaces a damaged one of its set was sent again after a fault, which is not charged.
SENT = """
SELECT copy.id AS copy_id, copy.set_id, span.bytes, span.bytes::numeric AS quantity,
       span.began_at, copy.completed_at AS ended_at
  FROM of_instance copy
  JOIN backups_storagespan span ON span.copy_id = copy.id AND span.began_at = copy.completed_at
 WHERE copy.completed_at >= %(begin)s AND copy.completed_at < %(until)s AND copy.kind = 'cross_region'
   AND NOT EXISTS (SELECT FROM backups_copy former
                    WHERE former.set_id = copy.set_id AND former.verification = 'damaged'
                      AND former.destination_store_id = copy.destination_store_id
                      AND former.completed_at < copy.completed_at)
"""
PAGE = """
WITH of_instance AS (
    SELECT copy.*, policy.kind
      FROM backups_copypolicy policy
      JOIN backups_copy copy ON copy.policy_id = policy.id
      JOIN regions_store store ON store.id = copy.destination_store_id
     WHERE policy.instance_id = %(instance)s AND policy.source_region_id = %(source)s
       AND store.region_id = %(destination)s
), behind AS ({facts})
SELECT *, count(*) OVER (), sum(quantity) OVER () FROM behind WHERE quantity > 0
 ORDER BY quantity DESC, copy_id LIMIT %(most)s OFFSET %(skip)s
"""
FACTS = {ItemCode.STORAGE: STORED, ItemCode.TRAFFIC: SENT}


@dataclass(frozen=True)
class Part:
    """One copy's part of a line: its bytes, and whole byte-seconds (storage) or the same bytes (traffic)."""

    copy_id: int
    set_id: int
    bytes: int
    quantity: int
    began_at: datetime  # storage: charged from here in this month
    ended_at: datetime  # storage: until here; traffic: when it arrived


@dataclass(frozen=True)
class Behind:
    """One page of a line's copies, the largest part first; how many there are, and what they all come to."""

    parts: tuple[Part, ...]
    copies: int
    quantity: int


@dataclass(frozen=True)
class Downloads:
    """A line's downloads in time order, and what they all come to; `amount` None: one of them has no price."""

    fetched: tuple[Fetched, ...]

    @property
    def quantity(self) -> int:
        return sum(one.bytes for one in self.fetched)

    @property
    def amount(self) -> Decimal | None:
        amounts = [one.amount for one in self.fetched]
        return None if None in amounts else sum(amounts, ZERO)

    def are(self, line: Line) -> bool:
        """Return whether they are the line, in its bytes, what of them was not charged, and its amount."""
        free, offset = (sum(one.free_bytes for one in self.fetched), sum(one.offset_bytes for one in self.fetched))
        told = (line.quantity, line.free_bytes, line.offset_bytes, line.amount)
        return (self.quantity, free, offset, self.amount) == told


def can_be_drilled(line: Line) -> bool:
    """Return whether something stands behind the line; what was only sent again is a sum of attempts."""
    return line.quantity > 0


def downloads_behind(line: Line, begin: datetime, until: datetime) -> Downloads:
    """Return the downloads behind a line of them of the month from `begin`, charged before `until`."""
    found = statements.fetched_between(begin, until, line.instance_id)
    return Downloads(tuple(one for one in found if one.place.source == line.source))


def copies_behind(line: Line, begin: datetime, until: datetime, *, skip: int = 0, most: int = PARTS) -> Behind:
    """Return the copies behind a storage or traffic line of the month from `begin`, charged before `until`.

    A page beyond the last is the first.
    """
    asked = {
        "instance": line.instance_id,
        "source": line.source,
        "destination": line.destination,
        "begin": begin,
        "until": until,
        "most": most,
        "skip": skip,
    }
    with connection.cursor() as cursor:
        cursor.execute(PAGE.format(facts=FACTS[line.item]), asked)
        rows = cursor.fetchall()
    if not rows:
        return copies_behind(line, begin, until, most=most) if skip else Behind((), 0, 0)
    parts = tuple(
        Part(copy, found, size, int(quantity), began, ended) for copy, found, size, quantity, began, ended, *_ in rows
    )
    return Behind(parts, rows[0][-2], int(rows[0][-1]))
