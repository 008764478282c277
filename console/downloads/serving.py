"""The link: one address, one file, good for some minutes; whoever holds it acts as the person who asked (R-16.4)."""

from __future__ import annotations

import logging
import threading
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from backups import downloads
from backups.models import Download, DownloadLink
from billing import downloads as billed
from console.downloads.addresses import is_inside
from console.downloads.ranges import Unsatisfiable, Wanted, wanted
from console.downloads.sending import Sending
from console.downloads.wire import Wire
from regions import clock
from regions.storage import Gone, Mismatch, StorageError
from regions.storage.mover import Differs

log = logging.getLogger(__name__)
WAY_SECONDS = 60  # how long a store's own address is good
BUSY_SECONDS = 10
VOID = "This link does not open anything. Ask for a new one on the page of the backup set.\n"
_slots = threading.BoundedSemaphore(settings.DOWNLOADS_AT_ONCE)


@login_not_required
@require_safe
def serve(request: HttpRequest, token: str, name: str = "") -> HttpResponse:
    """Hand out one file, or a range of it. `name` is for whoever saves it; the same answer to every token that opens
    nothing, so that nobody learns which there were."""
    link = downloads.link_of(token)
    if link is None or (link.download.address == Download.Address.INTERNAL and not is_inside(request)):
        return _plain(404, VOID)
    response = _handed_over(request, link) or _served(request, link)
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _handed_over(request: HttpRequest, link: DownloadLink) -> HttpResponse | None:
    """Return the store's own way for what is free; None where there is none, and where we answer ourselves."""
    download = link.download
    if download.address != Download.Address.INTERNAL or request.method == "HEAD":  # a way is signed for GET
        return None
    accelerated = _accelerated(download)
    way = None if accelerated else downloads.internal_way(download, WAY_SECONDS)
    if not (accelerated or way):
        return None
    with transaction.atomic():
        at = clock.now()
        Download.objects.filter(pk=download.pk, handed_over_at=None).update(handed_over_at=at)
        downloads.record_use(link, at, request.META.get("REMOTE_ADDR", ""), by_the_store=True)
    if way:
        return HttpResponse(status=302, headers={"Location": way})
    return HttpResponse(headers=_headers(download) | {"X-Accel-Redirect": accelerated})


def _accelerated(download: Download) -> str:
    """Return where the proxy has the file, "" where none is set up for its folder. Keys are built from ids only."""
    place = urlsplit(download.transfer.store.url)
    if not settings.ACCEL or place.scheme != "file":
        return ""
    root, location = settings.ACCEL
    path = f"{unquote(place.path).rstrip('/')}/{download.transfer.key}"
    return location + quote(path.removeprefix(f"{root}/")) if path.startswith(f"{root}/") else ""


def _served(request: HttpRequest, link: DownloadLink) -> HttpResponse:
    download = link.download
    headers = _headers(download)
    try:
        asked = request.headers.get("Range", ""), request.headers.get("If-Range", "")
        part = wanted(download.size, *asked, headers["ETag"])
    except Unsatisfiable:
        return _plain(416, "", {"Content-Range": f"bytes */{download.size}", "Accept-Ranges": "bytes"})
    headers["Content-Length"] = str(part.size)
    if part.is_partial:
        headers["Content-Range"] = part.content_range(download.size)
    status = 206 if part.is_partial else 200
    if request.method == "HEAD":
        with transaction.atomic():
            downloads.record_use(link, clock.now(), request.META.get("REMOTE_ADDR", ""), looked=True)
        return HttpResponse(status=status, headers=headers)
    if not _slots.acquire(blocking=False):
        return _later("Too many downloads run here. Try again in a moment.\n")
    try:
        body = _body(request, link, part)
    except BaseException:
        _slots.release()
        raise
    if isinstance(body, HttpResponse):
        _slots.release()
        return body
    return StreamingHttpResponse(body, status=status, headers=headers)


def _body(request: HttpRequest, link: DownloadLink, part: Wanted) -> Sending | HttpResponse:
    download = link.download
    try:
        bytes_ = downloads.bytes_of(download, part.first, part.end)
        bytes_.peek(1)  # the store has answered before we do
    except (Gone, Mismatch, Differs) as error:
        downloads.report(download, error)
        return _plain(404, VOID)
    except StorageError as error:
        log.warning("download refused", extra={"download": download.pk, "reason": error.sentence})
        return _later("The store does not answer. Try again in a moment.\n")
    meter = billed.begin(link, part.first, part.end, request.META.get("REMOTE_ADDR", ""))
    if meter is None:
        bytes_.close()
        return _plain(404, VOID)
    return Sending(download, bytes_, meter, Wire(request.META), part.first, _slots.release)


def _headers(download: Download) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": content_disposition_header(True, download.name),
        "ETag": downloads.etag_of(download),
        "Accept-Ranges": "bytes",
        "X-Accel-Buffering": "no",  # a proxy that takes more than its client reads would have it counted
    }


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> HttpResponse:
    plain = {"Content-Type": "text/plain; charset=utf-8", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return HttpResponse(text, status=status, headers=plain | (headers or {}))


def _later(text: str) -> HttpResponse:
    return _plain(503, text, {"Retry-After": str(BUSY_SECONDS)})
