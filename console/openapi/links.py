"""Download links in list answers: for who may download, has accepted the rules once, and copies that are handed out.

A list is asked for again and again; a link is used again while half its life is left, so that a program that polls
leaves one link and one event behind, and not hundreds. A token lies in this process's memory only (I18).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.urls import reverse

from backups import downloads
from backups.models import Copy, Download, Instance
from billing import downloads as billed
from console.openapi.callers import Caller
from regions.refusals import Refusal

MOST_KEPT = 2_000


@dataclass(frozen=True)
class Handed:
    """The address of a copy's only file; several, with a space between them, where it lies in stripes; or none."""

    address: str = ""
    until: datetime | None = None


NONE = Handed()
_kept: OrderedDict[tuple[int, int, str], Handed] = OrderedDict()
_lock = threading.Lock()


def handed_of(copies: list[int], instance: Instance, caller: Caller) -> dict[int, Handed]:
    """Return links to copies of an instance over the Internet, which is what they are charged as (R-4.3); none for who
    may not have them."""
    if caller.key.rules_accepted_at is None or not caller.may_operate(instance):
        return {}
    rows = Copy.objects.select_related("set__instance").filter(pk__in=copies)
    return {copy.pk: _handed(copy, caller) for copy in rows}


def _handed(copy: Copy, caller: Caller) -> Handed:
    if downloads.why_not(copy):
        return NONE
    name = (caller.key.pk, copy.pk, _base(caller))
    if known := _known(name, caller.at):
        return known
    try:
        return _keep(name, _ask(copy, caller))
    except Refusal:  # it expired, or was found damaged, in this moment
        return NONE


def _ask(copy: Copy, caller: Caller) -> Handed:
    handouts = billed.ask(copy, caller.by, Download.Address.INTERNET, learnt=True)
    addresses = [_base(caller) + reverse("links:bare", args=[one.token]) for one in handouts]
    return Handed(" ".join(addresses), handouts[0].link.expires_at if handouts else None)


def _base(caller: Caller) -> str:
    """Where the console is: as it is called from outside, else as the call itself named it."""
    return settings.PUBLIC_URL or f"{caller.scheme}://{caller.host}"


def _known(name: tuple[int, int, str], at: datetime) -> Handed | None:
    with _lock:
        found = _kept.get(name)
    half = timedelta(seconds=settings.DOWNLOAD_LINK_SECONDS / 2)
    return found if found and found.until and found.until - at >= half else None


def _keep(name: tuple[int, int, str], found: Handed) -> Handed:
    with _lock:
        _kept[name] = found
        _kept.move_to_end(name)
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    return found
