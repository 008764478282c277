"""While a link lives, or an answer to one is on its way, no byte of the copy is deleted (I4).

A pin names its download in its reason; it is renewed while bytes leave us and lapses by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, Q

from backups.models import Download, DownloadLink, DownloadUse, Pin
from regions import clock

REASON = "download "
STREAMING = timedelta(minutes=15)  # an answer under way renews its pin long before that
LINKS_KEPT = timedelta(days=90)


def pin(download: Download, at: datetime, until: datetime) -> None:
    """Keep the copy until then; call it with the copy's row locked, or while an older pin holds."""
    mine = Pin.objects.filter(copy=download.copy_id, reason=f"{REASON}{download.pk}")
    if not mine.exists():
        Pin.objects.create(copy_id=download.copy_id, reason=f"{REASON}{download.pk}", pinned_at=at, until=until)
    mine.filter(until__lt=until).update(until=until)


def renew(download: Download, at: datetime) -> None:
    pin(download, at, at + STREAMING)


def unpinned(at: datetime) -> Iterator[Download]:
    """Yield downloads with a living link, or an answer that told of itself lately, whose copy no pin keeps (I4)."""
    living = Q(links__expires_at__gt=at) | Q(uses__ended_at=None, uses__seen_at__gt=at - STREAMING)
    for download in Download.objects.filter(living).distinct():
        if not Pin.objects.filter(copy=download.copy_id, reason=f"{REASON}{download.pk}", until__gt=at).exists():
            yield download


def tidy() -> None:
    """Forget pins that have lapsed, and links and their uses once they are of no use to anybody; meters stay."""
    at = clock.now()
    Pin.objects.filter(reason__startswith=REASON, until__lt=at).delete()
    old = at - LINKS_KEPT
    if not DownloadLink.objects.filter(expires_at__lt=old).exists():
        return
    DownloadUse.objects.filter(began_at__lt=old, link__expires_at__lt=old).delete()
    used = DownloadUse.objects.filter(link=OuterRef("pk"))
    DownloadLink.objects.filter(~Exists(used), expires_at__lt=old).delete()
