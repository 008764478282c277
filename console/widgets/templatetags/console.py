"""What every template of the console loads: icons, sizes, times, states."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from backups.models import Alert, BackupSet
from console.widgets import labels, words
from console.widgets.alert_pages import Way, way_of
from console.widgets.icons import icon as draw
from console.widgets.told import told
from regions.models import Store

register = template.Library()


@register.simple_tag
def icon(name: str, extra: str = "") -> SafeString:
    return draw(str(name), str(extra))


@register.filter
def way(alert: Alert) -> Way | None:
    return way_of(alert)


@register.filter
def unstopped(label: str) -> str:
    """Return a label that is a whole sentence as one that something follows."""
    return str(label).rstrip(".。")


@register.filter
def size(size_bytes: int | None) -> str | SafeString:
    return words.size(size_bytes)


@register.filter
def place(store: Store) -> str:
    return labels.place_of(store)


@register.filter
def numbered(number: int) -> str:
    return words.count(number)


@register.filter
def money(amount: Decimal | None) -> SafeString:
    return words.money(amount)


@register.filter
def dollars(amount: Decimal) -> str:
    """Return an amount as plain text, for where no markup may stand."""
    return words.dollars(amount)


@register.filter
def gb_hours(byte_seconds: int) -> str:
    return words.gb_hours(byte_seconds)


@register.filter
def lasting(length: timedelta | float | None) -> str:
    return words.lasting(length)


@register.filter
def expected(seconds: float) -> str:
    return words.expected(seconds)


@register.filter
def measured(length: float | None) -> str:
    return words.measured(length)


@register.filter
def moment(at: datetime | None) -> str | SafeString:
    return words.moment(at)


@register.filter
def to_the_second(at: datetime | None) -> str | SafeString:
    return words.moment(at, seconds=True)


@register.filter
def stamp(at: datetime | None) -> str:
    """Return a time as plain text, for where no markup may stand: titles, labels."""
    return words.stamp(at)


@register.filter
def iso(at: datetime) -> str:
    return at.isoformat()


@register.filter
def day(at: datetime | None) -> str | SafeString:
    return words.day(at)


@register.filter
def month(begin: datetime) -> str:
    return words.month(begin)


@register.filter
def share_of(part: float, whole: float) -> int:
    """Return a whole percentage, for bars; a whole of nothing has no share."""
    return round(100 * part / whole) if whole else 0


@register.filter
def get(mapping: dict[str, object], name: str) -> object:
    return mapping.get(name, "")


@register.filter
def paragraphs(text: str) -> SafeString:
    """Return plain text as paragraphs, its own line breaks forgotten."""
    blocks = (" ".join(block.split()) for block in text.split("\n\n"))
    return format_html_join("", "<p>{}</p>", ((block,) for block in blocks if block))


@register.filter
def plain(text: str) -> str:
    return words.plain(text)


@register.filter("told")
def told_in_language(sentence: str) -> str:
    """Return what an alert, an event or a drill says, in the language of the page."""
    return told(sentence)


@register.filter
def kind_of(found: BackupSet) -> str:
    return labels.kind_of(found)


@register.filter
def translated(label: object) -> str:
    return labels.translated(label)
