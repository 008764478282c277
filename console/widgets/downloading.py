"""Downloads as several pages show them: the button, or why there is none, and what was fetched of a set."""

from __future__ import annotations

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from backups import downloads
from backups.models import BackupSet, Copy, CopyState, Download
from billing import downloads as billed
from billing.statements import Fetched
from console.widgets import cells, words

SHOWN = 50
IN_WORDS = {"SnapshotNotDownloaded": gettext_lazy("Snapshot: cannot be downloaded, can be restored")}


def downloading(copy: Copy) -> SafeString | str:
    """Return the button for a copy whose files are handed out; for a snapshot the reason in its place (R-7.2).

    The copy comes with its set and an instance that knows `may_operate`.
    """
    if not copy.set.instance.may_operate or copy.state != CopyState.COMPLETED:
        return ""
    if refusal := downloads.why_not(copy):
        reason = IN_WORDS.get(refusal.code)
        return format_html('<span class="reason">{}</span>', reason) if reason else ""
    label = gettext("Download set %(n)s") % {"n": copy.set_id}
    name = f"download-{copy.pk}"
    return cells.button(gettext("Download"), reverse("downloads:ask", args=[copy.pk]), label, name=name)


def downloads_of(found: BackupSet) -> list[Download]:
    """Return what was fetched of a set, the newest first, each with `standing`: how far it came, what it costs."""
    rows = Download.objects.filter(copy__set=found).select_related("user").order_by("-pk")[:SHOWN]
    charged = billed.fetched_of(rows)
    for row in rows:
        row.standing = _standing(row, charged.get(row.pk))
    return list(rows)


def _standing(row: Download, fetched: Fetched | None) -> str:
    if row.handed_over_at:
        return gettext("handed out by the store, free")
    if row.whole_at is None and row.last_used_at is None:
        return gettext("not fetched yet")
    if row.whole_at is None:
        came = {"done": words.in_words(row.delivered_bytes), "total": words.in_words(row.size)}
        return gettext("unfinished: %(done)s of %(total)s, not charged") % came
    if row.address == Download.Address.INTERNAL:
        return gettext("delivered, free")
    if fetched is None or fetched.amount is None:
        return gettext("delivered, no price")
    charged = gettext("delivered, charged: %(amount)s") % {"amount": words.dollars(fetched.amount)}
    return " · ".join(filter(None, [charged, words.not_charged(fetched.free_bytes, fetched.offset_bytes)]))
