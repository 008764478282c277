"""A stream is claimed with a fence and a lease: held work, for one process at a time (I15)."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet

from backups.leases import next_lease, who
from backups.models import LogStream
from regions import clock

State = LogStream.State


def claim(region_id: str) -> LogStream | None:
    """Take the next stream of a region, to receive or to end, under a new fence and a lease."""
    with transaction.atomic():
        at = clock.now()
        rows = _due(region_id, at).select_for_update(skip_locked=True, of=("self",)).select_related("instance__region")
        stream = rows.order_by("due_at", "pk").first()
        if stream is None:
            return None
        stream.fence, stream.leased_until, stream.leased_by = stream.fence + 1, next_lease(at), who()
        if stream.state != State.ENDING:
            stream.state, stream.notes = State.RECEIVING, []
        stream.save(update_fields=["fence", "leased_until", "leased_by", "state", "notes"])
        return stream


def _due(region_id: str, at: datetime) -> QuerySet[LogStream]:
    free = Q(leased_until=None) | Q(leased_until__lt=at)
    return LogStream.objects.filter(free, due_at__lte=at, instance__region=region_id).exclude(state=State.ENDED)


def is_due(region_id: str, for_seconds: float = 0) -> bool:
    """Whether a stream of the region is due and nobody's, and has been for so long."""
    return _due(region_id, clock.now() - timedelta(seconds=for_seconds)).exists()


def mine(stream: LogStream) -> QuerySet[LogStream]:
    """Return the row while the claim holds; whoever changes it counts, and goes home when there is none (I15)."""
    return LogStream.objects.filter(pk=stream.pk, fence=stream.fence, state=stream.state)


def renew(streams: list[LogStream]) -> list[LogStream]:
    """Renew the leases of these claims; returns those that are still held."""
    held = [stream for stream in streams if mine(stream).exists()]
    lease = next_lease(clock.now())
    return [stream for stream in held if mine(stream).update(leased_until=lease)]


def give_back(stream: LogStream) -> None:
    """The child ends, and with it what it did: anybody may go on at once."""
    mine(stream).filter(state=State.RECEIVING).update(state=State.WANTED, leased_until=None)


def let_go(child: str) -> int:
    """Free what a child held that is dead for certain: nobody has to wait for its leases to run out."""
    held = LogStream.objects.filter(leased_by=child, leased_until__isnull=False).exclude(state=State.ENDED)
    return held.update(leased_until=None, fence=F("fence") + 1)
