"""Amounts of which something may not be known, and the bar of what is spent, what will be, and what may be."""

from __future__ import annotations

from decimal import Decimal

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from billing.forecast import Amount
from console.widgets import words

WIDTH = 1000


def said(amount: Amount) -> SafeString:
    """Return the amount; where a part of it is not known, that it is at least so much."""
    if amount.known is None:
        return format_html('<span class="muted">{}</span>', gettext("not known"))
    told = format_html("<bdi>{}</bdi>", words.dollars(amount.known))
    return format_html("{} {}", gettext("at least"), told) if amount.is_partial else told


def bar(spent: Amount, foreseen: Amount, budget: Decimal | None = None) -> SafeString:
    """Return the three as lengths of one bar; the words beside it say the same."""
    full = max(spent.at_least, foreseen.at_least, budget or Decimal(0)) or Decimal(1)
    used, ahead = _length(spent.at_least, full), _length(foreseen.at_least, full)
    allowed = WIDTH if budget is None else _length(budget, full)
    stretches = [
        ("m-ahead", min(used, allowed), min(ahead, allowed)),
        ("m-warn", max(used, allowed), ahead),
        ("m-ok", 0, min(used, allowed)),
        ("m-bad", allowed, used),
    ]
    drawn = [_rect(look, begin, end) for look, begin, end in stretches if end > begin]
    drawn += [_rect("m-limit", max(0, allowed - 6), allowed)] if budget is not None else []
    return format_html(
        '<svg class="meter" viewBox="0 0 {} 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>',
        WIDTH,
        SafeString("".join(drawn)),
    )


def _length(amount: Decimal, full: Decimal) -> int:
    return int(amount * WIDTH / full)


def _rect(look: str, begin: int, end: int) -> SafeString:
    return format_html('<rect class="{}" x="{}" width="{}" height="10"/>', look, begin, end - begin)
