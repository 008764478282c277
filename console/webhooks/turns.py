"""One sender at a time in the whole installation: a row with a fence and a lease that ends by itself.

An advisory lock is its connection's, and of a machine that vanished PostgreSQL keeps the connection for hours. Each
step here is a transaction of its own, so that no lock on the row outlives it either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db.models import Q

from backups import leases
from console.webhooks.models import Turn
from regions import clock

LEASE = timedelta(seconds=45)  # nobody renews it: a run is over long before


@contextmanager
def turn() -> Iterator[bool]:
    """Say whether it is this process's turn to send, until the block ends or the lease does."""
    fence = _take()
    try:
        yield fence is not None
    finally:
        if fence is not None:
            _give_back(fence)


def _take() -> int | None:
    at, fence = clock.now(), Turn.current().fence
    free = Turn.objects.filter(Q(leased_until=None) | Q(leased_until__lte=at), fence=fence)
    won = free.update(fence=fence + 1, leased_until=at + LEASE, leased_by=leases.who())
    return fence + 1 if won else None


def _give_back(fence: int) -> None:
    """End the lease, unless it is another's by now (I15)."""
    Turn.objects.filter(fence=fence).update(leased_until=None)
