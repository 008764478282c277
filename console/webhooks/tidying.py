"""The log of deliveries is kept for thirty days."""

from __future__ import annotations

from datetime import timedelta

from console.webhooks.models import Attempt, Delivery, FormerSecret
from regions import clock

KEPT = timedelta(days=30)
BATCH = 5_000


def forget_old() -> int:
    """Return how many deliveries were forgotten; what still waits never is. Safe to repeat."""
    at = clock.now()
    FormerSecret.objects.filter(until__lte=at).delete()
    old = Delivery.objects.filter(created_at__lt=at - KEPT).exclude(state=Delivery.State.WAITING)
    gone = 0
    while batch := list(old.values_list("pk", flat=True)[:BATCH]):
        Attempt.objects.filter(delivery__in=batch).delete()
        Delivery.objects.filter(pk__in=batch).delete()
        gone += len(batch)
    return gone
