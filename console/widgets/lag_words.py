"""The lag of a copy in words: until when, how far behind, or that it is not known and why."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext

from backups.oversight.lag import Gap, Lag
from console.widgets import words

OVER = ("released", "disabled")  # nothing more is copied: what was copied last is not late


def cell(found: Lag, state: str = "") -> SafeString | str:
    """Return the newest restorable moment and its lag, for a list; `state`: the instance's protection."""
    if found.gap:
        return _two_lines(gettext("unknown"), found, _gap(found.gap))
    if found.until is None:
        return _two_lines(gettext("nothing yet"), found, "")
    return _two_lines(words.moment(found.until, seconds=True), found, _how_far(found, state))


def sentence(found: Lag, state: str = "") -> SafeString:
    """Return the same as one sentence, for the head of a page."""
    name = _name(found.database)
    if found.until is None and not found.gap:
        said = (
            gettext("Nothing of %(database)s can be restored yet.") if name else gettext("Nothing can be restored yet.")
        )
        return _filled(said, database=name)
    if found.gap:
        said = _filled(gettext("Restorable until: unknown, %(gap)s."), gap=_gap(found.gap))
    else:
        moment, how_far = words.moment(found.until, seconds=True), _how_far(found, state)
        said = _filled(gettext("Restorable until %(moment)s, %(how_far)s."), moment=moment, how_far=how_far)
    return _filled(gettext("%(said)s %(database)s is furthest behind."), said=said, database=name) if name else said


def _filled(text: str, **parts: SafeString | str) -> SafeString:
    """Put parts, markup or not, into a translated sentence."""
    for name in parts:
        text = text.replace(f"%({name})s", f"{{{name}}}")
    return format_html(text, **parts)


def _two_lines(first: SafeString | str, found: Lag, second: str) -> SafeString | str:
    name = _name(found.database)
    of = _filled(gettext("of %(database)s"), database=name) if name else ""
    under = format_html("{} · {}", of, second) if of and second else of or second
    return format_html("{}<small>{}</small>", first, under) if under else first


def _name(database: str) -> SafeString | str:
    return format_html("<bdi>{}</bdi>", database) if database else ""


def _how_far(found: Lag, state: str) -> str:
    if state in OVER:
        return gettext("nothing more is copied")
    if not found.has_logs:
        return gettext("data backups only")
    behind = gettext("%(length)s behind") % {"length": words.lasting(found.behind_seconds)}
    return f"{behind}; {_on_their_way(found)}" if found.waiting else behind


def _on_their_way(found: Lag) -> str:
    said = ngettext("%(n)s log not copied yet", "%(n)s logs not copied yet", found.waiting) % {"n": found.waiting}
    if not found.moving:
        return said
    moving = ngettext("%(n)s of them on its way", "%(n)s of them on their way", found.moving) % {"n": found.moving}
    return gettext("%(said)s, %(moving)s") % {"said": said, "moving": moving}


def _gap(gap: Gap) -> str:
    begins, ends = gap[0].astimezone(UTC), gap[1].astimezone(UTC)
    return gettext("gap %(begin)s to %(end)s UTC") % {"begin": _clock(begins), "end": _clock(ends, begins)}


def _clock(at: datetime, after: datetime | None = None) -> str:
    """Return a time of day, its day before it unless that has just been said."""
    return f"{at:%H:%M:%S}" if after and after.date() == at.date() else f"{at:%Y-%m-%d %H:%M:%S}"
