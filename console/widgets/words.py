"""Sizes, times and lengths of time as people read them; pure, and the same on every page."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from unicodedata import category

from django.conf import settings
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_noop, ngettext, pgettext

LEAST_TOLD = Decimal("0.005")  # USD; rounded half-up, less is no cent
SIZES = ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "KB"))
LENGTHS = (
    (86_400, gettext_noop("%(n)s d")),
    (3_600, gettext_noop("%(n)s h")),
    (60, gettext_noop("%(n)s min")),
    (1, gettext_noop("%(n)s s")),
)


def in_words(size_bytes: int) -> str:
    """Return three telling digits and a unit; GB is 2^30 bytes, as it is on the bill (R-4.1)."""
    for worth, unit in SIZES:
        if size_bytes >= worth:
            return f"{_three_digits(size_bytes / worth)} {unit}"
    return ngettext("%(n)s byte", "%(n)s bytes", size_bytes) % {"n": size_bytes}


def size(size_bytes: int | None) -> str | SafeString:
    return "—" if size_bytes is None else format_html("<bdi>{}</bdi>", in_words(size_bytes))


def gb_hours(byte_seconds: int) -> str:
    """Return byte-seconds in the unit that storage is priced in (R-4.1)."""
    hours = byte_seconds / (settings.GB * 3600)
    if 0 < hours < 0.01:
        return gettext("%(n)s GB-hours") % {"n": "< 0.01"}
    shown = count(round(hours)) if hours >= 99.95 else _three_digits(hours)
    return gettext("%(n)s GB-hours") % {"n": shown}


def count(number: int) -> str:
    """Return a count with the separators of the language."""
    return number_format(number, force_grouping=True)


def dollars(amount: Decimal) -> str:
    """Return an amount in cents; what is owed and comes to none is not told as nothing."""
    if 0 < amount < LEAST_TOLD:
        return gettext("under $0.01")
    return f"${number_format(amount, 2, force_grouping=True)}"


def money(amount: Decimal | None) -> SafeString:
    """Return an amount in USD; one that is not known says so and is never 0 (R-4.5)."""
    if amount is None:
        return format_html('<span class="muted">{}</span>', gettext("no price"))
    return format_html("<bdi>{}</bdi>", dollars(amount))


def not_charged(free_bytes: int, offset_bytes: int, resent_bytes: int = 0) -> str:
    """Return what the free quota and plans took, and what was sent again: in bytes, for it cost nothing."""
    parts = (
        (gettext("free: %(size)s"), free_bytes),
        (gettext("by network plans: %(size)s"), offset_bytes),
        (gettext("sent again: %(size)s"), resent_bytes),
    )
    return " · ".join(said % {"size": in_words(size)} for said, size in parts if size)


def lasting(length: timedelta | float | None) -> str:
    """Return the two largest units of a length of time: "3 h 15 min"; above a minute no seconds."""
    if length is None:
        return "—"
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    if seconds <= 0:
        return gettext("%(n)s s") % {"n": 0}
    largest = next(at for at, (worth, _) in enumerate(LENGTHS) if seconds >= worth)
    said = []
    units = LENGTHS[largest : largest + 2] if seconds < 60 else LENGTHS[:-1][largest : largest + 2]
    for worth, unit in units:
        many, seconds = divmod(seconds, worth)
        if many:
            said.append(gettext(unit) % {"n": many})
    return " ".join(said)


def expected(seconds: float) -> str:
    """Return how long something is expected to take; of less than a second no more is said."""
    if seconds < 1:
        return gettext("under a second")
    return gettext("about %(time)s") % {"time": lasting(seconds)}


def measured(length: float | None) -> str:
    """Return a measured length of time; its seconds are told up to an hour, for that is what it was measured for."""
    if length is None:
        return "—"
    if length < 10:
        return gettext("%(n)s s") % {"n": f"{length:.1f}"}
    minutes, seconds = divmod(round(length), 60)
    if seconds == 0 or not 1 <= minutes < 60:
        return lasting(round(length))
    return f"{gettext('%(n)s min') % {'n': minutes}} {gettext('%(n)s s') % {'n': seconds}}"


def moment(at: datetime | None, *, seconds: bool = False) -> str | SafeString:
    """Return a time that says it is UTC."""
    if at is None:
        return "—"
    at = at.astimezone(UTC)
    shown = at.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    return format_html('<time datetime="{}">{} UTC</time>', at.isoformat(timespec="seconds"), shown)


def stamp(at: datetime | None) -> str:
    """Return a time to the second as plain text."""
    return "—" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def day(at: datetime | None) -> str | SafeString:
    if at is None:
        return "—"
    at = at.astimezone(UTC)
    # Translators: the letters are those of Django's date format.
    shown = date_format(at, pgettext("a day", "j M Y"))
    return format_html('<time datetime="{}">{}</time>', at.date().isoformat(), shown)


def month(begin: datetime) -> str:
    # Translators: the letters are those of Django's date format.
    return date_format(begin.astimezone(UTC), pgettext("a month", "F Y"))


def ago(at: datetime | None, now: datetime) -> str:
    if at is None:
        return gettext("never")
    return gettext("%(length)s ago") % {"length": lasting(now - at)} if at <= now else gettext("just now")


def listed(names: Iterable[object]) -> str:
    """Return names one after the other, parted as the language parts them."""
    # Translators: what stands between the names of a list.
    return pgettext("in a list", ", ").join(map(str, names))


def plain(text: str) -> str:
    """Return a sentence without the characters that turn text around or hide it: names in it are their owners' data."""
    return "".join("\N{REPLACEMENT CHARACTER}" if category(letter) in ("Cc", "Cf") else letter for letter in text)


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
