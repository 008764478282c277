"""While a restore is queued or running, no copy it reads is deleted (I4); afterwards nothing is kept for its sake.

A pin names its restore in its reason. It is set for a day and renewed long before that is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from backups.models import Copy, Pin, Restore
from regions import clock

PINNED_FOR = timedelta(hours=24)
REASON = "restore "


def reason_of(restore: Restore) -> str:
    return f"{REASON}{restore.pk}"


def pin(restore: Restore, copies: Iterable[Copy], at: datetime) -> None:
    """Keep these copies; call it with their rows locked."""
    rows = [Pin(copy=copy, reason=reason_of(restore), pinned_at=at, until=at + PINNED_FOR) for copy in copies]
    Pin.objects.bulk_create(rows)


def renew(restore: Restore, at: datetime) -> None:
    old = Pin.objects.filter(reason=reason_of(restore), until__lt=at + PINNED_FOR / 2)
    old.update(until=at + PINNED_FOR)


def release(restore: Restore) -> None:
    Pin.objects.filter(reason=reason_of(restore)).delete()


def keep_pins() -> None:
    """Renew the pins of what waits for a worker, and let go of what nothing reads any more."""
    at = clock.now()
    for restore in Restore.objects.filter(state__in=Restore.ACTIVE):
        renew(restore, at)
    Pin.objects.filter(pk__in=[old.pk for old in outlived()]).delete()


def outlived() -> Iterator[Pin]:
    """Yield the pins whose restore is over. Pins are read first: a new one comes with its restore."""
    for found in list(Pin.objects.filter(reason__startswith=REASON)):
        asked = found.reason.removeprefix(REASON)
        if not (asked.isdigit() and Restore.objects.filter(pk=asked, state__in=Restore.ACTIVE).exists()):
            yield found
