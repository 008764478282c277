"""What the programming interface need not remember any longer is forgotten, a batch at a time."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Model, Q

from console.openapi.models import CallCount, ClientToken, UsedNonce
from regions import clock

NONCES_KEPT = timedelta(minutes=30)  # a call is refused 15 minutes after its time stamp, whatever its nonce
MINUTES_KEPT = timedelta(hours=1)
HOURS_KEPT = timedelta(days=90)
TOKENS_KEPT = timedelta(days=7)
BATCH = 20_000


def forget_old() -> int:
    """Return how many rows were forgotten. Safe to repeat, and to run beside itself."""
    at = clock.now()
    return (
        _forget(UsedNonce, Q(used_at__lt=at - NONCES_KEPT))
        + _forget(CallCount, Q(what="", began_at__lt=at - MINUTES_KEPT) | Q(began_at__lt=at - HOURS_KEPT))
        + _forget(ClientToken, Q(made_at__lt=at - TOKENS_KEPT))
    )


def _forget(model: type[Model], old: Q) -> int:
    gone = 0
    while True:
        batch = model.objects.filter(old).values("pk")[:BATCH]
        count, _ = model.objects.filter(pk__in=batch).delete()
        gone += count
        if count < BATCH:
            return gone
