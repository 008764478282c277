"""The meter: distinct bytes that arrived, whatever ranges they came in, whichever process sent them (R-4.3, I17).

Before bytes leave us it is written down that they may (`handed`), afterwards how many are known to have arrived
(`counted`). Between the two lies what the network had when an answer broke off. Whoever resumes inside that stretch
says by it how far they came: those bytes are counted then, and never otherwise.
"""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet

from backups import events
from backups.downloads import pins
from backups.downloads.asking import why_not
from backups.downloads.ranges import merged, total
from backups.events import By
from backups.leases import who
from backups.models import Copy, Download, DownloadLink, DownloadUse
from regions import clock

AHEAD_BYTES = 64 << 20  # written down before they are sent; what a killed process leaves unknown at most
SILENT = timedelta(minutes=5)  # an answer on another machine that told nothing for so long has died


def begin(link: DownloadLink, first: int, end: int, address: str) -> Meter | None:
    """Record one use of a link, before the first byte of [first, end) is sent; None: it has become void meanwhile."""
    with transaction.atomic():
        download = _locked(link.download_id)
        copies = Copy.objects.select_for_update(no_key=True, of=("self",))  # so that it is not deleted meanwhile
        if why_not(copies.select_related("set__instance").get(pk=download.copy_id)):
            return None
        at = clock.now()
        use = DownloadUse.objects.create(
            download=download,
            link=link,
            came_from=address,
            served_by=who(),
            first=first,
            end=end,
            handed=min(end, first + AHEAD_BYTES),
            counted=first,
            began_at=at,
            seen_at=at,
        )
        pins.renew(download, at)
        record_use(link, at, address, first=first, end=end)
        _hear_of_breaks(download, at)
        _save(download, at)
    return Meter(use)


def record_use(link: DownloadLink, at: datetime, address: str, **data: object) -> None:
    """Write down that a link was used; call it in the transaction that lets it be used."""
    download = link.download
    Download.objects.filter(pk=download.pk).update(last_used_at=at)
    events.record(
        "download.used",
        f"{download.name} of {download.copy.set} was fetched in the name of {download.user}.",
        by=By(download.user, address),
        set=download.copy.set,
        copy=download.copy_id,
        download=download.pk,
        link=link.pk,
        **data,
    )


class Meter:
    """Counts one answer. Positions are offsets in the file; each call is one short transaction and safe to repeat."""

    def __init__(self, use: DownloadUse) -> None:
        self.use = use
        self.handed = use.handed  # bytes before it may be sent without asking again

    def count(self, arrived: int, sent: int) -> Download:
        """Count what arrived up to `arrived`, and write down that what follows `sent` will be handed out."""
        return self._tell(arrived, handed=min(self.use.end, sent + AHEAD_BYTES), ended=False)

    def end(self, arrived: int, sent: int) -> Download:
        """The answer is over: nothing after `sent` was handed to the network."""
        return self._tell(arrived, handed=sent, ended=True)

    def _tell(self, arrived: int, *, handed: int, ended: bool) -> Download:
        with transaction.atomic():
            download = _locked(self.use.download_id)
            at = clock.now()
            use = DownloadUse.objects.get(pk=self.use.pk)
            self.handed = max(use.counted, arrived, handed)
            _count(download, use, max(use.counted, arrived), handed=self.handed)
            use.seen_at, use.ended_at = at, at if ended else None
            use.save(update_fields=["seen_at", "ended_at"])
            pins.renew(download, at)
            if ended:
                _hear_of_breaks(download, at)
            _save(download, at)
        return download


def settle(download: Download) -> Download:
    """Look once more at answers that broke off, after their process was killed, say."""
    with transaction.atomic():
        at, found = clock.now(), _locked(download.pk)
        _hear_of_breaks(found, at)
        _save(found, at)
    return found


def unsettled() -> QuerySet[Download]:
    """Return open downloads of which an answer never told its end."""
    return Download.objects.filter(whole_at=None, uses__ended_at=None, uses__isnull=False).distinct()


def _locked(pk: int) -> Download:
    """Lock a meter: before its copy's row and its pin, whoever takes several."""
    return Download.objects.select_for_update(no_key=True, of=("self",)).get(pk=pk)


def _count(download: Download, use: DownloadUse, arrived: int, *, handed: int) -> None:
    download.ranges = merged(download.ranges, use.counted, arrived)
    use.counted, use.handed = arrived, handed
    use.save(update_fields=["counted", "handed"])


def _hear_of_breaks(download: Download, at: datetime) -> None:
    """For each answer that broke off, the first one that began inside what it was sending tells how far it came."""
    for use in download.uses.filter(Q(ended_at=None) | Q(counted__lt=F("handed"))).order_by("pk"):
        if not _is_over(use, at):
            continue
        if use.ended_at is None:
            DownloadUse.objects.filter(pk=use.pk).update(ended_at=at)
        if (resumed := _resumed_at(download, use)) is not None:
            _count(download, use, resumed, handed=resumed)


def _is_over(use: DownloadUse, at: datetime) -> bool:
    if use.ended_at:
        return True
    host, _, pid = use.served_by.rpartition(":")
    if host == socket.gethostname():
        return not _lives(int(pid))
    return use.seen_at < at - SILENT


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _resumed_at(download: Download, use: DownloadUse) -> int | None:
    inside = download.uses.filter(first__gt=use.counted, first__lte=use.handed, first__lt=use.end)
    return inside.filter(pk__gt=use.pk).order_by("pk").values_list("first", flat=True).first()


def _save(download: Download, at: datetime) -> None:
    download.delivered_bytes = total(download.ranges)
    if download.whole_at is None and download.delivered_bytes == download.size and _was_sent(download):
        download.whole_at = at
    download.save(update_fields=["ranges", "delivered_bytes", "whole_at"])


def _was_sent(download: Download) -> bool:
    """An empty file is whole when an answer with nothing in it has ended."""
    return download.size > 0 or download.uses.filter(ended_at__isnull=False).exists()
