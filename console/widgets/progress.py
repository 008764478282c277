"""How far copies are: bytes, rate and time left, for a page of them in two queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, Sum
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_noop

from backups.models import CopiedFile, Copy, CopyState, Transfer, TransferPart
from console.widgets import words
from console.widgets.badges import badge
from console.widgets.labels import translated
from console.widgets.states import COPY, UNKNOWN

MOVING = (CopyState.COPYING, CopyState.VERIFYING)
WINDOW = timedelta(seconds=60)
GIVEN_UP = (Transfer.State.ABANDONED, Transfer.State.CLEANED, Transfer.State.DELETED)


@dataclass(frozen=True)
class Progress:
    """One copy under way. `rate` in bytes per second over the last minute, None while nothing has moved yet."""

    total: int = 0
    sent: int = 0
    verified: int = 0
    resent: int = 0
    rate: float | None = None
    is_verifying: bool = False

    @property
    def done(self) -> int:
        return self.verified if self.is_verifying else self.sent

    @property
    def percent(self) -> int:
        return min(100, 100 * self.done // self.total) if self.total else 0

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None

    @property
    def sentence(self) -> str:
        known = {"done": words.in_words(self.done), "total": words.in_words(self.total)}
        if not self.rate:
            return gettext("%(done)s of %(total)s") % known
        known |= {"rate": words.in_words(round(self.rate)), "left": words.lasting(self.seconds_left)}
        return gettext("%(done)s of %(total)s · %(rate)s/s · %(left)s left") % known


def progress_of(copies: Iterable[Copy], at: datetime) -> dict[int, Progress]:
    """Return the progress of those of the copies that are under way."""
    moving = {copy.pk: copy for copy in copies if copy.state in MOVING}
    if not moving:
        return {}
    brought = _brought(moving)
    recent = _recent([transfer for each in brought.values() for transfer in each], at)
    return {pk: _progress(copy, brought.get(pk, {}), recent, at) for pk, copy in moving.items()}


def _brought(moving: dict[int, Copy]) -> dict[int, dict[int, CopiedFile]]:
    files = CopiedFile.objects.filter(copy__in=moving).exclude(transfer__state__in=GIVEN_UP).select_related("transfer")
    found: dict[int, dict[int, CopiedFile]] = {}
    for file in files:
        found.setdefault(file.copy_id, {})[file.transfer_id] = file
    return found


def _recent(transfers: list[int], at: datetime) -> dict[int, tuple[int, int]]:
    """Return what each transfer sent and read back in the last minute."""
    since = at - WINDOW
    parts = (
        TransferPart.objects.filter(transfer__in=transfers)
        .order_by()
        .values_list("transfer")
        .annotate(
            sent=Sum("size", filter=Q(sent_at__gte=since)), verified=Sum("size", filter=Q(verified_at__gte=since))
        )
    )
    return {transfer: (sent or 0, verified or 0) for transfer, sent, verified in parts}


def _progress(copy: Copy, files: dict[int, CopiedFile], recent: dict[int, tuple[int, int]], at: datetime) -> Progress:
    transfers = [file.transfer for file in files.values()]
    verifying = copy.state == CopyState.VERIFYING
    moved = sum(recent.get(transfer, (0, 0))[verifying] for transfer in files)
    begun = max(1.0, min(WINDOW.total_seconds(), (at - (copy.started_at or at)).total_seconds()))
    return Progress(
        total=copy.total_bytes or sum(transfer.size for transfer in transfers),
        sent=sum(transfer.bytes_sent for transfer in transfers),
        verified=sum(transfer.bytes_verified for transfer in transfers),
        resent=sum(transfer.bytes_resent for transfer in transfers),
        rate=moved / begun if moved else None,
        is_verifying=verifying,
    )


def state_of(copy: Copy, progress: Progress | None) -> SafeString:
    """Return the state of a copy as icon, word and consequence; a bar while it is under way."""
    look = COPY.get(copy.state, UNKNOWN)
    if copy.state in MOVING:
        progress = progress or Progress(total=copy.total_bytes)
        word = f"{look.word} {progress.percent} %"
        label = gettext("Progress of copy %(n)s") % {"n": copy.pk}
        bar = format_html('<progress max="100" value="{}" aria-label="{}"></progress>', progress.percent, label)
        return format_html("{}{}<small>{}</small>", badge(look, word=word), bar, progress.sentence)
    return badge(look, consequence_of(copy))


def consequence_of(copy: Copy) -> str:
    """Return the one line that says what the state means for this copy."""
    if copy.state == CopyState.FAILED:
        return gettext("%(error)s Tried again by itself.") % {"error": copy.error}
    if copy.state == CopyState.CANCELLED:
        return translated(copy.get_cancel_reason_display())
    if copy.state == CopyState.EXPIRED:
        return gettext("not offered, not charged; erased after its grace")
    if copy.state == CopyState.DAMAGED:
        return copy.error or gettext("its bytes no longer agree")
    if copy.state == CopyState.PLANNED:
        return gettext("its turn comes by itself")
    return ""


KEPT = {
    "needed": gettext_noop("another copy needs it"),
    "hold": gettext_noop("held by a person"),
    "lock": gettext_noop("locked by its store"),
    "last_good": gettext_noop("kept: last good copy"),
    "source_gone": gettext_noop("kept: its source region is gone"),
    "unconfirmed": gettext_noop("kept: it was brought back, and nobody has confirmed that yet"),
}


def why_kept(copy: Copy) -> str:
    """Return why a copy stays longer than its own date (R-12.6, R-15.6), "" when it does not."""
    return gettext(KEPT[copy.kept_for]) if copy.kept_for in KEPT else ""
